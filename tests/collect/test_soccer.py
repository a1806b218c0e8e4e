"""The ant and the ball: what drives it when, and what an episode follows from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from ogbench.utils import load_dataset  # noqa: E402 (after the checks above)

from farstep.cli.main import main  # noqa: E402
from farstep.collect import soccer  # noqa: E402
from farstep.collect.mazes import next_centres  # noqa: E402
from farstep.collect.soccer import EpisodeCollector, SoccerRecipe, published_recipe  # noqa: E402
from farstep.collect.walkers.bodies import walker_body  # noqa: E402
from farstep.collect.walkers.policy import Walker, shipped_walker  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402
from farstep.core.seeds import stream  # noqa: E402
from farstep.data.table import open_dataset  # noqa: E402
from farstep.envs import make  # noqa: E402


@pytest.fixture(scope="module")
def dribbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained one."""
    draws = np.random.default_rng(0)
    layers = [
        (draws.normal(0, 0.2, shape), draws.normal(0, 0.2, shape[1])) for shape in ((39, 8), (8, 8))
    ]
    file = tmp_path_factory.mktemp("dribbler") / "dribbler.safetensors"
    Walker(walker_body("antball"), layers, {"steps": 0}).save(file)
    return file


class Noted(Walker):
    """Walks or dribbles as the policy that it is, and notes the step and what it is told."""

    clock: list[int]
    told: list[tuple[int, np.ndarray, np.ndarray]]

    def __call__(self, observations: np.ndarray, commands: np.ndarray) -> np.ndarray:
        self.told.append((self.clock[0], observations, commands))
        self.clock[0] += 1
        return super().__call__(observations, commands)


def noted(walker: Walker, clock: list[int]) -> Noted:
    made = Noted(walker.body, walker.layers, walker.about)
    vars(made).update(clock=clock, told=[])
    return made


def watched(
    environment: str, behaviour: str, dribbler: Path, seed: int, steps: int
) -> tuple[EpisodeCollector, dict[str, Any]]:
    made = EpisodeCollector(
        environment, SoccerRecipe(behaviour, 1, steps, 0.2, dribbler=str(dribbler))
    )
    clock = [0]
    made._walker, made._dribbler = noted(made._walker, clock), noted(made._dribbler, clock)
    return made, made.episode(np.random.default_rng(seed))


def told(policy: Any) -> list[tuple[int, np.ndarray, np.ndarray]]:
    return policy.told


@pytest.mark.parametrize("environment", ["antsoccer-arena-v0", "antsoccer-medium-v0"])
def test_play_walks_to_a_far_ball_and_dribbles_a_near_one(
    environment: str, dribbler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soccer, "BESIDE", 6.0)
    made, stored = watched(environment, "navigate", dribbler, seed=3, steps=120)
    observations = stored["observations"].astype(np.float64)
    way = observations[:, 15:17] - observations[:, :2]
    near = np.linalg.norm(way, axis=1) <= 6
    assert 0 < near.sum() < 120
    assert [step for step, *_ in told(made._dribbler)] == np.flatnonzero(near).tolist()
    straight = environment == "antsoccer-arena-v0"
    goal = np.array(made.env.unwrapped.cur_goal_xy)  # type: ignore[attr-defined]
    for step, observation, command in told(made._walker):
        row = observations[step]
        np.testing.assert_allclose(observation, np.r_[row[2:15], row[22:36]], atol=1e-5)
        towards = row[15:17]
        if not straight:
            cells = (made.maze.xy_to_ij(xy) for xy in (towards, row[:2]))
            towards = np.array(next_centres(made.maze, next(cells))[next(cells)])
        towards = towards - row[:2]
        np.testing.assert_allclose(command, towards / np.linalg.norm(towards), atol=1e-4)
    for step, observation, command in told(made._dribbler):
        row = observations[step]
        np.testing.assert_allclose(observation, np.r_[row[2:15], row[17:], way[step]], atol=1e-5)
        assert np.linalg.norm(command) <= 10 + 1e-9
        if straight:
            whole = goal - row[15:17]
            np.testing.assert_allclose(
                command, whole * min(1, 10 / np.linalg.norm(whole)), atol=1e-4
            )
        else:
            target = next_centres(made.maze, made.maze.xy_to_ij(goal))
            centre = target[made.maze.xy_to_ij(row[15:17])]
            np.testing.assert_allclose(command, centre - row[15:17], atol=1e-4)
    assert (stored["goals"], stored["goals_reached"]) == (1, 0)


def test_a_goal_that_the_ball_reaches_is_followed_by_another(
    dribbler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = EpisodeCollector(
        "antsoccer-arena-v0", SoccerRecipe("navigate", 1, 30, 0.2, dribbler=str(dribbler))
    )
    env: Any = made.env.unwrapped
    env._goal_tol = 100.0
    goals: list[np.ndarray] = []
    aim = env.set_goal
    monkeypatch.setattr(
        env, "set_goal", lambda **goal: (goals.append(goal["goal_xy"]), aim(**goal))
    )
    stored = made.episode(np.random.default_rng(1))
    # Each is reached at once; the reset sets its own twice.
    assert (stored["goals"], stored["goals_reached"]) == (31, 30)
    assert len(goals) == 32
    cells = [made.maze.xy_to_ij(goal) for goal in goals]
    assert len(set(cells)) > 1
    assert all(made.maze.contains(cell) for cell in cells)
    off = np.abs(np.array(goals) - [made.maze.ij_to_xy(cell) for cell in cells])
    assert off.min() > 0
    assert 0.9 < off.max() < 1


def test_an_ant_that_is_stuck_walks_to_a_random_cell(
    dribbler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soccer, "STUCK_STEPS", 20)
    monkeypatch.setattr(soccer, "BESIDE", 100.0)
    made, stored = watched("antsoccer-arena-v0", "navigate", dribbler, seed=0, steps=90)
    walks = [step for step, *_ in told(made._walker)]
    # The untrained dribbler goes nowhere: a detour at the first step at which that can be seen.
    assert walks[0] == 22
    places = stored["observations"][:, :2]
    assert np.linalg.norm(places[:21] - places[21], axis=1).max() < 2
    centres = np.array([made.maze.ij_to_xy(cell) for cell in made.maze.free_cells])
    ways = centres[:, None] - places[walks[:20]]
    ways /= np.linalg.norm(ways, axis=-1, keepdims=True)
    commands = [command for *_, command in told(made._walker)[:20]]
    assert (np.abs(ways - commands).max(axis=(1, 2)) < 1e-4).any()


def test_stitch_either_walks_or_dribbles(dribbler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soccer, "BESIDE", 0.0)
    modes = set()
    for seed in range(4):
        made, stored = watched("antsoccer-medium-v0", "stitch", dribbler, seed, steps=5)
        first = stored["observations"][0]
        walks, dribbles = len(told(made._walker)), len(told(made._dribbler))
        assert sorted((walks, dribbles)) == [0, 5]
        assert stored["goals"] == (dribbles > 0)
        together = made.maze.xy_to_ij(first[:2]) == made.maze.xy_to_ij(first[15:17])
        assert together == (dribbles > 0)
        modes.add(together)
    assert modes == {True, False}


def test_an_episode_follows_from_its_generator_alone_and_replays(dribbler: Path) -> None:
    outside = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    recipe = SoccerRecipe("navigate", 1, 25, 0.2, dribbler=str(dribbler))
    used = EpisodeCollector("antsoccer-medium-v0", recipe)
    used.episode(np.random.default_rng(0))
    second = used.episode(np.random.default_rng(1))
    alone = EpisodeCollector("antsoccer-medium-v0", recipe)
    resets: list[dict[str, Any]] = []
    reset = alone.env.reset
    alone.env.reset = lambda **options: (resets.append(options), reset(**options))[1]
    expected = alone.episode(np.random.default_rng(1))
    assert all(np.array_equal(second[name], expected[name]) for name in second)
    assert np.array_equal(outside, np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002
    env = make("antsoccer-medium-v0", terminate_at_goal=False)
    observation, _ = env.reset(**resets[0])
    for row, action in zip(second["observations"], second["actions"], strict=True):
        np.testing.assert_array_equal(row, observation.astype(np.float32))
        observation, *_ = env.step(action)


def test_published_sizes() -> None:
    names = [(maze, does) for maze in ("arena", "medium") for does in ("navigate", "stitch")]
    recipes = [published_recipe(f"antsoccer-{maze}-v0", does) for maze, does in names]
    sizes = [(recipe.episodes, recipe.steps, recipe.noise) for recipe in recipes]
    assert sizes == [(1000, 1001, 0.2), (5000, 201, 0.2), (4000, 1001, 0.2), (8000, 501, 0.2)]


def test_made_from_the_command_line(
    dribbler: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    line = f"data make antsoccer-arena-stitch --dribbler {dribbler} --episodes 3 --steps 8 --seed 6"
    main([*line.split(), "--processes", "2", "--out", str(out)])
    made = open_dataset(out, verify=True)
    assert made.val is not None
    recipe = SoccerRecipe("stitch", 3, 8, 0.2, dribbler=str(dribbler))
    alone = EpisodeCollector("antsoccer-arena-v0", recipe)
    for table, split in ((made.train, "train"), (made.val, "val")):
        for number, rows in enumerate(np.split(table.observations, table.num_episodes)):
            expected = alone.episode(stream(6, f"collect/{split}", number))
            np.testing.assert_array_equal(rows, expected["observations"])
    provenance = made.train.manifest.provenance
    goals = provenance["counts"]["goals"]
    assert f"goals reached: 0 of {goals} (0.0%)" in capsys.readouterr().err
    assert provenance["dribbler"]["steps"] == 0
    assert provenance["walker"]["steps"] > 100_000
    main(["data", "export", str(out), "--npz", str(tmp_path / "made.npz")])
    theirs = load_dataset(str(tmp_path / "made-val.npz"))
    shapes = {name: array.shape for name, array in theirs.items()}
    assert shapes["observations"] == shapes["next_observations"] == (7, 42)
    assert shapes["actions"] == (7, 8)
    with np.load(tmp_path / "made.npz") as file:
        assert {name: file[name].shape[1:] for name in file} == {
            "observations": (42,),
            "actions": (8,),
            "terminals": (),
            "qpos": (22,),
            "qvel": (20,),
        }


def test_a_walker_does_not_dribble() -> None:
    recipe = SoccerRecipe("stitch", 1, 5, 0.2, dribbler=str(shipped_walker("ant")))
    with pytest.raises(FarstepError, match="is a walker of the ant, not of the antball"):
        EpisodeCollector("antsoccer-arena-v0", recipe)
