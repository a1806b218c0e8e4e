"""Policies that act with their own noise while they are evaluated."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Int

from farstep.core.types import BatchPolicy, Spaces


class SamplingPolicy(BatchPolicy, Protocol):
    """A policy whose noise is a function of (seed, step)."""

    def act(
        self,
        observations: np.ndarray,
        goals: np.ndarray,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray: ...


def protocol_temperature(spaces: Spaces) -> float:
    """OGBench's: 0.3 for the discrete actions of Powderworld, 0 (deterministic) elsewhere."""
    return 0.3 if spaces.action.discrete else 0.0


class AtTemperature:
    """`policy` with the scale of its noise fixed; the n-th call draws from (seed, n).

    At temperature 0 the calls are alike and nothing is drawn.
    """

    def __init__(self, policy: SamplingPolicy, temperature: float, seed: int = 0):
        self._policy = policy
        self._temperature = temperature
        self._seed = seed
        self._calls = 0

    def begin(
        self, slots: Int[np.ndarray, " n"], observations: np.ndarray, goals: np.ndarray
    ) -> None:
        """Passed on."""
        self._policy.begin(slots, observations, goals)

    def end(self, slots: Int[np.ndarray, " n"]) -> None:
        """Passed on."""
        self._policy.end(slots)

    def act(self, observations: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """One batch of actions."""
        step = self._calls if self._temperature > 0 else 0
        self._calls += 1
        return self._policy.act(
            observations, goals, temperature=self._temperature, seed=self._seed, step=step
        )
