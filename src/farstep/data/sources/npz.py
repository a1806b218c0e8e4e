"""Reading the arrays of an `.npz` file row by row.

`numpy.load` reads a member whole, and a cast then holds it twice. Here a member's header is read
inside the zip file and its rows come in blocks, from stored and from deflated members alike.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from farstep.core.errors import FarstepError


class DamagedFileError(FarstepError):
    """The file at `path` is not what was written."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class ArrayHeader:
    """Shape and dtype of one array, as its header declares them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def num_bytes(self) -> int:
        """Bytes of the elements. Exact however large, since a damaged header may say anything."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row(self) -> ArrayHeader:
        """Shape and dtype of one row."""
        return ArrayHeader(self.shape[1:], self.dtype)


class NpzFile:
    """An open `.npz` file. A context manager.

    Attributes:
        path: the file.
        headers: the header of each array, by name.

    Raises:
        FarstepError: no such file, an empty or damaged one, or an array that is not numbers in
            row-major order. Nothing is ever unpickled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FarstepError(f"There is no file {path}.")
        if path.stat().st_size == 0:
            raise FarstepError(f"{path} is empty.")
        with damage_named(path):
            self._zip = zipfile.ZipFile(path)
        try:
            self.headers: Mapping[str, ArrayHeader] = {
                member.filename.removesuffix(".npy"): self._header(member)
                for member in self._zip.infolist()
                if member.filename.endswith(".npy")
            }
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def rows(self, name: str) -> Rows:
        """A reader of array `name` from its first row; several may be read side by side."""
        with damage_named(self.path):
            stream = self._zip.open(f"{name}.npy")
            _read_header(stream)
        return Rows(self.path, name, self.headers[name], stream)

    def _header(self, member: zipfile.ZipInfo) -> ArrayHeader:
        name = member.filename.removesuffix(".npy")
        with damage_named(self.path), self._zip.open(member) as stream:
            shape, column_major, dtype = _read_header(stream)
            begin = stream.tell()
        header = ArrayHeader(shape, dtype)
        if dtype.hasobject:
            raise FarstepError(
                f"{self.path}: '{name}' holds Python objects, which farstep never unpickles. Save"
                " one array of numbers per key."
            )
        if dtype.kind not in "biuf":
            raise FarstepError(f"{self.path}: '{name}' is {dtype}; numbers are needed.")
        if column_major and len(shape) > 1:
            raise FarstepError(
                f"{self.path}: '{name}' is stored column by column, so its rows cannot be read in"
                " turn. Save numpy.ascontiguousarray of it."
            )
        if header.num_bytes != member.file_size - begin:
            raise DamagedFileError(
                self.path,
                f"{self.path}: '{name}' declares {dtype} {shape}, which is {header.num_bytes}"
                f" bytes, and has {member.file_size - begin}. The file is damaged; get it again.",
            )
        return header


class Rows:
    """The rows of one array, in order. Reading the last one compares the zip file's checksum."""

    def __init__(self, path: Path, name: str, header: ArrayHeader, stream: IO[bytes]) -> None:
        self._path, self._name = path, name
        self._header, self._stream = header, stream

    def read(self, count: int) -> np.ndarray:
        """The next `count` rows.

        Raises:
            FarstepError: the file is damaged or ends early.
        """
        block = np.empty((count, *self._header.shape[1:]), self._header.dtype)
        if not block.size:
            return block
        target = block.reshape(-1).view(np.uint8).data
        filled = 0
        with damage_named(self._path):
            while filled < len(target):
                received = self._stream.readinto(target[filled:])  # pyright: ignore[reportAttributeAccessIssue]
                if not received:
                    raise EOFError(f"'{self._name}' ends early")
                filled += received
        return block

    def close(self) -> None:
        """Release the member."""
        self._stream.close()


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"NumPy format version {version} is not that of an array of numbers")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what an unreadable or damaged zip file raises into an error that names `path`."""
    try:
        yield
    except OSError as error:
        raise FarstepError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        SyntaxError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        reason = str(error).strip().rstrip(".") or "it ends early"
        raise DamagedFileError(
            path, f"{path} is not a whole .npz file ({reason}). If it was downloaded, get it again."
        ) from error
