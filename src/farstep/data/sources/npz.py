"""`.npz` files of flat arrays: OGBench's published ones, and anybody's own.

`numpy.load` reads a member whole, and a cast then holds it twice. Here a member's header is read
inside the zip file and its rows come in blocks, from stored and from deflated members alike.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from farstep.core.errors import FarstepError
from farstep.data.sources.base import Format
from farstep.data.sources.flat import ArrayHeader, FlatFiles, Rows, SlicedRows, open_flat

_CHUNK = 1 << 20


class DamagedFileError(FarstepError):
    """The file at `path` is not what was written."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


class NpzFile:
    """An open `.npz` file. A context manager.

    Attributes:
        path: the file.
        headers: the header of each array, by name.

    Raises:
        FarstepError: no such file, an empty or damaged one, or one that holds no arrays.
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
            if not self.headers:
                raise FarstepError(
                    f"{path} is a zip file that holds no arrays. Save them with numpy.savez."
                )
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @contextmanager
    def rows(self, name: str) -> Iterator[Rows]:
        """A reader of array `name` from its first row; several may be read side by side."""
        header = self.headers[name]
        with ExitStack() as stack:
            with damage_named(self.path):
                stream = stack.enter_context(self._zip.open(f"{name}.npy"))
                _read_header(stream)
            if header.column_major and len(header.shape) > 1:
                # One row lies all over the array, so that it is unpacked to a file and mapped.
                unpacked = stack.enter_context(tempfile.TemporaryFile())
                with damage_named(self.path):
                    shutil.copyfileobj(stream, unpacked, _CHUNK)
                yield SlicedRows(np.memmap(unpacked, header.dtype, "r", 0, header.shape, "F"))
            else:
                yield StreamedRows(self.path, name, header, stream)

    def _header(self, member: zipfile.ZipInfo) -> ArrayHeader:
        name = member.filename.removesuffix(".npy")
        with damage_named(self.path), self._zip.open(member) as stream:
            shape, column_major, dtype = _read_header(stream)
            begin = stream.tell()
        header = ArrayHeader(shape, dtype, column_major)
        if not dtype.hasobject and header.num_bytes != member.file_size - begin:
            raise DamagedFileError(
                self.path,
                f"{self.path}: '{name}' declares {dtype} {shape}, which is {header.num_bytes}"
                f" bytes, and has {member.file_size - begin}. The file is damaged; get it again.",
            )
        return header


class StreamedRows:
    """Rows of a member of a zip file. Reading the last one compares the member's checksum."""

    def __init__(self, path: Path, name: str, header: ArrayHeader, stream: IO[bytes]) -> None:
        self._path, self._name = path, name
        self._header, self._stream = header, stream

    def read(self, count: int) -> np.ndarray:
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


def _recognises(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.npz"))
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


NPZ = Format("npz", _recognises, partial(open_flat, kind=FlatFiles((".npz",), NpzFile)))
