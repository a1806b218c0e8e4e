"""The plain formulation that the library is measured against: every difference in memory."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def plain_pairwise_mrn(
    x: Float[Array, "*ensemble rows latent"],
    y: Float[Array, "*ensemble columns latent"],
    groups: int = 8,
) -> Float[Array, "*ensemble rows columns"]:
    """`farstep.quasimetrics.pairwise_mrn`, written as its formula and left to autodiff."""
    difference = x[..., :, None, :] - y[..., None, :, :]
    halves = difference.reshape(*difference.shape[:-1], groups, 2, -1)
    asymmetric = jax.nn.relu(halves[..., 0, :].max(axis=-1))
    squared = jnp.square(halves[..., 1, :]).sum(axis=-1)
    symmetric = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    return (asymmetric + symmetric).mean(axis=-1) / math.sqrt(x.shape[-1])
