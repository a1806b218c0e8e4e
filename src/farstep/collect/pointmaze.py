"""The behaviour of OGBench's point-mass data (Park et al. 2025, Appendix): one episode.

`navigate` wanders: from a random free cell it follows shortest paths to random vertex cells, one
after the other. `stitch` goes to one cell exactly four cells away and stays there, so that nothing
in a table of such episodes is longer than four cells. The point heads for the centre of the next
cell at full speed, and Gaussian noise is added to every action.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from farstep.core.errors import FarstepError, nearest
from farstep.envs.mazes import Cell, MazeMap

if TYPE_CHECKING:
    from farstep.envs.locomaze import MazeEnv

Behaviour = Literal["navigate", "stitch"]

BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)

STITCH_CELLS = 4
"""Length of a stitch episode's path, in cells."""

ARRAYS = ("observations", "actions", "qpos", "qvel")
"""What an episode consists of."""


@dataclass(frozen=True)
class Recipe:
    """How a table is made.

    Attributes:
        behaviour: `navigate` or `stitch`.
        episodes: episodes of the training table; the validation table has a tenth.
        steps: stored observations of an episode.
        noise: standard deviation of the noise on actions, which are then clipped to [−1, 1].

    Raises:
        FarstepError: an unknown behaviour, no episodes, fewer than two steps or negative noise.
    """

    behaviour: Behaviour
    episodes: int
    steps: int
    noise: float = 0.5

    def __post_init__(self) -> None:
        if self.behaviour not in BEHAVIOURS:
            known = nearest(self.behaviour, BEHAVIOURS)
            raise FarstepError(f"no recipe '{self.behaviour}' for the point mass.{known}")
        if self.episodes < 1 or self.steps < 2 or not self.noise >= 0:
            raise FarstepError(
                "a table needs at least 1 episode of at least 2 steps and noise of at least 0, not "
                f"{self.episodes} × {self.steps} with noise {self.noise}"
            )

    @property
    def validation_episodes(self) -> int:
        """A tenth of the training table's, and at least one."""
        return max(1, self.episodes // 10)


def published_recipe(maze: str, behaviour: Behaviour) -> Recipe:
    """Episodes and steps of the published table of a maze; other mazes are as the small ones."""
    if behaviour == "stitch":
        return Recipe(behaviour, episodes=5000, steps=201)
    if maze in ("giant", "colossal"):
        return Recipe(behaviour, episodes=500, steps=2001)
    return Recipe(behaviour, episodes=1000, steps=1001)


def episode(env: MazeEnv, recipe: Recipe, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """One episode: `observations`, `actions`, `qpos` and `qvel`, each (steps, 2) float32.

    Args:
        env: the point mass, with `terminate_at_goal=False`.
        generator: everything random in the episode comes from it.

    The stored observation after a teleport's entrance is that of the entrance, as in the published
    files; `qpos` already has the exit.
    """
    maze = env.maze
    vertices = maze.vertex_cells
    start = _any_of(maze.free_cells, generator)
    if recipe.behaviour == "stitch":
        goal = _any_of(maze.cells_at(start, STITCH_CELLS) or (start,), generator)
    else:
        goal = _any_of(vertices, generator)
    noise = generator.normal(0.0, recipe.noise, (recipe.steps, 2)).tolist()
    stored = {name: np.empty((recipe.steps, 2), np.float32) for name in ARRAYS}
    observation, _ = env.reset(
        seed=int(generator.integers(2**31)),
        options={"task_info": {"init_ij": start, "goal_ij": goal}},
    )
    targets = next_centres(maze, goal)
    for step in range(recipe.steps):
        x, y = position = env.data.qpos.tolist()
        stored["observations"][step] = observation
        stored["qpos"][step] = position
        stored["qvel"][step] = env.data.qvel
        target_x, target_y = targets[maze.xy_to_ij(position)]
        length = math.hypot(target_x - x, target_y - y) + 1e-6
        # The rounded action is the one that acts, so that a table's actions replay exactly.
        action = stored["actions"][step]
        action[0] = min(max((target_x - x) / length + noise[step][0], -1.0), 1.0)
        action[1] = min(max((target_y - y) / length + noise[step][1], -1.0), 1.0)
        observation, _, _, _, info = env.step(action)
        if info["success"] and recipe.behaviour == "navigate":
            goal = _any_of(vertices, generator)
            env.aim(goal)
            targets = next_centres(maze, goal)
    return stored


def service(config: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """What a worker process does: from stream indices, as JSON, to an episode's arrays."""
    from farstep.envs.locomaze import MazeEnv
    from farstep.envs.seeds import stream

    maze = MazeMap.from_text(config["maze"], config["name"])
    recipe = Recipe(**config["recipe"])
    env = MazeEnv("point", maze, terminate_at_goal=False)

    def answer(request: bytes) -> bytes:
        arrays = episode(env, recipe, stream(*json.loads(request)))
        return np.stack([arrays[name] for name in ARRAYS]).tobytes()

    return answer


def _any_of(cells: tuple[Cell, ...], generator: np.random.Generator) -> Cell:
    return cells[int(generator.integers(len(cells)))]


@functools.lru_cache(maxsize=4096)
def next_centres(maze: MazeMap, goal: Cell) -> dict[Cell, tuple[float, float]]:
    """The centre of the next cell on the way to `goal`, for every cell."""
    following = maze.next_cells(goal)
    return {
        (i, j): maze.ij_to_xy((int(following[i, j, 0]), int(following[i, j, 1])))
        for i, j in np.ndindex(maze.shape)
    }
