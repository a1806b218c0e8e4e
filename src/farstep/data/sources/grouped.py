"""HDF5 files in which every episode is a group of arrays: Minari's, robomimic's, anybody's own.

demo_0/observations    (T + 1, …), or (T, …) where the last one was not stored
demo_0/actions         (T, A)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farstep.core.errors import FarstepError
from farstep.data.episodes import Episode, Split
from farstep.data.sources.base import FieldMap, ImportOptions
from farstep.data.sources.flat import BLOCK_BYTES
from farstep.data.sources.hdf5_file import arrays_in, check_stored, holds_pictures, opened
from farstep.data.sources.pictures import decoded


@dataclass(frozen=True)
class Group:
    """Where one episode lies.

    Attributes:
        path: the file.
        name: the group in it.
    """

    path: Path
    name: str

    def __str__(self) -> str:
        return f"{self.path}, {self.name}"


@dataclass(frozen=True)
class GroupLayout:
    """How the arrays of an episode are read.

    Attributes:
        fields: map from a table's arrays to these.
        following: for an array, the one whose last row comes after its own last.
        time_last: whether steps run along the last axis.
    """

    fields: FieldMap
    following: Mapping[str, str]
    time_last: bool = False


def grouped_split(
    groups: Sequence[Group], layout: GroupLayout, options: ImportOptions, form: str
) -> Split:
    """The episodes of these groups. Looks into each, and reads no step.

    Args:
        form: the format's name, for the table's provenance.

    Raises:
        FarstepError: a group lacks an array, or its arrays differ in length; names it.
    """
    groups = [group for group in groups if options.wants(group.name)]
    steps = 0
    for path, members in _by_file(groups):
        with opened(path) as file:
            for group in members:
                steps += _Reader(file, group, layout, options).steps
    provenance = {
        "format": form,
        "files": [
            {"name": path.name, "bytes": path.stat().st_size} for path, _ in _by_file(groups)
        ],
        "keys": asdict(layout.fields),
    }
    return Split(_episodes(groups, layout, options), steps, provenance)


def _episodes(
    groups: Sequence[Group], layout: GroupLayout, options: ImportOptions
) -> Iterator[Episode]:
    for path, members in _by_file(groups):
        with opened(path) as file:
            for group in members:
                yield from _Reader(file, group, layout, options).pieces()


def _by_file(groups: Sequence[Group]) -> Iterator[tuple[Path, list[Group]]]:
    for path in dict.fromkeys(group.path for group in groups):
        yield path, [group for group in groups if group.path == path]


class _Reader:
    """The arrays of one episode, checked.

    Attributes:
        steps: observations, the last one included.
    """

    def __init__(self, file: Any, group: Group, layout: GroupLayout, options: ImportOptions):
        self._where, self._options, self._layout = str(group), options, layout
        fields = layout.fields
        arrays: dict[str, Any] = {}
        for key in (*fields.keys, *layout.following.values()):
            arrays[key] = array = file[group.name].get(key)
            if not hasattr(array, "shape"):
                known = ", ".join(arrays_in(file[group.name]))
                raise FarstepError(f"{group} has no '{key}'. It has: {known}.")
            check_stored(array, f"{group}: '{key}'")
        self._arrays = arrays
        lengths = {key: self._length(key) for key in fields.keys}
        seen = {lengths[key] for key in fields.observations}
        acted = lengths[fields.actions]
        self.steps = max(max(seen), acted + bool(layout.following))
        if self.steps == 0 or not (
            len(seen) == 1 and all(self.steps - 1 <= n <= self.steps for n in lengths.values())
        ):
            raise FarstepError(
                f"{group}: its arrays differ in length, or are empty:"
                f" {', '.join(f'{key} {n}' for key, n in lengths.items())}. Observations have as"
                " many rows as actions, or one more."
            )

    def _length(self, key: str) -> int:
        return int(self._arrays[key].shape[-1 if self._layout.time_last else 0])

    def pieces(self) -> Iterator[Episode]:
        """The episode, in pieces of some megabytes."""
        fields = self._layout.fields
        row = sum(self._arrays[key].nbytes for key in fields.keys) // self.steps
        size = max(1, BLOCK_BYTES // max(1, row))
        for start in range(0, self.steps, size):
            stop = min(start + size, self.steps)
            rows = {key: self._rows(key, start, stop) for key in fields.keys}
            yield fields.episode(rows, self._where, ends=stop == self.steps)

    def _rows(self, key: str, start: int, stop: int) -> np.ndarray:
        length = self._length(key)
        rows = self._taken(key, start, min(stop, length))
        if stop <= length:
            return rows
        if key in self._layout.following:
            following = self._layout.following[key]
            last = self._taken(following, self._length(following) - 1, self._length(following))
        else:
            # The last observation has no action, and what belongs to actions is repeated.
            last = self._taken(key, length - 1, length)
            if key == self._layout.fields.actions:
                last = np.zeros_like(last)
        return np.concatenate([rows, last])

    def _taken(self, key: str, start: int, stop: int) -> np.ndarray:
        array = self._arrays[key]
        if self._layout.time_last:
            return np.moveaxis(array[..., start:stop], -1, 0)
        rows = array[start:stop]
        if not holds_pictures(array):
            return rows
        if not len(rows):
            return np.zeros((0, 1, 1, 3), np.uint8)
        size = self._options.image_size
        return np.stack(
            [
                decoded(row.tobytes(), size, f"{self._where}, '{key}', step {start + t}")
                for t, row in enumerate(rows)
            ]
        )
