"""Convolutions over images whose channels come last, with normalisation and pooling."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.core.rng import PRNGKey
from farstep.networks.precision import Product

NORM_EPSILON = 1e-5

Images = Float[Array, "batch _ _ _"]

CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


class Convolution(Product):
    """A convolution, kernel stored (height, width, inputs, outputs).

    A kernel of odd size leaves a side of n pixels at ⌈n / stride⌉, since (size − 1)/2 zeros are
    added at each end, as torch's layers have it.
    """

    kernel: Float[Array, "size size inputs outputs"]
    bias: Float[Array, " outputs"] | None
    stride: int = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        size: int = 3,
        stride: int = 1,
        bias: bool = True,
        initialise: Callable[..., Array] | None = None,
        key: PRNGKey,
    ):
        if initialise is None:
            initialise = jax.nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        self.kernel = initialise(key, (size, size, inputs, outputs))
        self.bias = jnp.zeros(outputs) if bias else None
        self.stride = stride

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch _ _ outputs"]:
        border = (self.kernel.shape[0] - 1) // 2
        y = jax.lax.conv_general_dilated(
            x.astype(self.kernel.dtype),
            self.kernel,
            (self.stride, self.stride),
            ((border, border), (border, border)),
            dimension_numbers=CHANNELS_LAST,
        ).astype(x.dtype)
        return y if self.bias is None else y + self.bias


class GroupNorm(eqx.Module):
    """Zero mean and unit variance over the pixels and a group of channels, then scale and offset
    (Wu & He 2018)."""

    scale: Float[Array, " channels"]
    offset: Float[Array, " channels"]
    groups: int = eqx.field(static=True)

    def __init__(self, channels: int, groups: int):
        self.scale, self.offset = jnp.ones(channels), jnp.zeros(channels)
        self.groups = groups

    def __call__(self, x: Images) -> Images:
        grouped = x.reshape(*x.shape[:-1], self.groups, -1)
        mean = jnp.mean(grouped, axis=(1, 2, 4), keepdims=True)
        variance = jnp.mean(jnp.square(grouped - mean), axis=(1, 2, 4), keepdims=True)
        standard = (grouped - mean) * jax.lax.rsqrt(variance + NORM_EPSILON)
        return standard.reshape(x.shape) * self.scale + self.offset


class FrozenBatchNorm(eqx.Module):
    """Batch normalisation by statistics of pretrained weights; nothing is trained."""

    scale: Float[Array, " channels"]
    offset: Float[Array, " channels"]
    mean: Float[Array, " channels"]
    variance: Float[Array, " channels"]

    def __init__(self, channels: int):
        self.scale, self.variance = jnp.ones(channels), jnp.ones(channels)
        self.offset, self.mean = jnp.zeros(channels), jnp.zeros(channels)

    def __call__(self, x: Images) -> Images:
        fixed = jax.lax.stop_gradient(self)
        scale = fixed.scale * jax.lax.rsqrt(fixed.variance + NORM_EPSILON)
        return (x - fixed.mean) * scale + fixed.offset


def pooled(x: Images) -> Float[Array, "batch halved halved_width channels"]:
    """The maximum over 3 × 3 pixels about every second one; beyond the border is −∞."""
    border = (0, 0), (1, 1), (1, 1), (0, 0)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), border)
