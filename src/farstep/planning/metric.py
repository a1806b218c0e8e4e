"""A trained agent's temporal distance over raw observations, for whole sets of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from farstep.agents.base import Agent
from farstep.agents.metric import Metric, PairMetric
from farstep.core.errors import FarstepError
from farstep.core.trees import Packed
from farstep.core.types import Arrays, Params, Spaces
from farstep.data.normalize import Normalization

BLOCK = 256
"""Rows of one call: bounds the memory, and one height is compiled once."""

PAIRS = 4096
"""Pairs of one call, where distances are wanted of some pairs only."""

TOGETHER = 64
"""Rows whose own pairs are computed at a time: their differences stay in a core's cache."""


@dataclass(frozen=True, eq=False)
class LearnedMetric:
    """What an agent has learned about how far states are apart, in environment steps.

    Attributes:
        agent: a method that has a distance.
        params: its networks.
        normalization: applied to observations before the networks see them.
        spaces: of these observations.

    Raises:
        FarstepError: the method has no distance, or computes it of pairs of several arrays.
    """

    agent: Agent
    params: Params
    normalization: Normalization
    spaces: Spaces

    def __post_init__(self) -> None:
        metric = self.agent.metric(self.params)
        if metric is None:
            raise FarstepError(
                f"{type(self.agent).__name__} has learned a policy only and has "
                "no distance. Train a method that has one, such as mqe."
            )
        if isinstance(metric, PairMetric) and self.spaces.observation.keys:
            raise FarstepError(
                f"{type(self.agent).__name__} computes its distance of each pair of states, and"
                " plans over observations of several arrays need one that embeds them: train mqe,"
                " tmd or qrl."
            )

    @cached_property
    def packed(self) -> Packed:
        """The agent's `Metric`, as the programs take it."""
        return Packed.of(self.agent.metric(self.params))

    def embed(self, observations: Shaped[np.ndarray, "n *obs"]) -> Array:
        """Embeddings of raw observations, (n, …), laid out as all methods here take them.

        Always in calls of the same height: an embedding does not depend, in its last bits either,
        on how many others are computed beside it.
        """
        blocks = [
            _embed(self.packed, self.normalization.apply(block))
            for block in in_blocks(observations, BLOCK)
        ]
        return jnp.concatenate(blocks)[: len(observations)]

    def steps(
        self, starts: np.ndarray | Array, goals: np.ndarray | Array, height: int | None = None
    ) -> Float[np.ndarray, "starts goals"]:
        """Distance from every start to every goal, both given as embeddings.

        Every number of starts up to `BLOCK` is compiled separately, unless a `height` is given.
        """
        blocks = [
            np.asarray(_steps(self.packed, block, goals)) for block in in_blocks(starts, height)
        ]
        return np.concatenate(blocks)[: len(starts)]

    def ways(
        self, starts: Array, goals: Array, pairs: Int[np.ndarray, "2 pairs"]
    ) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
        """Distance from the start to the goal of each pair, and back, both given as embeddings.

        Every number of starts and of goals is compiled separately, but any number of pairs can be
        asked for.
        """
        if not pairs.size:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        blocks = [
            [np.asarray(way) for way in _ways(self.packed, starts, goals, block)]
            for block in in_blocks(pairs.T.astype(np.int32), PAIRS)
        ]
        there, back = (np.concatenate(way)[: pairs.shape[1]] for way in zip(*blocks, strict=True))
        return there, back

    def between(
        self, starts: Shaped[np.ndarray, "n *obs"], goals: Shaped[np.ndarray, "n *obs"]
    ) -> Float[np.ndarray, " n"]:
        """Distance from each raw start to its own raw goal."""
        blocks = [
            np.asarray(
                _between(
                    self.packed,
                    self.normalization.apply(start),
                    self.normalization.apply(goal),
                )
            )
            for start, goal in zip(in_blocks(starts), in_blocks(goals), strict=True)
        ]
        return np.concatenate(blocks)[: len(starts)]


def in_blocks(rows: np.ndarray | Array, size: int | None = None) -> Iterator[Any]:
    """Blocks of `size` rows, the last filled up with copies of its last row.

    Without a size, blocks are as high as `BLOCK` allows and fewer rows are one block.
    """
    size = size or min(BLOCK, len(rows))
    for first in range(0, len(rows), size):
        block = rows[first : first + size]
        missing = size - len(block)
        if missing:
            module = np if isinstance(rows, np.ndarray) else jnp
            block = module.concatenate([block, module.repeat(block[-1:], missing, axis=0)])
        yield block


@jax.jit
def _embed(packed: Packed, observations: Arrays) -> Array:
    metric: Metric = packed.tree
    return metric.laid_out(metric.embed(observations))


@jax.jit
def _steps(packed: Packed, starts: Array, goals: Array) -> Array:
    metric: Metric = packed.tree
    return metric.pairwise(metric.embeddings(starts), metric.embeddings(goals)).steps


@jax.jit
def _ways(
    packed: Packed, starts: Array, goals: Array, pairs: Int[Array, "pairs 2"]
) -> tuple[Array, Array]:
    metric: Metric = packed.tree

    def some(pairs: Int[Array, "some 2"]) -> tuple[Array, Array]:
        ways = metric.both_ways(starts[pairs[:, 0]], goals[pairs[:, 1]])
        return ways[0].steps, ways[1].steps

    there, back = jax.lax.map(some, pairs.reshape(-1, TOGETHER, 2))
    return there.reshape(-1), back.reshape(-1)


@jax.jit
def _between(packed: Packed, starts: Arrays, goals: Arrays) -> Array:
    metric: Metric = packed.tree
    return metric.distance(metric.embed(starts), metric.embed_goal(goals)).steps
