"""MRN between all pairs of two sets of latents, without their differences in memory.

The plain formulation writes all rows × columns × latent differences to memory, several times
over. Here the coordinates of a group are the outer loop, unrolled, so that the compiler keeps a
tile of pairs in registers while it runs through them; groups, members of an ensemble and blocks
of rows are mapped one after another, so that their data stay in cache. Memory holds one
number per pair and group, and only where a gradient is asked for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from farstep.core.mesh import BATCH, devices_of_batch
from farstep.quasimetrics.mrn import check_groups, distance_dtype

UNROLL = 32
"""Most coordinates in one unrolled loop: with more it runs out of registers."""

FEW_USES = 16
"""With fewer uses of a slice, XLA takes it anew in each; see `_scan`."""

BLOCK = FEW_USES
"""Rows in one unrolled sum over rows."""

TILE = 256
"""Points of either set in one tile: the columns' coordinates then fit a core's first cache.

Fewer rows get wider tiles, since every tile has a fixed cost.
"""

NEAR = 2**14
"""Roundings of the norm below which a gradient is summed from differences instead of products."""


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
    total = _total_for_platform
    mesh = devices_of_batch(x.shape[-2])
    if mesh is not None:
        # Every device measures from its own rows to all columns without communication.
        rows, columns = jax.sharding.PartitionSpec(BATCH), jax.sharding.PartitionSpec()
        total = jax.shard_map(
            total, mesh=mesh, in_specs=(rows, columns), out_specs=rows, check_vma=False
        )
    for _ in x.shape[:-2]:
        total = jax.vmap(total)
    with jax.named_scope("pairwise_mrn"):
        distances = total(_by_group(x.astype(dtype), groups), _by_group(y.astype(dtype), groups))
    return distances / (groups * math.sqrt(x.shape[-1]))


def _total_for_platform(
    x: Float[Array, "rows groups 2 half"], y: Float[Array, "columns groups 2 half"]
) -> Float[Array, "rows columns"]:
    """The kernels written for a GPU in a program that is compiled for one, else the portable form.

    A program for the CPU has no trace of the kernels, whatever the default device is.
    """
    from farstep.quasimetrics import pallas  # a quarter of a second that not every import needs

    if not pallas.usable():
        return _total(x, y)
    return jax.lax.platform_dependent(x, y, cuda=pallas.total, default=_total)


def _by_group(
    latents: Float[Array, "*ensemble points latent"], groups: int
) -> Float[Array, "*ensemble points groups 2 half"]:
    """The two halves of each group; one too long to unroll is filled with zeros to equal chunks.

    A coordinate that is zero in x and y changes neither the maximum nor the norm.
    """
    halves = latents.reshape(*latents.shape[:-1], groups, 2, -1)
    half = halves.shape[-1]
    return jnp.pad(halves, [(0, 0)] * (halves.ndim - 1) + [(0, -half % -(-half // UNROLL))])


def _total(
    x: Float[Array, "rows groups 2 half"], y: Float[Array, "columns groups 2 half"]
) -> Float[Array, "rows columns"]:
    """The sum over groups, one tile of pairs after another."""
    if len(y) < len(x):
        # From x to y is from −y to −x, to the last bit, and the vectorised axis is the long one.
        return _total(-y, -x).T
    columns = _in_tiles(y, max(TILE, TILE**2 // len(x)))

    def of_rows(rows: Array) -> Array:
        return jnp.hstack(jax.lax.map(lambda tile: _total_of_tile(rows, tile), columns))

    return jnp.vstack(jax.lax.map(of_rows, _in_tiles(x, TILE)))[: len(x), : len(y)]


def _in_tiles(
    points: Float[Array, "points groups 2 half"], most: int
) -> Float[Array, "tiles groups 2 half tile"]:
    """Equal tiles, the last filled with zeros; points come last, the axis that is vectorised."""
    count = -(-len(points) // most)
    filled = jnp.pad(points, [(0, -len(points) % count)] + [(0, 0)] * 3)
    return jnp.moveaxis(filled.reshape(count, -1, *points.shape[1:]), 1, -1)


@jax.custom_vjp
@jax.custom_batching.sequential_vmap
def _total_of_tile(
    x: Float[Array, "groups 2 half rows"], y: Float[Array, "groups 2 half columns"]
) -> Float[Array, "rows columns"]:
    # A comparison is one instruction where `maximum`, which propagates NaN, takes three; but it
    # drops NaN. So the total starts with them.
    nan_rows, nan_columns = (jnp.isnan(z).any(axis=(0, 1, 2)) for z in (x, y))
    total = jnp.where(nan_rows[:, None] | nan_columns[None, :], jnp.nan, jnp.zeros((), x.dtype))
    # Two loops, not one: fused, the halves run out of registers and take half as long again.
    for half, distance in enumerate((_largest, _norm)):
        total, _ = _scan(
            lambda total, group, distance=distance: (total + distance(*group), None),
            total,
            (x[:, half], y[:, half]),
            uses=x.shape[2],
        )
    return total


def _forward(x: Array, y: Array):
    return _total_of_tile(x, y), (x, y)


@jax.custom_batching.sequential_vmap
def _gradients(
    x: Float[Array, "groups 2 half rows"],
    y: Float[Array, "groups 2 half columns"],
    cotangent: Float[Array, "rows columns"],
) -> tuple[Float[Array, "groups 2 half rows"], Float[Array, "groups 2 half columns"]]:
    """Winners and norms are cheaper to find again, tile by tile, than to keep in memory."""
    half = x.shape[2]
    narrow = next(t for t in (jnp.int8, jnp.int16, jnp.int32) if half <= jnp.iinfo(t).max)

    def of_group(_: None, group: tuple[Array, Array]):
        x, y = group
        winner = _winner(x[0], y[0]).astype(narrow)
        return None, (winner, *_norm_gradients(x[1], y[1], cotangent))

    _, (winner, norm_x, norm_y) = _scan(of_group, None, (x, y), uses=half)
    won_x = _won(cotangent.T, winner.transpose(2, 0, 1), half)
    won_y = -_won(cotangent, winner.transpose(1, 0, 2), half)
    return jnp.stack([won_x, norm_x], axis=1), jnp.stack([won_y, norm_y], axis=1)


_total_of_tile.defvjp(_forward, lambda residuals, g: _gradients(*residuals, g))


def _largest(
    x: Float[Array, "half rows"], y: Float[Array, "half columns"]
) -> Float[Array, "rows columns"]:
    """max(0, max_m x_m − y_m)."""

    def step(largest: Array, difference: Array, _: Array) -> Array:
        return jnp.where(difference > largest, difference, largest)

    return _over_coordinates(step, jnp.zeros((x.shape[-1], y.shape[-1]), x.dtype), x, y)


def _winner(
    x: Float[Array, "half rows"], y: Float[Array, "half columns"]
) -> Int[Array, "rows columns"]:
    """The first coordinate that attains the maximum; −1 where no difference is positive."""

    def step(best: tuple[Array, Array], difference: Array, coordinate: Array):
        largest, winner = best
        wins = difference > largest
        return jnp.where(wins, difference, largest), jnp.where(wins, coordinate, winner)

    shape = (x.shape[-1], y.shape[-1])
    nobody = jnp.zeros(shape, x.dtype), jnp.full(shape, -1, jnp.int32)
    return _over_coordinates(step, nobody, x, y)[1]


def _norm(
    x: Float[Array, "half rows"], y: Float[Array, "half columns"]
) -> Float[Array, "rows columns"]:
    """‖x − y‖₂ from the differences themselves: the expansion |x|² + |y|² − 2xy would be a matrix
    product, no faster at these widths, and loses all digits where x is close to y."""

    def step(squared: Array, difference: Array, _: Array) -> Array:
        return squared + difference * difference

    return jnp.sqrt(_over_coordinates(step, jnp.zeros((x.shape[-1], y.shape[-1]), x.dtype), x, y))


def _norm_gradients(
    x: Float[Array, "half rows"],
    y: Float[Array, "half columns"],
    cotangent: Float[Array, "rows columns"],
) -> tuple[Float[Array, "half rows"], Float[Array, "half columns"]]:
    """The gradients of the norms: for each column, the sum over rows of weight · (y − x)."""
    norm = _norm(x, y)
    # Equal points have no direction: theirs is the zero subgradient.
    weight = jnp.where(norm == 0, 0, cotangent / norm)

    # `NEAR` counts roundings of single precision, which a GPU's default products do not have.
    product = functools.partial(jnp.matmul, precision="highest")

    def by_products(weight: Array, x: Array, y: Array):
        grad_x = x * weight.sum(axis=1) - product(y, weight.T)
        return grad_x, y * weight.sum(axis=0) - product(x, weight)

    def by_differences(weight: Array, x: Array, y: Array):
        return _directed(weight.T, y, x), _directed(weight, x, y)

    # Products lose of each pair's direction the digits that its points have in common.
    size = jnp.linalg.norm(x, axis=0)[:, None] + jnp.linalg.norm(y, axis=0)
    near = norm < NEAR * jnp.finfo(norm.dtype).eps * size
    return jax.lax.cond(near.any(), by_differences, by_products, weight, x, y)


def _won(
    cotangent: Float[Array, "rows columns"], winner: Int[Array, "rows groups columns"], half: int
) -> Float[Array, "groups half columns"]:
    """Each column's cotangents, summed by the coordinate that won."""
    coordinates = jnp.arange(half, dtype=jnp.int32)[:, None]

    def add(total: Array, block: tuple[Array, Array]):
        for cotangent, winner in zip(*block, strict=True):
            wins = winner[:, None].astype(jnp.int32) == coordinates
            total = total + jnp.where(wins, cotangent, 0)
        return total, None

    start = jnp.zeros((winner.shape[1], half, winner.shape[2]), cotangent.dtype)
    return jax.lax.scan(add, start, (_in_blocks(cotangent), _in_blocks(winner)))[0]


def _directed(
    weight: Float[Array, "rows columns"],
    x: Float[Array, "half rows"],
    y: Float[Array, "half columns"],
) -> Float[Array, "half columns"]:
    """Each column's sum over rows of weight · (y − x)."""

    def add(total: Array, block: tuple[Array, Array]):
        for weight, point in zip(*block, strict=True):
            total = total + weight * (y - point[:, None])
        return total, None

    return jax.lax.scan(add, jnp.zeros_like(y), (_in_blocks(weight), _in_blocks(x.T)))[0]


def _in_blocks(rows: Array) -> Array:
    """`(rows, …) -> (blocks, BLOCK, …)`, the last block filled with rows of zeros."""
    padded = jnp.pad(rows, [(0, -len(rows) % BLOCK)] + [(0, 0)] * (rows.ndim - 1))
    return padded.reshape(-1, BLOCK, *rows.shape[1:])


def _over_coordinates(
    step: Callable, start, x: Float[Array, "half rows"], y: Float[Array, "half columns"]
):
    """Fold `step(state, difference, coordinate)` over the coordinates, unrolled in chunks."""
    half = len(x)
    chunks = -(-half // UNROLL)

    def unrolled(state, chunk: tuple[Array, Array, Array]):
        for x_m, y_m, m in zip(*chunk, strict=True):
            state = step(state, x_m[:, None] - y_m[None, :], m)
        return state, None

    pieces = (
        x.reshape(chunks, -1, x.shape[-1]),
        y.reshape(chunks, -1, y.shape[-1]),
        jnp.arange(half, dtype=jnp.int32).reshape(chunks, -1),
    )
    return _scan(unrolled, start, pieces, half // chunks)[0]


def _scan(step: Callable, start, slices, uses: int):
    """`jax.lax.scan` over slices, each used `uses` times in a step.

    XLA moves the taking of a slice with few uses into the loops that use it, which are then not
    vectorised. So each step hands the next its slice, as carried values are in memory already.
    """
    if uses >= FEW_USES:
        return jax.lax.scan(step, start, slices)

    def carried(carry, following):
        state, current = carry
        state, result = step(state, current)
        return (state, following), result

    first = jax.tree.map(lambda a: a[0], slices)
    following = jax.tree.map(lambda a: jnp.roll(a, -1, axis=0), slices)
    (state, _), results = jax.lax.scan(carried, (start, first), following)
    return state, results
