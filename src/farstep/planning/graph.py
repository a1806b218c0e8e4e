"""The graph that is searched: landmarks, the moves that logged episodes make, and shortest paths.

The path relaxation `P(d)(x, z) = min_y d(x, y) + d(y, z)` (MQE, Section 4.5), carried to its fixed
point, is the shortest path over all states. A quasimetric obeys the triangle inequality already, so
with an edge between all pairs the direct one would always be shortest; but a learned distance errs
where it is long and where a wall is thin. So the metric says how long an edge is, and the logged
episodes say whether there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from farstep.agents.metric import Metric
from farstep.core.arrays import arrays_of, record
from farstep.core.errors import FarstepError
from farstep.core.trees import FlatTree
from farstep.core.types import Spaces
from farstep.planning.metric import BLOCK, LearnedMetric, in_blocks

LENGTHS = ("replan_every", "step_length", "edge_cutoff", "tolerance")
"""Of the attributes of `Landmarks`, those that are no arrays."""

MANY = 1024
"""States of data whose ways to all landmarks are held at a time."""

DIAGNOSED = 32
"""Landmarks that paths are looked at to, before any episode."""

PENALTY = 64.0
"""Times its length that an edge costs which no logged episode takes: it is a last resort."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """All that planning needs besides the networks: what an export keeps. Lengths in learned steps.

    Attributes:
        observations: states of the data.
        goals: what the policy is told to go to each: the goal that the state is.
        replan_every: environment steps between choices of a subgoal.
        step_length: what the quickest episodes cover in that time.
        edge_cutoff: no edge is longer.
        tolerance: what the quickest episodes cover in one environment step: a goal that near is
            reached, and a way that became shorter by that is progress.
        edges: tail and head of each edge.
        steps: learned length of each.
        logged: whether some logged episode takes it.
    """

    observations: Shaped[np.ndarray, "landmarks *obs"]
    goals: Shaped[np.ndarray, "landmarks *goal"]
    replan_every: int
    step_length: float
    edge_cutoff: float
    tolerance: float
    edges: Int[np.ndarray, "edges 2"] = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    steps: Float[np.ndarray, " edges"] = field(default_factory=lambda: np.zeros(0, np.float32))
    logged: Bool[np.ndarray, " edges"] = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def about(self) -> dict[str, Any]:
        """What `expected` needs, and the lengths."""
        lengths = {name: getattr(self, name) for name in LENGTHS}
        return {"landmarks": len(self.observations), "edges": len(self.edges)} | lengths

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name; goals that are the observations are left out."""
        named = {name: value for name, value in vars(self).items() if name not in LENGTHS}
        if self.goals is self.observations:
            del named["goals"]
        each = ((name, arrays_of(value).items()) for name, value in named.items())
        return {
            f"{name}.{key}" if key else name: part for name, parts in each for key, part in parts
        }

    @staticmethod
    def expected(about: Mapping[str, Any], spaces: Spaces) -> dict[str, Any]:
        """Shapes of the arrays that `about` tells of."""
        count, edges = int(about["landmarks"]), int(about["edges"])
        shapes = {"edges": ((edges, 2), "int32"), "steps": ((edges,), "float32")}
        shapes["logged"] = (edges,), "bool"
        expected = {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}
        expected["observations"] = spaces.observation.batch(count)
        return expected if spaces.rule.whole else expected | {"goals": spaces.goal.batch(count)}

    @classmethod
    def of(cls, about: Mapping[str, Any], arrays: Mapping[str, Any]) -> Landmarks:
        """Landmarks from `about` and `arrays`."""
        given: dict[str, Any] = {name: about[name] for name in LENGTHS}
        for name, array in arrays.items():
            given[name] = record(array) if isinstance(array, dict) else array
        return cls(**{"goals": given["observations"]} | given)


class States(NamedTuple):
    """Embeddings of states to start from, and of the goals that they are if those are others."""

    starts: Array
    goals: Array | None

    @classmethod
    def of(
        cls,
        metric: LearnedMetric,
        observations: np.ndarray,
        goals: np.ndarray | None,
        height: int = BLOCK,
    ) -> States:
        """Of raw states; goals are not needed where they are states."""
        if metric.rule.whole or goals is None:
            return cls(metric.embed(observations, height), None)
        return cls(metric.embed(observations, height), metric.embed_goals(goals, height))


@dataclass(frozen=True, eq=False)
class Route:
    """Shortest paths from every landmark to a goal, which is the node after the last landmark.

    Attributes:
        costs: steps to go from each node, ∞ without a path; penalised edges cost more than theirs.
        following: the next node on the way; the node itself at the goal and without a path.
        cut_off: whether no landmark is within the edge cutoff of the goal: the nearest leads there.
    """

    costs: Float[np.ndarray, " nodes"]
    following: Int[np.ndarray, " nodes"]
    cut_off: bool

    def path(self, node: int) -> list[int]:
        """The nodes from this one to the goal, or as far as there is a path."""
        path = [node]
        while (node := int(self.following[path[-1]])) != path[-1]:
            path.append(node)
        return path


@dataclass(frozen=True)
class Diagnosis:
    """What the graph promises before any episode.

    Attributes:
        longest_hop: the longest edge of a path over the path's length, the median over paths
            between landmarks that are farther apart than an edge may be; NaN if there are none.
        cut_off: the share of pairs of landmarks that no path of logged moves joins.
    """

    longest_hop: float
    cut_off: float

    def __str__(self) -> str:
        return (
            f"Longest hop {100 * self.longest_hop:.0f} % of a path (planning helps up to about "
            f"40 %), no path between {100 * self.cut_off:.1f} % of the landmarks"
        )


@dataclass(frozen=True, eq=False)
class LandmarkGraph:
    """Landmarks with a metric: where states are, and shortest paths.

    Attributes:
        metric: the distance.
        landmarks: nodes and edges.
        asked: which of the options were given, if it was made from data.
    """

    metric: LearnedMetric
    landmarks: Landmarks
    asked: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.landmarks.observations)

    @cached_property
    def states(self) -> States:
        """The landmarks' embeddings."""
        return States.of(self.metric, self.landmarks.observations, self.landmarks.goals)

    @cached_property
    def between(self) -> Float[np.ndarray, "landmarks landmarks"]:
        """Learned steps from each landmark to each other."""
        goals = self.states.starts if self.states.goals is None else self.states.goals
        return self.metric.steps(self.states.starts, goals)

    def along(self, moves: Int[np.ndarray, "moves 2"]) -> LandmarkGraph:
        """The graph with edges between all within the cutoff, penalised where no move is made.

        Raises:
            FarstepError: none of the moves is within the edge cutoff.
        """
        marks, tails, heads = self.landmarks, *moves.T
        logged = np.zeros((len(self), len(self)), bool)
        logged[tails, heads] = self.between[tails, heads] <= marks.edge_cutoff
        if not logged.any():
            raise FarstepError(
                f"no logged episode leads from one of the {len(self)} landmarks to another within "
                f"{marks.edge_cutoff:g} learned steps; give a longer edge cutoff or more landmarks"
            )
        used = self.between <= marks.edge_cutoff
        np.fill_diagonal(used, False)
        edges = np.argwhere(used).astype(np.int32)
        tails, heads = edges.T
        changed = {"steps": self.between[tails, heads], "logged": logged[tails, heads]}
        return replace(self, landmarks=replace(marks, edges=edges, **changed))

    def route(
        self, goal: Shaped[np.ndarray, "*goal"], given_up: Sequence[tuple[int, int]] = ()
    ) -> Route:
        """Shortest paths to a goal, by Dijkstra's algorithm.

        The goal is joined to all landmarks within a step length of it, and so to all that satisfy a
        goal which is part of a state; to those that a logged move leads from to its nearest
        landmark; and to that.

        Args:
            goal: raw.
            given_up: edges that are penalised as those are that no logged episode takes.
        """
        marks, embedded = self.landmarks, self.metric.embed_goals(goal[None])
        steps = self.metric.steps(self.states.starts, embedded)[:, 0]
        apart = steps
        if self.metric.rule.whole:
            apart = np.maximum(steps, self.metric.steps(embedded, self.states.starts)[0])
        nearest = int(np.argmin(apart))
        before = marks.edges[marks.logged & (marks.edges[:, 1] == nearest), 0]
        free = steps <= marks.step_length
        free[before] = free[nearest] = True
        last = np.flatnonzero((steps <= marks.edge_cutoff) | (np.arange(len(steps)) == nearest))
        costs = np.where(free, 1.0, PENALTY) * np.maximum(steps, marks.tolerance)
        cut_off = bool(steps[nearest] > marks.edge_cutoff)
        return self.search(last, costs[last], given_up, cut_off=cut_off)

    @cached_property
    def following(self) -> Int[np.ndarray, "goals landmarks"]:
        """The next landmark from each on the way to each other; the other one without a way."""
        starts, tails, costs = self._backwards
        graph = csr_array((costs, tails, starts), shape=(len(self), len(self)))
        following = dijkstra(graph, return_predecessors=True)[1]
        return np.where(following < 0, np.arange(len(self))[:, None], following)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """Whether planning will help, by paths to `DIAGNOSED` landmarks.

        A long hop in a path is one that the metric has to be trusted for, and the more of the path
        it is the less the plan knows (TTGS, arXiv 2510.07257: it should be 0.4 or less).
        """
        cutoff, shares, cut_off = self.landmarks.edge_cutoff, [], []
        for goal in np.linspace(0, len(self) - 1, min(DIAGNOSED, len(self))).astype(int):
            route = self.search(np.array([goal]), np.zeros(1))
            costs, longest = route.costs, np.full(len(self) + 1, np.inf)
            longest[-1] = 0.0
            for node in np.argsort(costs)[: np.isfinite(costs).sum()]:
                after = route.following[node]
                longest[node] = max(costs[node] - costs[after], longest[after])
            # A penalised edge costs more than any other may.
            joined = longest <= cutoff
            far = joined & (costs > cutoff)
            shares.append(longest[far] / costs[far])
            cut_off.append(1 - joined[:-1].mean())
        shares = np.concatenate(shares)
        return Diagnosis(
            float(np.median(shares)) if shares.size else float("nan"), float(np.mean(cut_off))
        )

    def search(
        self,
        last: Int[np.ndarray, " n"],
        last_costs: Float[np.ndarray, " n"],
        given_up: Sequence[tuple[int, int]] = (),
        *,
        cut_off: bool = False,
    ) -> Route:
        """Shortest paths to a goal that edges of these costs lead to from these landmarks."""
        count = len(self)
        starts, tails, costs = self._backwards
        starts = np.append(starts, len(costs) + len(last))
        tails, costs = np.concatenate([tails, last]), np.concatenate([costs, last_costs])
        for tail, head in set(given_up):
            edges = slice(starts[head], starts[head + 1])
            costs[edges] *= np.where(tails[edges] == tail, PENALTY, 1.0)
        graph = csr_array((costs, tails, starts), shape=(count + 1, count + 1))
        # Searched from the goal, what comes before a node is what follows it on the way.
        costs, following = dijkstra(graph, indices=count, return_predecessors=True)
        following = np.where(following < 0, np.arange(count + 1), following)
        return Route(costs, following, cut_off)

    @property
    def costs(self) -> Float[np.ndarray, " edges"]:
        """What each edge costs."""
        marks = self.landmarks
        return np.maximum(marks.steps, marks.tolerance) * np.where(marks.logged, 1.0, PENALTY)

    @cached_property
    def _backwards(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges by their heads: where each head's start, their tails, and their costs."""
        tails, heads = self.landmarks.edges.T
        order = np.argsort(heads, kind="stable")
        starts = np.cumsum(np.bincount(heads + 1, minlength=len(self) + 1))
        return starts, tails[order], self.costs[order]

    def ways(
        self,
        observations: Shaped[np.ndarray, "n *obs"],
        goals: Shaped[np.ndarray, "n *goal"] | None = None,
        *,
        height: int = BLOCK,
    ) -> tuple[Float[np.ndarray, "n landmarks"], Float[np.ndarray, "n landmarks"]]:
        """Learned steps from raw states to every landmark, and back.

        Computed in calls of one height, whatever is computed beside: rows of calls of other heights
        differ in their last bits.

        Args:
            observations: the states.
            goals: those that the states are; made of them if not given. Where they cannot be made,
                the ways there stand for the ways back.
            height: rows of a call.
        """
        rule = self.metric.rule
        if goals is None and rule.key is None and self.metric.spaces.frames == 1:
            goals = rule.goals(observations)
        states = States.of(self.metric, observations, goals, height)
        parts = [in_blocks(part, height) for part in states if part is not None]
        blocks = [
            _ways(self.metric.flat, States(some[0], some[1] if some[1:] else None), self.states)
            for some in zip(*parts, strict=True)
        ]
        there, back = (
            np.concatenate(way)[: len(observations)] for way in zip(*blocks, strict=True)
        )
        return there, back

    def nearest(
        self,
        observations: Shaped[np.ndarray, "n *obs"],
        goals: Shaped[np.ndarray, "n *goal"] | None,
    ) -> Int[np.ndarray, " n"]:
        """The nearest landmark to each of many raw states, there and back.

        One way alone is not enough: to a smooth network the state behind a thin wall is sometimes
        the nearest from here, but rarely to here as well.
        """
        found = []
        for first in range(0, len(observations), MANY):
            some = slice(first, first + MANY)
            ways = self.ways(observations[some], None if goals is None else goals[some])
            found.append(np.maximum(*ways).argmin(axis=1))
        return np.concatenate(found)


@jax.jit
def _ways(flat: FlatTree, states: States, landmarks: States) -> tuple[Array, Array]:
    metric: Metric = flat.tree
    if landmarks.goals is None:
        there = metric.pairwise(states.starts, landmarks.starts).steps
        return there, metric.pairwise(landmarks.starts, states.starts).steps.T
    there = metric.pairwise(states.starts, landmarks.goals).steps
    if states.goals is None:
        return there, there
    return there, metric.pairwise(landmarks.starts, states.goals).steps.T
