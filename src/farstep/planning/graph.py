"""The graph of landmarks: edges that the learned distance can be trusted on, and shortest paths.

The path relaxation `P(d)(x, z) = min_y d(x, y) + d(y, z)` (MQE, Section 4.5), carried to its fixed
point, is the shortest path over all states. Here it runs over landmarks, and edges longer than the
*reach* are left out: a quasimetric obeys the triangle inequality already, so with every edge the
direct one would always be shortest, and the long ones are those least to be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import connected_components, dijkstra

from farstep.core.errors import FarstepError
from farstep.planning.landmarks import Landmarks
from farstep.planning.metric import LearnedMetric

BLOCK = 256
"""Rows of the distance matrix that exist at a time."""


@dataclass(frozen=True, eq=False)
class LandmarkGraph:
    """Landmarks and the edges between them. Build one with `build`.

    Attributes:
        metric: the distance.
        observations: the landmarks as they stand in the data.
        embeddings: the same for `metric.steps`.
        reach: longest edge, in environment steps.
        edges: steps from each landmark (row) to those within reach (columns), itself left out.
        isolated: landmarks that were dropped because no edge leads to or from them.
    """

    metric: LearnedMetric
    observations: Num[np.ndarray, "landmarks *obs"]
    embeddings: Array
    reach: float
    edges: csr_array
    isolated: int

    @classmethod
    def build(
        cls,
        metric: LearnedMetric,
        observations: Num[np.ndarray, "landmarks *obs"],
        reach: float,
    ) -> LandmarkGraph:
        """The graph over these landmarks.

        Never holds more than a block of rows of the distance matrix besides the edges.

        Raises:
            FarstepError: the reach is not positive, or so short that no edge is left.
        """
        if not reach > 0:
            raise FarstepError(f"the reach must be a positive number of steps, not {reach:g}")
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
            csr_array(edges[kept][:, kept]),
            isolated=len(observations) - len(kept),
        )

    def __len__(self) -> int:
        return len(self.observations)

    def shortened(self, reach: float) -> LandmarkGraph:
        """The graph with a shorter reach; landmarks that it isolates stay, without edges."""
        return replace(self, reach=float(reach), edges=self._edges_within(reach))

    def components_within(self, reach: float) -> Int[np.ndarray, " landmarks"]:
        """A number a landmark, equal where edges up to `reach` lead from each to the other."""
        return connected_components(self._edges_within(reach), connection="strong")[1]

    def _edges_within(self, reach: float) -> csr_array:
        kept = self.edges.data <= reach
        starts = np.concatenate([[0], np.cumsum(kept)])[self.edges.indptr].astype(np.int32)
        edges = self.edges.data[kept], self.edges.indices[kept], starts
        return csr_array(edges, shape=self.edges.shape)

    @property
    def landmarks(self) -> Landmarks:
        """What `build` makes this graph of again."""
        return Landmarks(self.observations, self.reach)

    @cached_property
    def _reversed(self) -> csr_array:
        return csr_array(self.edges.T.tocsr())

    def to_goals(self, embeddings: Array) -> Attached:
        """The last edges of paths: from landmarks to goals given by their embeddings."""
        steps = self.metric.steps(self.embeddings, embeddings).T
        nearest = steps.min(axis=1)
        cut_off = nearest > self.reach
        return Attached(
            np.where(steps <= np.maximum(nearest, self.reach)[:, None], steps, np.inf), cut_off
        )

    def costs_to(self, embeddings: Array) -> CostToGo:
        """Steps along the shortest path from every landmark to each goal, by Dijkstra.

        Goals are given by their embeddings. One that no landmark is within reach of is joined to
        the nearest.
        """
        attached = self.to_goals(embeddings)
        # Reversed edges lead from a goal to its landmarks. No edge leads into a goal, so any
        # number of them can be in the graph at once.
        last = _sparse(attached.steps, np.isfinite(attached.steps))
        count = len(embeddings)
        graph = vstack([self._reversed, last], format="csr")
        graph.resize((len(self) + count, len(self) + count))
        steps = dijkstra(graph, indices=np.arange(len(self), len(self) + count))
        return CostToGo(steps[:, : len(self)].astype(np.float32), attached.cut_off)

    def relaxed_costs_to(self, embeddings: Array) -> CostToGo:
        """What `costs_to` computes, by relaxing the edges on the device for all goals at once.

        The better choice for hundreds of goals; a few are faster by Dijkstra.
        """
        attached = self.to_goals(embeddings)
        neighbours, steps = self._padded
        costs = _relax(neighbours, steps, jnp.asarray(attached.steps.T))
        return CostToGo(np.asarray(costs).T, attached.cut_off)

    @cached_property
    def _padded(self) -> tuple[Array, Array]:
        """Edges as (most edges of a landmark, landmarks): heads, and steps (∞: no edge)."""
        degree = np.diff(self.edges.indptr)
        row = np.repeat(np.arange(len(self)), degree)
        place = np.arange(self.edges.nnz) - np.repeat(self.edges.indptr[:-1], degree)
        neighbours = np.zeros((degree.max(), len(self)), np.int32)
        steps = np.full(neighbours.shape, np.inf, np.float32)
        neighbours[place, row] = self.edges.indices
        steps[place, row] = self.edges.data
        return jnp.asarray(neighbours), jnp.asarray(steps)


@dataclass(frozen=True, eq=False)
class Attached:
    """The last edges of paths to some goals.

    Attributes:
        steps: from each landmark to each goal, ∞ where there is no edge.
        cut_off: goals that no landmark is within reach of; the nearest has an edge all the same.
    """

    steps: Float[np.ndarray, "goals landmarks"]
    cut_off: Bool[np.ndarray, " goals"]


@dataclass(frozen=True, eq=False)
class CostToGo:
    """Steps along shortest paths over the graph.

    Attributes:
        steps: from each landmark to each goal, ∞ where no path leads there.
        cut_off: goals that no landmark is within reach of.
    """

    steps: Float[np.ndarray, "goals landmarks"]
    cut_off: Bool[np.ndarray, " goals"]


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
    steps: Float[Array, "edges landmarks"],
    costs: Float[Array, "landmarks goals"],
) -> Float[Array, "landmarks goals"]:
    """Bellman's relaxation, `v(x) ← min(v(x), min_y d(x, y) + v(y))`, until nothing changes."""

    def sweep(state: tuple[Array, Array]) -> tuple[Array, Array]:
        costs, _ = state

        def edge(best: Array, edge: tuple[Array, Array]) -> tuple[Array, None]:
            neighbour, length = edge
            return jnp.minimum(best, length[:, None] + costs[neighbour]), None

        relaxed, _ = jax.lax.scan(edge, costs, (neighbours, steps))
        return relaxed, jnp.any(relaxed < costs)

    return jax.lax.while_loop(lambda state: state[1], sweep, (costs, jnp.array(True)))[0]
