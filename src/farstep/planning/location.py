"""Which landmark a state is at: the nearest, counted both ways.

One way alone is not enough: to a smooth network the state behind a thin wall is sometimes the
nearest one *from* here, but rarely *to* here as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from farstep.agents.base import Agent
from farstep.core.trees import Packed
from farstep.core.types import Params
from farstep.planning.metric import LearnedMetric, in_blocks


class Height(NamedTuple):
    """Rows of device calls; fewer where states are searched for, each among all landmarks."""

    tracked: int
    searched: int


MANY = Height(1024, 128)
"""For the states of data."""

FEW = Height(25, 8)
"""For running episodes, always: rows computed in calls of other heights differ in their last bits,
and an episode must not depend on how many others are located beside it."""


@dataclass(frozen=True, eq=False)
class Location:
    """Where some states are.

    Attributes:
        landmark: the nearest to each.
        apart: the longer of the ways there and back, in learned steps.
        steps: the way there.
        to_aim: the way to what each is going to, where that was asked for.
        from_aim: the way back from it.
    """

    landmark: Int[np.ndarray, " n"]
    apart: Float[np.ndarray, " n"]
    steps: Float[np.ndarray, " n"]
    to_aim: Float[np.ndarray, " n"] | None = None
    from_aim: Float[np.ndarray, " n"] | None = None


@dataclass(frozen=True, eq=False)
class Locator:
    """Finds the landmark that states are at.

    Attributes:
        metric: the distance.
        embeddings: of the landmarks.
        nearby: of each landmark, those that a state may be at that was at it a moment ago.
        stray: distance from all of those at which a state is looked for among all landmarks.
    """

    metric: LearnedMetric
    embeddings: Array
    nearby: Int[np.ndarray, "landmarks k"]
    stray: float

    def search(self, observations: Num[np.ndarray, "n *obs"], height: Height) -> Location:
        """The nearest of all landmarks to each state."""
        return Location(*self._called(_nearest_of_all, height.searched, observations))

    def approach(
        self, goals: Num[np.ndarray, "n *obs"]
    ) -> tuple[
        Float[np.ndarray, "n landmarks"], Int[np.ndarray, " n"], Float[np.ndarray, "n *embedding"]
    ]:
        """The way to each goal from every landmark, the one it is at, and the goals' embeddings."""
        steps, landmarks, embeddings = self._called(_from_all, FEW.searched, goals)
        return steps, landmarks, embeddings

    def track(
        self,
        observations: Num[np.ndarray, "n *obs"],
        previous: Int[np.ndarray, " n"],
        height: Height,
        everywhere: Bool[np.ndarray, " n"] | None = None,
        aims: Float[np.ndarray, "n *embedding"] | None = None,
    ) -> Location:
        """The nearest to each state of those near the one it was at before.

        All are searched for states that none of those is near, because they were carried off, and
        for those that are to be looked for `everywhere`. `height` is `MANY` or `FEW`; `aims` are
        embeddings of what each state's distances to and from are wanted too.
        """
        columns = (self.nearby[previous],) if aims is None else (self.nearby[previous], aims)
        found = Location(*self._called(_nearest_of_some, height.tracked, observations, *columns))
        strays = found.apart > self.stray
        if everywhere is not None:
            strays |= everywhere
        strays = np.flatnonzero(strays)
        if strays.size:
            again = self.search(observations[strays], height)
            for name in ("landmark", "apart", "steps"):
                getattr(found, name)[strays] = getattr(again, name)
        return found

    def _called(
        self,
        nearest: Callable[..., tuple[Array, ...]],
        height: int,
        observations: np.ndarray,
        *columns: np.ndarray,
    ) -> list[np.ndarray]:
        columns = (self.metric.normalization.apply(observations), *columns)
        blocks = [
            nearest(self.metric.agent, self.metric.packed, self.embeddings, *block)
            for block in zip(*(in_blocks(column, height) for column in columns), strict=True)
        ]
        return [
            np.concatenate([np.asarray(block) for block in part])[: len(observations)]
            for part in zip(*blocks, strict=True)
        ]


@partial(jax.jit, static_argnums=0)
def _nearest_of_all(
    agent: Agent, params: Packed, embeddings: Array, observations: Array
) -> tuple[Array, Array, Array]:
    there, back, _ = _both_ways(agent, params.tree, embeddings, observations)
    return _nearest(there, back)


@partial(jax.jit, static_argnums=0)
def _from_all(
    agent: Agent, params: Packed, embeddings: Array, observations: Array
) -> tuple[Array, Array, Array]:
    there, back, states = _both_ways(agent, params.tree, embeddings, observations)
    return back, _nearest(there, back)[0], states


def _both_ways(
    agent: Agent, params: Params, embeddings: Array, observations: Array
) -> tuple[Float[Array, "rows landmarks"], Float[Array, "rows landmarks"], Array]:
    states = agent.embed(params, observations)
    there = agent.pairwise(params, states, embeddings).steps
    return there, agent.pairwise(params, embeddings, states).steps.T, states


@partial(jax.jit, static_argnums=0)
def _nearest_of_some(
    agent: Agent,
    packed: Packed,
    embeddings: Array,
    observations: Array,
    candidates: Int[Array, "rows k"],
    aims: Array | None = None,
) -> tuple[Array, ...]:
    params, chosen = packed.tree, embeddings[candidates]
    if aims is not None:
        # One more of each row, so that all distances are computed at once.
        chosen = jnp.concatenate([chosen, aims[:, None]], axis=1)
    rows, k = chosen.shape[:2]
    chosen = chosen.reshape(rows * k, *chosen.shape[2:])
    states = jnp.repeat(agent.embed(params, observations), k, axis=0)
    there = agent.between(params, states, chosen).steps.reshape(rows, k)
    back = agent.between(params, chosen, states).steps.reshape(rows, k)
    some = candidates.shape[1]
    place, apart, steps = _nearest(there[:, :some], back[:, :some])
    found = (jnp.take_along_axis(candidates, place[:, None], axis=1)[:, 0], apart, steps)
    return found if aims is None else (*found, there[:, -1], back[:, -1])


def _nearest(
    there: Float[Array, "rows k"], back: Float[Array, "rows k"]
) -> tuple[Int[Array, " rows"], Float[Array, " rows"], Float[Array, " rows"]]:
    apart = jnp.maximum(there, back)
    place = jnp.argmin(apart, axis=1)
    rows = jnp.arange(len(place))
    return place, apart[rows, place], there[rows, place]
