"""Foreign environments behind the interface of farstep's own."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from farstep.core.errors import FarstepError, nearest
from farstep.envs.specs import EnvironmentSpec


class GoalEnv(gymnasium.Wrapper):
    """`env` with its goal as `info["goal"]`, its success as `info["success"]`, tasks by number.

    Attributes:
        goal_space: space of the goal, which may differ from an observation's.

    Raises:
        FarstepError: the observation or `info` has no key that the specification names.
    """

    def __init__(self, env: gymnasium.Env, spec: EnvironmentSpec):
        super().__init__(env)
        self._spec = spec
        self.observation_space = self.goal_space = env.observation_space
        if spec.observation_key is not None:
            spaces = getattr(env.observation_space, "spaces", {})
            chosen = _chosen(spaces, spec)
            several = isinstance(chosen, dict)
            self.observation_space = gymnasium.spaces.Dict(chosen) if several else chosen
            self.goal_space = _entry(spaces, spec.goal_key, spec, "observations")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        options = dict(options or {})
        if not isinstance(self._spec.tasks, int) and (task := options.pop("task_id", None)):
            options |= self._spec.tasks[task - 1]
        return self._split(*self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._split(observation, info)
        reached = _entry(info, self._spec.success_key, self._spec, "`info`")
        info["success"] = bool(np.asarray(reached).item())
        return observation, reward, terminated, truncated, info

    def _split(self, observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        spec = self._spec
        if spec.observation_key is not None:
            goal = _entry(observation, spec.goal_key, spec, "observations")
            return _chosen(observation, spec), {**info, "goal": goal}
        if spec.goal_key in info:  # A step need not repeat it.
            info = {**info, "goal": info[spec.goal_key]}
        return observation, info


def _chosen(entries: Any, spec: EnvironmentSpec) -> Any:
    """The observation in a dict: one entry, or a dict of several."""
    keys = spec.observation_key
    if isinstance(keys, str):
        return _entry(entries, keys, spec, "observations")
    return {key: _entry(entries, key, spec, "observations") for key in keys or ()}


def _entry(entries: Any, key: str, spec: EnvironmentSpec, where: str) -> Any:
    if key not in entries:
        raise FarstepError(f"{spec.name}: {where} have no '{key}'.{nearest(key, entries)}")
    return entries[key]
