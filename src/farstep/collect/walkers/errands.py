"""A walker on a maze's evaluation tasks, by the shortest way: what a perfect plan would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from farstep.collect.mazes import walk_towards
from farstep.collect.walkers.policy import Walker
from farstep.core.errors import FarstepError
from farstep.core.seeds import stream
from farstep.envs.catalog import environment as environment_spec
from farstep.envs.catalog import make


@dataclass(frozen=True)
class Errand:
    """One task.

    Attributes:
        task: its number, from 1.
        success: share of episodes that reach the goal in time.
        steps: mean length of those episodes; 0 if there are none.
        cells: the shortest path's length.
    """

    task: int
    success: float
    steps: float
    cells: int


def errands(
    walker: Walker,
    environment: str,
    *,
    episodes: int = 10,
    noise: float = 0.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Errand]:
    """Walk every task of a maze.

    Args:
        environment: a maze of the walker's body, with states.
        episodes: of each task.
        noise: standard deviation of noise added to actions, which are then clipped.
        progress: told (episodes done, in all).

    Raises:
        FarstepError: the environment is no such maze.
    """
    spec = environment_spec(environment)
    if spec.body != walker.body.name or spec.maze_map is None or spec.pixels or spec.ball:
        raise FarstepError(f"'{spec.name}' is no maze of the {walker.body.name}'s states")
    maze = spec.maze_map
    env: Any = make(spec.name)
    found = []
    for task, (start, goal) in enumerate(maze.tasks, start=1):
        steps = []
        for episode in range(episodes):
            generator = stream(seed, "walker/errands", task, episode)
            observation, _ = env.reset(
                seed=int(generator.integers(2**31)), options={"task_id": task}
            )
            count, over, success = 0, False, 0.0
            while not over:
                action = walk_towards(walker, maze, goal, observation)
                action = action + noise * generator.standard_normal(action.shape)
                observation, success, terminated, truncated, _ = env.step(np.clip(action, -1, 1))
                count, over = count + 1, terminated or truncated
            steps += [count] if success else []
            if progress is not None:
                progress((task - 1) * episodes + episode + 1, len(maze.tasks) * episodes)
        cells = len(maze.path(start, goal)) - 1
        mean = float(np.mean(steps)) if steps else 0.0
        found.append(Errand(task, len(steps) / episodes, mean, cells))
    return found
