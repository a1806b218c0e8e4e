"""`farstep data export` as it is typed, read by OGBench's own loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

import ogbench  # noqa: E402 (after the checks above)

from farstep.cli.main import run_command  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402
from farstep.data.table import open_dataset  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ant's dataset, made by the published recipe but for its size."""
    path = tmp_path_factory.mktemp("made") / "ant"
    line = "data make antmaze-medium-stitch --episodes 3 --steps 20 --processes 1"
    run_command([*line.split(), "--out", str(path)])
    return path


def test_ogbenchs_loader_reads_what_was_made(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "antmaze-medium-stitch-v0.npz"
    run_command(["data", "export", str(made), "--npz", str(file)])
    theirs: Any = ogbench
    train, val = theirs.make_env_and_datasets(
        "antmaze-medium-stitch-v0", dataset_path=str(file), dataset_only=True, add_info=True
    )
    table = open_dataset(made).train
    # 19 transitions of each episode's 20 steps.
    assert train["observations"].shape == (57, 29)
    assert val["observations"].shape == (19, 29)
    valid = np.setdiff1d(np.arange(60), table.episode_ends)
    for key, stored in (
        ("observations", table.observations[valid]),
        ("next_observations", table.observations[valid + 1]),
        ("actions", table.actions[valid]),
        ("qpos", table.extras["qpos"][valid]),
        ("qvel", table.extras["qvel"][valid]),
    ):
        np.testing.assert_array_equal(train[key], stored)
    assert np.flatnonzero(train["terminals"]).tolist() == [18, 37, 56]


def test_a_file_has_the_published_keys_and_types_and_comes_back_the_same(
    made: Path, tmp_path: Path
) -> None:
    file = tmp_path / "ant.npz"
    run_command(["data", "export", str(made), "--npz", str(file)])
    with np.load(file) as arrays:
        found = {key: (arrays[key].dtype.name, arrays[key].shape) for key in arrays.files}
    assert found == {
        "observations": ("float32", (60, 29)),
        "actions": ("float32", (60, 8)),
        "terminals": ("bool", (60,)),
        "qpos": ("float32", (60, 15)),
        "qvel": ("float32", (60, 14)),
    }
    run_command(["data", "import", str(file), "--name", "ant-again"])
    assert open_dataset("ant-again").train.digest == open_dataset(made).train.digest
    with pytest.raises(FarstepError, match="already exists"):
        run_command(["data", "export", str(made), "--npz", str(file)])
    with pytest.raises(FarstepError, match=r"must end in \.npz"):
        run_command(["data", "export", str(made), "--npz", str(tmp_path / "ant.zip")])
