"""The behaviours of OGBench's maze data (Park et al. 2025, Appendix): one episode.

`navigate` wanders: from a random free cell it follows shortest paths to random vertex cells, one
after the other. `stitch` goes to one cell exactly four cells away and stays there, so that nothing
in a table of such episodes is longer than four cells. `explore` heads in a random direction, drawn
anew every ten steps. The point heads for the centre of the next cell at full speed; the ant and the
humanoid are walked there by a trained walker. Gaussian noise is added to every action.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from farstep.collect.collector import Layout, Recipe
from farstep.collect.walkers.policy import Walker, shipped_walker
from farstep.core.errors import FarstepError
from farstep.envs.catalog import environment as environment_spec
from farstep.envs.mazes import Cell, MazeMap

if TYPE_CHECKING:
    from farstep.envs.locomaze import MazeEnv

STITCH_CELLS = 4
"""Length of a stitch episode's path, in cells."""

EXPLORE_STEPS = 10
"""Steps between the directions of an explore episode."""


@dataclass(frozen=True)
class MazeRecipe(Recipe):
    """How a table of a maze is made.

    Attributes:
        noise: standard deviation of the noise on actions, which are then clipped to [−1, 1].
        walker: file of the ant's or humanoid's walker; the one that farstep ships if left out.

    Raises:
        FarstepError: no episodes, fewer than two steps or negative noise.
    """

    noise: float = 0.5
    walker: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.noise >= 0:
            raise FarstepError(f"noise must be at least 0, not {self.noise}")


_SIZES = {
    ("pointmaze", "navigate"): ((1000, 1001), (500, 2001)),
    ("pointmaze", "stitch"): ((5000, 201), (5000, 201)),
    ("antmaze", "navigate"): ((1000, 1001), (500, 2001)),
    ("antmaze", "stitch"): ((5000, 201), (5000, 201)),
    ("antmaze", "explore"): ((10000, 501), (10000, 501)),
    ("humanoidmaze", "navigate"): ((1000, 2001), (1000, 4001)),
    ("humanoidmaze", "stitch"): ((5000, 401), (10000, 401)),
    ("humanoidmaze", "explore"): ((5000, 401), (10000, 401)),
}
"""Episodes and steps by family and behaviour: of mazes, and of giant and colossal ones."""


def published_recipe(environment: str, behaviour: str) -> MazeRecipe:
    """Episodes, steps and noise of the published table; mazes of one's own are as the small ones.

    Of these there is none for humanoidmaze explore: it is made as stitch is.
    """
    spec = environment_spec(environment)
    episodes, steps = _SIZES[spec.family, behaviour][spec.maze in ("giant", "colossal")]
    noise = 0.5 if spec.family == "pointmaze" else 1.0 if behaviour == "explore" else 0.2
    return MazeRecipe(behaviour, episodes, steps, noise)


class EpisodeCollector:
    """Makes episodes of one environment: `observations`, `actions`, `qpos` and `qvel`, float32.

    The stored observation after a teleport's entrance is that of the entrance, as in the published
    files; `qpos` already has the exit.

    Args:
        environment: its name.
        recipe: how they are made.

    Raises:
        FarstepError: no walker of that body.
    """

    def __init__(self, environment: str, recipe: MazeRecipe):
        from farstep.envs.locomaze import MazeEnv

        spec = environment_spec(environment)
        assert spec.body is not None
        assert spec.maze_map is not None
        self.recipe = recipe
        self.env: MazeEnv = MazeEnv(spec.body, spec.maze_map, terminate_at_goal=False)
        self.about: Mapping[str, Any] = {}
        self._act = _full_speed
        if spec.body != "point":
            walker, self.about = load_walker(spec.body, recipe.walker)
            self._act = functools.partial(_walk, walker)
        data = self.env.data
        sizes = {
            "observations": self.env.observation_space.shape,
            "actions": self.env.action_space.shape,
            "qpos": data.qpos.shape,
            "qvel": data.qvel.shape,
        }
        self.layout = Layout({name: (tuple(size or ()), "float32") for name, size in sizes.items()})

    def episode(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """One episode."""
        env, recipe = self.env, self.recipe
        maze, vertices = env.maze, env.maze.vertex_cells
        start = _any_of(maze.free_cells, generator)
        if recipe.behaviour == "stitch":
            goal = _any_of(maze.cells_at(start, STITCH_CELLS) or (start,), generator)
        else:
            goal = _any_of(vertices, generator)
        explore = recipe.behaviour == "explore"
        (size,), _ = self.layout.arrays["actions"]
        noise = generator.normal(0.0, recipe.noise, (recipe.steps, size))
        stored = {
            name: np.empty((recipe.steps, *shape), np.float32)
            for name, (shape, _) in self.layout.arrays.items()
        }
        observation, _ = env.reset(
            seed=int(generator.integers(2**31)),
            options={"task_info": {"init_ij": start, "goal_ij": goal}},
        )
        targets = next_centres(maze, goal)
        heading = 0.0, 0.0
        for step in range(recipe.steps):
            stored["observations"][step] = observation
            stored["qpos"][step] = env.data.qpos
            stored["qvel"][step] = env.data.qvel
            if not explore:
                heading = _towards(targets, maze, env.data.qpos[:2].tolist())
            elif step % EXPLORE_STEPS == 0:
                angle = generator.uniform(-math.pi, math.pi)
                heading = math.cos(angle), math.sin(angle)
            # The rounded action is the one that acts, so that a table's actions replay exactly.
            action = stored["actions"][step]
            self._act(observation, heading, noise[step], action)
            observation, _, _, _, info = env.step(action)
            if info["success"] and recipe.behaviour == "navigate":
                goal = _any_of(vertices, generator)
                env.aim(goal)
                targets = next_centres(maze, goal)
        return stored


def walk_towards(
    walker: Walker, maze: MazeMap, goal: Cell, observation: np.ndarray
) -> Float[np.ndarray, " action"]:
    """The walker's action on the shortest way to `goal`, without noise."""
    heading = _towards(next_centres(maze, goal), maze, observation[:2].tolist())
    return walker(observation[2:], np.array(heading))


def _towards(
    targets: Mapping[Cell, tuple[float, float]], maze: MazeMap, position: list[float]
) -> tuple[float, float]:
    """The direction from `position` to the centre of the next cell."""
    x, y = position
    target_x, target_y = targets[maze.xy_to_ij(position)]
    length = math.hypot(target_x - x, target_y - y) + 1e-6
    return (target_x - x) / length, (target_y - y) / length


def _full_speed(
    _: np.ndarray, heading: tuple[float, float], noise: np.ndarray, action: np.ndarray
) -> None:
    """The point's action: its heading, with noise. Numbers one by one are faster here."""
    across, along = noise.tolist()
    action[0] = min(max(heading[0] + across, -1.0), 1.0)
    action[1] = min(max(heading[1] + along, -1.0), 1.0)


def _walk(
    walker: Walker,
    observation: np.ndarray,
    heading: tuple[float, float],
    noise: np.ndarray,
    action: np.ndarray,
) -> None:
    """A walker's action, with noise."""
    action[:] = np.clip(walker(observation[2:], np.array(heading)) + noise, -1, 1)


def load_walker(body: str, file: str | None) -> tuple[Walker, dict[str, Any]]:
    """A body's walker, farstep's own if there is no file, and what is kept of it with the data.

    Raises:
        FarstepError: there is none, or it is of another body.
    """
    path = shipped_walker(body) if file is None else Path(file)
    walker = Walker.load(path)
    if walker.body.name != body:
        raise FarstepError(
            f"{path} is a {walker.body.role} of the {walker.body.name}, not of the {body}"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return walker, {walker.body.role: {"sha256": digest, **walker.about}}


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
