"""Files of flat arrays: all episodes one after another, and keys that mark where each ends.

    key            shape       what
    observations   (N, …)      vectors or images
    actions        (N, A)      floats; or (N,) integers
    terminals      (N,)        1 on the last stored observation of each episode, else 0
    qpos, qvel, button_states  (N, …), optional: the simulator's state

Other libraries tell an episode's end by another key, or by two: one for the task's end and one for
the time limit. An episode ends where any of `END_KEYS` is 1.

OGBench's loader also makes a compact form, where `terminals` marks the last two observations and
`valids` is 0 on the last.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from jaxtyping import Bool, Int

from farstep.core.errors import FarstepError, nearest
from farstep.data.episodes import Episode, Split
from farstep.data.sources.base import FieldMap, ImportOptions, Source

END_KEYS = (
    "terminals", "terminations", "terminateds", "terminated", "dones",
    "timeouts", "truncations", "truncateds", "truncated",
)  # fmt: skip
"""Keys that are 1 on the last observation of an episode: of OGBench and D4RL, of Minari, RLlib and
Gymnasium."""

SIMULATOR_STATE = ("qpos", "qvel", "button_states")

BLOCK_BYTES = 1 << 23
"""Bytes of the rows that are read at once."""


@dataclass(frozen=True)
class ArrayHeader:
    """Shape, dtype and order of one array, as its header declares them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    column_major: bool = False

    @property
    def num_bytes(self) -> int:
        """Bytes of the elements. Exact however large, since a damaged header may say anything."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row(self) -> ArrayHeader:
        """Shape and dtype of one row."""
        return ArrayHeader(self.shape[1:], self.dtype)


class Rows(Protocol):
    """The rows of one array, in order."""

    def read(self, count: int) -> np.ndarray:
        """The next `count` rows, in row-major order.

        Raises:
            FarstepError: the file is damaged or ends early.
        """
        ...


class SlicedRows:
    """The rows of an array that can be sliced, in order."""

    def __init__(self, array: Any) -> None:
        self._array, self._begin = array, 0

    def read(self, count: int) -> np.ndarray:
        self._begin += count
        return np.ascontiguousarray(self._array[self._begin - count : self._begin])


class ArrayFile(Protocol):
    """An open file of arrays by name. A context manager."""

    path: Path
    headers: Mapping[str, ArrayHeader]

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...

    def rows(self, name: str) -> AbstractContextManager[Rows]:
        """A reader of array `name` from its first row; several may be read side by side."""
        ...


@dataclass(frozen=True)
class FlatFiles:
    """A kind of files that hold flat arrays.

    Attributes:
        suffixes: endings of their names.
        open: reads the headers.
    """

    suffixes: tuple[str, ...]
    open: Callable[[Path], ArrayFile]

    def find(self, directory: Path) -> list[Path]:
        """The directory's files by name, without hidden ones such as macOS's `._*`."""
        return sorted(
            path
            for path in directory.iterdir()
            if path.suffix in self.suffixes and not path.name.startswith(".")
        )


@dataclass(frozen=True)
class _Shard:
    """One file, inspected but not yet read.

    Attributes:
        fields: map from a table's arrays to the file's.
        rows: shape and dtype of one row of each array that is read.
        ends: rows that end an episode.
        marks: number of ones of each key of ends.
        unused: the other keys.
    """

    path: Path
    fields: FieldMap
    rows: Mapping[str, ArrayHeader]
    ends: Int[np.ndarray, " episodes"]
    marks: Mapping[str, int]
    unused: tuple[str, ...]

    @property
    def num_steps(self) -> int:
        return int(self.ends[-1]) + 1


def open_flat(path: Path, options: ImportOptions, kind: FlatFiles) -> Source:
    """The episodes of a file, or of a directory of them, read in name order.

    Files whose stem ends in `-val` are the validation split: beside a single file, its own
    sibling.

    Raises:
        FarstepError: files missing, damaged or of the wrong shape, or unknown ends of episodes.
    """
    if options.only is not None:
        raise FarstepError(
            f"The episodes of {path} have neither names nor tasks by which to choose (--only)."
        )
    shards = {
        split: [_inspect(file, options, kind) for file in files]
        for split, files in _find_files(path, options.val, kind).items()
    }
    everything = [shard for split in shards.values() for shard in split]
    for shard in everything[1:]:
        _check_alike(shard, everything[0])
    notes = _notes(everything, options)
    splits = {split: _split(members, kind) for split, members in shards.items()}
    return Source(splits, tuple(notes))


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _split(shards: Sequence[_Shard], kind: FlatFiles) -> Split:
    files = [
        {
            "name": shard.path.name,
            "bytes": shard.path.stat().st_size,
            "sha256": file_sha256(shard.path),
        }
        for shard in shards
    ]
    return Split(
        (episode for shard in shards for episode in _episodes(shard, kind)),
        sum(shard.num_steps for shard in shards),
        {"files": files},
    )


def _find_files(source: Path, val: Path | None, kind: FlatFiles) -> dict[str, list[Path]]:
    named = kind.suffixes[0]
    if source.is_dir():
        found = kind.find(source)
        train = [path for path in found if not path.stem.endswith("-val")]
        validation = [path for path in found if path.stem.endswith("-val")]
        if not train:
            raise FarstepError(f"{source} holds no {named} file to train on.")
    else:
        if source.stem.endswith("-val"):
            raise FarstepError(
                f"{source} is a validation file. Give the training file; its"
                f" `-val{source.suffix}` sibling is found beside it."
            )
        train = [source]
        suffix = source.suffix if source.suffix in kind.suffixes else named
        sibling = source.with_name(f"{source.name.removesuffix(suffix)}-val{suffix}")
        validation = [sibling] if sibling.is_file() else []
    if val is not None:
        validation = kind.find(val) if val.is_dir() else [val]
        if not validation:
            raise FarstepError(f"{val} holds no {named} file.")
    return {"train": train} | ({"val": validation} if validation else {})


def _inspect(path: Path, options: ImportOptions, kind: FlatFiles) -> _Shard:
    with kind.open(path) as file:
        headers = file.headers
        kept = tuple(key for key in SIMULATOR_STATE if key in headers)
        fields = options.fields(("observations",), "actions", headers, str(path), kept)
        shape = headers[fields.observations[0]].shape
        steps = shape[0] if shape else 0
        if steps == 0:
            raise FarstepError(f"{path} holds no steps.")
        for key in fields.keys:
            _check(file, key, steps)
        ends, marks = _episode_ends(file, steps, options)
    rows = {key: headers[key].row for key in fields.keys}
    unused = tuple(key for key in headers if key not in rows and key not in marks)
    return _Shard(path, fields, rows, ends, marks, unused)


def _check(file: ArrayFile, name: str, steps: int) -> None:
    """Refuse array `name` if it is not numbers with one row for each of `steps`.

    Raises:
        FarstepError: so it is. Nothing is ever unpickled.
    """
    header = file.headers[name]
    if header.dtype.hasobject:
        raise FarstepError(
            f"{file.path}: '{name}' holds Python objects, which farstep never unpickles. Save"
            " one array of numbers per key."
        )
    if header.dtype.kind not in "biuf":
        raise FarstepError(f"{file.path}: '{name}' is {header.dtype}; numbers are needed.")
    if header.shape[:1] != (steps,):
        raise FarstepError(
            f"{file.path}: observations have {steps} rows, and '{name}' has shape"
            f" {header.shape}. Every array needs one row per observation."
        )


def _check_alike(shard: _Shard, first: _Shard) -> None:
    """Refuse a file whose arrays do not continue those of the first.

    Raises:
        FarstepError: says which array differs, and how.
    """
    for key in sorted({*shard.rows, *first.rows}):
        if key not in shard.rows or key not in first.rows:
            lacking, other = (shard, first) if key in first.rows else (first, shard)
            raise FarstepError(f"{lacking.path} lacks '{key}', which {other.path} has.")
        here, there = shard.rows[key], first.rows[key]
        if here.shape != there.shape:
            raise FarstepError(
                f"{shard.path} does not match {first.path}: '{key}' has rows {here.shape}, and"
                f" there {there.shape}."
            )
        floats = here.dtype.kind == there.dtype.kind == "f" and key in ("observations", "actions")
        if here.dtype.newbyteorder("=") != there.dtype.newbyteorder("=") and not floats:
            raise FarstepError(
                f"{shard.path} does not match {first.path}: '{key}' is {here.dtype}, and there"
                f" {there.dtype}."
            )


def _episode_ends(
    file: ArrayFile, steps: int, options: ImportOptions
) -> tuple[Int[np.ndarray, " episodes"], dict[str, int]]:
    """The rows that end an episode, and how often each key marks one."""
    marks = _read_marks(file, steps, options)
    union = np.logical_or.reduce([np.zeros(steps, bool), *marks.values()])
    ends = np.flatnonzero(union)
    counts = {key: int(np.count_nonzero(marked)) for key, marked in marks.items()}
    named = " and ".join(f"'{key}'" for key in marks)
    if ends.size == 0 and not options.close_last_episode:
        raise FarstepError(
            f"{file.path}: {named} {'is' if len(marks) == 1 else 'are'} 0 everywhere, so that"
            " nothing tells where episodes end. Mark the last observation of each with 1, or name"
            " the key that does (--ends KEY). Only if the whole file is one single episode, import"
            " it with --close-last-episode."
        )
    if ends.size == 0 or ends[-1] != steps - 1:
        if not options.close_last_episode:
            raise FarstepError(
                f"{file.path}: {named} {'does' if len(marks) == 1 else 'do'} not end the last"
                f" episode, which begins at row {ends[-1] + 1} and runs to the last row,"
                f" {steps - 1}. If the file is whole, import with --close-last-episode."
            )
        ends = np.append(ends, steps - 1)
    short = np.flatnonzero(np.diff(ends, prepend=-1) < 2)
    if short.size and options.one_step_episodes == "error":
        some = ", ".join(map(str, short[:5])) + (", …" if short.size > 5 else "")
        raise FarstepError(
            f"{file.path}: {short.size} of {ends.size} episodes have one step, which makes no"
            f" transition: {some}. Leave them out with --one-step-episodes drop. (If {named}"
            " marks two steps per episode, mark only the last.)"
        )
    if short.size == ends.size:
        raise FarstepError(f"{file.path}: every episode has one step; none makes a transition.")
    return ends, counts


def _read_marks(
    file: ArrayFile, steps: int, options: ImportOptions
) -> dict[str, Bool[np.ndarray, " steps"]]:
    """Where each key marks an episode's last row."""
    keys = options.ends or tuple(key for key in END_KEYS if key in file.headers)
    for key in keys:
        if key not in file.headers:
            raise FarstepError(f"{file.path} has no '{key}'.{nearest(key, file.headers)}")
    if not keys and not options.close_last_episode:
        raise FarstepError(
            f"{file.path} has no 'terminals', which is 1 on the last observation of each episode."
            " Where another key tells the ends, name it with --ends KEY; there are"
            f" {', '.join(repr(key) for key in file.headers)}. Where each file is one episode, say"
            " --close-last-episode."
        )
    marks = {key: _read_flags(file, key, steps) for key in keys}
    if "valids" in file.headers and not options.ends and "terminals" in marks:
        ends = _compact_ends(file, steps, marks["terminals"])
        if ends is not None:
            return {"valids": ends}
    return marks


def _read_flags(file: ArrayFile, key: str, steps: int) -> Bool[np.ndarray, " steps"]:
    _check(file, key, steps)
    values = _whole(file, key).reshape(steps, -1)
    if values.shape[1] != 1 or not np.isin(values, (0, 1)).all():
        raise FarstepError(
            f"{file.path}: '{key}' must hold one 0 or 1 per step; its shape is"
            f" {file.headers[key].shape}."
        )
    return values[:, 0] == 1


def _compact_ends(
    file: ArrayFile, steps: int, terminals: Bool[np.ndarray, " steps"]
) -> Bool[np.ndarray, " steps"] | None:
    """The ends by `valids`, if this is OGBench's compact form."""
    if file.headers["valids"].shape != (steps,):
        return None
    ends = _whole(file, "valids") == 0
    both = ends | np.append(ends[1:], True)
    return ends if ends.any() and np.array_equal(both, terminals) else None


def _whole(file: ArrayFile, name: str) -> np.ndarray:
    """An array, all at once."""
    with file.rows(name) as rows:
        return rows.read(file.headers[name].shape[0])


def _episodes(shard: _Shard, kind: FlatFiles) -> Iterator[Episode]:
    row_bytes = sum(row.num_bytes for row in shard.rows.values())
    block_rows = max(1, BLOCK_BYTES // max(1, row_bytes))
    with ExitStack() as stack:
        file = stack.enter_context(kind.open(shard.path))
        readers = {key: stack.enter_context(file.rows(key)) for key in shard.rows}
        begin = 0
        for number, end in enumerate(shard.ends.tolist()):
            where = f"{shard.path}, episode {number} of the file, which begins at row {begin}"
            for start in range(begin, end + 1, block_rows):
                stop = min(start + block_rows, end + 1)
                rows = {key: reader.read(stop - start) for key, reader in readers.items()}
                yield shard.fields.episode(rows, where, ends=stop == end + 1)
            begin = end + 1


def _notes(shards: Sequence[_Shard], options: ImportOptions) -> list[str]:
    notes = []
    counts = {key: sum(s.marks.get(key, 0) for s in shards) for s in shards for key in s.marks}
    if not options.ends and not {*counts} <= {"terminals", "valids"}:
        named = " or ".join(f"'{key}' ({count:,} times)" for key, count in counts.items())
        notes.append(f"Episodes end where {named} is 1; --ends KEY chooses.")
    known = ("observations", "actions", *SIMULATOR_STATE)
    unused = {key for shard in shards for key in shard.unused if key not in END_KEYS}
    for key in sorted(unused):
        hint = nearest(key, known)
        notes.append(
            f"'{key}' was left out; keep it with --extra {key}."
            + (hint if "Did you mean" in hint else "")
        )
    return notes
