"""Whole data sets: the same for any number of processes, and complete or absent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from farstep.collect.collector import FAMILIES, Family, Layout, Recipe  # noqa: E402
from farstep.collect.generate import generate  # noqa: E402
from farstep.collect.mazes import MazeRecipe  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402
from farstep.core.rng import stream_generator  # noqa: E402
from farstep.core.seeds import stream  # noqa: E402
from farstep.data.records import unfinished  # noqa: E402
from farstep.data.table import open_dataset  # noqa: E402
from farstep.envs import environment  # noqa: E402
from farstep.envs.catalog import EnvironmentSpec  # noqa: E402

RECIPE = MazeRecipe("stitch", episodes=12, steps=15)
MEDIUM = environment("pointmaze-medium-v0")


def digests(path: Path, processes: int, seed: int = 0) -> tuple[str, str]:
    generate(path, MEDIUM, RECIPE, seed=seed, processes=processes)
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
        seed=5,
        processes=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 13) for done in range(14)]
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
        "walker": None,
    }
    assert {"farstep", "mujoco", "ogbench", "numpy"} <= set(provenance["versions"])
    # Training and validation come from different streams.
    assert not np.array_equal(dataset.val.observations[0], dataset.train.observations[0])


def test_an_own_map_stays_with_its_data(tmp_path: Path) -> None:
    rooms = "######\n#....#\n#.##.#\n#....#\n######\ntask (1, 1) -> (3, 4)"
    file = tmp_path / "rooms.txt"
    file.write_text(rooms)
    generate(tmp_path / "made", environment(f"pointmaze:{file}"), RECIPE, processes=1)
    file.unlink()
    name = open_dataset(tmp_path / "made").environment
    assert name is not None
    spec = environment(name)
    assert spec.maze_map is not None
    assert list(spec.maze_map.rows) == rooms.splitlines()[:5]
    assert spec.tasks == 1


class Stopped(Exception):
    pass


def stopped_after(path: Path, episodes: int, **options: Any) -> None:
    """Begin the data set and stop as a kill would, after so many episodes."""

    def stop(done: int, total: int) -> None:
        if done == episodes:
            raise Stopped

    with pytest.raises(Stopped):
        generate(path, MEDIUM, RECIPE, processes=2, progress=stop, **options)


def test_a_run_that_was_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = digests(tmp_path / "whole", processes=1)
    path = tmp_path / "made"
    stopped_after(path, 5)
    assert not path.exists()
    # A kill can come in the middle of a record.
    kept = unfinished(path) / "episodes"
    content = kept.read_bytes()
    kept.write_bytes(content[:-100])
    seen: list[int] = []
    generate(path, MEDIUM, RECIPE, processes=1, progress=lambda done, _: seen.append(done))
    assert seen == list(range(4, 14))
    dataset = open_dataset(path, verify=True)
    assert dataset.val is not None
    assert (dataset.train.digest, dataset.val.digest) == whole
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_what_is_left_of_other_data_is_neither_used_nor_lost_unasked(tmp_path: Path) -> None:
    path = tmp_path / "made"
    stopped_after(path, 5)
    with pytest.raises(FarstepError, match="with other options"):
        generate(path, MEDIUM, RECIPE, seed=1, processes=1)
    assert unfinished(path).is_dir()
    generate(path, MEDIUM, RECIPE, seed=1, processes=1, overwrite=True)
    assert open_dataset(path).train.manifest.provenance["seed"] == 1


def test_data_that_cannot_fit_are_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(FarstepError, match=r"needs 12\.7 kB, and 1\.0 kB are free"):
        generate(tmp_path / "made", MEDIUM, RECIPE, processes=1)
    assert list(tmp_path.iterdir()) == []


class Counting:
    """A third party's collector: an episode counts up, and tells how often it was even."""

    layout = Layout(
        {"observations": ((1,), "float32"), "actions": ((), "int32")}, 3, counts=("even",)
    )
    about: ClassVar = {"robot": "the blue one"}

    def __init__(self, environment: str, recipe: Recipe):
        self.steps = recipe.steps

    def episode(self, generator: np.random.Generator) -> dict[str, Any]:
        numbers = generator.integers(3, size=self.steps, dtype=np.int32)
        return {
            "observations": np.arange(self.steps, dtype=np.float32)[:, None],
            "actions": numbers,
            "even": int((numbers % 2 == 0).sum()),
        }


def counting_recipe(environment: str, behaviour: str) -> Recipe:
    return Recipe(behaviour, episodes=4, steps=6)


def test_others_register_families_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting.py").write_text(Path(__file__).read_text())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    family = Family("counting", ("count",), "counting_recipe", "Counting")
    monkeypatch.setitem(FAMILIES, "counting", family)
    spec = EnvironmentSpec(name="counting-v0", family="counting", max_episode_steps=6)
    recipe = family.published("counting-v0", "count")
    generate(tmp_path / "made", spec, recipe, processes=2)
    dataset = open_dataset(tmp_path / "made")
    assert dataset.train.num_episodes == 4
    assert dataset.train.spaces.action.discrete
    assert dataset.val is not None
    even = sum((table.actions % 2 == 0).sum() for table in (dataset.train, dataset.val))
    provenance = dataset.train.manifest.provenance
    assert provenance["counts"] == {"even": even}
    assert provenance["robot"] == "the blue one"
    with pytest.raises(FarstepError, match="--noise means nothing"):
        family.published("counting-v0", "count", noise=0.1)


def test_existing_data_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    first = digests(tmp_path / "made", processes=1)
    with pytest.raises(FarstepError, match="already exists"):
        digests(tmp_path / "made", processes=1, seed=1)
    dataset = open_dataset(tmp_path / "made")
    assert dataset.train.digest == first[0]


def test_streams_are_those_of_the_rest_of_the_library() -> None:
    ours, theirs = stream(3, "collect/train", 7), stream_generator(3, "collect/train", 7)
    np.testing.assert_array_equal(ours.integers(2**31, size=8), theirs.integers(2**31, size=8))
