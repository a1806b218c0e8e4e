"""Multilayer perceptrons, as OGBench's reference agents and MQE use them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.core.rng import PRNGKey
from farstep.networks.precision import Product

LAYER_NORM_EPSILON = 1e-6


class Linear(Product):
    """`x @ kernel + bias` over the last axis, kernel stored (inputs, outputs).

    The product is computed in the kernel's type (see `networks.precision`).
    """

    kernel: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, inputs: int, outputs: int, *, scale: float = 1.0, key: PRNGKey):
        """Kernels are drawn by variance scaling (`scale`, fan-avg, uniform); biases are zero."""
        initialise = jax.nn.initializers.variance_scaling(scale, "fan_avg", "uniform")
        self.kernel = initialise(key, (inputs, outputs))
        self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        product = x.astype(self.kernel.dtype) @ self.kernel
        return product.astype(self.bias.dtype) + self.bias


class LayerNorm(eqx.Module):
    """Zero mean and unit variance over the last axis, then a learned scale and offset."""

    scale: Float[Array, " features"]
    offset: Float[Array, " features"]

    def __init__(self, features: int):
        self.scale = jnp.ones(features)
        self.offset = jnp.zeros(features)

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON) * self.scale + self.offset


class MLP(eqx.Module):
    """Linear layers with GELU between them and, in critics, LayerNorm after each activation."""

    layers: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...]
    activate_final: bool = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        *,
        layer_norm: bool,
        activate_final: bool = False,
        key: PRNGKey,
    ):
        """`widths` are the outputs of each layer; the last is the output of the network."""
        keys = jax.random.split(key, len(widths))
        sizes = pairwise((inputs, *widths))
        self.layers = tuple(Linear(i, o, key=k) for (i, o), k in zip(sizes, keys, strict=True))
        activated = widths if activate_final else widths[:-1]
        self.norms = tuple(LayerNorm(width) for width in activated) if layer_norm else ()
        self.activate_final = activate_final

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if self.activate_final or index + 1 < len(self.layers):
                x = jax.nn.gelu(x)
                if self.norms:
                    x = self.norms[index](x)
        return x
