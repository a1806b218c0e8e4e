"""A trained agent's temporal distance over raw observations and goals, for whole sets of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from farstep.agents.base import Agent
from farstep.agents.metric import Metric, PairMetric
from farstep.core.errors import FarstepError
from farstep.core.goals import GoalRule
from farstep.core.trees import FlatTree
from farstep.core.types import Arrays, Params, Spaces
from farstep.data.normalize import Normalization

BLOCK = 256
"""Rows of one call: bounds the memory, and one height is compiled once."""


@dataclass(frozen=True, eq=False)
class LearnedMetric:
    """What an agent has learned about how far goals are from states, in environment steps.

    Attributes:
        agent: a method that has a distance.
        params: its networks.
        normalization: applied to observations before the networks see them.
        spaces: of these observations and goals.

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

    @property
    def rule(self) -> GoalRule:
        """What a goal is."""
        return self.spaces.rule

    @cached_property
    def flat(self) -> FlatTree:
        """The agent's `Metric`, as the programs take it."""
        return FlatTree.flatten(self.agent.metric(self.params))

    def embed(self, observations: Shaped[np.ndarray, "n *obs"], height: int = BLOCK) -> Array:
        """Embeddings of raw observations as states to start from, (n, …).

        In calls of one height: an embedding does not depend, in its last bits either, on how many
        others are computed beside it.
        """
        seen = map(self.normalization.apply, in_blocks(observations, height))
        return jnp.concatenate([_embed(self.flat, x) for x in seen])[: len(observations)]

    def embed_goals(self, goals: Shaped[np.ndarray, "n *goal"], height: int = BLOCK) -> Array:
        """Embeddings of raw goals, (n, …), in calls of one height."""
        seen = (self.normalization.apply_goals(x, self.rule) for x in in_blocks(goals, height))
        return jnp.concatenate([_embed_goals(self.flat, x) for x in seen])[: len(goals)]

    def steps(
        self, starts: np.ndarray | Array, goals: np.ndarray | Array
    ) -> Float[np.ndarray, "starts goals"]:
        """Distance from every start to every goal, both given as embeddings.

        Every number of starts up to `BLOCK` is compiled separately.
        """
        blocks = in_blocks(starts, min(BLOCK, len(starts)))
        blocks = [np.asarray(_steps(self.flat, block, goals)) for block in blocks]
        return np.concatenate(blocks)[: len(starts)]

    def between(
        self,
        starts: Shaped[np.ndarray, "n *obs"],
        goals: Shaped[np.ndarray, "n *goal"],
        *,
        height: int = BLOCK,
    ) -> Float[np.ndarray, " n"]:
        """Distance from each raw observation to its own raw goal, in calls of `height` rows."""
        here, there = self.normalization.apply, self.normalization.apply_goals
        blocks = [
            np.asarray(_between(self.flat, here(start), there(goal, self.rule)))
            for start, goal in zip(in_blocks(starts, height), in_blocks(goals, height), strict=True)
        ]
        return np.concatenate(blocks)[: len(starts)]


def in_blocks(rows: np.ndarray | Array, size: int = BLOCK) -> Iterator[Any]:
    """Blocks of `size` rows, the last filled up with copies of its last row."""
    module = np if isinstance(rows, np.ndarray) else jnp
    for first in range(0, len(rows), size):
        block = rows[first : first + size]
        missing = size - len(block)
        if missing:
            block = module.concatenate([block, module.repeat(block[-1:], missing, axis=0)])
        yield block


@jax.jit
def _embed(flat: FlatTree, observations: Arrays) -> Array:
    metric: Metric = flat.tree
    return metric.embed(observations)


@jax.jit
def _embed_goals(flat: FlatTree, goals: Arrays) -> Array:
    metric: Metric = flat.tree
    return metric.embed_goal(goals)


@jax.jit
def _steps(flat: FlatTree, starts: Array, goals: Array) -> Array:
    metric: Metric = flat.tree
    return metric.pairwise(starts, goals).steps


@jax.jit
def _between(flat: FlatTree, observations: Arrays, goals: Arrays) -> Array:
    metric: Metric = flat.tree
    return metric.distance(metric.embed(observations), metric.embed_goal(goals)).steps
