"""Whole data sets: the same for any number of processes, and complete or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from farstep.collect.generate import generate  # noqa: E402 (after the checks above)
from farstep.collect.pointmaze import Recipe  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402
from farstep.core.rng import stream_generator  # noqa: E402
from farstep.data.table import open_dataset  # noqa: E402
from farstep.envs import environment  # noqa: E402
from farstep.envs.mazes import PUBLISHED, MazeMap  # noqa: E402
from farstep.envs.seeds import stream  # noqa: E402

RECIPE = Recipe("stitch", episodes=12, steps=15)
MEDIUM = PUBLISHED["medium"]


def digests(path: Path, processes: int, seed: int = 0) -> tuple[str, str]:
    generate(
        path, MEDIUM, RECIPE, environment="pointmaze-medium-v0", seed=seed, processes=processes
    )
    dataset = open_dataset(path, verify=True)
    assert dataset.val is not None
    return dataset.train.digest, dataset.val.digest


def test_data_depend_on_the_seed_and_not_on_the_processes(tmp_path: Path) -> None:
    one = digests(tmp_path / "one", processes=1)
    three = digests(tmp_path / "three", processes=3)
    other = digests(tmp_path / "other", processes=2, seed=1)
    assert one == three
    assert set(one).isdisjoint(other)


def test_tables_are_what_the_recipe_says_and_know_where_they_come_from(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate(
        tmp_path / "made",
        MEDIUM,
        RECIPE,
        environment="pointmaze-medium-v0",
        seed=5,
        processes=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 13) for done in range(1, 14)]
    dataset = open_dataset(tmp_path / "made")
    assert dataset.environment == "pointmaze-medium-v0"
    assert dataset.val is not None
    for table, episodes in ((dataset.train, 12), (dataset.val, 1)):
        assert table.num_episodes == episodes
        assert set(table.episode_lengths) == {15}
        assert set(table.extras) == {"qpos", "qvel"}
        assert table.extras["qvel"].shape == (episodes * 15, 2)
    provenance = dataset.train.manifest.provenance
    assert provenance["seed"] == 5
    assert provenance["recipe"] == {
        "name": "pointmaze-stitch",
        "behaviour": "stitch",
        "episodes": 12,
        "steps": 15,
        "noise": 0.5,
    }
    assert {"farstep", "mujoco", "ogbench", "numpy"} <= set(provenance["versions"])
    # Training and validation come from different streams.
    assert not np.array_equal(dataset.val.observations[0], dataset.train.observations[0])


def test_an_own_map_stays_with_its_data(tmp_path: Path) -> None:
    rooms = "######\n#....#\n#.##.#\n#....#\n######\ntask (1, 1) -> (3, 4)"
    maze = MazeMap.from_text(rooms, "rooms")
    generate(tmp_path / "made", maze, RECIPE, environment=None, processes=1)
    name = open_dataset(tmp_path / "made").environment
    assert name is not None
    spec = environment(name)
    assert spec.maze_map is not None
    assert spec.maze_map.rows == maze.rows
    assert spec.tasks == 1


def test_nothing_is_left_of_a_run_that_ends_early(tmp_path: Path) -> None:
    def interrupted(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(
            tmp_path / "made",
            MEDIUM,
            RECIPE,
            environment="pointmaze-medium-v0",
            processes=2,
            progress=interrupted,
        )
    assert list(tmp_path.iterdir()) == []


def test_existing_data_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    first = digests(tmp_path / "made", processes=1)
    with pytest.raises(FarstepError, match="already exists"):
        digests(tmp_path / "made", processes=1, seed=1)
    dataset = open_dataset(tmp_path / "made")
    assert dataset.train.digest == first[0]


def test_streams_are_those_of_the_rest_of_the_library() -> None:
    ours, theirs = stream(3, "collect/train", 7), stream_generator(3, "collect/train", 7)
    np.testing.assert_array_equal(ours.integers(2**31, size=8), theirs.integers(2**31, size=8))
