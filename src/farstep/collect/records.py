"""Finished episodes in one growing file, so that a killed run goes on where it was.

Every record has the same size: a CRC-32, the episode's arrays, its counts. A record that was cut
off or damaged ends the file.
"""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from farstep.core.errors import FarstepError

_SUM = struct.Struct("<I")


class Records:
    """Episodes in their order, in the directory `path`. A context manager.

    Args:
        path: a directory for them; created, or taken up where it was left.
        plan: JSON values that say what is made; records of another plan are refused.
        size: bytes of a packed episode.
        overwrite: throw records of another plan away.

    Raises:
        FarstepError: `path` holds records of another plan.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any], size: int, *, overwrite: bool = False):
        self._path, self._file, self._size = path, path / "episodes", size
        text = json.dumps(plan, sort_keys=True)
        described = path / "plan.json"
        if described.is_file() and described.read_text(encoding="utf-8") != text:
            if not overwrite:
                raise FarstepError(
                    f"{path} holds a part of a data set that was asked for with other options or "
                    "versions. Ask for it as before, or start over with --overwrite."
                )
            shutil.rmtree(path)
        if not described.is_file():
            path.mkdir(parents=True, exist_ok=True)
            self._file.write_bytes(b"")
            described.write_text(text, encoding="utf-8")
        self.count = sum(1 for _ in self)
        self._stream = self._file.open("r+b")
        self._stream.seek(self.count * (_SUM.size + size))
        self._stream.truncate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        if not self.count:
            self.remove()

    def append(self, content: bytes) -> None:
        """Add the next episode; once this returns, a kill does not lose it."""
        self._stream.write(_SUM.pack(zlib.crc32(content)) + content)
        self._stream.flush()
        self.count += 1

    def __iter__(self) -> Iterator[bytes]:
        """The packed episodes that are there, whole, in their order."""
        with self._file.open("rb") as stream:
            while len(head := stream.read(_SUM.size)) == _SUM.size:
                content = stream.read(self._size)
                if len(content) < self._size or _SUM.unpack(head)[0] != zlib.crc32(content):
                    return
                yield content

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self._path, ignore_errors=True)
