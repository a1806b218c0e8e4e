"""IMPALA's residual encoder of images (Espeholt et al. 2018), at OGBench's sizes."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from farstep.core.rng import PRNGKey
from farstep.networks.convolution import Convolution
from farstep.networks.encoder import Encoder
from farstep.networks.mlp import Linear


class ResidualStack(eqx.Module):
    """A convolution, a 3 × 3 maximum over every second pixel, and residual blocks."""

    widen: Convolution
    blocks: tuple[tuple[Convolution, Convolution], ...]

    def __init__(self, inputs: int, outputs: int, *, blocks: int = 1, key: PRNGKey):
        first, *keys = jax.random.split(key, 1 + 2 * blocks)
        self.widen = Convolution(inputs, outputs, key=first)
        layers = [Convolution(outputs, outputs, key=one) for one in keys]
        self.blocks = tuple(zip(layers[::2], layers[1::2], strict=True))

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch halved halved_width outputs"]:
        x = self.widen(x)
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for block in self.blocks:
            residual = x
            for convolution in block:
                residual = convolution(jax.nn.relu(residual))
            x = x + residual
        return x


class Impala(Encoder):
    """Stacks of convolutions that each halve the image, then a layer.

    Bytes are scaled to [0, 1] in here, so that pixels stay bytes until then.
    """

    stacks: tuple[ResidualStack, ...]
    project: Linear
    features: int = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        channels: Sequence[int] = (16, 32, 32),
        blocks: int = 2,
        features: int = 512,
        key: PRNGKey,
    ):
        """
        Args:
            shape: (H, W, C) of an image.
            channels: number of channels of each stack.
            blocks: residual blocks of each stack.
            features: outputs of the layer.
        """
        height, width, inputs = shape
        *stack_keys, project_key = jax.random.split(key, len(channels) + 1)
        stacks = []
        for outputs, stack_key in zip(channels, stack_keys, strict=True):
            stacks.append(ResidualStack(inputs, outputs, blocks=blocks, key=stack_key))
            height, width, inputs = -(-height // 2), -(-width // 2), outputs
        self.stacks = tuple(stacks)
        self.project = Linear(height * width * inputs, features, key=project_key)
        self.features = features

    def __call__(
        self, observations: Real[Array, "batch height width channels"]
    ) -> Float[Array, "batch features"]:
        x = observations.astype(jnp.float32) / 255
        for stack in self.stacks:
            x = stack(x)
        x = jax.nn.relu(x).reshape(len(x), -1)
        return jax.nn.gelu(self.project(x))
