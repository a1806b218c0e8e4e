"""`farstep data import`, `info` and `get`, as they are typed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from farstep.cli.main import main
from farstep.data import download
from farstep.data.table import open_dataset
from farstep.envs.mazes import PUBLISHED
from farstep.serving.policy import load_policy

NAME = "pointmaze-medium-stitch-v0"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch) -> None:
    """Data and home in a place of their own, wide output, and no way to the internet."""
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("FARSTEP_MIRRORS", raising=False)
    monkeypatch.setattr(download, "PUBLISHED_MIRROR", "http://127.0.0.1:9/nowhere")


@pytest.fixture
def shelf(tmp_path) -> Path:
    """A directory with the two files of a small published dataset."""
    maze = PUBLISHED["medium"]
    (tmp_path / "shelf").mkdir()
    for suffix, episodes in (("", 6), ("-val", 2)):
        cells = maze.free_cells[:episodes]
        np.savez(
            tmp_path / "shelf" / f"{NAME}{suffix}.npz",
            observations=np.repeat([maze.ij_to_xy(cell) for cell in cells], 10, axis=0),
            actions=np.linspace(-1, 1, 20 * episodes).reshape(-1, 2),
            terminals=np.tile(np.arange(10) == 9, episodes),
        )
    return tmp_path / "shelf"


def refused(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["data", *words])
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_import_and_info(shelf, capsys):
    main(["data", "import", str(shelf / f"{NAME}.npz")])
    assert "6 episodes, 60 steps, and 2 to validate" in capsys.readouterr().out
    assert open_dataset(NAME).environment == "pointmaze-medium-v0"
    main(["data", "info", "pointmaze-medium-stitch", "--verify"])
    shown = capsys.readouterr().out
    lengths, outside = "10 to 10, median 10", "0 (0.00%)"
    for fact in (lengths, "-1 to 1", "pointmaze-medium-v0", outside, "54", f"{NAME}.npz"):
        assert fact in shown
    assert "Every checksum matches." in shown


def test_info_draws_the_maze_and_where_the_data_were(shelf, tmp_path, capsys):
    main(["data", "import", str(shelf / f"{NAME}.npz")])
    main(["data", "info", NAME, "--picture", str(tmp_path / "coverage.png")])
    picture = imread(tmp_path / "coverage.png")
    assert picture.shape[0] > 300
    assert picture.std() > 0.05
    assert "coverage.png" in capsys.readouterr().out


def test_ones_own_data(tmp_path, capsys):
    np.savez(
        tmp_path / "log.npz",
        observations=np.random.default_rng(0).normal(size=(30, 5)),
        actions=np.full((30, 2), 1.5),
        terminals=np.arange(30) % 15 == 14,
        rewards=np.ones(30),
    )
    main(["data", "import", str(tmp_path / "log.npz"), "--name", "my-robot", "--extra", "rewards"])
    assert "30 of 30 actions lie outside [-1, 1]" in capsys.readouterr().err
    assert set(open_dataset("my-robot").train.extras) == {"rewards"}
    assert open_dataset("my-robot").environment is None
    main(["data", "info", "my-robot"])
    assert "30 (100.00%)" in capsys.readouterr().out
    error = refused(capsys, "info", "my-robot", "--picture", str(tmp_path / "no.png"))
    assert "Import it again with --environment" in error
    source = str(tmp_path / "log.npz")
    error = refused(capsys, "import", source, "--name", "r", "--out-of-range", "error")
    assert "--out-of-range scale" in error
    error = refused(capsys, "import", source, "--name", "r", "--environment", "pointmaze-medum")
    assert "Did you mean 'pointmaze-medium-v0'" in error
    assert "already exists" in refused(capsys, "import", source, "--name", "my-robot")


def test_a_picture_of_something_else_than_a_maze(tmp_path, capsys):
    np.savez(
        tmp_path / "cube-single-play-v0.npz",
        observations=np.zeros((4, 28)),
        actions=np.zeros((4, 5)),
        terminals=[0, 0, 0, 1],
    )
    main(["data", "import", str(tmp_path / "cube-single-play-v0.npz")])
    error = refused(capsys, "info", "cube-single-play", "--picture", str(tmp_path / "no.png"))
    assert "not a maze" in error


def test_get_from_a_directory_and_again(shelf, capsys):
    main(["data", "get", "pointmaze-medium-stitch", "--mirror", str(shelf), "--no-keep-files"])
    assert "6 episodes" in capsys.readouterr().out
    assert open_dataset(NAME, verify=True).environment == "pointmaze-medium-v0"
    main(["data", "get", "pointmaze-medium-stitch"])
    assert "already there" in capsys.readouterr().err


def test_get_refuses_what_it_cannot_get(tmp_path, capsys):
    assert "Did you mean 'pointmaze-giant-stitch-v0'" in refused(
        capsys, "get", "pointmaze-giant-stich"
    )
    error = refused(capsys, "get", "pointmaze-giant-stitch", "--offline")
    assert str(tmp_path / "data" / "downloads" / "pointmaze-giant-stitch-v0.npz") in error
    error = refused(capsys, "get", "pointmaze-giant-stitch", "--attempts", "1")
    assert "Could not fetch pointmaze-giant-stitch-v0.npz" in error
    assert "--attempts" in refused(capsys, "get", "pointmaze-giant-stitch", "--attempts", "0")


def test_info_names_what_is_there(shelf, capsys):
    main(["data", "import", str(shelf / f"{NAME}.npz")])
    assert f"Did you mean '{NAME}'" in refused(capsys, "info", "pointmaze-medium-stich")


def test_overwriting_through_a_link_replaces_the_data_and_leaves_no_stray(shelf, tmp_path, capsys):
    source = str(shelf / f"{NAME}.npz")
    main(["data", "import", source, "--name", "mine"])
    disk = tmp_path / "disk"
    (tmp_path / "data" / "mine").rename(disk)
    (tmp_path / "data" / "mine").symlink_to(disk)
    np.savez(source, observations=np.zeros((4, 3)), actions=np.zeros((4, 2)), terminals=[0, 1] * 2)
    (shelf / f"{NAME}-val.npz").unlink()
    main(["data", "import", source, "--name", "mine", "--overwrite"])
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine"]
    assert (tmp_path / "data" / "mine").is_symlink()
    assert open_dataset(disk).train.num_steps == 4
    assert open_dataset(disk).val is None


def test_overwriting_keeps_what_the_dataset_does_not_own(shelf, tmp_path, capsys):
    source = str(shelf / f"{NAME}.npz")
    main(["data", "import", source, "--name", "mine"])
    thesis = tmp_path / "data" / "mine" / "thesis.tex"
    thesis.write_text("years of work")
    error = refused(capsys, "import", source, "--name", "mine", "--overwrite")
    assert "'thesis.tex'" in error
    assert thesis.read_text() == "years of work"
    assert open_dataset("mine", verify=True).train.num_steps == 60


def test_actions_need_no_units(tmp_path, capsys):
    """Torques of up to 30 N·m, logged as they are: the policy trained on them gives torques."""
    generator = np.random.default_rng(0)
    torques = np.column_stack([generator.uniform(-30, 10, 200), generator.uniform(-0.2, 0.2, 200)])
    observations = np.cumsum(torques, axis=0) * [1e-3, 1]
    observations[:, 1] = 1e-9 * np.arange(200)
    ends = np.arange(200) % 20 == 19
    np.savez(tmp_path / "log.npz", observations=observations, actions=torques, terminals=ends)
    main(["data", "import", str(tmp_path / "log.npz"), "--name", "arm"])
    assert "scaled from their bounds" in capsys.readouterr().err
    main(["data", "info", "arm"])
    assert "scaled from their bounds" in capsys.readouterr().out
    run = str(tmp_path / "run")
    words = ["--agent", "gcbc", "--hidden", "8", "--batch-size", "64", "--learning-rate", "0.03"]
    words += ["--steps", "60", "--normalize", "--out", run]
    main(["train", "arm", *words])
    shown = capsys.readouterr().out
    assert "Observations are standardised: 2 columns" in shown
    assert "Actions are scaled to [-1, 1] from their bounds in the data, -29" in shown
    main(["export", run, "--out", str(tmp_path / "policy")])
    for path in (tmp_path / "run", tmp_path / "policy"):
        acted = load_policy(path).act(observations[:50], observations[5:55], temperature=1.0)
        assert acted.shape == (50, 2)
        assert acted[:, 0].min() >= -30
        assert acted[:, 0].max() <= 10
        np.testing.assert_allclose(acted[:, 0].mean(), -10, atol=6)
        assert np.abs(acted[:, 1]).max() <= 0.2
