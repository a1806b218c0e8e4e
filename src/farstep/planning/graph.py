"""The graph of landmarks: edges that can be trusted, and shortest paths over them.

The path relaxation `P(d)(x, z) = min_y d(x, y) + d(y, z)` (MQE, Section 4.5), carried to its fixed
point, is the shortest path over all states. Here it runs over landmarks, and not every pair of them
is an edge: a quasimetric obeys the triangle inequality already, so with all pairs the direct one
would always be shortest, and a learned distance errs where it is long and where a wall is thin.

    landmarks ──d ≤ reach──▶ pairs ──some logged episode makes the move──▶ edges at their length
                                   └─d ≤ stride, none does──▶ edges that cost DOUBT times as much
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import dijkstra

from farstep.core.errors import FarstepError
from farstep.planning.landmarks import Landmarks
from farstep.planning.location import Follower, Locator
from farstep.planning.metric import LearnedMetric

BLOCK = 256
"""Rows of the distance matrix that exist at a time."""

DOUBT = 64.0
"""Times its length that an edge costs which no logged episode takes: it is a last resort."""

BLAME = 8.0
"""Times as much that an edge costs an episode each time that it failed to make it."""

MOST_BLAMES = 4
"""The most of them that count: beyond, single precision would lose the steps beside the blame."""

BESIDE = 16
"""Landmarks at about one place: each, and the nearest to it both ways."""

CLOSEST = 8
"""The first of those that a state under way is looked for among, once it is known about where."""

NEARBY = 8
"""Landmarks about which a state may be that was at one of them a moment ago.

Itself, and those within a stray of it both ways that were chosen first, because they lie apart.
"""

GOAL = -1
"""In place of a landmark's index: the goal itself."""

Blame = tuple[int, int]
"""A landmark that an episode was at, and the one (or `GOAL`) that it could not get to."""


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
        landmarks: what it was built from, without isolated ones.
        embeddings: theirs, for `metric.steps`.
        edges: steps from each landmark (row) to those that an edge leads to (columns).
        logged: which edges, in their order, some logged episode takes; all of them where that
            is not known.
        beside: of each landmark, the nearest, itself first.
        nearby: of each landmark, some that lie apart, all about it, itself first.
        isolated: landmarks that were dropped because no edge leads to or from them.
    """

    metric: LearnedMetric
    landmarks: Landmarks
    embeddings: Array
    edges: csr_array
    logged: Bool[np.ndarray, " edges"]
    beside: Int[np.ndarray, "landmarks beside"]
    nearby: Int[np.ndarray, "landmarks nearby"]
    isolated: int

    @classmethod
    def build(cls, metric: LearnedMetric, landmarks: Landmarks) -> LandmarkGraph:
        """The graph over these landmarks.

        Never holds more than a block of rows of the distance matrix besides the edges.

        Raises:
            FarstepError: reach or stride is not positive, or both so short that no edge is left.
        """
        reach, observations = landmarks.reach, landmarks.observations
        check_lengths(reach=reach, stride=landmarks.stride)
        embeddings = metric.embed(observations)
        rows, shortest = [], np.inf
        for first in range(0, len(observations), BLOCK):
            steps = metric.steps(embeddings[first : first + BLOCK], embeddings, BLOCK)
            own = np.arange(len(steps))
            steps[own, first + own] = np.inf
            shortest = min(shortest, float(steps.min(initial=np.inf)))
            rows.append(_sparse(steps, steps <= reach))
        pairs = csr_array(vstack(rows, format="csr"))
        if not pairs.nnz:
            raise FarstepError(
                f"no two of the {len(observations)} landmarks are within a reach of {reach:g} "
                f"steps: the nearest are {shortest:g} apart; give a longer reach or more landmarks"
            )
        everything = np.ones(pairs.nnz, bool)
        alone = replace(landmarks, moves=None)
        neighbours = _neighbours(pairs, alone.stray)
        whole = cls(metric, alone, embeddings, pairs, everything, *neighbours, isolated=0)
        if landmarks.moves is None:
            return whole._with(everything, everything)
        return whole.along(landmarks.moves)

    def along(self, moves: Int[np.ndarray, "moves 2"]) -> LandmarkGraph:
        """Of a graph of all pairs: the moves that logged episodes make, and the shortest pairs.

        Raises:
            ValueError: this graph has moves already, and so not all pairs.
            FarstepError: the stride is so short that no edge is left.
        """
        if self.landmarks.moves is not None:
            raise ValueError("a graph of moves has not all pairs that other moves may be among")
        logged = np.isin(self._edge_keys, _keys(moves[:, 0], moves[:, 1], len(self)))
        used = logged | (self.edges.data <= self.stride)
        if not used.any():
            raise FarstepError(
                f"no two of the {len(self)} landmarks are joined: no logged episode leads from one "
                f"to another within a reach of {self.reach:g} steps, and the nearest are "
                f"{self.edges.data.min():g} apart, more than a stride of {self.stride:g}; give a "
                "longer stride or more landmarks"
            )
        return replace(self, landmarks=replace(self.landmarks, moves=moves))._with(used, logged)

    def _with(
        self, used: Bool[np.ndarray, " edges"], logged: Bool[np.ndarray, " edges"]
    ) -> LandmarkGraph:
        """The used edges alone, without the landmarks that none of them leads to or from."""
        tails, heads = self.edges.tocoo().coords
        linked = np.zeros(len(self), bool)
        linked[tails[used]] = linked[heads[used]] = True
        kept = np.flatnonzero(linked)
        # Only pairs of landmarks that are kept are ever used, so edges keep their order.
        edges = csr_array((self.edges.data[used], (tails[used], heads[used])), self.edges.shape)
        neighbours = self.beside, self.nearby
        if len(kept) < len(self):
            neighbours = _neighbours(csr_array(self.edges[kept][:, kept]), self.landmarks.stray)
        return LandmarkGraph(
            self.metric,
            self.landmarks.only(kept),
            self.embeddings[jnp.asarray(kept)],
            csr_array(edges[kept][:, kept]),
            logged[used],
            *neighbours,
            isolated=self.isolated + len(self) - len(kept),
        )

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def observations(self) -> Shaped[np.ndarray, "landmarks *obs"]:
        """The landmarks as they stand in the data."""
        return self.landmarks.observations

    @property
    def reach(self) -> float:
        """Longest edge, in environment steps."""
        return self.landmarks.reach

    @property
    def stride(self) -> float:
        """Longest edge that no logged episode takes."""
        return self.landmarks.stride

    @cached_property
    def locator(self) -> Locator:
        """Finds the landmark that a state under way is at."""
        closest, stray = self.beside[:, :CLOSEST], self.landmarks.stray
        return Locator(self.metric, self.embeddings, closest, self.nearby, stray)

    @cached_property
    def follower(self) -> Follower:
        """Finds the landmarks that a logged episode is at, from each to those beside it alone.

        Sought about others too it would be found where it is sooner, but across a thin wall as
        well, and every such error is an edge through it.
        """
        return Follower(
            self.metric, self.embeddings, self.beside, self.beside[:, :1], self.landmarks.stray
        )

    @cached_property
    def costs(self) -> Float[np.ndarray, " edges"]:
        """What each edge costs, in their order."""
        return np.where(self.logged, self.edges.data, DOUBT * self.edges.data)

    @property
    def _edge_keys(self) -> Int[np.ndarray, " edges"]:
        return _entry_keys(self.edges, len(self))

    @cached_property
    def _logged_keys(self) -> Int[np.ndarray, " logged"]:
        return self._edge_keys[self.logged]

    def has_logged(
        self, tails: Int[np.ndarray, "*#n"], heads: Int[np.ndarray, "*#n"]
    ) -> Bool[np.ndarray, "*n"]:
        """Whether some logged episode leads from each landmark to the other, or they are one."""
        _, found = _find(self._logged_keys, _keys(tails, heads, len(self)))
        return found | (tails == heads)

    def to_goals(self, goals: Shaped[np.ndarray, "goals *obs"]) -> Attached:
        """What the last edges of paths cost, from landmarks to these goals."""
        steps, at, embeddings = self.locator.approach(goals)
        return self.attach(steps, at.landmark, embeddings)

    def attach(
        self,
        steps: Float[np.ndarray, "goals landmarks"],
        at: Int[np.ndarray, " goals"],
        embeddings: Float[np.ndarray, "goals *embedding"],
    ) -> Attached:
        """What `to_goals` says of goals, by what `Locator.approach` says of them."""
        nearest = steps.min(axis=1)
        cut_off = nearest > self.reach
        costs, longest = steps, np.full_like(steps, self.reach)
        if self.landmarks.moves is not None:
            logged = self.has_logged(np.arange(len(self))[None], at[:, None])
            # Where hardly an episode goes, in a corner, no path may lead to what is within a stride
            # of the goal either.
            doubt = np.where(steps <= self.stride, DOUBT, DOUBT**2).astype(steps.dtype)
            costs = np.where(logged, steps, doubt * steps)
            longest = np.where(logged, self.reach, self.landmarks.stray).astype(steps.dtype)
        # Whatever else is: the nearest leads there.
        within = steps <= np.maximum(nearest[:, None], longest)
        return Attached(np.where(within, costs, np.inf), cut_off, embeddings)

    def costs_to(self, attached: Attached, blamed: Sequence[Blame] = ()) -> CostToGo:
        """What the cheapest path from every landmark to each goal costs, by Dijkstra.

        Args:
            attached: the goals, by `to_goals` or `attach`.
            blamed: edges that were tried in vain. They and those between the landmarks `beside`
                either end cost `BLAME` times as much for each.
        """
        keys, tails, starts, costs = self._backwards
        last = attached.costs
        blamed_edges, blamed_last = self._blamed(keys, blamed)
        if blamed_last.size:
            # What is dearer than any edge needs less blame, for the sake of precision again.
            most = DOUBT * BLAME**MOST_BLAMES * self.landmarks.stray
            last = last.astype(float)
            times, before = _dearer(blamed_last)
            last[:, before] = np.maximum(last[:, before], np.minimum(times * last[:, before], most))
        # Reversed edges lead from a goal to its landmarks. No edge leads into a goal, so any
        # number of them can be in the graph at once.
        count, goal_count = len(self), len(last)
        goal, before_goal = np.nonzero(np.isfinite(last))
        goal_starts = starts[-1] + np.cumsum(np.bincount(goal, minlength=goal_count))
        costs = np.concatenate([costs, last[goal, before_goal]])
        times, edges = _dearer(blamed_edges)
        costs[edges] *= times
        graph = csr_array(
            (
                costs,
                np.concatenate([tails, before_goal.astype(tails.dtype)]),
                np.concatenate([starts, goal_starts.astype(starts.dtype)]),
            ),
            shape=(count + goal_count, count + goal_count),
        )
        roots = np.arange(count, count + goal_count)
        steps, before = dijkstra(graph, indices=roots, return_predecessors=True)
        # Searched from the goal, what comes before a landmark is what follows it on the way.
        following = np.where((before < 0) | (before >= count), GOAL, before)
        return CostToGo(
            steps[:, :count].astype(np.float32),
            following[:, :count].astype(np.int32),
        )

    def _blamed(
        self, keys: Int[np.ndarray, " edges"], blamed: Sequence[Blame]
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
        """What is dearer for blame, each as often as it is blamed.

        Edges, by their place among `keys`, and landmarks whose last edge to the goal it is.
        """
        edges, last = [np.zeros(0, int)], [np.zeros(0, int)]
        for tail, head in blamed:
            about = self.beside[tail]
            if head == GOAL:
                last.append(np.unique(about))
            else:
                place, found = _find(keys, _keys(self.beside[head, :, None], about, len(self)))
                edges.append(np.unique(place[found]))
        return np.concatenate(edges), np.concatenate(last)

    @cached_property
    def _backwards(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Edges in the order of their heads: keys, tails, where each head's start, and costs."""
        tails, heads = self.edges.tocoo().coords
        keys = _keys(heads, tails, len(self))
        order = np.argsort(keys)
        starts = np.concatenate([[0], np.cumsum(np.bincount(heads, minlength=len(self)))])
        tails, starts = tails[order].astype(np.int32), starts.astype(np.int32)
        return keys[order], tails, starts, self.costs[order].astype(float)


@dataclass(frozen=True, eq=False)
class Attached:
    """The last edges of paths to some goals.

    Attributes:
        costs: from each landmark to each goal, ∞ where there is no edge.
        cut_off: goals that no landmark is within reach of; the nearest has an edge all the same.
        embeddings: the goals'.
    """

    costs: Float[np.ndarray, "goals landmarks"]
    cut_off: Bool[np.ndarray, " goals"]
    embeddings: Float[np.ndarray, "goals *embedding"]


@dataclass(frozen=True, eq=False)
class CostToGo:
    """What cheapest paths over the graph cost: their steps, those of doubted edges counting more.

    Attributes:
        steps: from each landmark to each goal, ∞ where no path leads there.
        following: the next landmark on the way to each goal, `GOAL` where it is the goal itself
            or there is no way.
    """

    steps: Float[np.ndarray, "goals landmarks"]
    following: Int[np.ndarray, "goals landmarks"]


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


def _dearer(
    blamed: Int[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " different"], Int[np.ndarray, " different"]]:
    """How many times as much what is blamed costs, by how often it is, and what that is."""
    different, times = np.unique(blamed, return_counts=True)
    return BLAME ** np.minimum(times, MOST_BLAMES), different


def _find(
    keys: Int[np.ndarray, " n"], wanted: Int[np.ndarray, "*m"]
) -> tuple[Int[np.ndarray, "*m"], Bool[np.ndarray, "*m"]]:
    """Where each wanted one is among increasing keys, and whether it is."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted if len(keys) else np.zeros(wanted.shape, bool)


def _keys(
    tails: Int[np.ndarray, "*#n"], heads: Int[np.ndarray, "*#n"], count: int
) -> Int[np.ndarray, "*n"]:
    """A number for each pair of so many landmarks, in the order of a sparse array's entries."""
    return tails.astype(np.int64) * count + heads


def _entry_keys(pairs: csr_array, count: int) -> Int[np.ndarray, " pairs"]:
    tails, heads = pairs.tocoo().coords
    return _keys(tails, heads, count)


def _neighbours(
    pairs: csr_array, stray: float
) -> tuple[Int[np.ndarray, "landmarks beside"], Int[np.ndarray, "landmarks nearby"]]:
    """Those `beside` each landmark, and those `nearby`, not more than a stray away both ways.

    Where there are fewer, it stands again in their place.
    """
    count = len(pairs.indptr) - 1
    beside, nearby = [], []
    backwards = csr_array(pairs.T)
    for first in range(0, count, BLOCK):
        there, back = pairs[first : first + BLOCK], backwards[first : first + BLOCK]
        tails, heads = there.tocoo().coords
        place, both = _find(_entry_keys(back, count), _keys(tails, heads, count))
        apart = np.maximum(there.data[both], back.data[place[both]])
        tails, heads = tails[both], heads[both]
        order, close = np.lexsort((apart, tails)), apart <= stray
        own = np.arange(first, first + there.shape[0])
        beside.append(_first(own, tails[order], heads[order], BESIDE))
        nearby.append(_first(own, tails[close], heads[close], NEARBY))
    return np.concatenate(beside), np.concatenate(nearby)


def _first(
    own: Int[np.ndarray, " landmarks"],
    rows: Int[np.ndarray, " pairs"],
    heads: Int[np.ndarray, " pairs"],
    k: int,
) -> Int[np.ndarray, "landmarks k"]:
    """Each row's own landmark, and the first of its heads; in place of missing ones, again it."""
    table = np.repeat(own[:, None].astype(np.int32), k, axis=1)
    place = 1 + np.arange(len(rows)) - np.searchsorted(rows, np.arange(len(own)))[rows]
    fits = place < k
    table[rows[fits], place[fits]] = heads[fits]
    return table
