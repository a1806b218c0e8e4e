"""Which landmarks logged episodes lead between.

A learned distance errs towards short, and where it is short through a wall no search over it helps:
the shortest path is the one with the error in it. What the data show is that a move can be made at
all. So the metric says how long a step of a plan is, and the episodes say whether there is one.

They also say where chance decides: a teleporter that carries every third episode to a place leads
there in the data, and a plan that counts on it fails two times of three.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import csr_array

from farstep.core.rng import stream_generator
from farstep.data.table import Table
from farstep.planning.location import MANY, Follower

ROWS_EACH = 128
"""Logged states looked at for each landmark."""

MOST_BYTES = 2**28
"""Of logged states looked at: fewer of them where they are images."""

PIECE = 64
"""States of an episode that are looked at one after another, the first searched for anew."""

SPACINGS = 5
"""States looked at within one move."""

RELIABLE = 0.5
"""Of those carried off from about one place, more than this share must end up together."""


def logged_moves(
    follower: Follower, table: Table, longest: int, seed: int = 0
) -> Int[np.ndarray, "moves 2"]:
    """Pairs of different landmarks that some episode leads from one to the other of, not by chance.

    Args:
        follower: knows where a logged state is.
        table: episodes; pieces of them are chosen at random where there are many.
        longest: steps that a move may take.
        seed: of that choice.
    """
    every, count = max(1, longest // SPACINGS), len(follower.beside)
    rows, in_piece = _pieces(table, every, count, seed)
    at = np.zeros(rows.shape, np.int64)
    for column in range(rows.shape[1]):
        states = table.frames(rows[:, column], follower.metric.spaces.frames)
        if column == 0:
            at[:, 0] = follower.search(states).landmark
        else:
            at[:, column] = follower.track(states, at[:, column - 1], MANY).landmark
    by_chance = np.zeros(at.shape, np.int64)
    by_chance[:, 1:] = _by_chance(follower.beside, at[:, :-1], at[:, 1:]) & in_piece[:, 1:]
    chances = np.cumsum(by_chance, axis=1)
    seen = [np.zeros(0, np.int64)]
    for lag in range(1, min(longest // every, rows.shape[1] - 1) + 1):
        tails, heads = at[:, :-lag], at[:, lag:]
        made = in_piece[:, lag:] & (tails != heads) & (chances[:, lag:] == chances[:, :-lag])
        seen.append(np.unique(tails[made] * count + heads[made]))
    keys = np.unique(np.concatenate(seen))
    return np.stack([keys // count, keys % count], axis=1).astype(np.int32)


def _by_chance(
    beside: Int[np.ndarray, "landmarks beside"],
    tails: Int[np.ndarray, "*moves"],
    heads: Int[np.ndarray, "*moves"],
) -> Bool[np.ndarray, "*moves"]:
    """Which moves carried an episode off to where too few of those carried off there ended up."""
    count, k = beside.shape
    # Off is also where no way leads back; but through a one-way door all come out together.
    off = ~(beside[tails] == heads[..., None]).any(axis=-1)
    tails, heads = tails[off], heads[off]
    ones = np.ones(count * k, np.int64)
    near = csr_array((ones, (np.repeat(np.arange(count), k), beside.reshape(-1))), (count, count))
    near = csr_array(((near + near.T) > 0).astype(np.int64))
    carried = csr_array((np.ones(len(tails), np.int64), (tails, heads)), (count, count))
    # From about each landmark to each: summed over where they set out, then where they came.
    pairs, which = np.unique(np.stack([tails, heads]), axis=1, return_inverse=True)
    landed = csr_array(near @ carried)[pairs[0]]
    together = landed.multiply(near[pairs[1]]).sum(axis=1)
    share = together / np.maximum(landed.sum(axis=1), 1)
    result = np.zeros(off.shape, bool)
    result[off] = (share <= RELIABLE)[which.reshape(-1)]
    return result


def _pieces(
    table: Table, every: int, landmarks: int, seed: int
) -> tuple[Int[np.ndarray, "pieces states"], np.ndarray]:
    """Rows of the table, a piece of an episode a line, and which are not past the piece's end."""
    span = PIECE * every
    starts = [
        np.arange(start, start + length, span)
        for start, length in zip(table.episode_starts, table.episode_lengths, strict=True)
    ]
    ends = np.repeat(table.episode_starts + table.episode_lengths, [len(some) for some in starts])
    begins = np.concatenate(starts)
    rows = begins[:, None] + every * np.arange(PIECE)
    in_piece = rows < ends[:, None]
    size = table.spaces.observation.row.itemsize
    wanted = min(ROWS_EACH * landmarks, max(MOST_BYTES // size, PIECE))
    order = stream_generator(seed, "moves").permutation(len(rows))
    enough = np.searchsorted(np.cumsum(in_piece[order].sum(axis=1)), wanted) + 1
    chosen = np.sort(order[:enough])
    rows, in_piece = rows[chosen], in_piece[chosen]
    used = in_piece.any(axis=0)
    # Past its end a piece stays at its last state, from which nothing leads on.
    return np.minimum(rows, ends[chosen, None] - 1)[:, used], in_piece[:, used]
