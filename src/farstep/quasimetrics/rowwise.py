"""MRN of an ensemble from each row of latents to its own row of others, its latents side by side.

The definition reduces over the coordinates of each half of a group, which lie next to each other in
a latent: processors add and compare vectors well, and numbers within a vector badly. In *lanes*,
coordinates of different groups lie next to each other, and of different members too, since the mean
over an ensemble is one over all groups that it has:

    member: (group: half: coordinate)   ──in_lanes──▶   coordinate: half: (member, group)

So what is to be reduced comes in vectors as long as the ensemble has groups. That takes a third of
the definition's time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.quasimetrics.mrn import check_broadcast, check_groups, distance_dtype, safe_sqrt

UNROLLED = 16
"""Longest row that is reduced by one operation a number, which is quicker for short rows."""


def in_lanes(
    x: Float[Array, "*batch members latent"], groups: int
) -> Float[Array, "*batch half 2 lanes"]:
    """Latents of an ensemble as `rowwise_mrn` takes them.

    Raises `ValueError` where the latent axis does not divide into groups of even size.
    """
    check_groups(x.shape[-1], groups)
    split = x.reshape(*x.shape[:-1], groups, 2, -1)
    # (*batch, members, groups, 2, half) → (*batch, half, 2, members, groups)
    lanes = jnp.moveaxis(split, (-1, -2), (-4, -3))
    # Without a barrier the transposition is fused into the loops that follow, which are then not
    # vectorised.
    return jax.lax.optimization_barrier(lanes.reshape(*lanes.shape[:-2], -1))


def out_of_lanes(
    x: Float[Array, "*batch half 2 lanes"], groups: int
) -> Float[Array, "*batch members latent"]:
    """The inverse of `in_lanes`."""
    split = x.reshape(*x.shape[:-1], -1, groups)
    latents = jnp.moveaxis(split, (-4, -3), (-1, -2))
    return latents.reshape(*latents.shape[:-3], -1)


def rowwise_mrn(
    x: Float[Array, "*#batch half 2 lanes"],
    y: Float[Array, "*#batch half 2 lanes"],
    groups: int = 8,
) -> Float[Array, "*batch"]:
    """Mean of `mrn` over an ensemble, from each `x` to its `y`, both as `in_lanes` gives them.

    The same but for rounding, and for how coordinates that tie for the maximum share its gradient.
    Leading axes broadcast. Raises `ValueError` where they do not, or where the others differ.
    """
    return mrn_both_ways(x, y, groups)[0]


def mrn_both_ways(
    x: Float[Array, "*#batch half 2 lanes"],
    y: Float[Array, "*#batch half 2 lanes"],
    groups: int = 8,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """`rowwise_mrn` from `x` to `y` and from `y` to `x`, in little more time than one of them.

    The symmetric half is the same both ways, and the asymmetric one is that of the same
    differences: their largest makes one direction, their smallest the other.
    """
    _check_lanes(x, y, groups)
    dtype = distance_dtype(x, y)
    difference = x.astype(dtype) - y.astype(dtype)
    asymmetric, symmetric = difference[..., 0, :], difference[..., 1, :]
    largest = _reduced(jnp.maximum, jnp.max, asymmetric, axis=-2)
    smallest = _reduced(jnp.minimum, jnp.min, asymmetric, axis=-2)
    norm = safe_sqrt(_reduced(jnp.add, jnp.sum, jnp.square(symmetric), axis=-2))
    scale = x.shape[-1] * math.sqrt(2 * x.shape[-3] * groups)
    there, back = (
        _reduced(jnp.add, jnp.sum, jax.nn.relu(way) + norm, axis=-1) / scale
        for way in (largest, -smallest)
    )
    return there, back


def _reduced(
    binary: Callable[[Array, Array], Array], whole: Callable[..., Array], x: Array, axis: int
) -> Array:
    """An axis reduced by an operation, given in both forms: written out where the axis is short.

    That rounds each row alike, wherever it stands; a product with a vector of ones does not.
    """
    if x.shape[axis] > UNROLLED:
        return whole(x, axis=axis)
    return functools.reduce(binary, jnp.unstack(x, axis=axis))


def _check_lanes(x: Array, y: Array, groups: int) -> None:
    """Raise `ValueError` unless the shapes share halves and lanes and broadcast before them."""
    half, two, lanes = x.shape[-3:] if x.ndim >= 3 else (0, 0, 0)
    lanes_of_groups = half >= 1 and two == 2 and groups >= 1 and lanes >= 1 and lanes % groups == 0
    if not lanes_of_groups or y.shape[-3:] != x.shape[-3:]:
        raise ValueError(
            f"x and y need the same halves and lanes, a multiple of {groups} groups, as their last "
            f"axes: {x.shape}, {y.shape}."
        )
    check_broadcast(x.shape, y.shape)
