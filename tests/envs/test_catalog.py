"""Names, and the environments that they stand for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farstep.core.errors import FarstepError
from farstep.envs import (
    MazeMap,
    environment,
    environment_of,
    make,
    own_maze,
    register,
    register_maze,
)
from farstep.envs.catalog import DATASETS, ENVIRONMENTS

GLOBAL: Any = np.random
"""NumPy's global generator, from which OGBench draws."""

ROOMS = "######\n#....#\n#.##.#\n#....#\n######\ntask (1, 1) -> (3, 4)\ntask (3, 1) -> (1, 1)"


def test_every_data_set_has_its_environment() -> None:
    for name in DATASETS:
        spec = environment_of(name)
        assert environment_of(name.removesuffix("-v0")) == spec
        family, variant = spec.name.removesuffix("-v0"), name.removesuffix("-v0")
        assert variant.startswith(f"{family}-")


def test_caps_are_the_published_ones_and_colossal_has_its_own() -> None:
    ogbench = pytest.importorskip("ogbench")
    registry = pytest.importorskip("gymnasium").envs.registration.registry
    assert ogbench
    for name, spec in ENVIRONMENTS.items():
        if spec.maze == "colossal":
            assert spec.max_episode_steps == 4000
        elif spec.family != "widowx":
            assert registry[name].max_episode_steps == spec.max_episode_steps


@pytest.mark.parametrize(
    ("name", "body", "maze", "pixels", "drawn"),
    [
        ("pointmaze-giant-stitch", "point", "giant", False, False),
        ("visual-antmaze-teleport-explore-v0", "ant", "teleport", True, True),
        ("antsoccer-arena-navigate", "ant", "arena", False, False),
        ("cube-double-play", None, None, False, False),
        ("visual-puzzle-4x6-noisy", None, None, True, True),
        ("powderworld-easy-play", None, None, True, False),
    ],
)
def test_a_data_set_says_what_its_environment_is(
    name: str, body: str | None, maze: str | None, pixels: bool, drawn: bool
) -> None:
    spec = environment_of(name)
    assert (spec.body, spec.maze, spec.pixels, spec.drawn) == (body, maze, pixels, drawn)


def test_misspelled_names_suggest_the_nearest() -> None:
    with pytest.raises(FarstepError, match="Did you mean 'antmaze-giant-v0'"):
        environment("antmaze-gaint-v0")
    with pytest.raises(FarstepError, match="Did you mean 'cube-triple-noisy-v0'"):
        environment_of("cube-tripel-noisy")
    with pytest.raises(FarstepError, match="That is a data set, of 'cube-double-v0'"):
        environment("cube-double-play")
    with pytest.raises(FarstepError, match="Did you mean 'pointmaze'"):
        own_maze("pointmase", MazeMap.from_text(ROOMS, "rooms"))


def test_without_the_simulators_the_error_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FarstepError, match=r"make -C .* setup EXTRAS=.*ogbench"):
        make("antmaze-medium-v0")


class TestMaking:
    """Environments as `make` gives them."""

    pytestmark = pytest.mark.usefixtures("simulators")

    @pytest.fixture
    def simulators(self) -> None:
        for module in ("gymnasium", "mujoco", "ogbench"):
            pytest.importorskip(module)

    def test_mazes_are_cut_at_their_cap(self) -> None:
        env = make("pointmaze-medium-v0", max_episode_steps=3)
        env.reset(seed=0, options={"task_id": 1})
        cut = [env.step(np.zeros(2, np.float32))[3] for _ in range(3)]
        assert cut == [False, False, True]

    def test_colossal_mazes_are_gymnasiums_after_registration(self) -> None:
        gymnasium = pytest.importorskip("gymnasium")
        register()
        register()
        names = [name for name in gymnasium.registry if "colossal" in name]
        assert sorted(names) == [
            "antmaze-colossal-v0",
            "humanoidmaze-colossal-v0",
            "pointmaze-colossal-v0",
            "visual-antmaze-colossal-v0",
            "visual-humanoidmaze-colossal-v0",
        ]
        env = gymnasium.make("antmaze-colossal-v0")
        observation, info = env.reset(seed=0, options={"task_id": 1})
        assert observation.shape == info["goal"].shape == (29,)

    def test_an_own_map_by_object_by_file_and_by_gymnasium(self, tmp_path: Path) -> None:
        gymnasium = pytest.importorskip("gymnasium")
        maze = MazeMap.from_text(ROOMS, "my rooms")
        file = tmp_path / "my rooms.txt"
        file.write_text(ROOMS)
        registered = register_maze("pointmaze", maze, max_episode_steps=50)
        assert registered == "pointmaze-my_rooms-v0"
        starts = [
            env.reset(seed=1, options={"task_id": 2})[0]
            for env in (
                make(own_maze("pointmaze", maze)),
                make(f"pointmaze:{file}"),
                gymnasium.make(registered),
            )
        ]
        np.testing.assert_array_equal(starts[0], starts[1])
        np.testing.assert_array_equal(starts[0], starts[2])
        spec = environment(f"pointmaze:{file}")
        assert (spec.num_tasks, spec.maze, spec.body) == (2, "my rooms", "point")
        assert spec.maze_map is not None
        assert spec.maze_map.free_cells == maze.free_cells

    def test_published_names_cannot_be_taken(self) -> None:
        with pytest.raises(FarstepError, match="published environment"):
            register_maze("antmaze", MazeMap.from_text(ROOMS, "giant"))

    def test_a_missing_map_is_explained(self) -> None:
        with pytest.raises(FarstepError, match="cannot read the maze file"):
            make("pointmaze:nowhere.txt")

    @pytest.mark.parametrize(
        "name", ["antsoccer-arena-v0", "cube-single-v0", "powderworld-easy-v0"]
    )
    def test_ogbenchs_own_follow_from_the_seed_and_leave_no_trace(
        self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        before = GLOBAL.get_state()
        env = make(name)

        def episode(seed: int) -> list[np.ndarray]:
            observation, info = env.reset(seed=seed)
            actions = np.random.default_rng(seed)
            trail = [observation, info["goal"]]
            for _ in range(6):
                if hasattr(env.action_space, "n"):
                    action = int(actions.integers(2))
                else:
                    action = actions.uniform(-1, 1, env.action_space.shape).astype(np.float32)
                trail.append(env.step(action)[0])
            return trail

        first, other = episode(3), episode(4)
        env.action_space.sample()
        np.testing.assert_array_equal(first, episode(3))
        assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
        after = GLOBAL.get_state()
        np.testing.assert_array_equal(before[1], after[1])
        assert before[2] == after[2]
        assert list(tmp_path.iterdir()) == []
