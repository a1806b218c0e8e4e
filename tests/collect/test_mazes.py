"""One episode of the point mass's behaviour."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from ogbench.locomaze.maze import make_maze_env  # noqa: E402 (after the checks above)

from farstep.collect.mazes import (  # noqa: E402
    STITCH_CELLS,
    EpisodeCollector,
    MazeRecipe,
    next_centres,
    published_recipe,
)
from farstep.collect.walkers.bodies import walker_body  # noqa: E402
from farstep.collect.walkers.policy import Walker  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402
from farstep.envs import environment, make  # noqa: E402
from farstep.envs.catalog import BodyName  # noqa: E402
from farstep.envs.locomaze import MazeEnv  # noqa: E402
from farstep.envs.mazes import PUBLISHED, Cell, MazeMap  # noqa: E402


@pytest.fixture(autouse=True)
def discarded_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OGBench leaves an XML file behind for every maze that it makes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


ARRAYS = ("observations", "actions", "qpos", "qvel")


class Watched(MazeEnv):
    """Notes how episodes start and which goals they have."""

    def __init__(self, maze: MazeMap, body: BodyName = "point"):
        self.resets: list[dict[str, Any]] = []
        self.goals: list[Cell] = []
        super().__init__(body, maze, terminate_at_goal=False)

    def reset(self, **kwargs: Any) -> Any:  # the base's arguments, only passed on
        self.resets.append(kwargs)
        return super().reset(**kwargs)

    def aim(self, goal: Cell) -> None:
        self.goals.append(goal)
        super().aim(goal)


def collector(name: str, recipe: MazeRecipe) -> tuple[Watched, EpisodeCollector]:
    made = EpisodeCollector(name, recipe)
    spec = environment(name)
    assert spec.maze_map is not None
    assert spec.body is not None
    env = made.env = Watched(spec.maze_map, spec.body)
    return env, made


def run(
    name: str, behaviour: str, seed: int = 0, steps: int = 201, noise: float = 0.5
) -> tuple[Watched, dict[str, np.ndarray]]:
    recipe = MazeRecipe(behaviour, episodes=1, steps=steps, noise=noise)
    env, made = collector(f"pointmaze-{name}-v0", recipe)
    return env, made.episode(np.random.default_rng(seed))


@pytest.mark.parametrize("behaviour", ["navigate", "stitch"])
@pytest.mark.parametrize("name", ["medium", "teleport"])
def test_actions_replay_to_the_observations(name: str, behaviour: str) -> None:
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


def test_stitch_stays_where_nothing_is_four_cells_away(tmp_path: Path) -> None:
    file = tmp_path / "short.txt"
    file.write_text("#####\n#...#\n#####")
    env, made = collector(f"pointmaze:{file}", MazeRecipe("stitch", 1, 50))
    maze, stored = env.maze, made.episode(np.random.default_rng(0))
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
    made = EpisodeCollector("pointmaze-medium-v0", MazeRecipe("navigate", 1, 201))
    first, other, again = (made.episode(np.random.default_rng(seed)) for seed in (3, 4, 3))
    for name in ARRAYS:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["observations"], other["observations"])


def test_recipes_have_the_published_sizes() -> None:
    found = {
        (environment, behaviour): (recipe.episodes, recipe.steps, recipe.noise)
        for environment, behaviours in (
            ("pointmaze-medium-v0", ("navigate", "stitch")),
            ("pointmaze-giant-v0", ("navigate", "stitch")),
            ("antmaze-colossal-v0", ("navigate", "stitch", "explore")),
            ("antmaze-large-v0", ("navigate", "stitch", "explore")),
            ("humanoidmaze-giant-v0", ("navigate", "stitch")),
            ("humanoidmaze-large-v0", ("navigate", "stitch")),
        )
        for behaviour in behaviours
        for recipe in [published_recipe(environment, behaviour)]
    }
    assert found == {
        ("pointmaze-medium-v0", "navigate"): (1000, 1001, 0.5),
        ("pointmaze-medium-v0", "stitch"): (5000, 201, 0.5),
        ("pointmaze-giant-v0", "navigate"): (500, 2001, 0.5),
        ("pointmaze-giant-v0", "stitch"): (5000, 201, 0.5),
        ("antmaze-colossal-v0", "navigate"): (500, 2001, 0.2),
        ("antmaze-colossal-v0", "stitch"): (5000, 201, 0.2),
        ("antmaze-colossal-v0", "explore"): (10000, 501, 1.0),
        ("antmaze-large-v0", "navigate"): (1000, 1001, 0.2),
        ("antmaze-large-v0", "stitch"): (5000, 201, 0.2),
        ("antmaze-large-v0", "explore"): (10000, 501, 1.0),
        ("humanoidmaze-giant-v0", "navigate"): (1000, 4001, 0.2),
        ("humanoidmaze-giant-v0", "stitch"): (10000, 401, 0.2),
        ("humanoidmaze-large-v0", "navigate"): (1000, 2001, 0.2),
        ("humanoidmaze-large-v0", "stitch"): (5000, 401, 0.2),
    }
    assert MazeRecipe("stitch", 5000, 201).validation_episodes == 500


@pytest.mark.parametrize("arguments", [("stitch", 0, 2), ("stitch", 1, 1), ("stitch", 1, 2, -0.1)])
def test_recipes_that_make_no_sense_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(FarstepError):
        MazeRecipe(*arguments)


class Steered(Walker):
    """Notes what it is fed, and acts by the command alone."""

    fed: list[tuple[np.ndarray, np.ndarray]]

    def __call__(self, observations: np.ndarray, commands: np.ndarray) -> np.ndarray:
        self.fed.append((observations, commands))
        return np.tile(commands, 4)


@pytest.fixture
def steered(monkeypatch: pytest.MonkeyPatch) -> Steered:
    walker = Steered(walker_body("ant"), [], {})
    object.__setattr__(walker, "fed", [])
    monkeypatch.setattr("farstep.collect.mazes.load_walker", lambda body, file: (walker, {}))
    return walker


def test_the_ant_is_walked_to_the_next_cell_without_knowing_where_it_is(steered: Steered) -> None:
    recipe = MazeRecipe("navigate", 1, 30, noise=0.2)
    env, made = collector("antmaze-medium-v0", recipe)
    stored = made.episode(np.random.default_rng(0))
    assert {name: array.shape for name, array in stored.items()} == {
        "observations": (30, 29),
        "actions": (30, 8),
        "qpos": (30, 15),
        "qvel": (30, 14),
    }
    centres = next_centres(env.maze, env.goals[0])
    for step, (observation, direction) in enumerate(steered.fed):
        np.testing.assert_array_equal(
            observation.astype(np.float32), stored["observations"][step][2:]
        )
        xy = stored["qpos"][step][:2]
        way = np.array(centres[env.maze.xy_to_ij(xy)]) - xy
        np.testing.assert_allclose(direction, way / np.linalg.norm(way), atol=1e-4)
    noise = stored["actions"] - np.tile([d for _, d in steered.fed], 4)
    inside = np.abs(stored["actions"]) < 1
    assert 0.15 < noise[inside].std() < 0.25
    # The actions replay in the environment that evaluation uses.
    again = make("antmaze-medium-v0", terminate_at_goal=False)
    observation, _ = again.reset(**env.resets[0])
    for action, row in zip(stored["actions"], stored["observations"], strict=True):
        np.testing.assert_array_equal(row, observation.astype(np.float32))
        observation, *_ = again.step(action)


def test_explore_draws_a_direction_every_ten_steps(steered: Steered) -> None:
    recipe = published_recipe("antmaze-medium-v0", "explore")
    made = EpisodeCollector("antmaze-medium-v0", dataclasses.replace(recipe, steps=30))
    made.episode(np.random.default_rng(0))
    headings = np.array([direction for _, direction in steered.fed])
    np.testing.assert_allclose(np.linalg.norm(headings, axis=1), 1)
    changes = np.flatnonzero((np.diff(headings, axis=0) != 0).any(axis=1)) + 1
    assert changes.tolist() == [10, 20]


def test_a_walker_of_another_body_is_refused(tmp_path: Path) -> None:
    body = walker_body("humanoid")
    file = tmp_path / "walker.safetensors"
    Walker(body, [(np.zeros((67, 21)), np.zeros(21))], {}).save(file)
    with pytest.raises(FarstepError, match="of the humanoid, not of the ant"):
        EpisodeCollector("antmaze-medium-v0", MazeRecipe("stitch", 1, 2, walker=str(file)))


def test_the_humanoid_is_walked_by_a_walker_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "walker.safetensors"
    Walker(walker_body("humanoid"), [(np.zeros((67, 21)), np.ones(21))], {"steps": 7}).save(file)
    recipe = MazeRecipe("stitch", 1, 5, noise=0.0, walker=str(file))
    made = EpisodeCollector("humanoidmaze-medium-v0", recipe)
    stored = made.episode(np.random.default_rng(0))
    assert {name: array.shape[1] for name, array in stored.items()} == {
        "observations": 69,
        "actions": 21,
        "qpos": 28,
        "qvel": 27,
    }
    np.testing.assert_allclose(stored["actions"], np.tanh(1), rtol=1e-3)
    assert made.about["walker"]["steps"] == 7
