"""The inputs of a policy, made from the observations and goals of an environment."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from farstep.core.arrays import record
from farstep.core.frames import LastFrames
from farstep.core.types import BatchPolicy, Spaces


class AdaptedPolicy:
    """A policy behind an adapter from an environment's observations and goals to the policy's own.

    The adapter chooses the policy's arrays, makes goals by its rule and stacks its frames.

    Args:
        policy: the policy that acts.
        spaces: the spaces that it was trained on.
        whole: whether the environment's goals are observations, from which its own are made.
    """

    def __init__(self, policy: BatchPolicy, spaces: Spaces, whole: bool):
        self._policy = policy
        self._spaces = spaces
        self._whole = whole
        self._frames = LastFrames(spaces.frames)

    def begin(
        self, slots: Int[np.ndarray, " n"], observations: np.ndarray, goals: np.ndarray
    ) -> None:
        """Episodes start in `slots`."""
        own = self._own_arrays(observations)
        self._frames.begin(slots, own)
        self._policy.begin(slots, self._frames.repeated(own), self._goals(goals))

    def end(self, slots: Int[np.ndarray, " n"]) -> None:
        """Passed on."""
        self._policy.end(slots)

    def act(self, observations: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """One batch of actions."""
        stacks = self._frames.push(self._own_arrays(observations))
        return self._policy.act(stacks, self._goals(goals))

    def _own_arrays(self, rows: np.ndarray) -> np.ndarray:
        keys = self._spaces.observation.keys
        return record({key: rows[key] for key in keys}) if keys else rows

    def _goals(self, goals: np.ndarray) -> np.ndarray:
        if not self._whole:
            return goals
        rule = self._spaces.rule
        return (
            self._frames.repeated(self._own_arrays(goals))
            if rule.whole
            else rule.goals(self._own_arrays(goals))
        )
