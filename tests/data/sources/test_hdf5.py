"""HDF5 files of Minari, D4RL, robomimic and nobody in particular, through the command line."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.data.table import open_dataset

h5py = pytest.importorskip("h5py", reason="needs the extra 'hdf5'")

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "300")


def run(*words: object) -> None:
    main(["data", "import", *map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2
    assert not list(Path("data").glob("*"))
    return capsys.readouterr().err


def write(path: Path, **arrays: Any) -> Path:
    """A file of these arrays; `__` in a name is a group's border."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def states(length: int, size: int = 3) -> np.ndarray:
    return np.arange(length * size, dtype=np.float64).reshape(length, size) / 10


def test_minari(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays: dict[str, Any] = {}
    for number, length in ((0, 4), (2, 3), (10, 5)):
        arrays[f"episode_{number}__observations__observation"] = states(length + 1) + number
        arrays[f"episode_{number}__observations__achieved_goal"] = states(length + 1, 2)
        arrays[f"episode_{number}__actions"] = np.arange(length) % 3
        arrays[f"episode_{number}__rewards"] = np.arange(length) / 7
    main_file = write(tmp_path / "maze" / "data" / "main_data.hdf5", **arrays)
    about = {"data_format": "hdf5", "action_space": json.dumps({"type": "Discrete", "n": 3})}
    (main_file.parent / "metadata.json").write_text(json.dumps(about))
    run(tmp_path / "maze", "--extra", "observations/achieved_goal", "--extra", "rewards")
    table = open_dataset("maze").train
    # By number: 10 comes last. There is one observation more than actions.
    assert list(table.episode_lengths) == [5, 4, 6]
    assert np.allclose(table.observations[5:9], states(4) + 2)
    assert table.manifest.discrete
    assert table.manifest.action_size == 3
    assert list(table.actions[:5]) == [0, 1, 2, 0, 0]
    assert table.extras["observations_achieved_goal"].shape == (15, 2)
    assert list(table.extras["rewards"][3:5]) == [3 / 7, 3 / 7]
    both = ("--observation-key", "observations/achieved_goal")
    both += ("--observation-key", "observations/observation")
    run(main_file, "--name", "joined", *both)
    assert np.allclose(
        open_dataset("joined").train.observations[:5], np.hstack([states(5, 2), states(5)])
    )
    main_file.unlink()
    (main_file.parent / "metadata.json").write_text('{"data_format": "arrow"}')
    assert "data_format='hdf5'" in refused(capsys, tmp_path / "maze", "--name", "no")


def test_d4rl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "antmaze.hdf5",
        observations=states(10),
        actions=states(10, 2) / 10,
        rewards=np.zeros(10),
        terminals=np.arange(10) == 3,
        timeouts=np.arange(10) == 9,
        infos__qpos=states(10, 5),
        metadata__note=np.zeros(2),
    )
    shutil.copy(path, tmp_path / "antmaze-val.hdf5")
    run(path)
    dataset = open_dataset("antmaze")
    assert dataset.val is not None
    assert list(dataset.train.episode_lengths) == [4, 6]
    assert np.allclose(dataset.train.extras["qpos"], states(10, 5))
    said = capsys.readouterr().err
    assert "'rewards' was left out" in said
    assert "metadata" not in said
    keys = ("--observation-key", "qpos", "--name", "by-qpos", "--ends", "timeouts")
    run(path, *keys)
    assert open_dataset("by-qpos").train.observations.shape == (10, 5)


def robomimic(path: Path, *, successors: bool = True) -> Path:
    arrays: dict[str, Any] = {"mask__valid": np.array([b"demo_1"])}
    for number, length in ((0, 4), (1, 3), (2, 5)):
        demo = f"data__demo_{number}__"
        arrays[demo + "actions"] = states(length, 2) / 10
        arrays[demo + "states"] = states(length, 9)
        for prefix, shift in (("obs", 0), ("next_obs", 1))[: 1 + successors]:
            arrays[f"{demo}{prefix}__object"] = states(length) + 100 + shift
            arrays[f"{demo}{prefix}__robot0_eef_pos"] = states(length) + shift
            arrays[f"{demo}{prefix}__robot0_joint_pos"] = states(length, 7)
            image = np.full((length, 8, 8, 3), number + shift, np.uint8)
            arrays[f"{demo}{prefix}__agentview_image"] = image
    return write(path, **arrays)


def test_robomimic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(robomimic(tmp_path / "lift.hdf5"))
    assert "Observations are obs/object, obs/robot0_eef_pos" in capsys.readouterr().err
    dataset = open_dataset("lift")
    assert dataset.val is not None
    assert list(dataset.train.episode_lengths) == [5, 6]
    assert list(dataset.val.episode_lengths) == [4]
    # The last observation is what was stored as the last action's successor.
    last = np.hstack([states(4)[-1] + 101, states(4)[-1] + 1])
    assert np.allclose(dataset.train.observations[4], last)
    camera = ("--observation-key", "obs/agentview_image", "--extra", "obs/robot0_eef_pos")
    run(tmp_path / "lift.hdf5", "--name", "seen", *camera)
    seen = open_dataset("seen").train
    assert seen.observations.shape == (11, 8, 8, 3)
    assert seen.observations[4].max() == 1
    assert seen.extras["obs_robot0_eef_pos"].shape == (11, 3)
    run(robomimic(tmp_path / "plain.hdf5", successors=False))
    assert list(open_dataset("plain").train.episode_lengths) == [4, 5]


def test_an_unknown_layout_is_explained_and_then_mapped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "log.h5",
        demo_0__action=states(4, 1),
        demo_0__observation=states(4),
        demo_1__action=states(3, 1),
        demo_1__observation=states(3),
    )
    said = refused(capsys, path)
    assert "2 groups like demo_0" in said
    assert "observation  (4, 3) float64" in said
    command = f"farstep data import {path} --observation-key observation --action-key action"
    assert command in said
    main(command.split()[1:])
    assert list(open_dataset("log").train.episode_lengths) == [4, 3]
    # One file an episode, as ALOHA writes them.
    for number in range(3):
        one = tmp_path / "aloha" / f"episode_{number}.hdf5"
        write(one, action=states(4, 2), observations__qpos=states(4) + number)
    said = refused(capsys, tmp_path / "aloha")
    assert "--observation-key observations/qpos --action-key action" in said
    keys = ("--observation-key", "observations/qpos", "--action-key", "action")
    assert "--close-last-episode" in refused(capsys, tmp_path / "aloha", *keys)
    run(tmp_path / "aloha", *keys, "--close-last-episode")
    assert open_dataset("aloha").train.num_episodes == 3


@pytest.mark.skipif(not SAMPLES.exists(), reason="the real samples are not here")
def test_real_files(capsys: pytest.CaptureFixture[str]) -> None:
    path = SAMPLES / "hdf5" / "cart_pendulum.hdf5"
    assert "--observation-key observation --action-key action" in refused(capsys, path)
    run(path, "--observation-key", "observation", "--action-key", "action")
    table = open_dataset("cart_pendulum").train
    assert list(table.episode_lengths) == [300] * 100
    with h5py.File(path) as file:
        assert np.array_equal(table.observations[300:600], file["demo_1/observation"])


@pytest.mark.skipif(not importlib.util.find_spec("dm_control"), reason="needs dm_control")
def test_motion_capture_has_no_actions_and_runs_along_the_last_axis(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = importlib.util.find_spec("dm_control")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (root,) = spec.submodule_search_locations
    path = Path(root) / "locomotion" / "mocap" / "test_trajectories.h5"
    said = refused(capsys, path)
    assert "walkers/walker_0/joints " in said
    assert "steps run along the last axis" in said
    assert "None is called like actions" in said
    keys = ("--observation-key", "walkers/walker_0/joints")
    run(path, "--name", "m", *keys, "--action-key", "walkers/walker_0/joints_velocity")
    table = open_dataset("m").train
    assert table.observations.shape == (20, 56)
    with h5py.File(path) as file:
        assert np.allclose(table.observations[:10].T, file["cmuv2019_001/walkers/walker_0/joints"])


def _external(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["demo_0/observation"]
        stored = [("/etc/passwd", 0, 96)]
        file.create_dataset("demo_0/observation", (4, 3), "f8", external=stored)


def _never_written(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["demo_0/observation"]
        file.create_dataset("demo_0/observation", (1 << 40, 3), "f8", chunks=(64, 3))


def _uneven(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["demo_1/action"]
        file["demo_1/action"] = states(7, 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:700]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:8] + bytes(90)), "cannot be read"),
        (_external, "lies in another file"),
        (_never_written, "never written whole"),
        (_uneven, "demo_1: its arrays differ in length"),
    ],
)
def test_spoilt_files_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Any,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(
        tmp_path / "log.h5",
        demo_0__action=states(4, 1),
        demo_0__observation=states(4),
        demo_1__action=states(3, 1),
        demo_1__observation=states(3),
    )
    spoil(path)
    keys = ("--observation-key", "observation", "--action-key", "action")
    assert message in refused(capsys, path, *keys)
