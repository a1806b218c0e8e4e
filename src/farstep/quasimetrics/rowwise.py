"""MRN from each row of latents to its own row of others, quicker than by the definition."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.quasimetrics.mrn import check_broadcast, check_groups, distance_dtype, safe_sqrt


def rowwise_mrn(
    x: Float[Array, "*#batch latent"], y: Float[Array, "*#batch latent"], groups: int = 8
) -> Float[Array, "*batch"]:
    """`mrn`: the same but for rounding, and for how coordinates that tie for the maximum share its
    gradient.

    Where a few coordinates lie side by side, their reduction is not vectorised; here the rows lie
    side by side, and the coordinates are unrolled. Where there are more than a thousand rows or so,
    map it over blocks of them, which stay in cache.
    """
    check_broadcast(x.shape, y.shape)
    check_groups(x.shape[-1], groups)
    dtype = distance_dtype(x, y)
    axes = max(x.ndim, y.ndim)
    x, y = (jnp.expand_dims(z.astype(dtype), range(axes - z.ndim)) for z in (x, y))
    # Without a barrier the transposition is fused into the loops, which are then not vectorised.
    x, y = jax.lax.optimization_barrier((jnp.moveaxis(x, -1, 0), jnp.moveaxis(y, -1, 0)))
    difference = x - y
    halves = difference.reshape(groups, 2, -1, *difference.shape[1:])
    largest, squared = halves[:, 0, 0], jnp.square(halves[:, 1, 0])
    for coordinate in range(1, halves.shape[2]):
        largest = jnp.maximum(largest, halves[:, 0, coordinate])
        squared = squared + jnp.square(halves[:, 1, coordinate])
    distances = jax.nn.relu(largest) + safe_sqrt(squared)
    return distances.mean(axis=0) / math.sqrt(len(x))
