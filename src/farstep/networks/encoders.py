"""From observations and actions to the vectors that an MLP takes.

A network of several observations, such as [s; g], joins them along the last axis, which is features
for vectors and channels for pixels, and builds its encoder for the joined shape. So nothing that
uses an encoder has to know which of the two it deals with.
"""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Real

from farstep.core.errors import FarstepError
from farstep.core.types import Space, Spaces
from farstep.networks.mlp import Linear

STACKS = (16, 32, 32)
PIXEL_FEATURES = 512

Observations = Real[Array, "batch *obs"]
"""(B, D) floats or (B, H, W, C) bytes."""

Goals = Real[Array, "batch *goal"]
"""(B, G) floats or (B, H, W, C) bytes, of goals; (B, *obs) where goals are observations."""


class Identity(eqx.Module):
    """Vectors are their own features."""

    features: int = eqx.field(static=True)

    def __call__(self, observations: Float[Array, "*batch obs"]) -> Float[Array, "*batch obs"]:
        return observations


class Convolution(eqx.Module):
    """3 × 3, stride 1, as large as its input; kernel stored (height, width, inputs, outputs)."""

    kernel: Float[Array, "3 3 inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, inputs: int, outputs: int, *, key: Key[Array, ""]):
        initialise = jax.nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        self.kernel = initialise(key, (3, 3, inputs, outputs))
        self.bias = jnp.zeros(outputs)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch height width outputs"]:
        channels_last = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x.astype(self.kernel.dtype),
            self.kernel,
            (1, 1),
            "SAME",
            dimension_numbers=channels_last,
        )
        return y.astype(self.bias.dtype) + self.bias


class ResidualStack(eqx.Module):
    """A convolution, a 3 × 3 maximum over every second pixel, and one residual block."""

    widen: Convolution
    block: tuple[Convolution, Convolution]

    def __init__(self, inputs: int, outputs: int, *, key: Key[Array, ""]):
        keys = jax.random.split(key, 3)
        self.widen = Convolution(inputs, outputs, key=keys[0])
        self.block = (
            Convolution(outputs, outputs, key=keys[1]),
            Convolution(outputs, outputs, key=keys[2]),
        )

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch halved halved_width outputs"]:
        x = self.widen(x)
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        residual = x
        for convolution in self.block:
            residual = convolution(jax.nn.relu(residual))
        return x + residual


class Impala(eqx.Module):
    """IMPALA's residual encoder at OGBench's small size (Espeholt et al. 2018; Park et al. 2025).

    Three stacks of 16, 32 and 32 channels with one residual block each, then a layer of 512.
    Bytes are scaled to [0, 1] in here, so that pixels stay bytes until then.
    """

    stacks: tuple[ResidualStack, ...]
    project: Linear

    def __init__(self, shape: tuple[int, int, int], *, key: Key[Array, ""]):
        height, width, channels = shape
        *stack_keys, project_key = jax.random.split(key, len(STACKS) + 1)
        stacks = []
        for outputs, stack_key in zip(STACKS, stack_keys, strict=True):
            stacks.append(ResidualStack(channels, outputs, key=stack_key))
            height, width, channels = -(-height // 2), -(-width // 2), outputs
        self.stacks = tuple(stacks)
        self.project = Linear(height * width * channels, PIXEL_FEATURES, key=project_key)

    @property
    def features(self) -> int:
        return PIXEL_FEATURES

    def __call__(
        self, pixels: Real[Array, "batch height width channels"]
    ) -> Float[Array, "batch features"]:
        x = pixels.astype(jnp.float32) / 255
        for stack in self.stacks:
            x = stack(x)
        x = jax.nn.relu(x).reshape(len(x), -1)
        return jax.nn.gelu(self.project(x))


Encoder = Identity | Impala


def make_encoder(space: Space, key: Key[Array, ""]) -> Encoder:
    """The encoder of what lies in `space`, by its kind."""
    if space.kind == "vector":
        return Identity(*space.shape)
    height, width, channels = space.shape
    return Impala((height, width, channels), key=key)


def joined(spaces: Spaces) -> Space:
    """The space of [s; g].

    Raises:
        FarstepError: a vector and an image, or images of two sizes, cannot be joined.
    """
    state, goal = spaces.observation, spaces.goal
    if (state.kind, state.shape[:-1]) != (goal.kind, goal.shape[:-1]):
        raise FarstepError(
            f"These networks join a state and its goal, and cannot join {spaces.observation} and"
            f" {spaces.goal}."
        )
    shape = spaces.observation.shape
    return replace(spaces.observation, shape=(*shape[:-1], shape[-1] + spaces.goal.shape[-1]))


def join(observations: Observations, goals: Goals) -> Real[Array, "batch *joined"]:
    """[s; g], joined along the last axis."""
    return jnp.concatenate([observations, goals], axis=-1)


def encode(
    encoder: Encoder, observations: Observations, *beside: Float[Array, "batch _"]
) -> Float[Array, "batch _"]:
    """The observations' features with plain vectors (actions, representations) beside them."""
    return jnp.concatenate([encoder(observations), *beside], axis=-1)


class ActionVector(eqx.Module):
    """Actions as vectors of `size`: continuous ones as they are, discrete ones as indicators."""

    size: int = eqx.field(static=True)
    discrete: bool = eqx.field(static=True)

    def __call__(
        self, actions: Float[Array, "batch actions"] | Int[Array, " batch"]
    ) -> Float[Array, "batch actions"]:
        return jax.nn.one_hot(actions, self.size) if self.discrete else actions
