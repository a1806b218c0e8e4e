"""All pairs of MRN as Pallas kernels for a GPU.

Run in Pallas' interpret mode only, against the portable form: no GPU has timed these kernels.

A program holds a tile of pairs in registers and runs through the coordinates. Backward, winners and
weights of every pair and group are found first; then each program owns one coordinate of one tile
of points and sums over all partners, so that no two programs write to one place.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

TILE = 32
"""Points of either set in one tile: 1024 pairs, eight for each thread of four warps."""

_call = functools.partial(pl.pallas_call, compiler_params=triton.CompilerParams(num_warps=4))


def total(
    x: Float[Array, "rows groups 2 half"],
    y: Float[Array, "columns groups 2 half"],
    interpret: bool = False,
) -> Float[Array, "rows columns"]:
    """The sum over groups of max(0, max_m x_m − y_m) + ‖x − y‖₂; `interpret` runs on any device."""
    distances: Array = _total_of_tiles(_in_whole_tiles(x), _in_whole_tiles(y), interpret)
    return distances[: len(x), : len(y)]


def usable() -> bool:
    """Whether every GPU of this process compiles these kernels; so they are where there is none."""
    try:
        gpus = jax.local_devices(backend="cuda")
    except RuntimeError:
        return True
    return all(lowers(gpu) for gpu in gpus)


@functools.cache
def lowers(device: Any) -> bool:
    """Whether these kernels compile for a device; where not, a warning is logged, once."""
    place = jax.sharding.SingleDeviceSharding(device)
    points = jax.ShapeDtypeStruct((TILE, 1, 2, 16), jnp.float32, sharding=place)
    both_ways = jax.grad(lambda x, y: total(x, y).sum(), argnums=(0, 1))
    try:
        jax.jit(both_ways).lower(points, points).compile()
    except Exception as error:  # whatever a missing or older Triton raises
        reason = str(error).strip().partition("\n")[0]
        logging.getLogger(__name__).warning(
            "The kernels for distances of all pairs do not compile for %s, so the portable form, "
            "which is slower, takes their place: %s: %s",
            device,
            type(error).__name__,
            reason,
        )
        return False
    return True


def _in_whole_tiles(
    points: Float[Array, "points groups 2 half"],
) -> Float[Array, "groups 2 half filled"]:
    filled = jnp.pad(points, [(0, -len(points) % TILE)] + [(0, 0)] * 3)
    return jnp.moveaxis(filled, 0, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _total_of_tiles(x: Array, y: Array, interpret: bool) -> Array:
    groups, _, half, rows = x.shape
    columns = y.shape[-1]
    return _call(
        _distances,
        out_shape=jax.ShapeDtypeStruct((rows, columns), x.dtype),
        grid=(rows // TILE, columns // TILE),
        in_specs=[
            pl.BlockSpec((groups, 2, half, TILE), lambda i, j: (0, 0, 0, i)),
            pl.BlockSpec((groups, 2, half, TILE), lambda i, j: (0, 0, 0, j)),
        ],
        out_specs=pl.BlockSpec((TILE, TILE), lambda i, j: (i, j)),
        interpret=interpret,
    )(x, y)


def _forward(x: Array, y: Array, interpret: bool):
    return _total_of_tiles(x, y, interpret), (x, y)


def _backward(interpret: bool, residuals: tuple[Array, Array], cotangent: Array):
    x, y = residuals
    winner, weight = _pairs_of(x, y, cotangent, interpret)
    grad_x = _sums_of(cotangent, winner, weight, x, y, interpret)
    grad_y = _sums_of(cotangent.T, winner.mT, weight.mT, y, x, interpret)
    return grad_x, grad_y.at[:, 0].multiply(-1)


_total_of_tiles.defvjp(_forward, _backward)


def _pairs_of(x: Array, y: Array, cotangent: Array, interpret: bool) -> tuple[Array, Array]:
    """`(groups, rows, columns)` each: the coordinate that wins, and cotangent / norm."""
    groups, _, half, rows = x.shape
    columns = y.shape[-1]
    of_pairs = pl.BlockSpec((1, TILE, TILE), lambda g, i, j: (g, i, j))
    return _call(
        _pairs,
        out_shape=(
            jax.ShapeDtypeStruct((groups, rows, columns), jnp.int32),
            jax.ShapeDtypeStruct((groups, rows, columns), x.dtype),
        ),
        grid=(groups, rows // TILE, columns // TILE),
        in_specs=[
            pl.BlockSpec((1, 2, half, TILE), lambda g, i, j: (g, 0, 0, i)),
            pl.BlockSpec((1, 2, half, TILE), lambda g, i, j: (g, 0, 0, j)),
            pl.BlockSpec((TILE, TILE), lambda g, i, j: (i, j)),
        ],
        out_specs=(of_pairs, of_pairs),
        interpret=interpret,
    )(x, y, cotangent)


def _sums_of(
    cotangent: Array, winner: Array, weight: Array, x: Array, y: Array, interpret: bool
) -> Array:
    """`(groups, 2, half, rows)`: what reaches each coordinate of x, summed over the columns."""
    groups, _, half, rows = x.shape
    columns = y.shape[-1]
    of_pairs = pl.BlockSpec((1, TILE, columns), lambda g, m, i: (g, i, 0))
    return _call(
        _sums,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=(groups, half, rows // TILE),
        in_specs=[
            pl.BlockSpec((TILE, columns), lambda g, m, i: (i, 0)),
            of_pairs,
            of_pairs,
            pl.BlockSpec((1, 1, 1, TILE), lambda g, m, i: (g, 1, m, i)),
            pl.BlockSpec((1, 1, 1, columns), lambda g, m, i: (g, 1, m, 0)),
        ],
        out_specs=pl.BlockSpec((1, 2, 1, TILE), lambda g, m, i: (g, 0, m, i)),
        interpret=interpret,
    )(cotangent, winner, weight, x, y)


# The kernels. A `ref` is memory; indexing loads a piece of it into registers.


def _distances(x_ref, y_ref, out_ref) -> None:
    def add(group, total):
        largest, _, norm = _compare(x_ref, y_ref, group)
        return total + largest + norm

    out_ref[...] = jax.lax.fori_loop(0, x_ref.shape[0], add, jnp.zeros(out_ref.shape, x_ref.dtype))


def _pairs(x_ref, y_ref, cotangent_ref, winner_ref, weight_ref) -> None:
    _, winner, norm = _compare(x_ref, y_ref, 0)
    winner_ref[0] = winner
    # Equal points have no direction: theirs is the zero subgradient.
    weight_ref[0] = jnp.where(norm == 0, 0, cotangent_ref[...] / norm)


def _sums(cotangent_ref, winner_ref, weight_ref, x_ref, y_ref, out_ref) -> None:
    coordinate = pl.program_id(1)
    x = x_ref[0, 0, 0]

    def add(tile, sums):
        won, directed = sums
        columns = pl.ds(tile * TILE, TILE)
        wins = winner_ref[0, :, columns] == coordinate
        won += jnp.where(wins, cotangent_ref[:, columns], 0).sum(axis=1)
        difference = x[:, None] - y_ref[0, 0, 0, columns][None, :]
        directed += (weight_ref[0, :, columns] * difference).sum(axis=1)
        return won, directed

    start = jnp.zeros(TILE, x.dtype), jnp.zeros(TILE, x.dtype)
    won, directed = jax.lax.fori_loop(0, y_ref.shape[-1] // TILE, add, start)
    out_ref[0, 0, 0] = won
    out_ref[0, 1, 0] = directed


def _compare(x_ref, y_ref, group) -> tuple[Array, Array, Array]:
    """The largest difference, its coordinate and the norm in one group, for a tile of pairs."""

    def step(m, state):
        largest, winner, squared = state
        difference = x_ref[group, 0, m][:, None] - y_ref[group, 0, m][None, :]
        winner = jnp.where(difference > largest, m, winner)
        largest = jnp.maximum(largest, difference)
        difference = x_ref[group, 1, m][:, None] - y_ref[group, 1, m][None, :]
        return largest, winner, squared + difference * difference

    zeros = jnp.zeros((TILE, TILE), x_ref.dtype)
    nobody = jnp.full((TILE, TILE), -1, jnp.int32)
    largest, winner, squared = jax.lax.fori_loop(0, x_ref.shape[2], step, (zeros, nobody, zeros))
    return largest, winner, jnp.sqrt(squared)
