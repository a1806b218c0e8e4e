"""Residual networks of 18 and 34 layers (He et al. 2016), in two forms.

The one to train from scratch is BridgeData V2's: GroupNorm, swish, and two more channels that tell
where a pixel lies. The other takes ImageNet's weights: its batch normalisation is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from farstep.core.errors import FarstepError
from farstep.core.rng import PRNGKey
from farstep.networks.convolution import (
    Convolution,
    FrozenBatchNorm,
    GroupNorm,
    Images,
    pooled,
)
from farstep.networks.encoder import Encoder, PretrainedEncoder
from farstep.networks.mlp import Linear

CHANNELS = 64, 128, 256, 512

GROUPS = 4

IMAGENET_MEAN = 0.485, 0.456, 0.406
IMAGENET_STD = 0.229, 0.224, 0.225
"""Mean and deviation of red, green and blue in [0, 1] that torchvision's weights expect."""

Norm = GroupNorm | FrozenBatchNorm


class Normed(eqx.Module):
    """A convolution without bias, and its normalisation."""

    convolution: Convolution
    norm: Norm

    def __init__(
        self,
        inputs: int,
        outputs: int,
        make_norm: Callable[[int], Norm],
        *,
        size: int = 3,
        stride: int = 1,
        key: PRNGKey,
    ):
        self.convolution = Convolution(
            inputs,
            outputs,
            size=size,
            stride=stride,
            bias=False,
            initialise=jax.nn.initializers.he_normal(),
            key=key,
        )
        self.norm = make_norm(outputs)

    def __call__(self, x: Images) -> Images:
        return self.norm(self.convolution(x))


class Block(eqx.Module):
    """Two convolutions and a shortcut, which is a convolution where the size changes."""

    first: Normed
    second: Normed
    shortcut: Normed | None

    def __call__(self, x: Images, activate: Callable[[Array], Array]) -> Images:
        residual = self.second(activate(self.first(x)))
        return activate(residual + (x if self.shortcut is None else self.shortcut(x)))


class Film(eqx.Module):
    """`x·(1 + U·v) + W·v` of each channel, given a vector v (Perez et al. 2018, arXiv 1709.07871).

    U and W begin at zero, so that at first nothing changes.
    """

    projection: Linear

    def __init__(self, size: int, channels: int, *, key: PRNGKey):
        """`size` is the vector's."""
        projection = Linear(size, 2 * channels, key=key)
        zeros = jnp.zeros_like(projection.kernel)
        self.projection = eqx.tree_at(lambda one: one.kernel, projection, zeros)

    def __call__(self, x: Images, vector: Float[Array, "batch size"]) -> Images:
        scale, shift = jnp.split(self.projection(vector)[:, None, None], 2, axis=-1)
        return x * (1 + scale) + shift


class Trunk(eqx.Module):
    """A 7 × 7 convolution and a maximum, stages of blocks, and the mean over pixels."""

    stem: Normed
    stages: tuple[tuple[Block, ...], ...]

    def __init__(
        self, inputs: int, depths: Sequence[int], make_norm: Callable[[int], Norm], *, key: PRNGKey
    ):
        keys = iter(jax.random.split(key, 1 + 3 * sum(depths)))
        self.stem = Normed(inputs, CHANNELS[0], make_norm, size=7, stride=2, key=next(keys))
        stages, width = [], CHANNELS[0]
        for stage, (depth, outputs) in enumerate(zip(depths, CHANNELS, strict=True)):
            blocks = []
            for index in range(depth):
                stride = 2 if stage and not index else 1
                first, second, third = next(keys), next(keys), next(keys)
                shortcut = None
                if stride != 1 or width != outputs:
                    shortcut = Normed(width, outputs, make_norm, size=1, stride=stride, key=third)
                blocks.append(
                    Block(
                        Normed(width, outputs, make_norm, stride=stride, key=first),
                        Normed(outputs, outputs, make_norm, key=second),
                        shortcut,
                    )
                )
                width = outputs
            stages.append(tuple(blocks))
        self.stages = tuple(stages)

    def __call__(
        self, x: Images, activate: Callable[[Array], Array], *after: Callable[[Images], Images]
    ) -> Float[Array, "batch features"]:
        """`after` has what follows each block, if anything does."""
        x = pooled(activate(self.stem(x)))
        blocks = [block for stage in self.stages for block in stage]
        for index, block in enumerate(blocks):
            x = block(x, activate)
            x = after[index](x) if after else x
        return jnp.mean(x, axis=(1, 2))


class ResNet(Encoder):
    """With GroupNorm, swish and coordinate channels; pixels are scaled to [−1, 1].

    `films` make what it looks at depend on a vector.
    """

    trunk: Trunk

    def __init__(self, shape: tuple[int, int, int], *, depths: Sequence[int], key: PRNGKey):
        """
        Args:
            shape: (H, W, C) of an image.
            depths: blocks of each stage.
        """
        self.trunk = Trunk(shape[-1] + 2, depths, lambda width: GroupNorm(width, GROUPS), key=key)

    @property
    def features(self) -> int:
        return CHANNELS[-1]

    def films(self, size: int, key: PRNGKey) -> tuple[Film, ...]:
        """A `Film` by a vector of `size` for each block, as BridgeData V2's code has them."""
        blocks = [block for stage in self.trunk.stages for block in stage]
        widths = [block.second.convolution.kernel.shape[-1] for block in blocks]
        keys = jax.random.split(key, len(widths))
        return tuple(Film(size, width, key=k) for width, k in zip(widths, keys, strict=True))

    def __call__(
        self,
        observations: Real[Array, "batch height width channels"],
        *after: Callable[[Images], Images],
    ) -> Float[Array, "batch features"]:
        """`after` has what follows each block, if anything does."""
        batch, height, width, _ = observations.shape
        rows = jnp.broadcast_to(jnp.linspace(-1, 1, height)[:, None], (batch, height, width))
        columns = jnp.broadcast_to(jnp.linspace(-1, 1, width), (batch, height, width))
        pixels = observations.astype(jnp.float32) / 127.5 - 1
        x = jnp.concatenate([pixels, rows[..., None], columns[..., None]], axis=-1)
        return self.trunk(x, jax.nn.silu, *after)


class FrozenResNet(PretrainedEncoder):
    """With batch normalisation frozen as the weights bring it; convolutions are trained.

    Images are of three channels or, where several are joined, of a multiple of three.
    """

    trunk: Trunk

    def __init__(self, shape: tuple[int, int, int], *, depths: Sequence[int], key: PRNGKey):
        """
        Args:
            shape: (H, W, C) of an image.
            depths: blocks of each stage.

        Raises:
            FarstepError: the channels are no multiple of three.
        """
        if shape[-1] % 3:
            raise FarstepError(
                f"Pretrained encoders take red, green and blue, and these images have {shape[-1]}"
                " channels: use --encoder resnet34 or impala_small."
            )
        self.trunk = Trunk(shape[-1], depths, FrozenBatchNorm, key=key)

    @property
    def features(self) -> int:
        return CHANNELS[-1]

    def __call__(
        self, observations: Real[Array, "batch height width channels"]
    ) -> Float[Array, "batch features"]:
        images = observations.shape[-1] // 3
        mean, std = jnp.tile(jnp.asarray([IMAGENET_MEAN, IMAGENET_STD]), images)
        return self.trunk((observations.astype(jnp.float32) / 255 - mean) / std, jax.nn.relu)

    def with_weights(self, weights: Mapping[str, np.ndarray], where: str) -> FrozenResNet:
        """From torchvision's names and layout, such as `layer1.0.conv1.weight` (O, I, H, W).

        Of joined images each gets its share of the first convolution, so that n equal images are
        to the network what one is to torchvision's.
        """

        def array(name: str, shape: tuple[int, ...]) -> np.ndarray:
            if name not in weights:
                raise FarstepError(
                    f"{where} has no '{name}': it must hold a residual network of this depth by"
                    " torchvision's names."
                )
            if weights[name].shape != shape:
                raise FarstepError(
                    f"{where}: '{name}' has shape {weights[name].shape}, and {shape} is needed."
                )
            return weights[name].astype(np.float32)

        def converted(layer: Normed, convolution: str, norm: str, images: int = 1) -> Normed:
            height, width, inputs, outputs = layer.convolution.kernel.shape
            kernel = array(f"{convolution}.weight", (outputs, inputs // images, height, width))
            kernel = np.tile(kernel.transpose(2, 3, 1, 0) / images, (1, 1, images, 1))
            statistics = [
                jnp.asarray(array(f"{norm}.{name}", (outputs,)))
                for name in ("weight", "bias", "running_mean", "running_var")
            ]
            return eqx.tree_at(
                lambda one: [one.convolution.kernel, *jax.tree.leaves(one.norm)],
                layer,
                [jnp.asarray(kernel), *statistics],
            )

        trunk = self.trunk
        images = trunk.stem.convolution.kernel.shape[2] // 3
        stages = []
        for stage, blocks in enumerate(trunk.stages, start=1):
            made = []
            for index, block in enumerate(blocks):
                at = f"layer{stage}.{index}"
                shortcut = block.shortcut
                if shortcut is not None:
                    shortcut = converted(shortcut, f"{at}.downsample.0", f"{at}.downsample.1")
                made.append(
                    Block(
                        converted(block.first, f"{at}.conv1", f"{at}.bn1"),
                        converted(block.second, f"{at}.conv2", f"{at}.bn2"),
                        shortcut,
                    )
                )
            stages.append(tuple(made))
        stem = converted(trunk.stem, "conv1", "bn1", images)
        return eqx.tree_at(
            lambda one: (one.trunk.stem, one.trunk.stages), self, (stem, tuple(stages))
        )
