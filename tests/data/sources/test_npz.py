"""Import of `.npz` files: what OGBench's loader would see, in little memory, or a refusal."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.core.types import Actions
from farstep.data.sources.base import ImportOptions
from farstep.data.sources.registry import import_source
from farstep.data.table import open_dataset


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def published(lengths: list[int], seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    """Arrays as OGBench publishes them: the terminal is on the last stored observation."""
    generator = np.random.default_rng(seed)
    steps = sum(lengths)
    terminals = np.zeros(steps, np.float32)
    terminals[np.cumsum(lengths) - 1] = 1
    arrays = {
        "observations": generator.normal(size=(steps, 4)).astype(np.float32),
        "actions": generator.uniform(-1, 1, size=(steps, 2)).astype(np.float32),
        "terminals": terminals,
        "qpos": generator.normal(size=(steps, 3)),
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def save(path: Path, arrays: dict[str, np.ndarray], *, compressed: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


@pytest.mark.parametrize("compressed", [True, False])
def test_a_published_pair_of_files(tmp_path, compressed):
    train, val = published([5, 3, 7]), published([4], seed=1)
    source = save(tmp_path / "pointmaze-medium-stitch-v0.npz", train, compressed=compressed)
    save(tmp_path / "pointmaze-medium-stitch-v0-val.npz", val, compressed=compressed)
    imported = import_source(source, environment="pointmaze-medium-v0")
    assert imported.notes == ()
    dataset = open_dataset("pointmaze-medium-stitch", verify=True)
    assert dataset.environment == "pointmaze-medium-v0"
    assert dataset.train.episode_lengths.tolist() == [5, 3, 7]
    assert dataset.val is not None
    for table, arrays in ((dataset.train, train), (dataset.val, val)):
        np.testing.assert_array_equal(table.observations, arrays["observations"])
        np.testing.assert_array_equal(table.actions, arrays["actions"])
        np.testing.assert_array_equal(table.extras["qpos"], arrays["qpos"])
    record = dataset.train.manifest.provenance["files"]
    assert [entry["name"] for entry in record] == ["pointmaze-medium-stitch-v0.npz"]


def test_sees_the_transitions_that_ogbench_sees(tmp_path):
    loader = pytest.importorskip("ogbench.utils")
    source = save(tmp_path / "maze-v0.npz", published([5, 2, 7]))
    theirs = loader.load_dataset(str(source))
    import_source(source)
    table = open_dataset("maze").train
    valid = np.setdiff1d(np.arange(table.num_steps), table.episode_ends)
    np.testing.assert_array_equal(table.observations[valid], theirs["observations"])
    np.testing.assert_array_equal(table.actions[valid], theirs["actions"])
    np.testing.assert_array_equal(table.observations[valid + 1], theirs["next_observations"])


def test_the_compact_form_of_the_same_file(tmp_path):
    loader = pytest.importorskip("ogbench.utils")
    source = save(tmp_path / "maze-v0.npz", published([5, 2, 7]))
    compact = loader.load_dataset(str(source), compact_dataset=True)
    import_source(save(tmp_path / "compact-v0.npz", compact))
    assert open_dataset("compact").train.episode_lengths.tolist() == [5, 2, 7]


def test_a_directory_of_shards_in_name_order(tmp_path):
    parts = [published([3, 4], seed=seed) for seed in range(3)]
    for index in (2, 0, 1):
        save(tmp_path / "shards" / f"cube-v0-00{index}.npz", parts[index])
        save(tmp_path / "shards" / f"cube-v0-00{index}-val.npz", published([2 + index]))
    import_source(tmp_path / "shards", "cube-octuple-play-v0")
    dataset = open_dataset("cube-octuple-play", verify=True)
    expected = np.concatenate([part["observations"] for part in parts])
    np.testing.assert_array_equal(dataset.train.observations, expected)
    assert dataset.train.episode_lengths.tolist() == [3, 4] * 3
    assert dataset.val is not None
    assert dataset.val.episode_lengths.tolist() == [2, 3, 4]


def test_shards_must_match(tmp_path):
    save(tmp_path / "shards" / "a.npz", published([3]))
    save(tmp_path / "shards" / "b.npz", published([3], actions=np.zeros((3, 5))))
    with pytest.raises(FarstepError, match=r"b\.npz does not match .*a\.npz"):
        import_source(tmp_path / "shards")


def test_pixels_stay_bytes_and_integer_actions_integers(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    arrays = published([6], observations=frames, actions=np.arange(6), qpos=None)
    main(["data", "import", str(save(tmp_path / "powderworld-easy-play-v0.npz", arrays))])
    table = open_dataset("powderworld-easy-play").train
    assert table.observations.dtype == np.uint8
    assert table.spaces.action.discrete
    assert table.spaces.action.size == 8
    np.testing.assert_array_equal(table.actions, np.arange(6))
    with pytest.raises(FarstepError, match="--num-actions"):
        import_source(save(tmp_path / "mine.npz", arrays))
    import_source(tmp_path / "mine.npz", options=ImportOptions(num_actions=6))
    assert open_dataset("mine").train.spaces.action.size == 6
    # What a dataset is its environment says, whatever it is called.
    named = ("--environment", "powderworld-hard", "--name", "yours")
    main(["data", "import", str(tmp_path / "mine.npz"), *named])
    assert open_dataset("yours").train.spaces.action == Actions(8, discrete=True)


def test_double_precision_becomes_single_and_big_endian_is_read(tmp_path):
    values = np.linspace(0, 1, 20).reshape(5, 4)
    arrays = published([5], observations=values.astype(">f8"))
    import_source(save(tmp_path / "mine.npz", arrays))
    table = open_dataset("mine").train
    assert table.observations.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(table.observations, values.astype(np.float32))


def with_value(key: str, index: tuple[int, ...], value: float) -> dict[str, np.ndarray]:
    arrays = published([3, 4])
    arrays[key][index] = value
    return arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (with_value("observations", (4, 1), np.nan), r"episode 1 of the file.*row 3.*step 1"),
        (with_value("actions", (6, 0), np.inf), r"actions holds inf in episode 1, step 3"),
        (with_value("qpos", (0, 2), np.nan), r"qpos holds nan in episode 0, step 0"),
        (with_value("terminals", (1,), 0.5), "one 0 or 1 per step"),
        (with_value("terminals", (6,), 0), r"begins at row 3 .*--close-last-episode"),
        (published([3, 1, 4, 1]), r"2 of 4 episodes have one step.*: 1, 3\."),
        (published([1]), "1 of 1 episodes have one step"),
        (published([5], actions=None), r"has no 'actions'"),
        ({**published([5], actions=None), "action": np.zeros((5, 2))}, "Did you mean 'action'"),
        (published([5], actions=np.zeros((4, 2))), r"'actions' has shape \(4, 2\)"),
        (published([5], qpos=np.zeros(())), r"'qpos' has shape \(\)"),
        (published([5], actions=np.zeros(5)), r"\(N, A\) is needed"),
        (published([5], observations=np.zeros(5)), r"\(N, 1\) for a single number"),
        (published([5], observations=np.zeros((0, 4))), "holds no steps"),
        (published([5], qpos=np.array([{}] * 5, object)), "never unpickles"),
        (published([5], qpos=np.array(["a"] * 5)), "numbers are needed"),
        (published([5], qpos=np.zeros(5, complex)), "numbers are needed"),
    ],
)
def test_bad_files_are_refused_and_leave_nothing(tmp_path, root, arrays, message):
    source = save(tmp_path / "bad.npz", arrays)
    with pytest.raises(FarstepError, match=message):
        import_source(source)
    assert not root.exists() or list(root.iterdir()) == []


def test_options_mend_what_they_name(tmp_path):
    arrays = published([3, 1, 4])
    arrays["terminals"][-1] = 0
    options = ImportOptions(one_step_episodes="drop", close_last_episode=True)
    imported = import_source(save(tmp_path / "mine.npz", arrays), options=options)
    assert imported.notes == ("1 episodes of one step were left out.",)
    table = open_dataset("mine").train
    assert table.episode_lengths.tolist() == [3, 4]
    np.testing.assert_array_equal(table.observations, np.delete(arrays["observations"], 3, axis=0))


def test_actions_out_of_range(tmp_path, root):
    arrays = with_value("actions", (1, 0), 1.5)
    arrays["actions"][4] = -3
    source = save(tmp_path / "mine.npz", arrays)
    seen = r"2 of 7 actions lie outside \[-1, 1\] \(range -3 to 1.5\)"
    with pytest.raises(FarstepError, match=seen):
        import_source(source, options=ImportOptions(out_of_range="error"))
    assert list(root.iterdir()) == []
    (note,) = import_source(source).notes
    assert "2 of 7 actions" in note
    assert "scaled" in note
    manifest = open_dataset("mine").train.manifest
    assert manifest.actions_out_of_range == 2
    np.testing.assert_array_equal(manifest.action_bounds, _bounds(arrays["actions"]))
    options = ImportOptions(out_of_range="keep")
    (note,) = import_source(source, options=options, overwrite=True).notes
    assert "kept" in note
    assert open_dataset("mine").train.manifest.action_bounds is None
    (note,) = import_source(
        source, options=ImportOptions(out_of_range="clip"), overwrite=True
    ).notes
    assert "clipped" in note
    table = open_dataset("mine").train
    np.testing.assert_array_equal(table.actions, np.clip(arrays["actions"], -1, 1))


def _bounds(actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return actions.min(axis=0), actions.max(axis=0)


def test_unknown_keys_are_named_and_left_out_unless_asked_for(tmp_path):
    arrays = {**published([4]), "rewards": np.ones(4), "qvell": np.ones(4)}
    source = save(tmp_path / "mine.npz", arrays)
    notes = import_source(source).notes
    assert any("'rewards' was left out" in note for note in notes)
    assert any("Did you mean 'qvel'" in note for note in notes)
    assert set(open_dataset("mine").train.extras) == {"qpos"}
    import_source(source, options=ImportOptions(extra=("rewards",)), overwrite=True)
    assert set(open_dataset("mine").train.extras) == {"qpos", "rewards"}


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _web_page(path: Path) -> None:
    path.write_text("<html>404 Not Found</html>")


def _flip_a_byte_of_the_actions(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        offset = file.getinfo("actions.npy").header_offset
    content = bytearray(path.read_bytes())
    content[offset + 200] ^= 0xFF
    path.write_bytes(content)


def _shorten_a_member(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    members["observations.npy"] = members["observations.npy"][:-4]
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)


@pytest.mark.parametrize(
    "damage", [_empty, _half, _web_page, _flip_a_byte_of_the_actions, _shorten_a_member]
)
@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_files_are_refused(tmp_path, root, damage, compressed):
    source = save(tmp_path / "bad.npz", published([40, 50]), compressed=compressed)
    damage(source)
    with pytest.raises(FarstepError, match=r"bad\.npz"):
        import_source(source)
    assert not root.exists() or list(root.iterdir()) == []


def test_a_damaged_validation_file_imports_nothing(tmp_path, root):
    source = save(tmp_path / "maze-v0.npz", published([40]))
    _flip_a_byte_of_the_actions(save(tmp_path / "maze-v0-val.npz", published([40, 40])))
    with pytest.raises(FarstepError, match=r"maze-v0-val\.npz"):
        import_source(source)
    assert not root.exists() or list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("../elsewhere", "cannot name"), (".hidden", "cannot name"), ("", "cannot name")],
)
def test_a_name_stays_under_the_root(tmp_path, name, message):
    source = save(tmp_path / "mine.npz", published([4]))
    with pytest.raises(FarstepError, match=message):
        import_source(source, name)


def test_missing_sources(tmp_path):
    with pytest.raises(FarstepError, match="There is no file"):
        import_source(tmp_path / "nothing.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FarstepError, match=r"holds no \.npz file"):
        import_source(tmp_path / "empty")
    with pytest.raises(FarstepError, match="is a validation file"):
        import_source(save(tmp_path / "maze-v0-val.npz", published([4])))


def test_an_existing_dataset_is_kept_unless_told(tmp_path):
    source = save(tmp_path / "mine.npz", published([4]))
    import_source(source)
    save(source, published([6]))
    with pytest.raises(FarstepError, match="already exists"):
        import_source(source)
    assert open_dataset("mine").train.num_steps == 4
    import_source(source, overwrite=True)
    assert open_dataset("mine").train.num_steps == 6


MEASURE = """
import resource, sys
from pathlib import Path
from farstep.data.sources.registry import import_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import_source(Path(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_file_larger_than_memory_would_do(tmp_path):
    """295 MB of pixels in a single episode pass through less than 64 MB."""
    source = tmp_path / "visual-v0.npz"
    steps = 24_000
    ends = np.zeros(steps, np.float32)
    ends[-1] = 1
    arrays = {
        "observations": np.lib.stride_tricks.as_strided(
            np.zeros(1, np.uint8), (steps, 64, 64, 3), (0, 0, 0, 0)
        ),
        "actions": np.zeros((steps, 5), np.float32),
        "terminals": ends,
    }
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for key, array in arrays.items():
            with file.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array_header_1_0(
                    member,
                    np.lib.format.header_data_from_array_1_0(array) | {"fortran_order": False},
                )
                for start in range(0, steps, 1000):
                    member.write(array[start : start + 1000].tobytes())
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(source)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert int(done.stdout) * 1024 < 64e6
    assert open_dataset("visual").train.num_steps == steps
