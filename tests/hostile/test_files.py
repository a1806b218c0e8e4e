"""Files of all kinds that `farstep data import` may be given: read rightly, or refused in words.

A case is a line: a name, a function that writes the file and gives its path, what is typed behind
it, and words of the message. Of a case that is READ the message is what the command prints, and
`look` is asked of the table; of one that is REFUSED nothing may be left on the disk.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.data.table import Table, open_dataset

ENDS = np.array([0, 0, 0, 1, 0, 0, 0, 1], np.float32)
"""Two episodes of four rows."""

NEVER = np.zeros(8)
RAMP = np.linspace(-1, 1, 32).reshape(8, 4)
BYTES = np.arange(8 * 6 * 5 * 3, dtype=np.uint8).reshape(8, 6, 5, 3)
INDICES = np.array([0, 2, 1, 0, 2, 2, 1, 1])
CLOCK = np.column_stack([RAMP, 1.7e9 + np.arange(8)])

Make = Callable[[Path], Path]
Look = Callable[[Table], bool]


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """Arrays that import without a word, but for `changes`; `None` leaves one out."""
    good = {"observations": RAMP, "actions": RAMP[:, :2] / 2, "terminals": ENDS} | changes
    return {key: value for key, value in good.items() if value is not None}


def npz(**changes: Any) -> Make:
    """An .npz file of `arrays(**changes)`."""

    def make(directory: Path) -> Path:
        np.savez(directory / "log.npz", **arrays(**changes))  # pyright: ignore[reportArgumentType]
        return directory / "log.npz"

    return make


def of(content: bytes, name: str = "log.npz") -> Make:
    """A file of these bytes."""

    def make(directory: Path) -> Path:
        (directory / name).write_bytes(content)
        return directory / name

    return make


def shards(*changes: dict[str, Any], beside: dict[str, bytes] | None = None) -> Make:
    """A directory of .npz files, with further files beside them."""

    def make(directory: Path) -> Path:
        (directory / "log").mkdir()
        for index, one in enumerate(changes):
            np.savez(directory / "log" / f"{index}.npz", **arrays(**one))  # pyright: ignore[reportArgumentType]
        for name, content in (beside or {}).items():
            (directory / "log" / name).write_bytes(content)
        return directory / "log"

    return make


def zipped(**members: bytes) -> bytes:
    """A zip file of members that are no arrays."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def saved(array: np.ndarray) -> bytes:
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def ends(*rows: int) -> Look:
    return lambda table: table.episode_ends.tolist() == list(rows)


def holds(observations: np.ndarray) -> Look:
    return lambda table: bool(np.array_equal(table.observations, observations))


def acts(actions: np.ndarray) -> Look:
    return lambda table: bool(np.array_equal(table.actions, actions))


def keeps(name: str, values: np.ndarray) -> Look:
    return lambda table: bool(np.array_equal(table.extras[name], values))


@dataclass(frozen=True)
class Case:
    """One file: how it is made, the options typed, the words said, and what to ask of the table.

    Without `look` the import must be refused.
    """

    name: str
    make: Make
    words: tuple[str, ...] = ()
    options: str = ""
    look: Look | None = None


HALF = np.array([0, 1, 0, 1, 0, 0, 0, 1])
TIMEOUT_AT_3 = np.array([0, 0, 0, 1, 0, 0, 0, 0])
COMPACT = {
    "terminals": np.array([0, 0, 1, 1, 0, 0, 1, 1.0]),
    "valids": np.array([1, 1, 1, 0, 1, 1, 1, 0.0]),
}

# fmt: off
CASES = [
    # Where episodes end
    Case("timeouts beside terminals", npz(terminals=TIMEOUT_AT_3, timeouts=ENDS), ("'terminals'", "'timeouts'"), look=ends(3, 7)),
    Case("terminals never, timeouts do", npz(terminals=NEVER, timeouts=ENDS), ("'timeouts'",), look=ends(3, 7)),
    Case("truncations of Minari", npz(terminals=None, terminations=NEVER, truncations=ENDS), ("'truncations'",), look=ends(3, 7)),
    Case("truncateds of RLlib", npz(terminals=NEVER, truncateds=ENDS), ("'truncateds'",), look=ends(3, 7)),
    Case("terminals that are not ends", npz(terminals=HALF, timeouts=ENDS), options="--ends timeouts", look=ends(3, 7)),
    Case("a key of one's own", npz(terminals=None, episode_over=ENDS), options="--ends episode_over", look=ends(3, 7)),
    Case("no key for ends", npz(terminals=None, episode_over=ENDS), ("'terminals'", "--ends", "'episode_over'")),
    Case("terminals all 0", npz(terminals=NEVER), ("0 everywhere", "where episodes end", "--ends KEY")),
    Case("terminals all 0, and one episode", npz(terminals=NEVER), options="--close-last-episode", look=ends(7)),
    Case("an end key that is not there", npz(), ("'timeuots'", "terminals"), "--ends timeuots"),
    Case("marks between 0 and 1", npz(terminals=ENDS / 2), ("one 0 or 1 per step",)),
    Case("marks in two columns", npz(terminals=np.stack([ENDS, ENDS], 1)), ("one 0 or 1 per step",)),
    Case("marks in one column", npz(terminals=ENDS[:, None]), look=ends(3, 7)),
    Case("OGBench's compact form", npz(**COMPACT), look=ends(3, 7)),
    Case("valids of one's own", npz(valids=np.ones(8)), ("'valids' was left out",), look=ends(3, 7)),
    Case("valids that are no marks", npz(valids=RAMP), ("'valids' was left out",), look=ends(3, 7)),

    # Images
    Case("images as floats in [0, 1]", npz(observations=BYTES / 255), ("[0, 1]", "uint8"), look=holds(BYTES)),
    Case("images as floats of bytes", npz(observations=BYTES.astype(float)), ("[0, 255]", "uint8"), look=holds(BYTES)),
    Case("images in [-1, 1]", npz(observations=BYTES / 127.5 - 1), ("[0, 1]", "uint8", "-1")),
    Case("images of wide integers", npz(observations=BYTES.astype(np.int64)), look=holds(BYTES)),
    Case("images of integers beyond bytes", npz(observations=BYTES.astype(int) + 1), ("[0, 255]", "256")),
    Case("images that brighten late", npz(observations=np.concatenate([BYTES[:4] / 255, BYTES[4:] * 1.0])), ("[0, 1]", "row 4")),
    Case("channels first", npz(observations=BYTES.transpose(0, 3, 1, 2)), ("channels first",), look=holds(BYTES)),
    Case("channels first, told", npz(observations=BYTES.transpose(0, 3, 1, 2)), options="--observations chw", look=holds(BYTES)),
    Case("channels in no place", npz(observations=BYTES[:, :5, :, [0, 1, 2, 0, 1]]), ("--observations hwc",)),
    Case("greyscale", npz(observations=BYTES[..., 0]), ("greyscale",), look=holds(BYTES[..., :1])),
    Case("frames in channels", npz(observations=BYTES[:, None, :, :, 0].repeat(4, 1)), ("channels first",), look=holds(BYTES[..., :1].repeat(4, 3))),
    Case("stacked frames", npz(observations=BYTES[:, None].repeat(3, 1)), ("one frame", "(3, 6, 5, 3)")),
    Case("vectors of bytes", npz(observations=BYTES[:, 0, 0]), ("uint8", "float32"), look=holds(BYTES[:, 0, 0].astype(np.float32))),
    Case("a grid taken for a vector", npz(observations=BYTES), options="--observations vector", look=holds(BYTES.reshape(8, -1).astype(np.float32))),
    Case("matrices", npz(observations=RAMP.reshape(8, 2, 2)), ("(2, 2)", "--observations vector")),
    Case("a number a step", npz(observations=RAMP[:, 0]), ("(N, 1) for a single number",)),

    # Numbers
    Case("a clock", npz(observations=CLOCK), ("Column 4", "float32", "1.7e+09"), look=lambda table: len(table.observations) == 8),
    Case("a number beyond float32", npz(observations=RAMP * 1e300), ("observations holds", "e+", "float32")),
    Case("not a number", npz(observations=np.where(RAMP > 0.9, np.nan, RAMP)), ("holds nan", "episode 1", "step 3")),
    Case("the least int8", npz(actions=np.full((8, 2), -128, np.int8)), ("8 of 8 actions", "-128"), "--out-of-range error"),
    Case("big-endian extras", npz(qpos=RAMP.astype(">f8")), look=keeps("qpos", RAMP)),
    Case("half precision", npz(observations=RAMP.astype(np.float16)), look=holds(RAMP.astype(np.float16).astype(np.float32))),
    Case("complex numbers", npz(observations=RAMP + 1j), ("'observations'", "complex128")),

    # Keys that nobody asked for
    Case("a string", npz(robot=np.array("the blue one")), ("'robot' was left out",), look=ends(3, 7)),
    Case("a dict", npz(info=np.array({"robot": "blue"}, object)), ("'info' was left out",), look=ends(3, 7)),
    Case("a dict, asked for", npz(info=np.array([{}] * 8, object)), ("'info'", "never unpickles"), "--extra info"),
    Case("observations by key", npz(observations=np.array([{}] * 8, object)), ("'observations'", "never unpickles")),
    Case("a matrix by columns, unused", npz(table=np.asfortranarray(RAMP)), ("'table' was left out",), look=ends(3, 7)),
    Case("a matrix by columns", npz(observations=np.asfortranarray(RAMP), qpos=np.asfortranarray(RAMP)), look=holds(RAMP.astype(np.float32))),
    Case("another length, unused", npz(metadata=np.ones(3)), ("'metadata' was left out",), look=ends(3, 7)),
    Case("an array that is no member's name", npz(**{"a/b c": RAMP}), ("'a/b c' was left out",), look=ends(3, 7)),
    Case("files of macOS", shards({}, {}, beside={"._0.npz": b"\x00\x05\x16\x07", ".DS_Store": b"x"}), look=ends(3, 7, 11, 15)),

    # Discrete actions
    Case("indices in one column", npz(actions=INDICES[:, None]), options="--num-actions 3", look=acts(INDICES)),
    Case("indices as floats", npz(actions=INDICES * 1.0), options="--num-actions 3", look=acts(INDICES)),
    Case("indices as floats in one column", npz(actions=INDICES[:, None] * 1.0), options="--num-actions 3", look=acts(INDICES)),
    Case("one index too high", npz(actions=INDICES), ("action 2", "[0, 2)"), "--num-actions 2"),
    Case("halves of indices", npz(actions=INDICES / 2), ("0.5", "integers"), "--num-actions 3"),
    Case("one-hot indices", npz(actions=np.eye(3)[INDICES]), ("(3,)", "argmax"), "--num-actions 3"),
    Case("indices, untold", npz(actions=INDICES), ("--num-actions",)),
    Case("indices in one column, untold", npz(actions=INDICES[:, None]), ("--num-actions", "as floats")),
    Case("no rows of actions", npz(actions=RAMP[:, 0]), ("(N, A)",)),

    # Shards
    Case("shards of two shapes", shards({}, {"actions": RAMP[:, :1]}), ("1.npz", "'actions' has rows (1,)", "(2,)")),
    Case("shards of two types", shards({"qpos": RAMP}, {"qpos": RAMP.astype("f4")}), ("'qpos'", "float32", "float64")),
    Case("shards of two kinds", shards({"observations": BYTES}, {"observations": BYTES / 255}), ("'observations'", "float64", "uint8")),
    Case("a shard without a key", shards({"qpos": RAMP}, {}), ("1.npz", "lacks 'qpos'")),

    # Other files, whatever their names
    Case("an HDF5 file", of(b"\x89HDF\r\n\x1a\n" + bytes(90)), ("cannot be read as an HDF5 file", "Get it again")),
    Case("an HDF5 file by its name", of(b"\x89HDF\r\n\x1a\n" + bytes(90), "log.hdf5"), ("cannot be read as an HDF5 file",)),
    Case("a pickle", of(pickle.dumps({"observations": [1]})), ("is a pickle", "never")),
    Case("an .npy file", of(saved(RAMP), "log.npy"), ("is an .npy file", "numpy.savez")),
    Case("a web page", of(b"\n<!DOCTYPE html><html>404</html>"), ("is a web page",)),
    Case("a page without a doctype", of(b"<html><body>Sign in</body></html>"), ("is a web page",)),
    Case("an LFS pointer", of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), ("git lfs pull",)),
    Case("a gzip file", of(b"\x1f\x8b\x08" + bytes(40), "log.tar.gz"), ("is a gzip file", "gunzip")),
    Case("a Parquet file", of(b"PAR1" + bytes(40) + b"PAR1"), ("is a Parquet file",)),
    Case("a JSON file", of(b'{"observations": [1, 2]}', "log.json"), ("is a text file",)),
    Case("a zip without arrays", of(zipped(**{"archive/data.pkl": b"x"})), ("holds no arrays",)),
    Case("half an .npz file", of(zipped(**{"observations.npy": saved(RAMP)})[:200]), ("not a whole .npz file",)),
    Case("nothing in it", of(b""), ("is empty",)),
    Case("no file", lambda directory: directory / "nowhere.npz", ("There is no file",)),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_file(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "1000")
    source = case.make(tmp_path)
    line = ["data", "import", str(source), "--name", "mine", *case.options.split()]
    if case.look is not None:
        main(line)
        assert case.look(open_dataset("mine", verify=True).train)
        said = "".join(capsys.readouterr())
        # Who is told of nothing has nothing to be told.
        assert ("note:" in said) == bool(case.words)
    else:
        with pytest.raises(SystemExit) as refusal:
            main(line)
        assert refusal.value.code == 2
        said = capsys.readouterr().err
        assert not list((tmp_path / "data").glob("*"))
    for words in case.words:
        assert words in said
