"""A flat policy steered along the graph: every few steps it is given a nearer goal.

    observation ──nearest landmark──▶ here ──what follows on its shortest path──▶ subgoal

The metric says where the episode is, the graph what comes next: the landmark that follows on the
shortest path to the goal, or the goal itself. An edge at its length is never longer than edges that
take its place, so what follows is as far as one step of a plan leads. While the last subgoal is
within reach and nothing nearer to the goal is offered, it stays: a small error about where it is
would otherwise turn an episode round between two ways of about the same length.

An episode that no longer comes nearer may be misled by the graph or by the policy. It blames the
edge: that and those beside it cost it more from then on, and its paths are searched anew. And for a
while it looks ahead, twice as far along its path each time: beside a wall, where the data hardly
went, a policy that was trained towards goals anywhere may press into it towards a near one, and
walk off towards a far one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from farstep.core.errors import FarstepError
from farstep.planning.calibration import Calibration
from farstep.planning.graph import GOAL, Attached, Blame, LandmarkGraph
from farstep.planning.metric import TOGETHER
from farstep.planning.open_loop import OpenLoop

PER_SLOT = (
    *("subgoals", "landmarks", "status", "steps_to_go", "goal_cut_off"),
    *("_goals", "_goal_embeddings", "_aims", "_attached", "_costs", "_following"),
    *("_here", "_back", "_age", "_best", "_stalled"),
    *("_looking_ahead", "_aims_ahead", "_begun", "_over"),
)
"""Arrays of a planned policy that have a row for every slot."""

PATIENCE = 4
"""Choices without progress after which an episode blames an edge, unless others are asked for."""

PROGRESS = 1.0
"""Steps by which the way to go must have become shorter than ever to count as progress."""


class Status(IntEnum):
    """How an episode stands to the graph."""

    DIRECT = 0
    """The goal is next."""
    ON_PATH = 1
    """A path over landmarks leads to the goal."""
    CUT_OFF = 2
    """No path from here: aiming at the nearest landmark that has one."""


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


class PlannedPolicy:
    """`policy` steered along `graph`: a `BatchPolicy` with a plan for every slot.

    An episode's plan depends on its own observations alone, not on its slot or on other episodes.
    Subgoals are chosen as often as the graph was made for, and at once where a goal changes.

    Attributes:
        policy: what is steered.
        graph: what is searched.
        calibration: how the graph's lengths were chosen, if they were.
        patience: choices without progress after which an episode blames the edge it is on, one
            more for each edge that it blamed before; and choices for which it then looks ahead.
        subgoals: what each slot aims at, as an observation.
        landmarks: the same as a landmark's number, or `GOAL`.
        status: how each slot stands to the graph, a `Status`.
        choose_every: steps between choices of a subgoal: as many as the graph was made for, or
            more, so that a chunk of actions is over by then.
        steps_to_go: what the rest of each slot's way costs, in steps.
        goal_cut_off: whether no landmark is within reach of a slot's goal.
    """

    def __init__(
        self,
        policy: FlatPolicy,
        graph: LandmarkGraph,
        patience: int = PATIENCE,
        calibration: Calibration | None = None,
    ):
        if patience < 1:
            raise FarstepError(f"patience must be at least 1, not {patience}")
        self.policy = policy
        self.graph = graph
        self.patience = patience
        self._carrying = policy if isinstance(policy, OpenLoop) else None
        execute = 1 if self._carrying is None else self._carrying.execute
        self.choose_every = -(-graph.landmarks.replan_every // execute) * execute
        self.calibration = calibration
        shape = graph.observations.shape[1:]
        self.subgoals = np.zeros((0, *shape), graph.observations.dtype)
        self.landmarks = np.zeros(0, int)
        self.status = np.zeros(0, int)
        self.steps_to_go = np.zeros(0, np.float32)
        self.goal_cut_off = np.zeros(0, bool)
        self._embeddings = np.asarray(graph.embeddings)
        self._goals = self.subgoals.copy()
        self._goal_embeddings = np.zeros((0, *self._embeddings.shape[1:]), self._embeddings.dtype)
        self._aims = self._goal_embeddings.copy()
        self._attached = np.zeros((0, len(graph)), np.float32)
        self._costs = self._attached.copy()
        self._following = np.zeros((0, len(graph)), np.int32)
        self._here = np.zeros(0, int)
        self._back = np.zeros(0, np.float32)
        self._age = np.zeros(0, int)
        self._best = np.zeros(0, np.float32)
        self._stalled = np.zeros(0, int)
        self._looking_ahead = np.zeros(0, int)
        self._aims_ahead = np.zeros(0, bool)
        self._begun = np.zeros(0, bool)
        self._over = np.zeros(0, bool)
        self._blamed: list[list[Blame]] = []

    def begin(
        self,
        slots: Int[np.ndarray, " n"],
        observations: Shaped[np.ndarray, "n *obs"],
        goals: Shaped[np.ndarray, "n *obs"],
    ) -> None:
        """New episodes start in `slots`: where they are, and the paths to their goals."""
        self._grow(int(np.max(slots, initial=-1)) + 1)
        # Tasks fill several slots with the same goal, and the first call fills spare ones.
        unique, which = _different(goals)
        states = np.concatenate([unique, observations]).astype(self.subgoals.dtype, copy=False)
        steps, at, embeddings = self.graph.locator.approach(states)
        some = slice(len(unique))
        attached = self.graph.attach(steps[some], at.landmark[some], embeddings[some])
        costs = self.graph.costs_to(attached)
        which = which.reshape(-1)
        self._goals[slots] = goals
        self._here[slots], self._back[slots] = at.landmark[len(unique) :], at.back[len(unique) :]
        self._attached[slots] = attached.costs[which]
        self._goal_embeddings[slots] = attached.embeddings[which]
        self._costs[slots] = costs.steps[which]
        self._following[slots] = costs.following[which]
        self.goal_cut_off[slots] = attached.cut_off[which]
        self._age[slots] = self._looking_ahead[slots] = 0
        self._begun[slots], self._over[slots] = True, False
        for slot in slots:
            self._blamed[slot] = []
        if self._carrying is not None:
            self._carrying.begin(slots, observations, goals)

    def end(self, slots: Int[np.ndarray, " n"]) -> None:
        """The episodes in `slots` are over: what they aim at stays as it is."""
        self._over[slots] = True
        if self._carrying is not None:
            self._carrying.end(slots)

    def act(
        self,
        observations: Shaped[np.ndarray, "slots *obs"],
        goals: Shaped[np.ndarray, "slots *obs"],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray:
        """The flat policy's actions towards the subgoals; rows are slots.

        A slot whose goal is another than before starts a new episode.
        """
        count = len(observations)
        self._grow(count)
        goals = goals.astype(self._goals.dtype, copy=False)
        changed = (self._goals[:count] != goals).reshape(count, -1).any(axis=1)
        new = np.flatnonzero(changed | ~self._begun[:count])
        if new.size:
            self.begin(new, observations[new], goals[new])
        due = self._age[:count] % self.choose_every == 0
        due = np.flatnonzero(due & ~self._over[:count])
        if due.size:
            # One call where that can be, of a height that does not depend on how many are due.
            self._replan(due, observations[due], min(count, TOGETHER))
        self._age += 1
        return self.policy.act(
            observations,
            self.subgoals[:count],
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
        while landmark != GOAL:
            path.append(landmark)
            landmark = int(self._following[slot, landmark])
        return np.array(path, int)

    def _grow(self, slots: int) -> None:
        missing = slots - len(self._age)
        if missing <= 0:
            return
        for name in PER_SLOT:
            array = getattr(self, name)
            new = np.zeros((missing, *array.shape[1:]), array.dtype)
            setattr(self, name, np.concatenate([array, new]))
        self._blamed += [[] for _ in range(missing)]

    def _replan(
        self, slots: Int[np.ndarray, " n"], observations: Shaped[np.ndarray, "n *obs"], height: int
    ) -> None:
        location = self.graph.locator.track(
            observations,
            self._here[slots],
            height,
            back=self._back[slots],
            farthest=self.graph.landmarks.farthest,
            aims=self._aims[slots],
        )
        here, last = location.landmark, self.landmarks[slots]
        # Those of new episodes say nothing.
        to_aim, from_aim = location.to_aim, location.from_aim
        assert to_aim is not None
        assert from_aim is not None
        rest, to_go = self._rest(slots, last), self._costs[slots, here]
        aims_ahead, looking_ahead = self._aims_ahead[slots], self._looking_ahead[slots]
        # Carried off, by a teleporter or a hand: what was achieved on the way there is void.
        fresh = (self._age[slots] == 0) | location.carried_off
        steps = location.steps + to_go
        # The way to what it aims at ahead is longer than what the metric is right about.
        steps = np.where(fresh | aims_ahead, steps, np.minimum(steps, to_aim + rest))
        # At its goal an episode rests: finished ones stay there until their slots are needed.
        resting = (last == GOAL) & (to_aim <= self.graph.locator.stray)
        stuck = self._stuck(slots, steps, fresh) & ~resting
        for row in np.flatnonzero(stuck):
            self._blame(slots[row], (int(here[row]), int(last[row])))
        looking_ahead = np.where(stuck, self.patience, np.where(fresh, 0, looking_ahead))

        under_way = ~(fresh | stuck | aims_ahead | (last == GOAL))
        # What it aims at would lie behind it before the next choice: on to what follows, if that
        # is not too far yet.
        beyond = rest - self._rest(slots, self._following[slots, last])
        arrived = under_way & (np.maximum(to_aim, from_aim) <= self.graph.stride)
        arrived &= to_aim + beyond <= self.graph.reach
        landmarks = self._following[slots, np.where(arrived, last, here)]
        stays = under_way & (to_aim <= self.graph.reach) & (rest <= self._rest(slots, landmarks))
        landmarks = np.where(stays, last, landmarks)
        # Blame makes a way dearer, but leaves it.
        astray = ~np.isfinite(to_go)
        lost = astray | (location.steps > self.graph.reach)
        for row in np.flatnonzero(lost):
            landmarks[row], steps[row] = self._nearest_with_path(slots[row], observations[row])
        ahead = ~astray & (looking_ahead > 0)
        if ahead.any():
            landmarks[ahead] = self._farther(slots[ahead], here[ahead])
        status = np.where(landmarks == GOAL, Status.DIRECT.value, Status.ON_PATH.value)
        status[lost] = Status.CUT_OFF
        self._here[slots], self._back[slots] = here, location.back
        self._aims_ahead[slots], self._looking_ahead[slots] = ahead, looking_ahead - ahead
        self.status[slots], self.steps_to_go[slots] = status, steps
        self._aim(slots, landmarks)

    def _stuck(
        self,
        slots: Int[np.ndarray, " n"],
        steps: Float[np.ndarray, " n"],
        fresh: Bool[np.ndarray, " n"],
    ) -> Bool[np.ndarray, " n"]:
        """Take down the steps to go, and tell who has made no progress for too long.

        What fresh ones had achieved is void.
        """
        best = np.where(fresh, np.inf, self._best[slots])
        stalled = np.where(fresh, 0, self._stalled[slots])
        progress = steps < best - PROGRESS
        stalled = np.where(progress, 0, stalled + 1)
        self._best[slots], self._stalled[slots] = np.where(progress, steps, best), stalled
        return ~fresh & (stalled >= self.patience + self._blames(slots))

    def _aim(self, slots: Int[np.ndarray, " n"], landmarks: Int[np.ndarray, " n"]) -> None:
        """Make these landmarks, or the goals themselves, what the slots aim at."""
        self.landmarks[slots] = landmarks
        at_goal = landmarks == GOAL
        for kept, of_landmarks, of_goals in (
            (self.subgoals, self.graph.observations, self._goals),
            (self._aims, self._embeddings, self._goal_embeddings),
        ):
            chosen = of_landmarks[landmarks]
            chosen[at_goal] = of_goals[slots[at_goal]]
            kept[slots] = chosen

    def _farther(
        self, slots: Int[np.ndarray, " n"], landmarks: Int[np.ndarray, " n"]
    ) -> Int[np.ndarray, " n"]:
        """What comes on each slot's path after a landmark, twice as far for each edge it blamed."""
        most = len(self.graph).bit_length()
        edges = 2 ** np.minimum(1 + self._blames(slots), most)
        while (going := (edges > 0) & (landmarks != GOAL)).any():
            landmarks = np.where(going, self._following[slots, landmarks], landmarks)
            edges = edges - 1
        return landmarks

    def _blames(self, slots: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """How often each has blamed an edge."""
        return np.array([len(self._blamed[slot]) for slot in slots], int)

    def _rest(
        self, slots: Int[np.ndarray, " n"], landmarks: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """What is left to go from each slot's own landmark: nothing from the goal."""
        return np.where(landmarks == GOAL, 0, self._costs[slots, landmarks])

    def _nearest_with_path(
        self, slot: int, observation: Shaped[np.ndarray, "*obs"]
    ) -> tuple[int, float]:
        """The nearest landmark that a path to the goal starts at, and what the way costs by it."""
        costs = self._costs[slot]
        if not np.isfinite(costs).any():
            return GOAL, np.inf
        steps = self.graph.locator.leave(observation[None])[0]
        nearest = int(np.argmin(np.where(np.isfinite(costs), steps, np.inf)))
        return nearest, float(steps[nearest] + costs[nearest])

    def _blame(self, slot: int, edge: Blame) -> None:
        """Trust an edge less that an episode could not make, and search its paths anew."""
        self._blamed[slot].append(edge)
        attached = Attached(
            self._attached[[slot]], self.goal_cut_off[[slot]], self._goal_embeddings[[slot]]
        )
        costs = self.graph.costs_to(attached, self._blamed[slot])
        self._costs[slot], self._following[slot] = costs.steps[0], costs.following[0]
        self._best[slot], self._stalled[slot] = np.inf, 0


def _different(goals: Shaped[np.ndarray, "n *obs"]) -> tuple[np.ndarray, Int[np.ndarray, " n"]]:
    """The goals, each once, and which of them each is."""
    if goals.dtype.names is None:
        return np.unique(goals, axis=0, return_inverse=True)
    as_bytes = np.ascontiguousarray(goals).view(np.uint8).reshape(len(goals), -1)
    _, first, which = np.unique(as_bytes, axis=0, return_index=True, return_inverse=True)
    return goals[first], which
