"""The graph of landmarks: edges that the learned distance can be trusted on, and shortest paths.

The path relaxation `P(d)(x, z) = min_y d(x, y) + d(y, z)` (MQE, Section 4.5), carried to its fixed
point, is the shortest path over all states. Here it runs over landmarks, and long edges are
distrusted: a quasimetric obeys the triangle inequality already, so with every edge at its length
the direct one would always be shortest, and a learned one errs most where it is long. An edge up to
the *stride* costs its length, a longer one more, and none is longer than the *reach*.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import dijkstra

from farstep.core.errors import FarstepError
from farstep.planning.landmarks import Landmarks
from farstep.planning.metric import LearnedMetric

BLOCK = 256
"""Rows of the distance matrix that exist at a time."""

DISTRUST = 2
"""An edge of k strides costs k to this power times its length. With 2, two edges of half the length
cost a quarter of it, so that a long edge is taken only where nothing else leads on."""

NOTHING = -1
"""In place of a landmark's index: no landmark follows."""

Steps = TypeVar("Steps", np.ndarray, Array)


def effort(steps: Steps, stride: float | Array) -> Steps:
    """What edges of these lengths cost, in steps: `d · max(1, d / stride)²`."""
    return steps * (steps / stride).clip(1) ** DISTRUST


def check_lengths(**steps: float | None) -> None:
    """Raise `FarstepError` where a length in steps is given and is not positive."""
    for name, value in steps.items():
        if value is not None and not value > 0:
            raise FarstepError(f"the {name} must be a positive number of steps, not {value:g}")


@dataclass(frozen=True, eq=False)
class LandmarkGraph:
    """Landmarks and the edges between them. Build one with `build`.

    Attributes:
        metric: the distance.
        observations: the landmarks as they stand in the data.
        embeddings: the same for `metric.steps`.
        reach: longest edge, in environment steps.
        stride: longest edge that costs no more than its length; ∞ if all do.
        edges: steps from each landmark (row) to those within reach (columns), itself left out.
        isolated: landmarks that were dropped because no edge leads to or from them.
    """

    metric: LearnedMetric
    observations: Num[np.ndarray, "landmarks *obs"]
    embeddings: Array
    reach: float
    stride: float
    edges: csr_array
    isolated: int

    @classmethod
    def build(
        cls,
        metric: LearnedMetric,
        observations: Num[np.ndarray, "landmarks *obs"],
        reach: float,
        stride: float = np.inf,
    ) -> LandmarkGraph:
        """The graph over these landmarks.

        Never holds more than a block of rows of the distance matrix besides the edges.

        Raises:
            FarstepError: reach or stride is not positive, or the reach so short that no edge is
                left.
        """
        check_lengths(reach=reach, stride=stride)
        embeddings = metric.embed(observations)
        rows, shortest = [], np.inf
        for first in range(0, len(observations), BLOCK):
            steps = metric.steps(embeddings[first : first + BLOCK], embeddings)
            own = np.arange(len(steps))
            steps[own, first + own] = np.inf
            shortest = min(shortest, float(steps.min(initial=np.inf)))
            rows.append(_sparse(steps, steps <= reach))
        edges = csr_array(vstack(rows, format="csr"))
        linked = (np.diff(edges.indptr) > 0) | (
            np.bincount(edges.indices, minlength=len(observations)) > 0
        )
        if not linked.any():
            raise FarstepError(
                f"no two of the {len(observations)} landmarks are within a reach of {reach:g} "
                f"steps: the nearest are {shortest:g} apart; give a longer reach or more landmarks"
            )
        kept = np.flatnonzero(linked)
        return cls(
            metric,
            observations[kept],
            embeddings[jnp.asarray(kept)],
            float(reach),
            float(stride),
            csr_array(edges[kept][:, kept]),
            isolated=len(observations) - len(kept),
        )

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def landmarks(self) -> Landmarks:
        """What `build` makes this graph of again."""
        return Landmarks(self.observations, self.reach, self.stride)

    @cached_property
    def _reversed(self) -> csr_array:
        """What edges cost, from their heads to their tails."""
        costs = self.edges.copy()
        costs.data = effort(costs.data, self.stride)
        return csr_array(costs.T.tocsr())

    def to_goals(self, embeddings: Array) -> Attached:
        """What the last edges of paths cost, from landmarks to goals given by their embeddings."""
        steps = self.metric.steps(self.embeddings, embeddings).T
        nearest = steps.min(axis=1)
        cut_off = nearest > self.reach
        kept = steps <= np.maximum(nearest, self.reach)[:, None]
        return Attached(np.where(kept, effort(steps, self.stride), np.inf), cut_off)

    def costs_to(self, embeddings: Array) -> CostToGo:
        """What the cheapest path from every landmark to each goal costs, by Dijkstra.

        Goals are given by their embeddings. One that no landmark is within reach of is joined to
        the nearest.
        """
        attached = self.to_goals(embeddings)
        # Reversed edges lead from a goal to its landmarks. No edge leads into a goal, so any
        # number of them can be in the graph at once.
        last = _sparse(attached.costs, np.isfinite(attached.costs))
        count = len(embeddings)
        graph = vstack([self._reversed, last], format="csr")
        graph.resize((len(self) + count, len(self) + count))
        roots = np.arange(len(self), len(self) + count)
        costs, before = dijkstra(graph, indices=roots, return_predecessors=True)
        # Searched from the goal, what comes before a landmark is what follows it on the way.
        following = np.where((before < 0) | (before >= len(self)), NOTHING, before)
        return CostToGo(
            costs[:, : len(self)].astype(np.float32),
            attached.cut_off,
            following[:, : len(self)].astype(np.int32),
        )

    def relaxed_costs_to(self, embeddings: Array) -> CostToGo:
        """What `costs_to` computes, by relaxing the edges on the device for all goals at once.

        The better choice for hundreds of goals; a few are faster by Dijkstra.
        """
        attached = self.to_goals(embeddings)
        neighbours, edges = self._padded
        costs = _relax(neighbours, edges, jnp.asarray(attached.costs.T))
        return CostToGo(np.asarray(costs).T, attached.cut_off)

    @cached_property
    def _padded(self) -> tuple[Array, Array]:
        """Edges as (most edges of a landmark, landmarks): heads, and costs (∞: no edge)."""
        degree = np.diff(self.edges.indptr)
        row = np.repeat(np.arange(len(self)), degree)
        place = np.arange(self.edges.nnz) - np.repeat(self.edges.indptr[:-1], degree)
        neighbours = np.zeros((degree.max(), len(self)), np.int32)
        costs = np.full(neighbours.shape, np.inf, np.float32)
        neighbours[place, row] = self.edges.indices
        costs[place, row] = effort(self.edges.data, self.stride)
        return jnp.asarray(neighbours), jnp.asarray(costs)


@dataclass(frozen=True, eq=False)
class Attached:
    """The last edges of paths to some goals.

    Attributes:
        costs: from each landmark to each goal, ∞ where there is no edge.
        cut_off: goals that no landmark is within reach of; the nearest has an edge all the same.
    """

    costs: Float[np.ndarray, "goals landmarks"]
    cut_off: Bool[np.ndarray, " goals"]


@dataclass(frozen=True, eq=False)
class CostToGo:
    """What cheapest paths over the graph cost: their steps, those of long edges counting more.

    Attributes:
        steps: from each landmark to each goal, ∞ where no path leads there.
        cut_off: goals that no landmark is within reach of.
        following: the next landmark on the way to each goal, `NOTHING` where it is the goal itself
            or there is no way; only Dijkstra's algorithm tells.
    """

    steps: Float[np.ndarray, "goals landmarks"]
    cut_off: Bool[np.ndarray, " goals"]
    following: Int[np.ndarray, "goals landmarks"] | None = None


def _sparse(
    steps: Float[np.ndarray, "rows columns"], kept: Bool[np.ndarray, "rows columns"]
) -> csr_array:
    """The kept entries, zeros among them too: those are edges of no length, not absent ones."""
    row, column = np.nonzero(kept)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(steps)))])
    return csr_array(
        (steps[row, column].astype(np.float32), column.astype(np.int32), starts.astype(np.int32)),
        shape=steps.shape,
    )


@jax.jit
def _relax(
    neighbours: Int[Array, "edges landmarks"],
    edges: Float[Array, "edges landmarks"],
    costs: Float[Array, "landmarks goals"],
) -> Float[Array, "landmarks goals"]:
    """Bellman's relaxation, `v(x) ← min(v(x), min_y c(x, y) + v(y))`, until nothing changes."""

    def sweep(state: tuple[Array, Array]) -> tuple[Array, Array]:
        costs, _ = state

        def edge(best: Array, edge: tuple[Array, Array]) -> tuple[Array, None]:
            neighbour, cost = edge
            return jnp.minimum(best, cost[:, None] + costs[neighbour]), None

        relaxed, _ = jax.lax.scan(edge, costs, (neighbours, edges))
        return relaxed, jnp.any(relaxed < costs)

    return jax.lax.while_loop(lambda state: state[1], sweep, (costs, jnp.array(True)))[0]
