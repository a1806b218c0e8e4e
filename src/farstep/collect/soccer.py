"""The behaviours of OGBench's antsoccer data (Park et al. 2025): one episode.

`navigate` plays: the ant walks to the ball and dribbles it to random goals, one after the other.
`stitch` does half of that in each episode: the ant walks to a goal and leaves the ball alone, or
dribbles a ball that it starts beside. So walking to the ball and dribbling it are never seen
together. A walker walks and a dribbler dribbles; in the medium maze both head for the next cell on
the shortest path. Gaussian noise is added to every action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from farstep.collect.collector import Layout
from farstep.collect.mazes import MazeRecipe, load_walker, next_centres
from farstep.envs.catalog import environment as environment_spec
from farstep.envs.mazes import UNIT

BESIDE = 2.0
"""Distance to the ball in metres from which on the ant dribbles it."""

FARTHEST = 10.0
"""Distance in metres to which a dribbler's goal is drawn near, where no wall is in the way."""

STUCK_STEPS, STUCK_RADIUS = 150, 2.0
"""An ant that stayed within this radius in metres for this many steps walks to a random cell."""

ARRIVAL = 0.5
"""Distance to that cell's centre in metres that ends the detour."""

# Columns of an observation: the ant's joints and velocities, and the ball's place.
_ANT = np.r_[2:15, 22:36]
_ALL = np.r_[2:15, 17:42]
_BALL = slice(15, 17)


@dataclass(frozen=True)
class SoccerRecipe(MazeRecipe):
    """How a table of antsoccer is made.

    Attributes:
        dribbler: file of the dribbler; farstep ships none.
    """

    dribbler: str | None = None


_SIZES = {
    ("arena", "navigate"): (1000, 1001),
    ("arena", "stitch"): (5000, 201),
    ("medium", "navigate"): (4000, 1001),
    ("medium", "stitch"): (8000, 501),
}
"""Episodes and steps by maze and behaviour."""


def published_recipe(environment: str, behaviour: str) -> SoccerRecipe:
    """Episodes, steps and noise of the published table."""
    episodes, steps = _SIZES[str(environment_spec(environment).maze), behaviour]
    return SoccerRecipe(behaviour, episodes, steps, noise=0.2)


class EpisodeCollector:
    """Makes episodes of one environment: `observations`, `actions`, `qpos` and `qvel`, float32.

    It counts the goals that were set for the ball, and those that the ball reached.

    Args:
        environment: its name.
        recipe: how they are made.

    Raises:
        FarstepError: no walker, or no dribbler.
    """

    def __init__(self, environment: str, recipe: SoccerRecipe):
        self._walker, walker = load_walker("ant", recipe.walker)
        self._dribbler, dribbler = load_walker("antball", recipe.dribbler)
        self.about: Mapping[str, Any] = walker | dribbler
        self.recipe = recipe
        spec = environment_spec(environment)
        assert spec.maze_map is not None
        self.maze = spec.maze_map
        self._straight = spec.maze == "arena"
        # Not by `make`, whose time limit is that of evaluation.
        self.env = spec.load()(**spec.kwargs, terminate_at_goal=False)
        data: Any = self.env.unwrapped.data
        sizes = {
            "observations": self.env.observation_space.shape,
            "actions": self.env.action_space.shape,
            "qpos": data.qpos.shape,
            "qvel": data.qvel.shape,
        }
        arrays = {name: (tuple(size), "float32") for name, size in sizes.items()}
        self.layout = Layout(arrays, counts=("goals", "goals_reached"))

    def episode(self, generator: np.random.Generator) -> dict[str, Any]:
        """One episode."""
        recipe, cells = self.recipe, self.maze.free_cells
        env: Any = self.env.unwrapped
        plays = recipe.behaviour == "navigate"
        dribbles = plays or bool(generator.integers(2))
        ant, ball, goal = generator.choice(len(cells), 3, replace=False)
        info = {
            "agent_init_ij": cells[ant],
            "ball_init_ij": cells[ball if plays or not dribbles else ant],
            "goal_ij": cells[goal],
        }
        noise = generator.normal(
            0.0, recipe.noise, (recipe.steps, *self.layout.arrays["actions"][0])
        )
        stored: dict[str, Any] = {
            name: np.empty((recipe.steps, *shape), np.float32)
            for name, (shape, _) in self.layout.arrays.items()
        }
        seed = int(generator.integers(2**31))
        observation, _ = self.env.reset(seed=seed, options={"task_info": info})
        goal_xy = np.array(env.cur_goal_xy)
        detour = None
        goals, reached = int(dribbles), 0
        for step in range(recipe.steps):
            stored["observations"][step] = observation
            stored["qpos"][step] = env.data.qpos
            stored["qvel"][step] = env.data.qvel
            way = observation[_BALL] - observation[:2]
            if detour is not None:
                action = self._walk(observation, detour)
            elif not dribbles:
                action = self._walk(observation, goal_xy)
            elif plays and np.linalg.norm(way) > BESIDE:
                action = self._walk(observation, observation[_BALL])
            else:
                action = self._dribble(observation, way, goal_xy)
            # The rounded action is the one that acts, so that a table's actions replay exactly.
            stored["actions"][step] = np.clip(action + noise[step], -1, 1)
            observation, _, _, _, info = self.env.step(stored["actions"][step])
            position = observation[:2]
            if detour is not None and np.linalg.norm(detour - position) <= ARRIVAL:
                detour = None
            if info["success"] and dribbles:
                reached = reached + 1 if plays else 1
            if not plays:
                continue
            if info["success"]:
                goals += 1
                place = self._centre(generator)
                goal_xy = place + generator.uniform(-UNIT / 4, UNIT / 4, 2)
                env.set_goal(goal_xy=goal_xy)
            if step > STUCK_STEPS and detour is None:
                before = stored["observations"][step - STUCK_STEPS : step, :2]
                if np.linalg.norm(before - position, axis=1).max() <= STUCK_RADIUS:
                    detour = self._centre(generator)
        return {**stored, "goals": goals, "goals_reached": reached}

    def _walk(
        self, observation: Float[np.ndarray, "42"], target: Float[np.ndarray, "2"]
    ) -> Float[np.ndarray, "8"]:
        """The walker's action on the way to `target`."""
        way = self._next(observation[:2], target) - observation[:2]
        return self._walker(observation[_ANT], way / (np.linalg.norm(way) + 1e-6))

    def _dribble(
        self,
        observation: Float[np.ndarray, "42"],
        way: Float[np.ndarray, "2"],
        goal: Float[np.ndarray, "2"],
    ) -> Float[np.ndarray, "8"]:
        """The dribbler's action; `way` leads from the ant to the ball."""
        ball = observation[_BALL]
        command = self._next(ball, goal) - ball
        # It was not trained with goals that are farther.
        command *= min(1.0, FARTHEST / (np.linalg.norm(command) + 1e-6))
        return self._dribbler(np.concatenate([observation[_ALL], way]), command)

    def _next(
        self, position: Float[np.ndarray, "2"], target: Float[np.ndarray, "2"]
    ) -> Float[np.ndarray, "2"]:
        """Where to head for `target`: there, or to the centre of the next cell if walls are."""
        if self._straight:
            return target
        centres = next_centres(self.maze, self.maze.xy_to_ij(target))
        return np.array(centres[self.maze.xy_to_ij(position)])

    def _centre(self, generator: np.random.Generator) -> Float[np.ndarray, "2"]:
        """The centre of a random free cell."""
        cells = self.maze.free_cells
        return np.array(self.maze.ij_to_xy(cells[int(generator.integers(len(cells)))]))
