"""MRN between all pairs of two sets of latents, without their differences in memory.

The plain formulation writes all rows × columns × latent differences to memory, several times
over. Here the coordinates of a group are the outer loop, unrolled, so that the compiler keeps a
tile of pairs in registers while it runs through them; groups, members of an ensemble and blocks
of rows are mapped one after another, so that what they touch stays in cache. What remains in
memory is one number per pair and group, and that only where a gradient is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt

from farstep.quasimetrics.mrn import check_groups, distance_dtype

LONGEST_UNROLL = 64
"""Coordinates in one unrolled loop; compile time grows with it."""

BLOCK = 16
"""Rows summed in one pass over the gradient of the columns; fewer cost memory traffic."""


def pairwise_mrn(
    x: Float[Array, "*ensemble rows latent"],
    y: Float[Array, "*ensemble columns latent"],
    groups: int = 8,
) -> Float[Array, "*ensemble rows columns"]:
    """`mrn` from every row `x_i` to every row `y_j`: `(E, B, D), (E, C, D) -> (E, B, C)`.

    Values, types and gradients are those of `mrn`, except that where coordinates tie for the
    maximum the first takes all of the gradient. Differentiable in reverse mode only. Raises
    `ValueError` where the shapes do not match or the latent axis does not divide into groups of
    even size.
    """
    if x.ndim < 2 or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            "Pairs need (*ensemble, rows, latent) and (*ensemble, columns, latent) "
            f"that differ in their rows alone: {x.shape}, {y.shape}."
        )
    check_groups(x.shape[-1], groups)
    dtype = distance_dtype(x, y)
    total = _total_over_groups
    for _ in x.shape[:-2]:
        total = jax.vmap(total)
    distances = total(_by_group(x.astype(dtype), groups), _by_group(y.astype(dtype), groups))
    return distances / (groups * math.sqrt(x.shape[-1]))


def _by_group(
    latents: Float[Array, "*ensemble points latent"], groups: int
) -> Float[Array, "*ensemble groups 2 half points"]:
    """Coordinates first and points last: the axis that the processor takes many of at once."""
    coordinates = latents.swapaxes(-1, -2)
    return coordinates.reshape(*latents.shape[:-2], groups, 2, -1, latents.shape[-2])


@jax.custom_vjp
def _total_over_groups(
    x: Float[Array, "groups 2 half rows"], y: Float[Array, "groups 2 half columns"]
) -> Float[Array, "rows columns"]:
    return _asymmetric(x[:, 0], y[:, 0]) + _symmetric(x[:, 1], y[:, 1])


def _forward(x: Array, y: Array):
    winners = _winners(x[:, 0], y[:, 0])
    total, norms = _symmetric_with_norms(x[:, 1], y[:, 1])
    return _asymmetric(x[:, 0], y[:, 0]) + total, (x, y, winners, norms)


def _backward(residuals: tuple[Array, Array, Array, Array], cotangent: Array):
    x, y, winners, norms = residuals
    asymmetric, symmetric = _pull(cotangent.T, winners.mT, norms.mT, y[:, 1], x[:, 1])
    grad_x = jnp.stack([asymmetric, symmetric], axis=1)
    asymmetric, symmetric = _pull(cotangent, winners, norms, x[:, 1], y[:, 1])
    grad_y = jnp.stack([-asymmetric, symmetric], axis=1)
    return grad_x, grad_y


_total_over_groups.defvjp(_forward, _backward)

# The four loops below are separate programs of one kind each: fused with one another, they run
# out of registers and take several times as long. `sequential_vmap` keeps a batch of them (an
# ensemble, seeds) from widening the tiles beyond the cache.


@jax.custom_batching.sequential_vmap
def _asymmetric(
    x: Float[Array, "groups half rows"], y: Float[Array, "groups half columns"]
) -> Float[Array, "rows columns"]:
    """The sum over groups of max(0, max_m x_m − y_m)."""

    def add(total: Array, group: tuple[Array, Array]):
        def step(largest: Array, difference: Array, _: Array) -> Array:
            return jnp.where(difference > largest, difference, largest)

        return total + _over_coordinates(step, jnp.zeros_like(total), *group), None

    # A comparison is one instruction where `maximum`, which propagates NaN, takes three; but it
    # drops NaN. So the total starts with them.
    nan_rows, nan_columns = (jnp.isnan(z).any(axis=(0, 1)) for z in (x, y))
    start = jnp.where(nan_rows[:, None] | nan_columns[None, :], jnp.nan, jnp.zeros((), x.dtype))
    return jax.lax.scan(add, start, (x, y))[0]


@jax.custom_batching.sequential_vmap
def _winners(
    x: Float[Array, "groups half rows"], y: Float[Array, "groups half columns"]
) -> UInt[Array, "groups rows columns"]:
    """The first coordinate that attains the maximum; `half` where no difference is positive."""
    half = x.shape[1]
    smallest = next(t for t in (jnp.uint8, jnp.uint16, jnp.uint32) if half <= jnp.iinfo(t).max)

    def of_group(group: tuple[Array, Array]) -> Array:
        x, y = group

        def step(best: tuple[Array, Array], difference: Array, coordinate: Array):
            largest, winner = best
            wins = difference > largest
            return jnp.where(wins, difference, largest), jnp.where(wins, coordinate, winner)

        shape = (x.shape[-1], y.shape[-1])
        nobody = jnp.zeros(shape, x.dtype), jnp.full(shape, half, jnp.int32)
        return _over_coordinates(step, nobody, x, y)[1].astype(smallest)

    return jax.lax.map(of_group, (x, y))


def _norm(x: Float[Array, "half rows"], y: Float[Array, "half columns"]) -> Array:
    """‖x_i − y_j‖₂ from the differences themselves: the expansion |x|² + |y|² − 2xy would be one
    matrix product, no faster at these widths, and loses all digits where x is close to y."""

    def step(squared: Array, difference: Array, _: Array) -> Array:
        return squared + difference * difference

    return jnp.sqrt(_over_coordinates(step, jnp.zeros((x.shape[-1], y.shape[-1]), x.dtype), x, y))


@jax.custom_batching.sequential_vmap
def _symmetric(
    x: Float[Array, "groups half rows"], y: Float[Array, "groups half columns"]
) -> Float[Array, "rows columns"]:
    """The sum over groups of ‖x − y‖₂."""
    start = jnp.zeros((x.shape[-1], y.shape[-1]), x.dtype)
    return jax.lax.scan(lambda total, group: (total + _norm(*group), None), start, (x, y))[0]


@jax.custom_batching.sequential_vmap
def _symmetric_with_norms(
    x: Float[Array, "groups half rows"], y: Float[Array, "groups half columns"]
) -> tuple[Float[Array, "rows columns"], Float[Array, "groups rows columns"]]:
    """The sum over groups of ‖x − y‖₂, and its terms."""

    def add(total: Array, group: tuple[Array, Array]):
        norm = _norm(*group)
        return total + norm, norm

    start = jnp.zeros((x.shape[-1], y.shape[-1]), x.dtype)
    return jax.lax.scan(add, start, (x, y))


@jax.custom_batching.sequential_vmap
def _pull(
    cotangent: Float[Array, "rows columns"],
    winners: UInt[Array, "groups rows columns"],
    norms: Float[Array, "groups rows columns"],
    x: Float[Array, "groups half rows"],
    y: Float[Array, "groups half columns"],
) -> tuple[Float[Array, "groups half columns"], Float[Array, "groups half columns"]]:
    """The cotangents that reach each column, asymmetric (unsigned) and symmetric."""
    half = y.shape[1]
    coordinates = jnp.arange(half, dtype=jnp.int32)[:, None]
    cotangents = _in_blocks(cotangent)

    def of_group(group: tuple[Array, Array, Array, Array]):
        winners, norms, x, y = group
        # Equal points have no direction: theirs is the zero subgradient.
        weights = jnp.where(norms == 0, 0, cotangent / norms)

        def add_winners(total: Array, block: tuple[Array, Array]):
            for cotangent, winner in zip(*block, strict=True):
                total = total + jnp.where(winner.astype(jnp.int32) == coordinates, cotangent, 0)
            return total, None

        def add_directions(total: Array, block: tuple[Array, Array]):
            for weight, point in zip(*block, strict=True):
                total = total + weight * (y - point[:, None])
            return total, None

        start = jnp.zeros_like(y)
        asymmetric, _ = jax.lax.scan(add_winners, start, (cotangents, _in_blocks(winners)))
        symmetric, _ = jax.lax.scan(add_directions, start, (_in_blocks(weights), _in_blocks(x.T)))
        return asymmetric, symmetric

    return jax.lax.map(of_group, (winners, norms, x, y))


def _in_blocks(rows: Array) -> Array:
    """`(rows, n) -> (blocks, BLOCK, n)`, the last block filled with rows of zeros."""
    padded = jnp.pad(rows, ((0, -len(rows) % BLOCK), (0, 0)))
    return padded.reshape(-1, BLOCK, rows.shape[-1])


def _over_coordinates(
    step: Callable, start, x: Float[Array, "half rows"], y: Float[Array, "half columns"]
):
    """Fold `step(state, difference, coordinate)` over the coordinates, unrolled in chunks."""
    half = len(x)
    chunk = max(size for size in range(1, min(half, LONGEST_UNROLL) + 1) if half % size == 0)

    def unrolled(state, piece: tuple[Array, Array, Array]):
        for x_m, y_m, m in zip(*piece, strict=True):
            state = step(state, x_m[:, None] - y_m[None, :], m)
        return state, None

    chunks = (
        x.reshape(-1, chunk, x.shape[-1]),
        y.reshape(-1, chunk, y.shape[-1]),
        jnp.arange(half, dtype=jnp.int32).reshape(-1, chunk),
    )
    return jax.lax.scan(unrolled, start, chunks)[0]
