"""One client's episode: its goal, flat or planned, and how it gets on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from farstep.core.errors import FarstepError
from farstep.core.frames import LastFrames
from farstep.core.inputs import checked_rows
from farstep.planning.open_loop import OpenLoop
from farstep.planning.policy import Plan
from farstep.serving.policy import Policy


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """How a session reads requests and judges an episode.

    Attributes:
        observation_key: name of the observation in a request.
        goal_key: name of the goal in a request.
        plan: steer the policy along a plan over landmarks.
        reached_steps: steps to go at which a goal counts as reached.
        execute: how many actions of a policy's chunk a reply holds; all by default.
        patience: requests without the steps to go falling after which an episode has stalled.
    """

    observation_key: str = "observation"
    goal_key: str = "goal"
    plan: bool = False
    execute: int | None = None
    reached_steps: float = 1.0
    patience: int = 50

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise FarstepError(f"patience must be at least 1, not {self.patience}")
        if not self.reached_steps >= 0:
            raise FarstepError(f"reached_steps must be at least 0, not {self.reached_steps}")


class Session:
    """The state of one client between its requests. Used by one thread at a time.

    Args:
        policy: what acts.
        options: how requests are read.
        goal: the goal until a request brings another.
    """

    def __init__(self, policy: Policy, options: SessionOptions, goal: Any = None):
        self.policy = policy
        self._options = options
        self._goal = goal
        self._plan: Plan | None = None
        self._frames: LastFrames | None = None
        acting = policy.step_by_step(options.execute)
        self._execute = acting.execute if isinstance(acting, OpenLoop) else 1
        self._best = np.inf
        self._stalled = 0

    def answer(self, request: Any) -> dict[str, Any]:
        """The reply to a request: a map with an observation, and a goal or `reset` if they change.

        Returns:
            `actions` (H, A), to be taken one after another, or (H,) integers, `server_timing`, and
            where the method has a distance `steps_to_go`, `reached` and `stalled`.

        Raises:
            FarstepError: the request is not of this form, or not for this policy; or the policy
                gives an action that is not finite.
        """
        began = time.perf_counter()
        observation, goal = self._read(request)
        steps = None
        if self._plan is not None:
            # Within a chunk the plan looks at no observation: the robot has not come there yet.
            actions = np.stack([self._plan.act(observation) for _ in range(self._execute)])
            steps = self._plan.steps_to_go
        else:
            observation, goal = self._stacked(observation, goal)
            actions = self.policy.chunk(observation, goal)[: self._execute]
            if self.policy.agent.metric(self.policy.params) is not None:
                steps = float(self.policy.distance(observation, goal))
        if not np.isfinite(actions).all():
            raise FarstepError("the policy gives an action that is not finite: it is damaged")
        reply: dict[str, Any] = {"actions": actions}
        if steps is not None:
            reply |= self._progress(steps)
        reply["server_timing"] = {"infer_ms": 1e3 * (time.perf_counter() - began)}
        return reply

    def _stacked(self, observation: Any, goal: Any) -> tuple[Any, Any]:
        """The episode's last frames as the policy takes them, and its goal."""
        spaces = self.policy.spaces
        if spaces.frames == 1:
            return observation, goal
        frame = checked_rows(observation, spaces.frame, "the observation")[None]
        if self._frames is None:
            self._frames = LastFrames(spaces.frames)
            self._frames.begin(np.zeros(1, int), frame)
        if spaces.rule.whole:
            goal = self._frames.repeated(checked_rows(goal, spaces.frame, "the goal")[None])[0]
        return self._frames.push(frame)[0], goal

    def _read(self, request: Any) -> tuple[Any, Any]:
        """The observation and the goal, once a new goal and a fresh start are taken up."""
        options = self._options
        if not isinstance(request, Mapping):
            raise FarstepError("a request is a map with an observation")
        if options.observation_key not in request:
            named = ", ".join(sorted(map(str, request)))
            raise FarstepError(
                f"the request has no '{options.observation_key}', only: {named or 'nothing'}"
            )
        goal = request.get(options.goal_key)
        if goal is not None:
            self._goal = _arrays(goal, options.goal_key)
        if self._goal is None:
            raise FarstepError(f"the session has no goal yet: send it as '{options.goal_key}'")
        if goal is not None or request.get("reset") or (options.plan and self._plan is None):
            self._best, self._stalled, self._frames = np.inf, 0, None
            self._plan = self._planned() if options.plan else None
        seen = _arrays(request[options.observation_key], options.observation_key)
        return seen, self._goal

    def _planned(self) -> Plan:
        assert self._goal is not None
        acting = self.policy.step_by_step(self._options.execute)
        return Plan(acting, self.policy.graph, self._goal)

    def _progress(self, steps: float) -> dict[str, Any]:
        if steps < self._best:
            self._best, self._stalled = steps, 0
        else:
            self._stalled += 1
        reached = steps <= self._options.reached_steps
        stalled = not reached and self._stalled >= self._options.patience
        return {"steps_to_go": steps, "reached": reached, "stalled": stalled}


def _arrays(value: Any, name: str) -> Any:
    """An observation or a goal out of a request: one array, or several by name.

    Copies, since what comes is a view of all of the request's bytes.

    Raises:
        FarstepError: it is ragged.
    """
    if isinstance(value, Mapping):
        return {key: _arrays(array, f"{name}/{key}") for key, array in value.items()}
    try:
        return np.array(value)
    except ValueError as error:
        raise FarstepError(f"'{name}' is no array: {error}") from error
