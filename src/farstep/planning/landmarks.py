"""Which states of the data become the nodes of the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int, Num

from farstep.core.errors import FarstepError
from farstep.core.rng import stream_generator
from farstep.data.table import Table
from farstep.planning.metric import LearnedMetric

Choice = Literal["random", "farthest"]
"""`random`: uniform over the data's steps. `farthest`: each the farthest from those before it."""

POOL = 4
"""Random states for each landmark that `farthest` chooses."""

CANDIDATES = 256
"""Far states that are looked at together while `farthest` chooses."""

CHOSEN = 64
"""Those chosen whose distances to all states are computed in one call."""

NEAR_FARTHEST = 0.9
"""Share of the farthest state's distance that makes a state far enough to be chosen."""

STRAY = 2.0
"""Strides that no state goes between two choices of a subgoal."""

REPLAN_EVERY = 5
"""Steps between choices of a subgoal, unless others are asked for."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """All that a graph is made of besides the metric.

    Attributes:
        observations: the landmarks as they stand in the data, those first that lie apart: an
            episode is found again soonest so.
        reach: longest edge between them, in environment steps.
        stride: longest edge that no logged episode takes; without `moves` it says nothing.
        moves: pairs of them that logged episodes lead between; None where that is not known, and
            every pair within reach is then an edge.
        replan_every: steps between choices of a subgoal, for which all this was made.
    """

    observations: Num[np.ndarray, "landmarks *obs"]
    reach: float
    stride: float = np.inf
    moves: Int[np.ndarray, "moves 2"] | None = None
    replan_every: int = REPLAN_EVERY

    @property
    def stray(self) -> float:
        """Steps that no state goes between two choices of a subgoal: it was carried off."""
        return min(STRAY * self.stride, self.reach)

    def only(self, kept: Int[np.ndarray, " kept"]) -> Landmarks:
        """Those with these numbers, in increasing order, and the moves between them."""
        moves = self.moves
        if moves is not None:
            number = np.full(len(self.observations), -1, np.int32)
            number[kept] = np.arange(len(kept), dtype=np.int32)
            moves = number[moves]
            moves = moves[(moves >= 0).all(axis=1)]
        return replace(self, observations=self.observations[kept], moves=moves)


def choose_landmarks(
    metric: LearnedMetric, table: Table, count: int, choice: Choice = "farthest", seed: int = 0
) -> Num[np.ndarray, "landmarks *obs"]:
    """`count` observations of the table, or all of them where there are fewer.

    They come in random order or in that of their choice, so that the first of them lie apart too.

    Raises:
        FarstepError: fewer than one landmark is asked for.
    """
    if count < 1:
        raise FarstepError(f"planning needs at least one landmark, not {count}")
    candidates = count if choice == "random" else POOL * count
    generator = stream_generator(seed, "landmarks")
    rows = generator.choice(table.num_steps, size=min(candidates, table.num_steps), replace=False)
    # Sorted, because the table is read from a file.
    order = np.argsort(rows)
    observations = np.asarray(table.observations[rows[order]])
    if choice == "random" or len(observations) <= count:
        return observations[np.argsort(order)]
    return observations[farthest_points(metric, observations, count, generator)]


def farthest_points(
    metric: LearnedMetric,
    observations: Num[np.ndarray, "n *obs"],
    count: int,
    generator: np.random.Generator,
) -> Int[np.ndarray, " count"]:
    """Indices of `count` states, each about the farthest from all those before it.

    Far means many steps from the nearest landmark to the state; about, that none is farther by
    more than a factor of 1 / `NEAR_FARTHEST`, which lets distances be computed for many candidates
    at once. For symmetric distances, exactly farthest points leave the worst covered state at most
    twice as far from a landmark as any choice must (Gonzalez 1985).

    Raises:
        FarstepError: distances are not numbers.
    """
    embeddings = metric.embed(observations)
    rows = np.asarray(embeddings)
    nearest = np.full(len(observations), np.inf)
    chosen: list[int] = []
    while len(chosen) < count:
        limit = NEAR_FARTHEST * nearest.max()
        far = np.flatnonzero(nearest >= limit)
        candidates = generator.choice(far, size=CANDIDATES, replace=len(far) < CANDIDATES)
        # Those that are far from each other too.
        apart = metric.steps(rows[candidates], rows[candidates], CANDIDATES)
        near = (apart < limit) | (candidates[:, None] == candidates)
        covered = np.zeros(CANDIDATES, bool)
        new: list[int] = []
        for candidate in range(min(CANDIDATES, count - len(chosen))):
            if not covered[candidate]:
                covered |= near[candidate]
                new.append(candidates[candidate])
        steps = metric.steps(rows[new], embeddings, CHOSEN)
        nearest = np.minimum(nearest, steps.min(axis=0))
        if np.isnan(nearest).any():
            raise FarstepError(
                "the learned distance between some states of the data is not a number: the "
                "training diverged; plan with an earlier checkpoint, or train with other settings"
            )
        nearest[new] = -1.0
        chosen += new
    return np.array(chosen)
