"""A flat policy steered along the graph: every few steps it is given a nearer goal.

    s ──d──▶ landmarks within reach ──cost to go──▶ goal

Of the landmarks within reach whose `c(s, l) + v(l)` is near the best, the farthest is the next one
(c is the cost of an edge, see `graph`). The subgoal lies up to a stride beyond it on its way to the
goal, still within reach, so that the agent does not slow down before it; not so in an episode that
was ever stuck. Once the goal is within reach and nothing leads there at less cost, it is the goal
itself. Where two ways are about as long, a small error of `d` would turn the agent round at every
choice, so a subgoal is never farther from the goal than the one before it, unless the episode is
stuck.

All landmarks are searched when an episode starts, strays or is stuck. In between, what may come
next is known from the graph: the subgoal itself and the best of its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from farstep.core.errors import FarstepError
from farstep.planning.graph import NOTHING, LandmarkGraph, effort
from farstep.planning.metric import in_blocks
from farstep.planning.subgoals import GOAL, Status, choose_candidate, choose_landmark

ROWS = 25
"""Episodes in one call of the planner, always: rows computed in calls of other heights differ in
their last bits, and an episode must not depend on how many others replan at the same step."""

PROGRESS = 1.0
"""Steps by which the way to go must have become shorter than ever to count as progress."""

MOST_DOUBLINGS = 5
"""Of the slack of a stuck episode."""

STRETCH = 0.25
"""Growth of a stuck episode's own reach at each doubling; edges of the graph stay as they are."""

CANDIDATES = 32
"""Landmarks looked at while an episode follows its path."""


class FlatPolicy(Protocol):
    """What is steered: any policy that acts towards a goal given as an observation."""

    def act(
        self,
        observations: np.ndarray,
        goals: np.ndarray,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Steering:
    """How subgoals are chosen.

    Attributes:
        replan_every: steps between choices.
        slack: how much longer than the best a path may be for its landmark to be chosen, as a
            share of the best.
        patience: choices without progress after which an episode counts as stuck: its slack
            doubles and its own reach grows, and again after as many more, until it makes progress.
    """

    replan_every: int = 5
    slack: float = 0.02
    patience: int = 4

    def __post_init__(self) -> None:
        for name, value in (("replan_every", self.replan_every), ("patience", self.patience)):
            if value < 1:
                raise FarstepError(f"{name} must be at least 1, not {value}")
        if self.slack < 0:
            raise FarstepError(f"slack must not be negative, and is {self.slack}")


Chooser = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(slots, observations, costs) -> landmarks, status, steps to go."""


class PlannedPolicy:
    """`policy` steered along `graph`: a `BatchPolicy` with a plan for every slot.

    An episode's plan depends on its own observations alone, not on its slot or on other episodes.
    """

    def __init__(self, policy: FlatPolicy, graph: LandmarkGraph, steering: Steering | None = None):
        self.graph = graph
        self.steering = steering or Steering()
        self._policy = policy
        shape = graph.observations.shape[1:]
        self.subgoals = np.zeros((0, *shape), graph.observations.dtype)
        self.landmarks = np.zeros(0, int)
        self.status = np.zeros(0, int)
        self.steps_to_go = np.zeros(0, np.float32)
        self.goal_cut_off = np.zeros(0, bool)
        self._costs = np.zeros((0, len(graph)), np.float32)
        self._following = np.zeros((0, len(graph)), np.int32)
        self._goals = np.zeros((0, *graph.embeddings.shape[1:]), graph.embeddings.dtype)
        self._age = np.zeros(0, int)
        self._best = np.zeros(0, np.float32)
        self._stalled = np.zeros(0, int)
        self._committed = np.zeros(0, np.float32)
        self._cautious = np.zeros(0, bool)
        self._candidates = np.zeros((0, CANDIDATES), np.int32)

    def begin(
        self,
        slots: Int[np.ndarray, " n"],
        observations: Num[np.ndarray, "n *obs"],
        goals: Num[np.ndarray, "n *obs"],
    ) -> None:
        """New episodes start in `slots`: costs to go are computed for their goals."""
        self._grow(int(np.max(slots, initial=-1)) + 1)
        # Tasks fill several slots with the same goal, and the first call fills spare ones.
        unique, which = np.unique(goals, axis=0, return_inverse=True)
        embeddings = self.graph.metric.embed(unique)
        costs = self.graph.costs_to(embeddings)
        which = which.reshape(-1)
        self._goals[slots] = np.asarray(embeddings)[which]
        assert costs.following is not None
        self._costs[slots] = costs.steps[which]
        self._following[slots] = costs.following[which]
        self.goal_cut_off[slots] = costs.cut_off[which]
        self._age[slots] = 0
        self._best[slots] = np.inf
        self._stalled[slots] = 0
        self._committed[slots] = np.inf
        self._cautious[slots] = False

    def act(
        self,
        observations: Num[np.ndarray, "slots *obs"],
        goals: Num[np.ndarray, "slots *obs"],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray:
        """The flat policy's actions towards the subgoals; rows are slots."""
        due = np.flatnonzero(self._age[: len(observations)] % self.steering.replan_every == 0)
        if due.size:
            self._replan(due, observations[due], goals[due])
        self._age += 1
        return self._policy.act(
            observations,
            self.subgoals[: len(observations)],
            temperature=temperature,
            seed=seed,
            step=step,
        )

    def costs_to_go(self, slot: int) -> Float[np.ndarray, " landmarks"]:
        """Steps from every landmark to the goal of `slot` along the graph, ∞ without a path."""
        return self._costs[slot].copy()

    def path(self, slot: int) -> Int[np.ndarray, " n"]:
        """The landmarks aimed at one after another if each is reached, from the current one on."""
        path: list[int] = []
        landmark = int(self.landmarks[slot])
        costs = self._costs[slot][None]
        while landmark != GOAL and landmark not in path:
            path.append(landmark)
            here = self.graph.observations[landmark]
            landmark = int(self._search(np.array([slot]), here[None], costs)[0][0])
        return np.array(path, int)

    def _grow(self, slots: int) -> None:
        missing = slots - len(self._age)
        if missing <= 0:
            return
        for name in (
            "subgoals",
            "landmarks",
            "status",
            "steps_to_go",
            "goal_cut_off",
            "_costs",
            "_following",
            "_goals",
            "_age",
            "_best",
            "_stalled",
            "_committed",
            "_cautious",
            "_candidates",
        ):
            array = getattr(self, name)
            new = np.zeros((missing, *array.shape[1:]), array.dtype)
            setattr(self, name, np.concatenate([array, new]))

    def _replan(
        self,
        slots: Int[np.ndarray, " n"],
        observations: Num[np.ndarray, "n *obs"],
        goals: Num[np.ndarray, "n *obs"],
    ) -> None:
        doublings = self._doublings(slots)
        self._committed[slots[doublings > 0]] = np.inf
        costs = self._costs[slots]
        ahead = np.where(costs <= self._committed[slots][:, None], costs, np.inf)
        landmarks = np.full(len(slots), GOAL)
        status = np.full(len(slots), Status.CUT_OFF)
        steps = np.zeros(len(slots), np.float32)

        def plan(rows: Bool[np.ndarray, " n"], choose_from: Chooser, costs: np.ndarray) -> None:
            if rows.any():
                landmarks[rows], status[rows], steps[rows] = choose_from(
                    slots[rows], observations[rows], costs[rows]
                )

        # Stuck episodes search each time that their slack doubles. Those at their goal never do:
        # there is nothing to find, and finished ones stay there until their slots are needed.
        stuck = (doublings > 0) & (self._stalled[slots] % self.steering.patience == 0)
        stuck &= self.status[slots] != Status.DIRECT
        plan((self._age[slots] > 0) & ~stuck, self._follow, ahead)
        plan(status == Status.CUT_OFF, self._search, ahead)
        # Off its path, an episode is free to take any other.
        plan((status == Status.CUT_OFF) & np.isfinite(self._committed[slots]), self._search, costs)
        at_goal = landmarks == GOAL
        # What lies ahead may be what a stuck episode was stuck at, and it would come back to it.
        self._cautious[slots] |= doublings > 0
        ahead_of_it = np.where(
            self._cautious[slots], landmarks, self._ahead(slots, landmarks, steps)
        )
        chosen = self.graph.observations[ahead_of_it]
        chosen[ahead_of_it == GOAL] = goals[ahead_of_it == GOAL]
        for slot, landmark in zip(slots, landmarks, strict=True):
            if landmark not in (GOAL, self.landmarks[slot]) or self._age[slot] == 0:
                self._candidates[slot] = self._next_from(max(landmark, 0), self._costs[slot])
        aimed = costs[np.arange(len(slots)), landmarks]
        self._committed[slots] = np.where(at_goal, self._committed[slots], aimed)
        self.subgoals[slots] = chosen
        self.landmarks[slots], self.status[slots] = landmarks, status
        self.steps_to_go[slots] = steps
        progress = steps < self._best[slots] - PROGRESS
        self._best[slots] = np.where(progress, steps, self._best[slots])
        self._stalled[slots] = np.where(progress, 0, self._stalled[slots] + 1)

    def _ahead(
        self,
        slots: Int[np.ndarray, " n"],
        landmarks: Int[np.ndarray, " n"],
        steps: Float[np.ndarray, " n"],
    ) -> Int[np.ndarray, " n"]:
        """What lies up to a stride beyond these landmarks on the way to each slot's goal.

        `steps` are those to the goal from where the agent is.
        """
        costs, graph = self._costs[slots], self.graph
        rows = np.arange(len(slots))
        least = np.maximum(costs[rows, landmarks] - graph.stride, steps - graph.reach)
        further = landmarks != GOAL
        while further.any():
            following = self._following[slots, landmarks]
            further &= (following != NOTHING) & (costs[rows, following] >= least)
            landmarks = np.where(further, following, landmarks)
        return landmarks

    def _doublings(self, slots: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """How often the slack of stuck episodes has doubled."""
        return np.minimum(self._stalled[slots] // self.steering.patience, MOST_DOUBLINGS)

    def _next_from(
        self, landmark: int, costs: Float[np.ndarray, " landmarks"]
    ) -> Int[np.ndarray, " candidates"]:
        """The landmark, and which of its neighbours are worth a look on the way there.

        The near-best are taken from the far end, others by the length of their path.
        """
        edges = slice(*self.graph.edges.indptr[landmark : landmark + 2])
        neighbours = self.graph.edges.indices[edges]
        steps = np.asarray(self.graph.edges.data[edges])
        through = effort(steps, self.graph.stride) + costs[neighbours]
        best = through.min(initial=np.inf)
        near = through <= best * (1 + 2 * self.steering.slack)
        order = np.lexsort((np.where(near, np.negative(steps), through), ~near))[: CANDIDATES - 1]
        candidates = np.full(CANDIDATES, landmark, np.int32)
        candidates[1 : 1 + len(order)] = neighbours[order]
        return candidates

    def _follow(
        self,
        slots: np.ndarray,
        observations: np.ndarray,
        costs: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best of each episode's candidates."""
        candidates = self._candidates[slots]
        costs = np.take_along_axis(costs, candidates, axis=1)
        chosen, status, steps = self._in_blocks(
            choose_candidate, slots, observations, costs, candidates
        )
        landmarks = candidates[np.arange(len(slots)), chosen]
        return np.where(chosen == GOAL, GOAL, landmarks), status, steps

    def _search(
        self,
        slots: np.ndarray,
        observations: np.ndarray,
        costs: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best of all landmarks."""
        return self._in_blocks(choose_landmark, slots, observations, costs)

    def _in_blocks(
        self,
        choose_subgoals: Callable[..., tuple[Array, Array, Array]],
        slots: np.ndarray,
        observations: np.ndarray,
        *rows: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        metric, embeddings = self.graph.metric, self.graph.embeddings
        doublings = self._doublings(slots)
        slack = (self.steering.slack * 2.0**doublings).astype(np.float32)
        reach = (self.graph.reach * (1 + STRETCH * doublings)).astype(np.float32)
        columns = (
            metric.normalization.apply(observations),
            self._goals[slots],
            reach,
            slack,
            *rows,
        )
        split = [in_blocks(column, ROWS) for column in columns]
        blocks = [
            choose_subgoals(metric.agent, metric.params, embeddings, self.graph.stride, *block)
            for block in zip(*split, strict=True)
        ]
        landmarks, status, steps = (
            np.concatenate([np.asarray(block[part]) for block in blocks])[: len(observations)]
            for part in range(3)
        )
        return landmarks, status, steps
