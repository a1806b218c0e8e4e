"""The table: flat arrays of steps cut into episodes, memory-mapped.

    row            0    1    2    3    4    5    6  …
    observations   s0   s1   s2   s3   s0   s1   s2 …
    actions        a0   a1   a2   --   a0   a1   -- …   (--: stored, but leads nowhere)
    episode_ends             [3,             6, …]

An episode of L stored steps has L - 1 transitions: row i + 1 holds the next observation of row i,
unless i is an episode's last row. Nothing is stored twice.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from farstep.core.arrays import by_name
from farstep.core.errors import FarstepError, nearest
from farstep.core.frames import stacked
from farstep.core.goals import GoalRule
from farstep.core.inputs import expanded_path
from farstep.core.types import Space, Spaces
from farstep.data.manifest import MANIFEST_NAME, ArrayEntry, Manifest, table_files
from farstep.data.writer import TableWriter

__all__ = ["Dataset", "Table", "TableWriter", "data_root", "open_dataset"]

_HASH_BLOCK = 1 << 24

_GOAL_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class Table:
    """One split of a dataset, opened read-only. Build one with `open`.

    Attributes:
        path: the table's directory.
        manifest: shapes, counts, checksums, statistics, provenance.
        observations: (N, *observation shape), float32 or uint8, memory-mapped; of several arrays
            one structured array (N,), of which `observations["name"]` is each.
        actions: (N, A) float32, or (N,) int32 where actions are discrete, memory-mapped.
        episode_ends: (M,) row of each episode's last step, increasing; the last is N - 1.
        extras: further arrays of N rows by name, memory-mapped.
    """

    path: Path
    manifest: Manifest
    observations: np.ndarray
    actions: np.ndarray
    episode_ends: Int[np.ndarray, " episodes"]
    extras: Mapping[str, np.ndarray]

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> Table:
        """Open the table in directory `path`.

        Always checks that every file is there with the declared shape, dtype and size, and that
        the episodes are well formed; this reads no step. `verify` also reads everything once and
        compares the checksums.

        Raises:
            FarstepError: no table there, or a damaged one; says which file and how.
        """
        directory = Path(path)
        source = directory / MANIFEST_NAME
        try:
            text = source.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise FarstepError(f"{directory} is not a table: it has no {MANIFEST_NAME}.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise FarstepError(f"Cannot read {source}: {error}.") from error
        manifest = Manifest.from_json(text, str(source))
        arrays = {
            name: _map_array(directory / f"{name}.npy", entry)
            for name, entry in manifest.arrays.items()
        }
        if verify:
            for name, entry in manifest.arrays.items():
                _check_sum(directory / f"{name}.npy", arrays[name], entry)
        observations, actions = arrays.pop("observations"), arrays.pop("actions")
        ends = np.array(arrays.pop("episode_ends"))
        _check_rows(directory, manifest)
        _check_episodes(directory / "episode_ends.npy", ends, manifest)
        row = manifest.observation.row
        if (observations.dtype, observations.shape[1:]) != (row.base, row.shape):
            raise FarstepError(
                f"{directory}: observations.npy has rows {observations.dtype}"
                f" {observations.shape[1:]}, and the manifest says {manifest.observation}. Import"
                " the data again."
            )
        return cls(directory, manifest, observations, actions, ends, arrays)

    @property
    def num_steps(self) -> int:
        """N."""
        return self.manifest.num_steps

    @property
    def num_episodes(self) -> int:
        """M."""
        return self.manifest.num_episodes

    @cached_property
    def episode_starts(self) -> Int[np.ndarray, " episodes"]:
        """(M,) row of each episode's first step."""
        return np.concatenate([np.zeros(1, np.int64), self.episode_ends[:-1] + 1])

    @cached_property
    def episode_lengths(self) -> Int[np.ndarray, " episodes"]:
        """(M,) stored steps of each episode; at least 2."""
        return self.episode_ends - self.episode_starts + 1

    def frames(self, rows: Int[np.ndarray, "*stack"], count: int) -> np.ndarray:
        """Observations at `rows`, each with those before it, `count` in all, as one (…).

        Before an episode's first step stands its first observation again.
        """
        if count == 1:
            return np.asarray(self.observations[rows])
        first = self.episode_starts[np.searchsorted(self.episode_ends, rows)]
        steps = (np.maximum(rows - back, first) for back in reversed(range(count)))
        return stacked([np.asarray(self.observations[step]) for step in steps])

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays of N rows by name, those of the observations each by itself."""
        return by_name(self.observations, self.actions, self.extras)

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the content, independent of path and provenance."""
        return self.manifest.digest

    @property
    def spaces(self) -> Spaces:
        """The shapes and types that networks are built for."""
        return self.manifest.spaces


def keyed(table: Table, rule: GoalRule) -> np.ndarray:
    """(N, …) the array that holds the goals of a rule with a key, as it lies on disk.

    Raises:
        FarstepError: the table has no such array.
    """
    assert rule.key is not None
    own = table.spaces.observation.keys
    if rule.key in own:
        return table.observations[rule.key]
    if rule.key not in table.extras:
        raise FarstepError(
            f"--goal {rule}: {table.path} has no array '{rule.key}'."
            f"{nearest(rule.key, [*own, *table.extras])}"
        )
    return table.extras[rule.key]


def goals_at(
    table: Table, rule: GoalRule, rows: slice | Int[np.ndarray, " some"]
) -> Shaped[np.ndarray, "some *goal"]:
    """The goals that the steps at `rows` are; reads no other steps.

    Raises:
        FarstepError: the table has no such column or array, or the function gives no goals.
    """
    if rule.key is None:
        return rule.goals(np.asarray(table.observations[rows]))
    goals = keyed(table, rule)[rows]
    return goals if goals.dtype == np.uint8 else np.asarray(goals, np.float32)


def goals_of(table: Table, rule: GoalRule) -> np.ndarray:
    """(N, …) the goal that each step is; computes all of them, unless they lie on disk.

    Raises:
        FarstepError: as `goals_at`.
    """
    if rule.whole:
        return table.observations
    if rule.key is not None:
        return goals_at(table, rule, slice(None))
    blocks = range(0, table.num_steps, _GOAL_ROWS)
    return np.concatenate([goals_at(table, rule, slice(row, row + _GOAL_ROWS)) for row in blocks])


def spaces_of(table: Table, rule: GoalRule, frames: int = 1) -> Spaces:
    """The table's spaces where goals are made by `rule` and `frames` are stacked; reads two steps.

    Raises:
        FarstepError: as `goals_at`, or no frame.
    """
    if rule.whole:
        return table.spaces.stacked(frames)
    own = table.spaces.observation.keys
    if rule.key is not None and rule.key in own:
        return replace(table.spaces, goal=own[rule.key], rule=rule).stacked(frames)
    goals = goals_at(table, rule, slice(2))
    kind = "image" if goals.dtype == np.uint8 and goals.ndim == 4 else "vector"
    goal = Space(goals.shape[1:], goals.dtype.name, kind)
    return replace(table.spaces, goal=goal, rule=rule).stacked(frames)


def _map_array(path: Path, entry: ArrayEntry) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise FarstepError(f"{path} is missing. Import the data again.") from error
    except (ValueError, EOFError, OSError) as error:
        raise FarstepError(f"{path} is damaged: {error}. Import the data again.") from error
    if array.shape != entry.shape or array.dtype.name != entry.dtype:
        raise FarstepError(
            f"{path} holds {array.dtype} {array.shape}, and the manifest says {entry.dtype}"
            f" {entry.shape}. Import the data again."
        )
    size, expected = path.stat().st_size, array.offset + array.nbytes
    if size != expected:
        raise FarstepError(
            f"{path} has {size} bytes, and its header asks for {expected}. Import the data again."
        )
    return array


def _check_sum(path: Path, array: np.ndarray, entry: ArrayEntry) -> None:
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(path.stat().st_size - array.nbytes)
        while block := file.read(_HASH_BLOCK):
            sha256.update(block)
    if sha256.hexdigest() != entry.sha256:
        raise FarstepError(
            f"{path} has changed since it was written: its checksum is {sha256.hexdigest()}, and"
            f" the manifest says {entry.sha256}. Import the data again."
        )


def _check_rows(directory: Path, manifest: Manifest) -> None:
    for name, entry in manifest.arrays.items():
        if name == "episode_ends":
            if entry.shape != (manifest.num_episodes,) or entry.dtype != "int64":
                raise FarstepError(
                    f"{directory}: episode_ends is {entry.dtype} {entry.shape}, and the manifest"
                    f" counts {manifest.num_episodes} episodes. Import the data again."
                )
        elif not entry.shape or entry.shape[0] != manifest.num_steps:
            raise FarstepError(
                f"{directory}: {name} has shape {entry.shape}, and the manifest counts"
                f" {manifest.num_steps} steps. Import the data again."
            )


def _check_episodes(path: Path, ends: np.ndarray, manifest: Manifest) -> None:
    lengths = np.diff(ends, prepend=-1)
    if ends.size == 0 or ends[-1] != manifest.num_steps - 1 or (lengths < 2).any():
        raise FarstepError(
            f"{path} does not cut {manifest.num_steps} steps into episodes of two or more: it must"
            f" increase by at least 2 and end at {manifest.num_steps - 1}. Import the data again."
        )


class MissingDatasetError(FarstepError):
    """The error for a dataset `name` that is not under the data root."""

    def __init__(self, name: str) -> None:
        here = nearest(name, dataset_names())
        super().__init__(f"There is no dataset '{name}' under {data_root()}.{here}")
        self.name = name


@dataclass(frozen=True)
class Dataset:
    """The tables of one dataset.

    Attributes:
        name: the one its tables were written under, or else the directory's.
        path: the dataset's directory.
        train: the training table.
        val: the validation table, if there is one.
        environment: name of the environment, if the training table knows it.
    """

    name: str
    path: Path
    train: Table
    val: Table | None
    environment: str | None


def data_root() -> Path:
    """The directory of datasets: `$FARSTEP_DATA`, or `~/.farstep/data`."""
    return expanded_path(os.environ.get("FARSTEP_DATA") or "~/.farstep/data")


def canonical_name(name: str) -> str:
    """`name` with a version: `pointmaze-medium-stitch` is `pointmaze-medium-stitch-v0`."""
    return name if re.search(r"-v\d+$", name) else f"{name}-v0"


def check_name(name: str) -> str:
    """`name`, if it can name a directory under the data root.

    Raises:
        FarstepError: it is empty, begins with a dot or has characters beyond `A-Z a-z 0-9 . _ -`.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise FarstepError(
            f"'{name}' cannot name a dataset: use letters, digits, '.', '_' and '-'."
        )
    return name


def is_dataset(path: Path) -> bool:
    """Whether the directory `path` holds a dataset, or a single table."""
    return any((path / mark).is_file() for mark in (f"train/{MANIFEST_NAME}", MANIFEST_NAME))


def dataset_files(path: Path) -> list[str]:
    """Paths of a dataset's files below its directory `path`; none where there is no dataset.

    Besides the tables there may be `maze.txt`, the map of a user's own maze.
    """
    tables = [f"{split}/{name}" for split in ("train", "val") for name in table_files(path / split)]
    return [*tables, *table_files(path), "maze.txt"] if is_dataset(path) else []


def dataset_names() -> list[str]:
    """Names of the datasets under the data root, sorted."""
    root = data_root()
    if not root.is_dir():
        return []
    return sorted(
        path.name for path in root.iterdir() if not path.name.startswith(".") and is_dataset(path)
    )


def open_dataset(name_or_path: str | os.PathLike[str], *, verify: bool = False) -> Dataset:
    """Open a dataset by its name under `data_root()` or by its path.

    A path is a directory that holds `train/` and optionally `val/`, or a single table's
    directory. A name may leave out its version `-v0`.

    Args:
        name_or_path: `"pointmaze-medium-stitch-v0"`, or a directory.
        verify: compare checksums; reads everything once.

    Raises:
        FarstepError: there is no such dataset, or it is damaged, or its tables do not match.
    """
    path = _locate(name_or_path)
    if (path / MANIFEST_NAME).is_file():
        train, val = Table.open(path, verify=verify), None
    else:
        train = Table.open(path / "train", verify=verify)
        val = Table.open(path / "val", verify=verify) if (path / "val").exists() else None
    if val is not None and val.spaces != train.spaces:
        raise FarstepError(
            f"{path}: train holds {train.spaces}, and val {val.spaces}. Import both again."
        )
    name = train.manifest.name or path.resolve().name
    return Dataset(name, path, train, val, train.manifest.environment)


def _locate(name_or_path: str | os.PathLike[str]) -> Path:
    path = expanded_path(name_or_path)
    name = name_or_path if isinstance(name_or_path, str) and path.name == name_or_path else None
    candidates = [path]
    if name is not None:
        candidates = [data_root() / name, data_root() / canonical_name(name), path]
    for candidate in candidates:
        if is_dataset(candidate):
            return candidate
    if name is None:
        raise FarstepError(
            f"{path} holds no dataset: neither train/{MANIFEST_NAME} nor {MANIFEST_NAME}."
        )
    raise MissingDatasetError(name)
