"""Routes of the body in chosen episodes in a maze."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from farstep.evaluation.rollout import Render


class Trajectories:
    """Records the positions of the first `per_task` episodes of every task.

    Only for bodies in mazes that observe their own state: their observations begin with the
    position in metres. Give it to `evaluate(record=...)`, then read `routes`.
    """

    def __init__(self, per_task: int = 1):
        self._per_task = per_task
        self._positions: dict[tuple[int, int], list[np.ndarray]] = {}

    @property
    def routes(self) -> dict[tuple[int, int], Float[np.ndarray, "steps 2"]]:
        """Positions in metres by (task, index), the start included."""
        return {episode: np.stack(seen) for episode, seen in sorted(self._positions.items())}

    def start(self, task: int, index: int) -> bool:
        """Whether the episode is one of the first `per_task`."""
        return index < self._per_task

    def see(
        self, task: int, index: int, observation: np.ndarray, goal: np.ndarray, render: Render
    ) -> None:
        """Keeps the position."""
        self._positions.setdefault((task, index), []).append(np.array(observation[:2]))
