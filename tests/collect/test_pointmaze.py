"""One episode of the point mass's behaviour."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from ogbench.locomaze.maze import make_maze_env  # noqa: E402 (after the checks above)

from farstep.collect.pointmaze import (  # noqa: E402
    ARRAYS,
    STITCH_CELLS,
    Behaviour,
    Recipe,
    episode,
    next_centres,
    published_recipe,
)
from farstep.core.errors import FarstepError  # noqa: E402
from farstep.envs import make  # noqa: E402
from farstep.envs.locomaze import MazeEnv  # noqa: E402
from farstep.envs.mazes import PUBLISHED, Cell, MazeMap  # noqa: E402


@pytest.fixture(autouse=True)
def discarded_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OGBench leaves an XML file behind for every maze that it makes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


class Watched(MazeEnv):
    """Notes how episodes start and which goals they have."""

    def __init__(self, maze: MazeMap):
        self.resets: list[dict[str, Any]] = []
        self.goals: list[Cell] = []
        super().__init__("point", maze, terminate_at_goal=False)

    def reset(self, **kwargs: Any) -> Any:  # the base's arguments, only passed on
        self.resets.append(kwargs)
        return super().reset(**kwargs)

    def aim(self, goal: Cell) -> None:
        self.goals.append(goal)
        super().aim(goal)


def run(
    name: str, behaviour: Behaviour, seed: int = 0, steps: int = 201, noise: float = 0.5
) -> tuple[Watched, dict[str, np.ndarray]]:
    env = Watched(PUBLISHED[name])
    recipe = Recipe(behaviour, episodes=1, steps=steps, noise=noise)
    return env, episode(env, recipe, np.random.default_rng(seed))


@pytest.mark.parametrize("behaviour", ["navigate", "stitch"])
@pytest.mark.parametrize("name", ["medium", "teleport"])
def test_actions_replay_to_the_observations(name: str, behaviour: Behaviour) -> None:
    """In the environment that evaluation uses, with all its wrappers."""
    ours, stored = run(name, behaviour)
    env = make(f"pointmaze-{name}-v0", terminate_at_goal=False)
    observation, _ = env.reset(**ours.resets[0])
    if name == "teleport":
        # The exit that a teleport draws is one of the draws that new goals interleave with.
        stop = int(np.argmax((stored["qpos"] != stored["observations"]).any(axis=1))) or 200
    else:
        stop = 200
    for step in range(stop):
        np.testing.assert_array_equal(stored["observations"][step], observation.astype(np.float32))
        observation, *_ = env.step(stored["actions"][step])


def test_actions_replay_in_ogbenchs_environment() -> None:
    ours, stored = run("giant", "navigate")
    theirs: Any = make_maze_env("point", "maze", maze_type="giant", terminate_at_goal=False)
    theirs.reset()
    ours.reset(**ours.resets[0])
    theirs.set_state(ours.data.qpos, ours.data.qvel)
    for step in range(200):
        np.testing.assert_array_equal(
            stored["observations"][step], theirs.get_ob().astype(np.float32)
        )
        theirs.step(stored["actions"][step])


@pytest.mark.parametrize("name", ["medium", "large", "giant", "teleport"])
def test_the_next_centre_is_what_ogbenchs_planner_answers(name: str) -> None:
    theirs: Any = make_maze_env("point", "maze", maze_type=name)
    maze = PUBLISHED[name]
    rng = np.random.default_rng(0)
    for _ in range(150):
        start, goal = (maze.free_cells[i] for i in rng.integers(len(maze.free_cells), size=2))
        xy = np.array(maze.ij_to_xy(start)) + rng.uniform(-2, 2, 2)
        expected, _ = theirs.get_oracle_subgoal(xy, np.array(maze.ij_to_xy(goal)))
        assert next_centres(maze, goal)[maze.xy_to_ij(xy)] == tuple(expected)


def test_stitch_goes_exactly_four_cells_and_stays() -> None:
    for seed in range(12):
        env, stored = run("giant", "stitch", seed)
        (goal,) = env.goals
        start = env.resets[0]["options"]["task_info"]["init_ij"]
        assert env.maze.distances_to(start)[goal] == STITCH_CELLS
        cells = [env.maze.xy_to_ij(xy) for xy in stored["observations"]]
        assert cells[0] == start
        assert max(env.maze.distances_to(start)[cell] for cell in cells) <= STITCH_CELLS + 1
        assert np.linalg.norm(stored["observations"][-1] - env.maze.ij_to_xy(goal)) < 1.5


def test_stitch_stays_where_nothing_is_four_cells_away() -> None:
    maze = MazeMap.from_text("#####\n#...#\n#####", "short")
    env = Watched(maze)
    stored = episode(env, Recipe("stitch", 1, 50), np.random.default_rng(0))
    start = env.resets[0]["options"]["task_info"]["init_ij"]
    assert env.goals == [start]
    assert maze.xy_to_ij(stored["observations"][-1]) == start


def test_navigate_takes_a_new_vertex_only_on_arrival() -> None:
    env, stored = run("medium", "navigate", steps=1001)
    assert len(env.goals) > 4
    assert set(env.goals) <= set(env.maze.vertex_cells)
    # Every goal was reached in turn: within the goal's radius plus its noise and one step.
    first = 0
    for goal in env.goals[:-1]:
        near = np.linalg.norm(stored["observations"][first:] - env.maze.ij_to_xy(goal), axis=1)
        arrivals = np.flatnonzero(near < 1.0 + np.sqrt(2) + 0.3)
        assert arrivals.size
        first += int(arrivals[0])


def test_the_point_moves_at_full_speed_with_the_noise_that_was_asked_for() -> None:
    _, noisy = run("giant", "navigate", steps=1001)
    _, exact = run("giant", "navigate", steps=1001, noise=0.0)
    np.testing.assert_allclose(np.linalg.norm(exact["actions"], axis=1), 1, atol=1e-3)
    assert np.abs(noisy["actions"]).max() == 1
    # Along an axis the heading is ±1 or 0; away from the clipping the spread is the noise's own.
    across = noisy["actions"][np.abs(noisy["actions"]) < 1]
    assert 0.3 < across.std() < 0.6


def test_nothing_stands_in_a_wall_and_rows_are_complete() -> None:
    env, stored = run("large", "navigate", steps=400)
    assert set(stored) == set(ARRAYS)
    for array in stored.values():
        assert array.shape == (400, 2)
        assert array.dtype == np.float32
    assert all(env.maze.contains(env.maze.xy_to_ij(xy)) for xy in stored["qpos"])
    np.testing.assert_array_equal(stored["qpos"], stored["observations"])


def test_an_episode_follows_from_its_generator() -> None:
    env, first = run("medium", "navigate", seed=3)
    recipe = Recipe("navigate", 1, 201)
    other = episode(env, recipe, np.random.default_rng(4))
    again = episode(env, recipe, np.random.default_rng(3))
    for name in ARRAYS:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["observations"], other["observations"])


def test_recipes_have_the_published_sizes() -> None:
    sizes = {
        (maze, behaviour): (recipe.episodes, recipe.steps, recipe.validation_episodes)
        for maze in ("medium", "giant", "colossal")
        for behaviour in ("navigate", "stitch")
        for recipe in [published_recipe(maze, behaviour)]
    }
    stitch, long = (5000, 201, 500), (500, 2001, 50)
    assert sizes == {
        ("medium", "navigate"): (1000, 1001, 100),
        ("medium", "stitch"): stitch,
        ("giant", "navigate"): long,
        ("giant", "stitch"): stitch,
        ("colossal", "navigate"): long,
        ("colossal", "stitch"): stitch,
    }


@pytest.mark.parametrize(
    "arguments", [("wander", 1, 2), ("stitch", 0, 2), ("stitch", 1, 1), ("stitch", 1, 2, -0.1)]
)
def test_recipes_that_make_no_sense_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(FarstepError):
        Recipe(*arguments)
