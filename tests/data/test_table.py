"""The table: what is written is what is read, and nothing damaged is opened."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farstep.core.errors import FarstepError
from farstep.data.columns import Column
from farstep.data.table import Table, TableWriter, open_dataset

Episode = tuple[np.ndarray, np.ndarray]


def episodes_of(lengths: list[int], seed: int = 0, size: int = 3) -> list[Episode]:
    generator = np.random.default_rng(seed)
    return [
        (
            generator.normal(size=(length, size)).astype(np.float32),
            generator.uniform(-1, 1, size=(length, 2)).astype(np.float32),
        )
        for length in lengths
    ]


def write(path: Path, episodes: list[Episode], **options: object) -> Table:
    with TableWriter(path, (episodes[0][0].shape[1],), "float32", 2, **options) as writer:  # pyright: ignore[reportArgumentType]
        for observations, actions in episodes:
            writer.append(observations, actions)
    return Table.open(path, verify=True)


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


@settings(max_examples=20)
@given(
    lengths=st.lists(st.integers(2, 9), min_size=1, max_size=6),
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([1.0, 1e-3, 1e4]),
    offset=st.sampled_from([0.0, 100.0]),
)
def test_reads_back_what_was_written(tmp_path_factory, lengths, seed, scale, offset):
    path = tmp_path_factory.mktemp("table") / "t"
    episodes = [(o * scale + offset, a) for o, a in episodes_of(lengths, seed)]
    table = write(path, episodes)
    observations = np.concatenate([o for o, _ in episodes])
    np.testing.assert_array_equal(table.observations, observations)
    np.testing.assert_array_equal(table.actions, np.concatenate([a for _, a in episodes]))
    assert table.episode_lengths.tolist() == lengths
    np.testing.assert_array_equal(table.episode_ends, np.cumsum(lengths) - 1)
    np.testing.assert_array_equal(table.episode_starts, np.cumsum([0, *lengths[:-1]]))
    statistics = table.manifest.statistics["observations"]
    exact = observations.astype(np.float64)
    np.testing.assert_allclose(statistics.mean, exact.mean(axis=0), rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(statistics.std, exact.std(axis=0), rtol=1e-7)
    np.testing.assert_array_equal(statistics.min, exact.min(axis=0))
    np.testing.assert_array_equal(statistics.max, exact.max(axis=0))


def test_pixels_discrete_actions_and_extras(tmp_path):
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (2, 5, 4, 4, 3), dtype=np.uint8)
    with TableWriter(tmp_path / "t", (4, 4, 3), "uint8", 7, discrete=True) as writer:
        for episode in frames:
            writer.append(episode, np.arange(5), qpos=np.ones((5, 2)), pressed=np.ones(5, bool))
    table = Table.open(tmp_path / "t", verify=True)
    assert isinstance(table.observations, np.memmap)
    assert table.observations.dtype == np.uint8
    assert table.actions.dtype == np.int32
    assert table.actions.shape == (10,)
    np.testing.assert_array_equal(table.observations, frames.reshape(10, 4, 4, 3))
    assert table.extras["qpos"].dtype == np.float64
    assert table.extras["pressed"].dtype == np.bool_
    assert table.spaces.action.discrete
    assert table.spaces.action.size == 7
    statistics = table.manifest.statistics["observations"]
    pixels = frames.reshape(-1, 3)
    np.testing.assert_allclose(statistics.mean, pixels.mean(axis=0))
    np.testing.assert_allclose(statistics.std, pixels.std(axis=0))
    np.testing.assert_array_equal(statistics.min, pixels.min(axis=0))
    np.testing.assert_array_equal(statistics.max, pixels.max(axis=0))


def test_an_episode_may_come_in_blocks(tmp_path):
    episodes = episodes_of([7, 4])
    whole = write(tmp_path / "whole", episodes)
    with TableWriter(tmp_path / "blocks", (3,), "float32", 2) as writer:
        for observations, actions in episodes:
            for start in range(0, len(observations), 3):
                writer.extend(observations[start : start + 3], actions[start : start + 3])
            writer.end_episode()
    assert Table.open(tmp_path / "blocks").digest == whole.digest


def test_digest_is_of_the_content(tmp_path):
    episodes = episodes_of([4, 5])
    first = write(tmp_path / "a", episodes, provenance={"source": "here"})
    again = write(tmp_path / "b", episodes, provenance={"source": "there"})
    cut_elsewhere = write(
        tmp_path / "c",
        [
            (
                np.concatenate([episodes[0][0], episodes[1][0]]),
                np.concatenate([episodes[0][1], episodes[1][1]]),
            )
        ],
    )
    assert first.digest == again.digest
    assert first.digest != cut_elsewhere.digest


def test_a_refused_episode_leaves_the_writer_as_it_was(tmp_path):
    good, bad, other = episodes_of([4, 5, 6])
    bad[1][2, 1] = np.nan
    with TableWriter(tmp_path / "t", (3,), "float32", 2) as writer:
        writer.append(*good)
        with pytest.raises(FarstepError, match=r"actions holds nan in episode 1, step 2"):
            writer.append(*bad)
        writer.append(*other)
    expected = write(tmp_path / "expected", [good, other])
    assert Table.open(tmp_path / "t", verify=True).digest == expected.digest


@pytest.mark.parametrize(
    ("observations", "actions", "extras", "message"),
    [
        (np.zeros((1, 3)), np.zeros((1, 2)), {}, "1 step;"),
        (np.zeros((0, 3)), np.zeros((0, 2)), {}, "0 steps;"),
        (np.zeros((4, 2)), np.zeros((4, 2)), {}, r"shape \(2,\) a step"),
        (np.zeros((4, 3)), np.zeros((4, 3)), {}, r"actions have shape \(3,\)"),
        (np.zeros((4, 3)), np.zeros((3, 2)), {}, "4 steps and actions 3"),
        (np.full((4, 3), np.inf), np.zeros((4, 2)), {}, "observations holds inf in episode 0"),
        (np.full((4, 3), 1e300), np.zeros((4, 2)), {}, r"observations holds 1e\+300"),
        (np.zeros((4, 3), object), np.zeros((4, 2)), {}, "observations is object"),
        (np.zeros((4, 3)), np.zeros((4, 2)), {"episode_ends": np.zeros(4)}, "cannot name"),
        (np.zeros((4, 3)), np.zeros((4, 2)), {"../x": np.zeros(4)}, "cannot name"),
        (np.zeros((4, 3)), np.zeros((4, 2)), {"qpos": np.zeros(5)}, "4 steps and qpos 5"),
    ],
)
def test_bad_episodes_are_refused(tmp_path, observations, actions, extras, message):
    with (
        pytest.raises(FarstepError, match=message),
        TableWriter(tmp_path / "t", (3,), "float32", 2) as writer,
    ):
        writer.append(observations, actions, **extras)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [((4, 4, 3), "float32", "of uint8"), ((4, 4), "uint8", "neither"), ((4,), "int64", "int64")],
)
def test_what_is_neither_vector_nor_image_is_refused_at_once(tmp_path, shape, dtype, message):
    with pytest.raises(FarstepError, match=message):
        TableWriter(tmp_path / "t", shape, dtype, 2)


def test_extras_stay_the_same_from_episode_to_episode(tmp_path):
    with TableWriter(tmp_path / "t", (3,), "float32", 2) as writer:
        writer.append(np.zeros((2, 3)), np.zeros((2, 2)), qpos=np.zeros((2, 1)))
        with pytest.raises(FarstepError, match="lacks 'qpos'"):
            writer.append(np.zeros((2, 3)), np.zeros((2, 2)))
        with pytest.raises(FarstepError, match="qpos is float64"):
            writer.append(np.zeros((2, 3)), np.zeros((2, 2)), qpos=np.zeros((2, 4)))
        with pytest.raises(FarstepError, match="has 'qvel'"):
            writer.append(
                np.zeros((2, 3)), np.zeros((2, 2)), qpos=np.zeros((2, 1)), qvel=np.zeros(2)
            )


def test_discrete_actions_are_integers_in_range(tmp_path):
    with TableWriter(tmp_path / "t", (3,), "float32", 4, discrete=True) as writer:
        with pytest.raises(FarstepError, match=r"step 1: action 4 is not in \[0, 4\)"):
            writer.append(np.zeros((2, 3)), np.array([3, 4]))
        with pytest.raises(FarstepError, match="discrete: integers"):
            writer.append(np.zeros((2, 3)), np.zeros(2))
        writer.append(np.zeros((2, 3)), np.array([3, 0]))


def test_counts_actions_out_of_range(tmp_path):
    (observations, actions) = episodes_of([6])[0]
    actions[1, 0], actions[4] = 1.5, -2.0
    assert write(tmp_path / "t", [(observations, actions)]).manifest.actions_out_of_range == 2


def test_refuses_an_existing_target_unless_told(tmp_path):
    first, second = episodes_of([3]), episodes_of([5])
    write(tmp_path / "t", first)
    with pytest.raises(FarstepError, match="already exists"):
        write(tmp_path / "t", second)
    assert write(tmp_path / "t", second, overwrite=True).num_steps == 5
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(FarstepError, match=r"holds 'thesis\.tex'"):
        write(tmp_path / "home", second, overwrite=True)
    assert leftovers(tmp_path) == ["home", "t"]


def overwrite_and_be_interrupted(path: Path) -> None:
    with TableWriter(path, (3,), "float32", 2, overwrite=True) as writer:
        writer.append(np.zeros((4, 3)), np.zeros((4, 2)))
        raise KeyboardInterrupt


def test_a_failed_overwrite_keeps_the_old_table(tmp_path):
    old = write(tmp_path / "t", episodes_of([3]))
    with pytest.raises(KeyboardInterrupt):
        overwrite_and_be_interrupted(tmp_path / "t")
    assert Table.open(tmp_path / "t", verify=True).digest == old.digest
    assert leftovers(tmp_path) == ["t"]


def test_nothing_written_is_no_table(tmp_path):
    with (
        pytest.raises(FarstepError, match="No episode"),
        TableWriter(tmp_path / "t", (3,), "float32", 2),
    ):
        pass
    with (
        pytest.raises(FarstepError, match="2 steps are left over"),
        TableWriter(tmp_path / "t", (3,), "float32", 2) as writer,
    ):
        writer.extend(np.zeros((2, 3)), np.zeros((2, 2)))
    assert leftovers(tmp_path) == []


FILL_THE_DISK = """
import resource, sys
import numpy as np
from farstep.core.errors import FarstepError
from farstep.data.table import TableWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
try:
    with TableWriter(sys.argv[1], (100,), "float32", 2, expected_steps=100_000) as writer:
        for _ in range(100):
            writer.append(np.zeros((1000, 100), np.float32), np.zeros((1000, 2), np.float32))
except FarstepError as error:
    print(error)
"""


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """A limit on file sizes fails the write system call just as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path / "t")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "No space left to write" in done.stdout
    assert "needs 40.8 MB" in done.stdout
    assert "Nothing was left behind" in done.stdout
    assert leftovers(tmp_path) == []


def test_a_disk_that_fills_at_the_last_write(tmp_path, monkeypatch):
    def full(column):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Column, "finish", full)
    with pytest.raises(FarstepError, match="No space left"):
        write(tmp_path / "t", episodes_of([3]))
    assert leftovers(tmp_path) == []


def test_what_cannot_fit_is_not_begun(tmp_path):
    with (
        pytest.raises(FarstepError, match=r"needs 4000\.0 TB"),
        TableWriter(tmp_path / "t", (998,), "float32", 2, expected_steps=10**12),
    ):
        pass
    assert leftovers(tmp_path) == []


def _truncate(path: Path) -> None:
    content = (path / "observations.npy").read_bytes()
    (path / "observations.npy").write_bytes(content[:-4])


def _lengthen(path: Path) -> None:
    with (path / "observations.npy").open("ab") as file:
        file.write(b"more")


def _remove(path: Path) -> None:
    (path / "actions.npy").unlink()


def _other_shape(path: Path) -> None:
    np.save(path / "actions.npy", np.zeros((9, 3), np.float32))


def _pickled(path: Path) -> None:
    np.save(path / "actions.npy", np.array([{}] * 9, dtype=object), allow_pickle=True)


def _edit(path: Path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | changes))


def _ends(*ends: int):
    return lambda path: np.save(path / "episode_ends.npy", np.array(ends, np.int64))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "observations.npy is damaged"),
        (_lengthen, "bytes, and its header asks for"),
        (_remove, "actions.npy is missing"),
        (_other_shape, "the manifest says float32"),
        (_pickled, "actions.npy is damaged"),
        (_ends(3, 3), "does not cut"),
        (_ends(3, 7), "does not cut"),
        (_ends(0, 8), "does not cut"),
        (_ends(8, 3), "does not cut"),
        (lambda path: _edit(path, num_steps=10), "counts 10 steps"),
        (lambda path: _edit(path, num_episodes=3), "counts 3 episodes"),
        (lambda path: _edit(path, version=99), "format version 99"),
        (lambda path: _edit(path, format="zarr"), "not the manifest of a farstep table"),
        (lambda path: _edit(path, colour="red"), "has no 'colour'"),
        (lambda path: _edit(path, arrays={}), "lists no 'observations'"),
        (lambda path: (path / "manifest.json").write_text("{"), "is damaged"),
        (lambda path: (path / "manifest.json").unlink(), "not a table"),
    ],
)
def test_damage_is_found_on_opening(tmp_path, damage, message):
    write(tmp_path / "t", episodes_of([4, 5]))
    damage(tmp_path / "t")
    with pytest.raises(FarstepError, match=message):
        Table.open(tmp_path / "t")


def test_verify_finds_a_flipped_bit(tmp_path):
    write(tmp_path / "t", episodes_of([4, 5]))
    file = tmp_path / "t" / "observations.npy"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    Table.open(tmp_path / "t")
    with pytest.raises(FarstepError, match="has changed since it was written"):
        Table.open(tmp_path / "t", verify=True)


def test_datasets_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path))
    root = tmp_path / "pointmaze-medium-stitch-v0"
    train = write(root / "train", episodes_of([4, 5]), environment="pointmaze-medium-v0")
    val = write(root / "val", episodes_of([3]))
    for name in ("pointmaze-medium-stitch", "pointmaze-medium-stitch-v0", root, str(root)):
        dataset = open_dataset(name, verify=True)
        assert dataset.name == "pointmaze-medium-stitch-v0"
        assert dataset.environment == "pointmaze-medium-v0"
        assert dataset.train.digest == train.digest
        assert dataset.val is not None
        assert dataset.val.digest == val.digest
    alone = open_dataset(root / "val")
    assert alone.val is None
    assert alone.train.digest == val.digest
    with pytest.raises(FarstepError, match="Did you mean 'pointmaze-medium-stitch-v0'"):
        open_dataset("pointmaze-medium-stich-v0")
    with pytest.raises(FarstepError, match="holds no dataset"):
        open_dataset(tmp_path / "nowhere")


def test_a_dataset_keeps_its_name_when_its_directory_is_renamed(tmp_path):
    write(tmp_path / "published" / "train", episodes_of([4]), name="pointmaze-medium-stitch-v0")
    (tmp_path / "published").rename(tmp_path / "mine")
    assert open_dataset(tmp_path / "mine").name == "pointmaze-medium-stitch-v0"


def test_train_and_val_must_match(tmp_path):
    write(tmp_path / "d" / "train", episodes_of([4]))
    write(tmp_path / "d" / "val", episodes_of([4], size=5))
    with pytest.raises(FarstepError, match="train holds"):
        open_dataset(tmp_path / "d")
