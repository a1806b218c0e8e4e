"""Which landmark a state is at: the nearest, counted both ways.

One way alone is not enough: to a smooth network the state behind a thin wall is sometimes the
nearest one *from* here, but rarely *to* here as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from farstep.agents.metric import Metric
from farstep.core.trees import Packed
from farstep.core.types import Arrays
from farstep.planning.metric import BLOCK, TOGETHER, LearnedMetric, in_blocks
from farstep.planning.triangle import pairs_left

FEW = 1
"""Rows of a device call that searches for goals and running episodes: mostly it is one."""

MANY = 1024
"""Rows of a device call that follows logged episodes."""

PIVOTS = BLOCK
"""Landmarks, the first, that states of data are compared with before all others."""


@dataclass(frozen=True, eq=False)
class Location:
    """Where some states are.

    Attributes:
        landmark: the nearest to each.
        apart: the longer of the ways there and back, in learned steps.
        steps: the way there.
        back: the way from there to the state.
        carried_off: whether it is farther from where it was a moment ago than any state goes; no,
            where that is not known.
        to_aim: the way to what each is going to, where that was asked for.
        from_aim: the way back from it.
    """

    landmark: Int[np.ndarray, " n"]
    apart: Float[np.ndarray, " n"]
    steps: Float[np.ndarray, " n"]
    back: Float[np.ndarray, " n"]
    carried_off: Bool[np.ndarray, " n"]
    to_aim: Float[np.ndarray, " n"] | None = None
    from_aim: Float[np.ndarray, " n"] | None = None


class Neighbours(NamedTuple):
    """The landmarks, and those about each, as in `Locator`."""

    embeddings: Array
    beside: Int[Array, "landmarks beside"]
    nearby: Int[Array, "landmarks nearby"]


@dataclass(frozen=True, eq=False)
class Locator:
    """Finds the landmark that states are at.

    Attributes:
        metric: the distance.
        embeddings: of the landmarks.
        beside: of each landmark, those at about the same place, itself first.
        nearby: of each landmark, some that lie apart, as far from it as a state may be that was at
            it a moment ago, itself first.
        stray: distance from the landmark found so at which a state is looked for among all.
    """

    metric: LearnedMetric
    embeddings: Array
    beside: Int[np.ndarray, "landmarks beside"]
    nearby: Int[np.ndarray, "landmarks nearby"]
    stray: float

    def search(self, observations: Shaped[np.ndarray, "n *obs"]) -> Location:
        """The nearest of all landmarks to each state."""
        return _found(*self._nearest(observations))

    def approach(
        self, states: Shaped[np.ndarray, "n *obs"]
    ) -> tuple[Float[np.ndarray, "n landmarks"], Location, Float[np.ndarray, "n *embedding"]]:
        """The way to each state from every landmark, where it is, and its embedding."""
        *nearest, _, back, embeddings = self._called(_nearest_of_all, FEW, states)
        return back, _found(*nearest), embeddings

    def leave(self, states: Shaped[np.ndarray, "n *obs"]) -> Float[np.ndarray, "n landmarks"]:
        """The way from each state to every landmark."""
        return self._called(_nearest_of_all, FEW, states)[4]

    def track(
        self,
        observations: Shaped[np.ndarray, "n *obs"],
        previous: Int[np.ndarray, " n"],
        height: int,
        *,
        back: Float[np.ndarray, " n"] | None = None,
        farthest: float = np.inf,
        aims: Float[np.ndarray, "n *embedding"] | None = None,
    ) -> Location:
        """The nearest to each state, or nearly, looked for about the one it was at before.

        First it is the nearest of those `nearby` of that one, then the nearest `beside` it. States
        that are far from this as well, or carried off, are looked for among all landmarks.
        `back` is the way that it was to each from the one before, and `farthest` what can have been
        walked since: by the triangle inequality what is a longer way from there now than both
        together was carried off.
        `aims` are embeddings of what each state's distances to and from are wanted too.

        Rows computed in calls of other heights differ in their last bits. So running episodes are
        located in calls of one height, whatever others are located beside them; and it is at most
        `TOGETHER` or a multiple of it, since what is left over would be computed at another height.
        """
        columns = (previous,) if aims is None else (previous, aims)
        landmark, ways = self._called(_nearest_of_some, height, observations, *columns)
        apart, steps, found_back, from_previous, *aimed = ways.T
        carried_off = np.zeros(len(observations), bool)
        if back is not None:
            carried_off = from_previous > back + farthest
        found = Location(landmark, apart, steps, found_back, carried_off, *aimed)
        strays = np.flatnonzero(carried_off | (apart > self.stray))
        if strays.size:
            again = self.search(observations[strays])
            for name in ("landmark", "apart", "steps", "back"):
                getattr(found, name)[strays] = getattr(again, name)
        return found

    def _nearest(self, observations: Shaped[np.ndarray, "n *obs"]) -> list[np.ndarray]:
        """The nearest landmark to each state, how far they are apart, the way there, and back."""
        return self._called(_nearest_of_all, FEW, observations, parts=slice(4))

    def _called(
        self,
        nearest: Callable[..., tuple[Array, ...]],
        height: int,
        observations: np.ndarray,
        *columns: np.ndarray,
        parts: slice = slice(None),
    ) -> list[np.ndarray]:
        """These parts alone of what `nearest` computes for each of the observations."""
        columns, seen = (observations, *columns), self.metric.normalization.apply
        blocks = [
            nearest(self.metric.packed, self._neighbours, seen(rows), *others)[parts]
            for rows, *others in zip(*(in_blocks(one, height) for one in columns), strict=True)
        ]
        return [
            np.concatenate([np.asarray(block) for block in part])[: len(observations)]
            for part in zip(*blocks, strict=True)
        ]

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self.embeddings, jnp.asarray(self.beside), jnp.asarray(self.nearby))


class Follower(Locator):
    """Finds the landmarks that states of data are at, many thousands of them.

    It finds what `Locator` does, where the distance is a quasimetric: the longer of the ways there
    and back is a metric then, and its triangle inequality rules most landmarks out.
    """

    def _nearest(self, observations: Shaped[np.ndarray, "n *obs"]) -> list[np.ndarray]:
        found = [self._nearest_of_block(block) for block in in_blocks(observations, BLOCK)]
        return [np.concatenate(part)[: len(observations)] for part in zip(*found, strict=True)]

    def _nearest_of_block(
        self, observations: Shaped[np.ndarray, "n *obs"]
    ) -> tuple[np.ndarray, ...]:
        states = self.metric.embed(observations)
        apart, everyone = self._from_pivots(states), np.arange(len(observations))
        queries, landmarks = pairs_left(apart, *self._cells, bound=apart.min(axis=1))
        # The nearest pivot is one of them, but for distances that disobey the inequality.
        queries = np.concatenate([everyone, queries])
        landmarks = np.concatenate([apart.argmin(axis=1), landmarks])
        there, back = self.metric.ways(states, self.embeddings, np.stack([queries, landmarks]))
        apart = np.maximum(there, back)
        order = np.lexsort((landmarks, apart, queries))
        first = order[np.searchsorted(queries[order], everyone)]
        return landmarks[first], apart[first], there[first], back[first]

    @cached_property
    def _cells(self) -> tuple[Int[np.ndarray, " landmarks"], Float[np.ndarray, " landmarks"]]:
        """The pivot nearest to each landmark, and how far they are apart."""
        apart = self._from_pivots(self.embeddings)
        return apart.argmin(axis=1), apart.min(axis=1)

    def _from_pivots(self, states: Float[Array, "n *embedding"]) -> Float[np.ndarray, "n pivots"]:
        """How far each state is apart from each of the first landmarks."""
        pivots = self.embeddings[:PIVOTS]
        there, back = self.metric.steps(states, pivots), self.metric.steps(pivots, states).T
        return np.maximum(there, back)


def _found(
    landmark: Int[np.ndarray, " n"],
    apart: Float[np.ndarray, " n"],
    steps: Float[np.ndarray, " n"],
    back: Float[np.ndarray, " n"],
) -> Location:
    """Where states are of which it is not known where they come from."""
    return Location(landmark, apart, steps, back, carried_off=np.zeros(len(landmark), bool))


@jax.jit
def _nearest_of_all(
    packed: Packed, landmarks: Neighbours, observations: Arrays
) -> tuple[Array, ...]:
    """As in `Location`; then the ways to and from all landmarks, and the embeddings."""
    metric: Metric = packed.tree
    states = metric.laid_out(metric.embed(observations))
    ways = metric.both_ways(states, landmarks.embeddings)
    there, back = (way.steps[None] for way in ways)
    apart = jnp.maximum(there, back)
    landmark = jnp.argmin(apart, axis=1)
    rows = jnp.arange(len(landmark))
    nearest = (rows, landmark)
    return landmark, apart[nearest], there[nearest], back[nearest], there, back, states


@jax.jit
def _nearest_of_some(
    packed: Packed,
    landmarks: Neighbours,
    observations: Arrays,
    previous: Int[Array, " rows"],
    aims: Array | None = None,
) -> tuple[Array, ...]:
    """The nearest landmark of each row, and what is known of ways.

    How far it is apart, the way there and back, the way from the one before, and with aims the ways
    to and from them.
    """
    metric: Metric = packed.tree

    def ways(state: Array, others: Array) -> tuple[Array, Array]:
        there, back = metric.both_ways(state[None], others)
        return there.steps, back.steps

    def of_row(row: tuple[Array, ...]) -> tuple[Array, ...]:
        state, previous, *aim = row
        # About where it is, then where exactly.
        nearby = landmarks.nearby[previous]
        to_nearby, from_nearby = ways(state, landmarks.embeddings[nearby])
        about = nearby[jnp.argmin(jnp.maximum(to_nearby, from_nearby))]
        beside = landmarks.beside[about]
        # The aim after them, so that all distances are computed at once.
        others = jnp.concatenate([landmarks.embeddings[beside], *(one[None] for one in aim)])
        there, back = ways(state, others)
        apart = jnp.maximum(there, back)
        place = jnp.argmin(apart[: len(beside)])
        # The one before is the first of those nearby.
        found = [apart[place], there[place], back[place], from_nearby[0]]
        return beside[place], jnp.stack([*found, there[-1], back[-1]] if aim else found)

    states = metric.laid_out(metric.embed(observations))
    rows = (states, previous) if aims is None else (states, previous, aims)
    return jax.lax.map(of_row, rows, batch_size=TOGETHER)
