"""Which states of the data become the nodes of the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int, Shaped

from farstep.core.errors import FarstepError
from farstep.core.rng import stream_generator
from farstep.data.table import Table
from farstep.planning.metric import LearnedMetric, in_blocks
from farstep.planning.triangle import pairs_left

Choice = Literal["random", "farthest"]
"""`random`: uniform over the data's steps. `farthest`: each the farthest from those before it."""

POOL = 4
"""Random states for each landmark that `farthest` chooses."""

CANDIDATES = 256
"""Far states that are looked at together while `farthest` chooses."""

CHOSEN = 64
"""New ones whose distances to those before are computed in one call."""

BEFORE = 512
"""Those before that are looked at in one call."""

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

    observations: Shaped[np.ndarray, "landmarks *obs"]
    reach: float
    stride: float = np.inf
    moves: Int[np.ndarray, "moves 2"] | None = None
    replan_every: int = REPLAN_EVERY

    @property
    def farthest(self) -> float:
        """Steps that no state goes between two choices of a subgoal, unless it is carried off."""
        return STRAY * self.stride if np.isfinite(self.stride) else self.reach

    @property
    def stray(self) -> float:
        """Distance from a landmark at which a state is not there, but has to be looked for."""
        return min(self.farthest, self.reach)

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
) -> Shaped[np.ndarray, "landmarks *obs"]:
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
    observations = table.frames(rows[order], metric.spaces.frames)
    if choice == "random" or len(observations) <= count:
        return observations[np.argsort(order)]
    return observations[farthest_points(metric, observations, count, generator)]


def farthest_points(
    metric: LearnedMetric,
    observations: Shaped[np.ndarray, "n *obs"],
    count: int,
    generator: np.random.Generator,
) -> Int[np.ndarray, " count"]:
    """Indices of `count` states, each about the farthest from all those before it.

    Far means many steps from the nearest landmark to the state; about, that none is farther by
    more than a factor of 1 / `NEAR_FARTHEST`, which lets distances be computed for many candidates
    at once. For symmetric distances, exactly farthest points leave the worst covered state at most
    twice as far from a landmark as any choice must (Gonzalez 1985).

    Only what the triangle inequality leaves open is computed. Of a distance that does not obey it,
    some states may be nearer to a landmark than is known here.

    Raises:
        FarstepError: distances are not numbers.
    """
    cover = Cover(metric, observations)
    while len(cover.chosen) < count:
        limit = NEAR_FARTHEST * cover.steps.max()
        far = np.flatnonzero(cover.steps >= limit)
        candidates = generator.choice(far, size=CANDIDATES, replace=len(far) < CANDIDATES)
        # Those that are far from each other too.
        rows = cover.rows[candidates]
        near = (metric.steps(rows, rows, CANDIDATES) < limit) | (candidates[:, None] == candidates)
        covered = np.zeros(CANDIDATES, bool)
        new: list[int] = []
        for candidate in range(min(CANDIDATES, count - len(cover.chosen))):
            if not covered[candidate]:
                covered |= near[candidate]
                new.append(candidates[candidate])
        cover.add(np.array(new))
    return np.array(cover.chosen)


class Cover:
    """States, and the nearest to each of those chosen among them.

    Attributes:
        rows: embeddings of the states.
        chosen: indices of those chosen.
        steps: to each state from the nearest chosen one; negative for chosen ones.
        back: the way back to that.
        nearest: its place among those chosen.
    """

    def __init__(self, metric: LearnedMetric, observations: Shaped[np.ndarray, "n *obs"]):
        self._metric = metric
        self._embeddings = metric.embed(observations)
        self.rows = np.asarray(self._embeddings)
        self.chosen: list[int] = []
        self.steps = np.full(len(observations), np.inf)
        self.back = np.zeros(len(observations))
        self.nearest = np.zeros(len(observations), int)

    def add(self, new: Int[np.ndarray, " new"]) -> None:
        """Choose these states too.

        Raises:
            FarstepError: distances are not numbers.
        """
        which, states = self._maybe_nearer(new)
        steps, back = self._metric.ways(
            self._embeddings, self._embeddings, np.stack([new[which], states])
        )
        if np.isnan(steps).any():
            raise FarstepError(
                "the learned distance between some states of the data is not a number: the "
                "training diverged; plan with an earlier checkpoint, or train with other settings"
            )
        nearer = np.flatnonzero(steps < self.steps[states])
        # The nearest last: of several that are assigned to a state the last one stays.
        nearer = nearer[np.argsort(-steps[nearer], kind="stable")]
        states = states[nearer]
        self.steps[states], self.back[states] = steps[nearer], back[nearer]
        self.nearest[states] = len(self.chosen) + which[nearer]
        self.steps[new] = -1.0
        self.back[new] = 0.0
        self.chosen += new.tolist()

    def _maybe_nearer(
        self, new: Int[np.ndarray, " new"]
    ) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        """Places in `new` and states that these may be nearer to than all chosen before."""
        if not self.chosen:
            which, states = np.divmod(np.arange(len(new) * len(self.steps)), len(self.steps))
            return which, states
        before = [
            self._metric.steps(self.rows[new], block, CHOSEN)
            for block in in_blocks(self.rows[self.chosen], BEFORE)
        ]
        steps = np.concatenate(before, axis=1)[:, : len(self.chosen)]
        return pairs_left(steps, self.nearest, self.back + self.steps)
