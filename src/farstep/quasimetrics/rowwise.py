"""MRN from each row of latents to its own row of others, quicker than by the definition."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.quasimetrics.mrn import (
    check_broadcast,
    check_groups,
    distance_dtype,
    safe_sqrt,
)

NARROW = 8
"""Most coordinates of half a group that are too few, side by side, for a vectorised reduction."""

CACHED = 2**19
"""Most coordinates of all differences that stay in a core's cache."""


def rowwise_mrn(
    x: Float[Array, "*#batch latent"], y: Float[Array, "*#batch latent"], groups: int = 8
) -> Float[Array, "*batch"]:
    """`mrn`: the same but for rounding, and for how coordinates that tie for the maximum share its
    gradient.

    Quicker for narrow groups: their rows lie side by side, and their coordinates are unrolled.
    Where that gains nothing, wide groups or many rows, it is `mrn`.
    """
    return _both_ways(x, y, groups)[0]


def mrn_both_ways(
    x: Float[Array, "*#batch latent"], y: Float[Array, "*#batch latent"], groups: int = 8
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """`rowwise_mrn` from `x` to `y` and from `y` to `x`, in little more time than one of them.

    The symmetric half is the same both ways, and the asymmetric one is that of the same
    differences: where one takes their largest, the other takes their smallest.
    """
    return _both_ways(x, y, groups)


def _both_ways(x: Array, y: Array, groups: int) -> tuple[Array, Array]:
    check_broadcast(x.shape, y.shape)
    check_groups(x.shape[-1], groups)
    dtype, latent = distance_dtype(x, y), x.shape[-1]
    x, y = x.astype(dtype), y.astype(dtype)
    size = math.prod(jnp.broadcast_shapes(x.shape, y.shape))
    if latent > 2 * groups * NARROW or size > CACHED:
        difference = x - y
        halves = difference.reshape(*difference.shape[:-1], groups, 2, -1)
        largest, smallest = halves[..., 0, :].max(axis=-1), halves[..., 0, :].min(axis=-1)
        symmetric = safe_sqrt(jnp.square(halves[..., 1, :]).sum(axis=-1))
        axis = -1
    else:
        axes = max(x.ndim, y.ndim)
        x, y = (jnp.expand_dims(z, range(axes - z.ndim)) for z in (x, y))
        # Without a barrier the transposition is fused into the loops, which are then not
        # vectorised.
        x, y = jax.lax.optimization_barrier((jnp.moveaxis(x, -1, 0), jnp.moveaxis(y, -1, 0)))
        difference = x - y
        halves = difference.reshape(groups, 2, -1, *difference.shape[1:])
        largest = smallest = halves[:, 0, 0]
        squared = jnp.square(halves[:, 1, 0])
        for coordinate in range(1, halves.shape[2]):
            largest = jnp.maximum(largest, halves[:, 0, coordinate])
            smallest = jnp.minimum(smallest, halves[:, 0, coordinate])
            squared = squared + jnp.square(halves[:, 1, coordinate])
        symmetric, axis = safe_sqrt(squared), 0
    there, back = (
        (jax.nn.relu(asymmetric) + symmetric).mean(axis=axis) / math.sqrt(latent)
        for asymmetric in (largest, -smallest)
    )
    return there, back
