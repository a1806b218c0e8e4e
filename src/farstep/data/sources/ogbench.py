"""Import of `.npz` files in OGBench's layout: published ones, and anybody's own.

    key            shape       what
    observations   (N, …)      floats, or uint8 pixels
    actions        (N, A)      floats in [-1, 1]; or (N,) integers
    terminals      (N,)        1 on the last stored observation of each episode, else 0
    qpos, qvel, button_states  (N, …), optional: the simulator's state

OGBench's loader also makes a compact form, where `terminals` marks the last two observations and
`valids` is 0 on the last; where `valids` is there, it tells the ends.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from farstep.core.errors import FarstepError, nearest
from farstep.core.files import check_free_space, staged_directory
from farstep.data.sources.npz import ArrayHeader, NpzFile
from farstep.data.table import TableWriter, check_name, data_root, dataset_files

REQUIRED = ("observations", "actions", "terminals")
SIMULATOR_STATE = ("qpos", "qvel", "button_states")

DISCRETE_ACTIONS = {"powderworld": 8}
"""How many actions there are, by the first word of the published dataset's name."""

_BLOCK_BYTES = 1 << 23

Progress = Callable[[int, int], None]
"""Called with (steps written, steps in all)."""


@dataclass(frozen=True)
class ImportOptions:
    """What to do with data that are not as published.

    Attributes:
        out_of_range: actions with a coordinate outside [-1, 1] are kept and reported, clipped and
            reported, or refused.
        one_step_episodes: refuse or leave out episodes of a single observation.
        close_last_episode: take the end of each file for the end of its last episode, where
            `terminals` does not mark it.
        extras: further keys to store beside qpos, qvel and button_states.
        num_actions: actions are integers in [0, num_actions).
    """

    out_of_range: Literal["keep", "clip", "error"] = "keep"
    one_step_episodes: Literal["error", "drop"] = "error"
    close_last_episode: bool = False
    extras: tuple[str, ...] = ()
    num_actions: int | None = None


@dataclass(frozen=True)
class Imported:
    """A finished import: the dataset's directory, and what the reader should know about it."""

    path: Path
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Layout:
    """What every file of one dataset must agree on."""

    observation_shape: tuple[int, ...]
    observation_dtype: str
    action_size: int
    discrete: bool
    extras: Mapping[str, ArrayHeader]

    @property
    def row_bytes(self) -> int:
        pixel = 1 if self.observation_dtype == "uint8" else 4
        return (
            math.prod(self.observation_shape) * pixel
            + 4 * (1 if self.discrete else self.action_size)
            + sum(header.num_bytes for header in self.extras.values())
        )


@dataclass(frozen=True)
class _Shard:
    """One file, inspected but not yet read."""

    path: Path
    layout: _Layout
    ends: Int[np.ndarray, " episodes"]
    unused: tuple[str, ...]

    @property
    def num_steps(self) -> int:
        return int(self.ends[-1]) + 1


def import_npz(
    source: Path,
    name: str | None = None,
    *,
    val: Path | None = None,
    environment: str | None = None,
    options: ImportOptions | None = None,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Import `source` as dataset `name` under `data_root()`.

    Args:
        source: an `.npz` file, or a directory of them, read in name order. Files that end in
            `-val.npz` are the validation split: beside a single file, its own sibling.
        name: the dataset's name; that of the file or directory if left out.
        val: a validation file or directory elsewhere.
        environment: name of the environment, stored for evaluation.
        options: what to do with data that are not as published.
        overwrite: replace a dataset of this name.
        provenance: stored in the manifest beside each file's name and checksum.
        progress: told of every block.

    Raises:
        FarstepError: files missing, damaged or of the wrong shape, numbers that are not finite,
            or no space; nothing is left behind.
    """
    options = options or ImportOptions()
    files = _find_files(source, val)
    name = check_name(name if name is not None else source.resolve().name.removesuffix(".npz"))
    num_actions = options.num_actions or DISCRETE_ACTIONS.get(name.split("-", 1)[0])
    shards = {
        split: [_inspect(path, options, num_actions) for path in paths]
        for split, paths in files.items()
    }
    everything = [shard for split in shards.values() for shard in split]
    layout = everything[0].layout
    for shard in everything:
        if shard.layout != layout:
            raise FarstepError(
                f"{shard.path} does not match {everything[0].path}: it holds {shard.layout}, and"
                f" the first file {layout}."
            )
    total = sum(shard.num_steps for shard in everything)
    target = data_root() / name
    check_free_space(target, total * layout.row_bytes)
    notes = _unused_notes(everything)
    tally = _Tally(total, progress)
    with staged_directory(target, overwrite=overwrite, owned=dataset_files(target)) as staging:
        for split, members in shards.items():
            record = dict(provenance or {}) | {
                "importer": "ogbench-npz",
                "out_of_range": options.out_of_range,
                "files": [
                    {
                        "name": shard.path.name,
                        "bytes": shard.path.stat().st_size,
                        "sha256": file_sha256(shard.path),
                    }
                    for shard in members
                ],
            }
            with TableWriter(
                staging / split,
                layout.observation_shape,
                layout.observation_dtype,
                layout.action_size,
                layout.discrete,
                environment,
                record,
                name=name,
                expected_steps=sum(shard.num_steps for shard in members),
            ) as writer:
                for shard in members:
                    _copy(shard, writer, options, tally)
        notes += tally.notes(options)
    return Imported(target, tuple(notes))


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_files(source: Path, val: Path | None) -> dict[str, list[Path]]:
    if source.is_dir():
        found = sorted(source.glob("*.npz"))
        train = [path for path in found if not path.name.endswith("-val.npz")]
        validation = [path for path in found if path.name.endswith("-val.npz")]
        if not train:
            raise FarstepError(f"{source} holds no .npz file to train on.")
    else:
        if source.name.endswith("-val.npz"):
            raise FarstepError(
                f"{source} is a validation file. Give the training file; its `-val.npz` sibling is"
                " found beside it."
            )
        train = [source]
        sibling = source.with_name(f"{source.name.removesuffix('.npz')}-val.npz")
        validation = [sibling] if sibling.is_file() else []
    if val is not None:
        validation = sorted(val.glob("*.npz")) if val.is_dir() else [val]
        if not validation:
            raise FarstepError(f"{val} holds no .npz file.")
    return {"train": train} | ({"val": validation} if validation else {})


def _inspect(path: Path, options: ImportOptions, num_actions: int | None) -> _Shard:
    with NpzFile(path) as file:
        headers = file.headers
        for key in (*REQUIRED, *options.extras):
            if key not in headers:
                raise FarstepError(f"{path} has no '{key}'.{nearest(key, headers)}")
        steps = headers["observations"].shape[0] if headers["observations"].shape else 0
        if steps == 0:
            raise FarstepError(f"{path} holds no steps.")
        kept = [key for key in SIMULATOR_STATE if key in headers]
        kept += [key for key in options.extras if key not in kept]
        used = [*REQUIRED, *kept, *(["valids"] if "valids" in headers else [])]
        for key in used:
            if headers[key].shape[:1] != (steps,):
                raise FarstepError(
                    f"{path}: observations have {steps} rows, and '{key}' has shape"
                    f" {headers[key].shape}. Every array needs one row per observation."
                )
        layout = _layout(path, headers, {key: headers[key] for key in kept}, num_actions)
        ends = _episode_ends(file, steps, options)
    unused = tuple(key for key in headers if key not in used)
    return _Shard(path, layout, ends, unused)


def _layout(
    path: Path,
    headers: Mapping[str, ArrayHeader],
    extras: Mapping[str, ArrayHeader],
    num_actions: int | None,
) -> _Layout:
    observations, actions = headers["observations"], headers["actions"]
    if len(observations.shape) < 2:
        raise FarstepError(
            f"{path}: observations have shape {observations.shape}; a row of numbers is needed for"
            " each step, so (N, 1) for a single number."
        )
    if num_actions is None and actions.dtype.kind in "biu" and len(actions.shape) == 1:
        raise FarstepError(
            f"{path}: actions are integers. Say how many different ones there are"
            " (--num-actions), since the file cannot tell."
        )
    if len(actions.shape) != (2 if num_actions is None else 1):
        raise FarstepError(
            f"{path}: actions have shape {actions.shape}; "
            + ("(N, A) is needed." if num_actions is None else "discrete ones need (N,).")
        )
    return _Layout(
        observation_shape=observations.shape[1:],
        observation_dtype="uint8" if observations.dtype == np.uint8 else "float32",
        action_size=num_actions or actions.shape[1],
        discrete=num_actions is not None,
        extras={key: ArrayHeader(header.shape[1:], header.dtype) for key, header in extras.items()},
    )


def _episode_ends(
    file: NpzFile, steps: int, options: ImportOptions
) -> Int[np.ndarray, " episodes"]:
    key, last = ("valids", 0) if "valids" in file.headers else ("terminals", 1)
    rows = file.rows(key)
    marks = rows.read(steps).reshape(steps, -1)
    rows.close()
    if marks.shape[1] != 1 or not np.isin(marks, (0, 1)).all():
        raise FarstepError(
            f"{file.path}: '{key}' must hold one 0 or 1 per step; its shape is"
            f" {file.headers[key].shape}."
        )
    ends = np.flatnonzero(marks[:, 0] == last)
    if ends.size == 0 or ends[-1] != steps - 1:
        if not options.close_last_episode:
            begin = int(ends[-1]) + 1 if ends.size else 0
            raise FarstepError(
                f"{file.path}: '{key}' does not end the last episode, which begins at row {begin}"
                f" and runs to the last row, {steps - 1}. If the file is whole, import with"
                " --close-last-episode."
            )
        ends = np.append(ends, steps - 1)
    lengths = np.diff(ends, prepend=-1)
    short = np.flatnonzero(lengths < 2)
    if short.size and options.one_step_episodes == "error":
        some = ", ".join(map(str, short[:5])) + (", …" if short.size > 5 else "")
        raise FarstepError(
            f"{file.path}: {short.size} of {ends.size} episodes have one step, which makes no"
            f" transition: {some}. Leave them out with --one-step-episodes drop. (If `terminals`"
            " marks two steps per episode, mark only the last.)"
        )
    if short.size == ends.size:
        raise FarstepError(f"{file.path}: every episode has one step; none makes a transition.")
    return ends


class _Tally:
    """What an import has seen so far: progress, left-out episodes, actions out of range."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._steps = 0
        self.dropped = 0
        self.outside = 0
        self.low, self.high = 0.0, 0.0

    def advance(self, steps: int) -> None:
        self._steps += steps
        if self._progress is not None:
            self._progress(self._steps, self._total)

    def see_actions(self, actions: np.ndarray) -> None:
        self.low = min(self.low, float(actions.min()))
        self.high = max(self.high, float(actions.max()))
        self.outside += int(np.count_nonzero((np.abs(actions) > 1).any(axis=1)))

    def notes(self, options: ImportOptions) -> list[str]:
        notes = []
        if self.dropped:
            notes.append(f"{self.dropped} episodes of one step were left out.")
        if self.outside:
            seen = (
                f"{self.outside} of {self._total} actions lie outside [-1, 1]"
                f" (range {self.low:.4g} to {self.high:.4g})"
            )
            if options.out_of_range == "error":
                raise FarstepError(
                    f"{seen}. Scale them in the file, or import with --out-of-range clip or keep."
                )
            done = "were clipped" if options.out_of_range == "clip" else "are kept as they are"
            notes.append(f"{seen}; they {done}.")
        return notes


def _copy(shard: _Shard, writer: TableWriter, options: ImportOptions, tally: _Tally) -> None:
    layout = shard.layout
    keys = ["observations", "actions", *layout.extras]
    block_rows = max(1, _BLOCK_BYTES // layout.row_bytes)
    with NpzFile(shard.path) as file:
        readers = {key: file.rows(key) for key in keys}
        begin = 0
        for episode, end in enumerate(shard.ends.tolist()):
            keep = end > begin
            for start in range(begin, end + 1, block_rows):
                count = min(block_rows, end + 1 - start)
                rows = {key: reader.read(count) for key, reader in readers.items()}
                if keep:
                    rows["actions"] = _prepare_actions(rows["actions"], layout, options, tally)
                    _extend(writer, rows, shard, episode, begin)
                tally.advance(count)
            if keep:
                writer.end_episode()
            else:
                tally.dropped += 1
            begin = end + 1
        for reader in readers.values():
            reader.close()


def _prepare_actions(
    actions: np.ndarray, layout: _Layout, options: ImportOptions, tally: _Tally
) -> np.ndarray:
    if not layout.discrete:
        tally.see_actions(actions)
        return np.clip(actions, -1, 1) if options.out_of_range == "clip" else actions
    if actions.dtype.kind == "f" and (actions == np.rint(actions)).all():
        return actions.astype(np.int64)
    return actions


def _extend(
    writer: TableWriter, rows: Mapping[str, np.ndarray], shard: _Shard, episode: int, begin: int
) -> None:
    try:
        writer.extend(**rows)
    except FarstepError as error:
        raise FarstepError(
            f"{shard.path}, episode {episode} of the file, which begins at row {begin}: {error}"
        ) from error


def _unused_notes(shards: Sequence[_Shard]) -> list[str]:
    known = (*REQUIRED, *SIMULATOR_STATE)
    notes = []
    for key in sorted({key for shard in shards for key in shard.unused}):
        hint = nearest(key, known)
        notes.append(
            f"'{key}' was left out; keep it with --extra {key}."
            + (hint if "Did you mean" in hint else "")
        )
    return notes
