"""Finished episodes in one growing file, so that a killed run goes on where it was.

A record is a CRC-32, the length of its content, and the content. A record that was cut off or
damaged ends the file.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from farstep.core.errors import FarstepError
from farstep.core.files import try_lock, write_text
from farstep.data.episodes import Episode, Split

_HEAD = struct.Struct("<IQ")


def unfinished(path: Path) -> Path:
    """The directory of the finished episodes of the dataset `path` until it is complete."""
    return path.with_name(f".{path.name}.unfinished")


class Records:
    """Episodes in their order, in the directory `path`. A context manager.

    Args:
        path: a directory for them; created, or taken up where it was left.
        plan: JSON values that say what is made; records of another plan are refused.
        overwrite: throw records of another plan away.

    Raises:
        FarstepError: `path` holds records of another plan, or another process adds to them.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any], *, overwrite: bool = False):
        self._path, self._file = path, path / "episodes"
        text = json.dumps(plan, sort_keys=True, default=str)
        path.mkdir(parents=True, exist_ok=True)
        self._stream = self._file.open("a+b")
        try:
            # Another process may have ended, and removed it, just now.
            if not try_lock(self._stream) or not self._file.exists():
                raise FarstepError(
                    f"Another process makes the data set whose episodes {path} holds. Wait for it."
                )
            self._take_up(text, overwrite)
        except BaseException:
            self._stream.close()
            raise

    def _take_up(self, text: str, overwrite: bool) -> None:
        described = self._path / "plan.json"
        before = described.read_text(encoding="utf-8") if described.is_file() else None
        if before not in (None, text) and not overwrite:
            raise FarstepError(
                f"{self._path} holds a part of a data set that was asked for with other options or "
                "versions. Ask for it as before, or start over with --overwrite."
            )
        if before != text:
            self._stream.truncate(0)
            write_text(described, text)
        self.count = whole = 0
        for content in self:
            self.count += 1
            whole += _HEAD.size + len(content)
        self._stream.truncate(whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        if not self.count:
            self.remove()

    def append(self, content: bytes) -> None:
        """Add the next episode; once this returns, a kill does not lose it."""
        self._stream.write(_HEAD.pack(zlib.crc32(content), len(content)) + content)
        self._stream.flush()
        self.count += 1

    def __iter__(self) -> Iterator[bytes]:
        """The packed episodes that are complete, in order."""
        left = self._file.stat().st_size
        with self._file.open("rb") as stream:
            while len(head := stream.read(_HEAD.size)) == _HEAD.size:
                checksum, length = _HEAD.unpack(head)
                left -= _HEAD.size + length
                if left < 0:
                    return
                content = stream.read(length)
                if checksum != zlib.crc32(content):
                    return
                yield content

    def remove(self) -> None:
        """Delete all episodes."""
        shutil.rmtree(self._path, ignore_errors=True)


def packed(episode: Episode) -> bytes:
    """An episode as a record: a line of JSON, and its arrays one after another."""
    arrays = {"observations": episode.observations, "actions": episode.actions, **episode.extras}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    about = {
        "arrays": [
            [name, np.lib.format.dtype_to_descr(array.dtype), array.shape]
            for name, array in arrays.items()
        ],
        "ends": episode.ends,
        "where": episode.where,
        "task": episode.task,
    }
    return b"".join([json.dumps(about).encode(), b"\n", *(a.tobytes() for a in arrays.values())])


def unpacked(content: bytes) -> Episode:
    """The inverse of `packed`."""
    start = content.index(b"\n") + 1
    about = json.loads(content[:start])
    arrays = {}
    for name, dtype, shape in about.pop("arrays"):
        array = np.ndarray(shape, _dtype(dtype), content, start)
        arrays[name] = array
        start += array.nbytes
    return Episode(arrays.pop("observations"), arrays.pop("actions"), arrays, **about)


def _dtype(described: Any) -> np.dtype[Any]:
    """NumPy's type by its description; JSON makes lists of the tuples that name several arrays."""
    if isinstance(described, str):
        return np.dtype(described)
    return np.dtype([(name, kind, *map(tuple, shape)) for name, kind, *shape in described])


def recorded(records: Records, split: Split) -> Split:
    """The split with each episode recorded before it is yielded, and recorded ones first.

    Args:
        split: a split that can be resumed.
    """
    assert split.resume is not None
    resume = split.resume

    def episodes() -> Iterator[Episode]:
        for content in records:
            yield unpacked(content)
        for episode in resume(records.count):
            records.append(packed(episode))
            yield episode

    return dataclasses.replace(split, episodes=episodes())
