"""From what an environment shows to what a policy sees."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from farstep.core.arrays import record
from farstep.core.frames import LastFrames
from farstep.core.types import BatchPolicy, Spaces


class SeenBy:
    """A policy that takes an environment's single observations and goals.

    Of several arrays it is given its own, its goals are made by its rule, and stacked frames are
    kept for it.

    Args:
        policy: what acts.
        spaces: what it was trained on.
        whole: whether the environment's goals are observations, of which the policy's are made.
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
        seen = self._seen(observations)
        self._frames.begin(slots, seen)
        self._policy.begin(slots, self._frames.repeated(seen), self._aims(goals))

    def end(self, slots: Int[np.ndarray, " n"]) -> None:
        """Passed on."""
        self._policy.end(slots)

    def act(self, observations: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """One batch of actions."""
        stacks = self._frames.push(self._seen(observations))
        return self._policy.act(stacks, self._aims(goals))

    def _seen(self, rows: np.ndarray) -> np.ndarray:
        keys = self._spaces.observation.keys
        return record({key: rows[key] for key in keys}) if keys else rows

    def _aims(self, goals: np.ndarray) -> np.ndarray:
        if not self._whole:
            return goals
        rule = self._spaces.rule
        return (
            self._frames.repeated(self._seen(goals))
            if rule.whole
            else rule.goals(self._seen(goals))
        )
