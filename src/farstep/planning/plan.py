"""One plan towards one goal, for a loop of one's own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped
from numpy.typing import ArrayLike

from farstep.core.frames import LastFrames
from farstep.core.inputs import checked_rows
from farstep.planning.graph import LandmarkGraph
from farstep.planning.policy import PATIENCE, FlatPolicy, PlannedPolicy, Status


class Plan:
    """Steers a policy to one goal.

        plan = farstep.load_policy("run").plan(goal)
        while not done:
            action = plan.act(observation)

    Attributes:
        goal: the goal's observation; of stacked frames so many of it.
        graph: the landmarks and their edges.
    """

    def __init__(
        self,
        policy: FlatPolicy,
        graph: LandmarkGraph,
        goal: ArrayLike,
        patience: int = PATIENCE,
    ):
        self.graph = graph
        self._frames = LastFrames(graph.metric.spaces.frames)
        self.goal = self._frames.repeated(self._checked(goal, "the goal")[None])[0]
        self._policy = PlannedPolicy(policy, graph, patience)
        self._started = False
        # What can be said before it is known where the plan starts.
        self._policy.begin(np.zeros(1, int), self.goal[None], self.goal[None])

    def act(self, observation: ArrayLike) -> np.ndarray:
        """The next action, (A,); chooses a new subgoal every few calls.

        Raises:
            FarstepError: not an observation like those that the graph is made of.
        """
        frame = self._checked(observation, "the observation")[None]
        if not self._started:
            self._frames.begin(np.zeros(1, int), frame)
        stack = self._frames.push(frame)
        if not self._started:
            self._policy.begin(np.zeros(1, int), stack, self.goal[None])
            self._started = True
        return self._policy.act(stack, self.goal[None])[0]

    @property
    def subgoal(self) -> Shaped[np.ndarray, "*obs"]:
        """The observation aimed at: a landmark's, or the goal itself. Known after `act`."""
        self._check_started()
        return self._policy.subgoals[0].copy()

    @property
    def path(self) -> Shaped[np.ndarray, "n *obs"]:
        """The subgoals still to come, this one first and the goal last. Known after `act`."""
        self._check_started()
        landmarks = self._policy.path(0)
        return np.concatenate([self.graph.observations[landmarks], self.goal[None]])

    @property
    def steps_to_go(self) -> float:
        """Length of the rest of the way in environment steps. Known after `act`."""
        self._check_started()
        return float(self._policy.steps_to_go[0])

    @property
    def status(self) -> Status:
        """Whether the goal is near, on a path, or cut off. Known after `act`."""
        self._check_started()
        return Status(self._policy.status[0])

    @property
    def goal_cut_off(self) -> bool:
        """Whether no landmark is within reach of the goal: the plan then leads to the nearest."""
        return bool(self._policy.goal_cut_off[0])

    def _checked(self, array: ArrayLike, name: str) -> np.ndarray:
        return checked_rows(array, self.graph.metric.spaces.frame, name)

    def _check_started(self) -> None:
        if not self._started:
            raise ValueError("a plan starts with the first observation: call act before this")
