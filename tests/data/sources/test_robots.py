"""What robots write: RLDS, LeRobot and raw Bridge, imported through the command line."""

from __future__ import annotations

import io
import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("google_crc32c", reason="needs the extra 'bridge'")
pytest.importorskip("pyarrow", reason="needs the extra 'bridge'")

import av
import pyarrow
import pyarrow.parquet
from PIL import Image

from farstep.cli.main import main
from farstep.data.sources.bridge import definite_grippers, reached_actions
from farstep.data.sources.raw_bridge import arrays_in
from farstep.data.sources.tfrecord import write_examples
from farstep.data.table import open_dataset

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"
real = pytest.mark.skipif(not SAMPLES.exists(), reason="the real samples are not here")


def run(*words: object) -> None:
    main(["data", "import", *map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def jpeg(value: int, size: int = 16) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def rlds(path: Path, lengths: tuple[int, ...] = (5, 4)) -> Path:
    """A small dataset in Bridge's layout: two cameras' worth of one grey level a step."""
    path.mkdir(parents=True)
    tensor = {"shape": {"dimensions": ["7"]}, "dtype": "float32", "encoding": "none"}
    image = {"shape": {"dimensions": ["16", "16", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}
    observation = {"image_0": {"image": image}, "state": {"tensor": tensor}}
    step = {
        "observation": {"featuresDict": {"features": observation}},
        "action": {"tensor": tensor},
        "language_instruction": {"text": {}},
        "is_last": {"tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}},
    }
    steps = {"sequence": {"feature": {"featuresDict": {"features": step}}}}
    features = {"featuresDict": {"features": {"steps": steps}}}
    (path / "features.json").write_text(json.dumps(features))
    examples = [
        {
            "steps/action": np.arange(7 * length, dtype=np.float32) / 100,
            "steps/observation/state": np.arange(7 * length, dtype=np.float32) / 50,
            "steps/observation/image_0": [jpeg(20 * t) for t in range(length)],
            "steps/language_instruction": [b"put it there"] * length,
            "steps/is_last": (np.arange(length) == length - 1).astype(np.int64),
        }
        for length in lengths
    ]
    write_examples(path / "toy-train.tfrecord-00000-of-00001", examples)
    return path


def test_rlds_with_images_scaled_and_states_beside_them(tmp_path: Path) -> None:
    options = ("--image-size", "8", "--extra", "observation/state")
    run(rlds(tmp_path / "toy"), "--name", "rlds-toy", *options)
    table = open_dataset("rlds-toy").train
    assert list(table.episode_lengths) == [5, 4]
    assert table.observations.shape == (9, 8, 8, 3)
    # JPEG is not exact.
    assert np.abs(table.observations[:5].mean(axis=(1, 2, 3)) - 20 * np.arange(5)).max() < 3
    assert table.extras["observation_state"].shape == (9, 7)
    assert np.allclose(table.actions[:5].reshape(-1), np.arange(35) / 100)


def test_rlds_with_states_and_reached_actions(tmp_path: Path) -> None:
    options = ("--observation-key", "observation/state", "--relabel", "reached")
    run(rlds(tmp_path / "toy"), "--name", "rlds-reached", *options)
    table = open_dataset("rlds-reached").train
    states, actions = table.observations[:5], table.actions[:5]
    assert np.allclose(actions[:4, :6], (states[1:] - states[:-1])[:, :6], atol=1e-6)
    assert table.manifest.provenance["relabelled"] == "reached"


def test_rotations_turn_the_shorter_way_and_grippers_are_definite() -> None:
    states = np.zeros((3, 7), np.float32)
    states[:, 5] = [3.1, -3.1, -3.0]
    actions = np.zeros((3, 7), np.float32)
    actions[:, 6] = [0.5, 0.97, 0.4]
    relabelled = reached_actions(states, actions)
    assert np.allclose(relabelled[:, 5], [2 * np.pi - 6.2, 0.1, 0], atol=1e-5)
    assert list(relabelled[:, 6]) == [1, 1, 0]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_grippers_become_what_comes_next(values: list[float]) -> None:
    definite = definite_grippers(np.array(values, np.float32))
    assert set(definite) <= {0.0, 1.0}
    for step, value in enumerate(values):
        if value > 0.95 or value < 0.05:
            assert definite[step] == round(value)
        elif step + 1 < len(values):
            assert definite[step] == definite[step + 1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: (p / "features.json").write_text("{}"), "does not describe episodes"),
        (lambda p: next(p.glob("*.tf*")).unlink(), "holds no shard of a split 'train'"),
        (
            lambda p: next(p.glob("*.tf*")).rename(p / "toy-train.tfrecord-00001-of-00002"),
            "toy-train.tfrecord-00000-of-00002 is missing",
        ),
        (lambda p: next(p.glob("*.tf*")).write_bytes(b"x" * 99), "fails its checksum"),
    ],
)
def test_spoilt_rlds_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, message: str
) -> None:
    path = rlds(tmp_path / "toy")
    spoil(path)
    assert message in refused(capsys, path, "--name", "spoilt")
    with pytest.raises(Exception, match="spoilt"):
        open_dataset("spoilt")


def test_a_key_that_is_not_there_suggests_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rlds(tmp_path / "toy")
    message = refused(capsys, path, "--observation-key", "observation/stat")
    assert "has no 'observation/stat'" in message
    assert "'observation/state'" in message
    assert "is text" in refused(capsys, path, "--observation-key", "language_instruction")


@real
def test_real_bridge_data(tmp_path: Path) -> None:
    run(SAMPLES / "rlds_bridge", "--name", "bridge", "--extra", "observation/state")
    dataset = open_dataset("bridge")
    assert dataset.val is not None
    for table in (dataset.train, dataset.val):
        assert list(table.episode_lengths) == [10] * 25
        assert table.observations.shape == (250, 64, 64, 3)
        assert table.actions.shape == (250, 7)
    assert dataset.train.observations.std() > 10


def lerobot(path: Path, version: str, lengths: tuple[int, ...] = (6, 5)) -> Path:
    """A small dataset of one camera: the grey level of a frame is ten times its step."""
    cameras = {"observation.images.top": {"dtype": "video", "shape": [32, 32, 3]}}
    number = {"dtype": "float32", "shape": [2]}
    info: dict[str, Any] = {
        "codebase_version": version,
        "fps": 10,
        "chunks_size": 1000,
        "features": {"observation.state": number, "action": number, **cameras},
    }
    frames, tables = [], []
    for episode, length in enumerate(lengths):
        steps = np.arange(length, dtype=np.float32)
        column = pyarrow.array(np.stack([steps, steps + episode], axis=1).tolist())
        tables.append(
            pyarrow.table(
                {
                    "observation.state": column,
                    "action": column,
                    "episode_index": [episode] * length,
                }
            )
        )
        frames.append([10 * t for t in range(length)])
    (path / "meta").mkdir(parents=True)
    if version.startswith("v2"):
        info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        info["video_path"] = "videos/{video_key}/episode_{episode_index:06d}.mp4"
        (path / "data" / "chunk-000").mkdir(parents=True)
        for episode, table in enumerate(tables):
            name = f"episode_{episode:06d}"
            pyarrow.parquet.write_table(table, path / "data" / "chunk-000" / f"{name}.parquet")
            video(path / "videos" / "observation.images.top" / f"{name}.mp4", frames[episode])
        rows = [{"episode_index": e, "length": n} for e, n in enumerate(lengths)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (path / "meta" / "episodes.jsonl").write_text(text)
    else:
        info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        info["video_path"] = "videos/{video_key}/file-{file_index:03d}.mp4"
        (path / "data" / "chunk-000").mkdir(parents=True)
        pyarrow.parquet.write_table(
            pyarrow.concat_tables(tables), path / "data" / "chunk-000" / "file-000.parquet"
        )
        video(
            path / "videos" / "observation.images.top" / "file-000.mp4", [*itertools.chain(*frames)]
        )
        starts = np.cumsum([0, *lengths[:-1]]) / 10
        prefix = "videos/observation.images.top"
        listed = {
            "episode_index": list(range(len(lengths))),
            "length": list(lengths),
            "data/chunk_index": [0] * len(lengths),
            "data/file_index": [0] * len(lengths),
            f"{prefix}/chunk_index": [0] * len(lengths),
            f"{prefix}/file_index": [0] * len(lengths),
            f"{prefix}/from_timestamp": starts.tolist(),
        }
        (path / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
        pyarrow.parquet.write_table(
            pyarrow.table(listed), path / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
        )
    (path / "meta" / "info.json").write_text(json.dumps(info))
    return path


def video(path: Path, levels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for level in levels:
            picture = np.full((32, 32, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_lerobot_with_states_and_with_a_camera(tmp_path: Path, version: str) -> None:
    path = lerobot(tmp_path / "arm", version)
    run(path, "--name", f"arm-{version}")
    table = open_dataset(f"arm-{version}").train
    assert list(table.episode_lengths) == [6, 5]
    assert np.allclose(table.observations[6:, 1], np.arange(5) + 1)
    camera = ("--observation-key", "observation.images.top", "--image-size", "16")
    run(path, "--name", f"seen-{version}", *camera)
    seen = open_dataset(f"seen-{version}").train
    assert seen.observations.shape == (11, 16, 16, 3)
    levels = seen.observations.mean(axis=(1, 2, 3))
    assert np.abs(levels - 10 * np.array([*range(6), *range(5)])).max() < 4


def test_missing_videos_are_named_and_can_be_done_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lerobot(tmp_path / "arm", "v2.1")
    gone = path / "videos" / "observation.images.top" / "episode_000001.mp4"
    gone.unlink()
    camera = ("--observation-key", "observation.images.top")
    message = refused(capsys, path, "--name", "gone", *camera)
    assert "videos/observation.images.top/episode_000001.mp4" in message
    assert "--missing-files drop" in message
    run(path, "--name", "rest", *camera, "--missing-files", "drop")
    assert list(open_dataset("rest").train.episode_lengths) == [6]
    run(path, "--name", "states")
    assert list(open_dataset("states").train.episode_lengths) == [6, 5]


@real
@pytest.mark.parametrize(
    ("folder", "options", "lengths"),
    [
        ("lerobot_v3", (), [373, 374, 373, 372]),
        ("lerobot_v21", ("--missing-files", "drop"), [343]),
    ],
)
def test_real_lerobot_data(folder: str, options: tuple[str, ...], lengths: list[int]) -> None:
    run(SAMPLES / folder, "--name", folder, *options)
    assert sum(open_dataset(folder).train.episode_lengths) == sum(lengths)
    assert len(open_dataset(folder).train.episode_lengths) == len(lengths)


@real
def test_real_lerobot_data_that_are_not_whole(capsys: pytest.CaptureFixture[str]) -> None:
    camera = ("--observation-key", "observation.images.front", "--name", "no")
    message = refused(capsys, SAMPLES / "lerobot_v3", *camera)
    assert "videos/observation.images.front/chunk-000/file-000.mp4" in message
    assert "info.json is empty" in refused(capsys, SAMPLES / "lerobot_empty_meta", "--name", "no")
    assert "episode_000000.parquet" in refused(capsys, SAMPLES / "lerobot_v21", "--name", "no")


@real
@pytest.mark.slow
def test_a_real_video_is_decoded() -> None:
    camera = ("--observation-key", "observation.images.cam_high", "--image-size", "32")
    run(SAMPLES / "lerobot_v21", "--name", "g1", *camera, "--missing-files", "drop")
    assert open_dataset("g1").train.observations.shape == (343, 32, 32, 3)


def raw_bridge(path: Path, day: str = "2022-05-01_10-00-00", steps: int = 5) -> Path:
    trajectory = path / day / "raw" / "traj_group0" / "traj0"
    (trajectory / "images0").mkdir(parents=True)
    for t in range(steps):
        (trajectory / "images0" / f"im_{t}.jpg").write_bytes(jpeg(20 * t))
    states = np.arange(7 * steps, dtype=np.float32).reshape(steps, 7)
    actions = [{"actions": states[t] / 100} for t in range(steps - 1)]
    (trajectory / "obs_dict.pkl").write_bytes(pickle.dumps({"state": states}, protocol=2))
    (trajectory / "policy_out.pkl").write_bytes(pickle.dumps(actions))
    (trajectory / "lang.txt").write_text("put it there\n")
    return path


def test_raw_bridge(tmp_path: Path) -> None:
    run(raw_bridge(tmp_path / "raw"), "--name", "raw", "--extra", "state")
    table = open_dataset("raw").train
    assert table.observations.shape == (5, 16, 16, 3)
    assert np.allclose(table.actions[:4], table.extras["state"][:4] / 100)


def test_before_the_cameras_came_in_time_actions_are_shifted(tmp_path: Path) -> None:
    old = raw_bridge(tmp_path / "raw", "2021-06-01_10-00-00")
    run(old, "--name", "old", "--observation-key", "state")
    table = open_dataset("old").train
    assert list(table.episode_lengths) == [4]
    assert np.allclose(table.actions[:3], (table.observations[:3] - 7) / 100)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, ("touch pickled",)


def test_a_pickle_that_runs_a_program_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = raw_bridge(tmp_path / "raw")
    (trajectory,) = path.rglob("traj0")
    (trajectory / "policy_out.pkl").write_bytes(pickle.dumps([{"actions": Bomb()}] * 4))
    message = refused(capsys, path, "--name", "bomb")
    assert "policy_out.pkl is no pickle of arrays: it asks for" in message
    assert not (tmp_path / "pickled").exists()


@pytest.mark.parametrize(
    "value", [np.arange(3.0), [1, "a", None], {"a": np.float32(2)}, np.int64(7)]
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_of_arrays_are_read(value: Any, protocol: int) -> None:
    back = arrays_in(pickle.dumps(value, protocol=protocol))
    assert str(back) == str(value)


@settings(max_examples=300)
@given(data=st.data())
def test_mutated_pickles_do_no_harm(data: st.DataObject) -> None:
    content = bytearray(pickle.dumps({"state": np.arange(6.0)}, protocol=2))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays_in(bytes(content))
    except ValueError:
        return


def test_language_is_kept_and_chooses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(rlds(tmp_path / "toy"), "--name", "told")
    table = open_dataset("told").train
    assert table.manifest.tasks == ("put it there",)
    assert list(table.extras["language"]) == [0] * 9
    run(rlds(tmp_path / "again"), "--name", "chosen", "--only", "PUT*there")
    assert "no episode to import whose task or name is like 'open'" in refused(
        capsys, tmp_path / "again", "--name", "none", "--only", "open"
    )
    path = lerobot(tmp_path / "arm", "v2.1")
    listed = [{"episode_index": e, "length": n, "tasks": [f"do {e}"]} for e, n in ((0, 6), (1, 5))]
    text = "".join(json.dumps(row) + "\n" for row in listed)
    (path / "meta" / "episodes.jsonl").write_text(text)
    run(path, "--name", "one", "--only", "do 1")
    assert open_dataset("one").train.manifest.tasks == ("do 1",)
    raw = raw_bridge(tmp_path / "raw")
    run(raw, "--name", "raw-told", "--only", "traj0")
    assert open_dataset("raw-told").train.manifest.tasks == ("put it there",)


def test_an_import_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from farstep.data.sources import rlds as module

    path = rlds(tmp_path / "toy", (5, 4, 6, 3))
    run(path, "--name", "whole")
    original, seen = module.decoded, []

    def interrupted(*arguments: Any) -> Any:
        seen.append(arguments)
        if len(seen) == 12:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "decoded", interrupted)
    with pytest.raises(SystemExit):
        run(path, "--name", "part")
    assert "goes on from here" in capsys.readouterr().err
    assert "other options" in refused(capsys, path, "--name", "part", "--image-size", "8")
    run(path, "--name", "part")
    # The first two episodes, of 9 steps, were not decoded again.
    assert len(seen) == 12 + 6 + 3
    assert open_dataset("part").train.digest == open_dataset("whole").train.digest
    assert not list(Path(open_dataset("part").path).parent.glob(".part*"))


def test_what_cannot_fit_is_refused_after_the_first_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from farstep.core import files

    path = rlds(tmp_path / "toy", (5,) * 20)
    usage = files.shutil.disk_usage(tmp_path)
    # A hundred steps of a picture of 768 bytes and 7 actions, as table and as logged.
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=120_000))
    assert "needs 1" in refused(capsys, path, "--name", "full")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=400_000))
    run(path, "--name", "fits")


def test_an_export_comes_back_the_same_and_is_never_relabelled_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--extra", "observation/state", "--relabel", "reached")
    run(rlds(tmp_path / "toy"), "--name", "first", *options)
    (tmp_path / "toy" / "toy-val.tfrecord-00000-of-00001").write_bytes(
        (tmp_path / "toy" / "toy-train.tfrecord-00000-of-00001").read_bytes()
    )
    run(tmp_path / "toy", "--name", "first", *options, "--overwrite")
    main(["data", "export", "first", "--rlds", str(tmp_path / "out" / "my-robot")])
    assert "my_robot-val.tfrecord-00000-of-00001" in capsys.readouterr().out
    run(tmp_path / "out" / "my-robot", "--name", "second")
    first, second = open_dataset("first"), open_dataset("second")
    assert second.train.digest == first.train.digest
    assert first.val is not None
    assert second.val is not None
    assert second.val.digest == first.val.digest
    assert second.train.manifest.tasks == first.train.manifest.tasks
    assert second.train.manifest.provenance["relabelled"] == "reached"
    message = refused(capsys, tmp_path / "out" / "my-robot", "--name", "no", "--relabel", "reached")
    assert "relabelled already" in message
    with pytest.raises(SystemExit):
        main(["data", "export", "first", "--rlds", str(tmp_path / "out" / "my-robot")])
    assert "already exists" in capsys.readouterr().err
    main(["data", "export", "first", "--rlds", str(tmp_path / "out" / "my-robot"), "--overwrite"])
    # A log of vectors with indices as actions, which nobody read from RLDS.
    log = {"observations": np.eye(6), "actions": np.arange(6) % 3, "terminals": np.arange(6) == 5}
    np.savez(tmp_path / "log.npz", qpos=np.ones((6, 2)), clock=np.arange(6), **log)  # pyright: ignore[reportArgumentType]
    run(tmp_path / "log.npz", "--num-actions", "3", "--extra", "clock")
    main(["data", "export", "log", "--rlds", str(tmp_path / "log")])
    run(tmp_path / "log", "--name", "back")
    back, log_table = open_dataset("back").train, open_dataset("log").train
    assert np.array_equal(back.actions, log_table.actions)
    assert back.manifest.action_size == 3
    assert np.array_equal(back.extras["qpos"], log_table.extras["qpos"])
    assert back.extras["clock"].dtype == log_table.extras["clock"].dtype


@real
def test_an_export_has_the_structure_of_the_real_files(tmp_path: Path) -> None:
    from farstep.data.sources.tfrecord import parse_example, read_records

    cameras = [f"--extra=observation/image_{number}" for number in (1, 2, 3)]
    extras = ("--extra", "observation/state", "--extra", "language_embedding")
    run(SAMPLES / "rlds_bridge", "--name", "bridge-whole", *extras, *cameras)
    main(["data", "export", "bridge-whole", "--rlds", str(tmp_path / "bridge_dataset")])
    real_root, root = SAMPLES / "rlds_bridge" / "1.0.0", tmp_path / "bridge_dataset" / "1.0.0"

    def structure(value: Any) -> Any:
        """Without descriptions, and without how pictures are compressed."""
        if isinstance(value, dict):
            dropped = ("description", "encodingFormat")
            return {key: structure(item) for key, item in value.items() if key not in dropped}
        return value

    theirs, ours = (json.loads((one / "features.json").read_text()) for one in (real_root, root))
    assert structure(ours) == structure(theirs)
    theirs, ours = (
        json.loads((one / "dataset_info.json").read_text()) for one in (real_root, root)
    )
    assert theirs.keys() == ours.keys()
    assert [one["shardLengths"] for one in ours["splits"]] == [["25"], ["25"]]
    name = "bridge_dataset-train.tfrecord-00000-of-00001"
    for record, written in zip(
        read_records(real_root / name), read_records(root / name), strict=True
    ):
        their, our = parse_example(record), parse_example(written)
        assert their.keys() == our.keys()
        for key, value in their.items():
            assert type(our[key]) is type(value)
            assert len(our[key]) == len(value)
        for key in ("steps/action", "steps/observation/state", "steps/language_embedding"):
            assert np.array_equal(our[key], their[key])
        assert our["steps/language_instruction"] == their["steps/language_instruction"]
    run(tmp_path / "bridge_dataset", "--name", "again")
    assert open_dataset("again").train.digest == open_dataset("bridge-whole").train.digest
