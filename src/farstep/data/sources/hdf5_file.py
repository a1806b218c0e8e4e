"""Reading HDF5 files: arrays by name, groups that are episodes, and errors of damaged files.

Only numbers that lie in the file itself are read: links to other files are not followed, and
nothing is unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from farstep.core.errors import FarstepError, install_command
from farstep.data.sources.flat import ArrayHeader, FlatFiles, Rows, SlicedRows

SUFFIXES = (".hdf5", ".h5")

MAGIC = b"\x89HDF\r\n\x1a\n"

MOST_ARRAYS = 10_000
"""Arrays that are looked at in a file, or in one of its episodes."""

MOST_DEFLATED = 1032
"""The most by which deflate makes bytes fewer: what is smaller still was never written."""


def is_hdf5(path: Path) -> bool:
    """Whether `path` is an HDF5 file, or a directory of them."""
    if path.is_dir():
        return bool(hdf5_files(path))
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def hdf5_files(path: Path) -> list[Path]:
    """The file `path`, or the HDF5 files in the directory `path` in the order of their numbers."""
    if not path.is_dir():
        return [path]
    return sorted(FLAT.find(path), key=lambda one: in_order(one.name))


def in_order(name: str) -> list[tuple[int, str]]:
    """A key for sorting by which `demo_2` comes before `demo_10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]


_NUMBER = re.compile(r"(\d+)", re.ASCII)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open for reading; what damage raises becomes an error that names it.

    Raises:
        FarstepError: it is damaged, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise FarstepError(f"{path} is an HDF5 file: {install_command('hdf5')}") from error
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except FarstepError:
        raise
    # h5py turns the errors of the library below it into nearly any of Python's.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = re.sub(r"\s+", " ", str(error)).strip(" .'\"") or type(error).__name__
        hint = "Get it again."
        if "filter" in reason or "plugin" in reason:
            hint = "Perhaps it is compressed by a filter that this h5py lacks: see hdf5plugin."
        raise FarstepError(f"{path} cannot be read as an HDF5 file ({reason}). {hint}") from error


def groups_in(group: Any) -> list[str]:
    """Names of the groups in a group, in the order of their numbers."""
    import h5py

    return sorted((name for name in _own(group) if _class(group, name) is h5py.Group), key=in_order)


def arrays_in(group: Any) -> dict[str, Any]:
    """The arrays of numbers in a group and the groups below it, by path; no scalars."""
    import h5py

    found: dict[str, Any] = {}
    waiting = [("", group)]
    while waiting and len(found) < MOST_ARRAYS:
        prefix, inner = waiting.pop(0)
        for name in sorted(_own(inner), key=in_order):
            kind = _class(inner, name)
            if kind is h5py.Dataset:
                array = inner[name]
                if array.shape and (array.dtype.kind in "biuf" or holds_pictures(array)):
                    found[prefix + name] = array
            elif kind is h5py.Group and prefix.count("/") < 8:
                waiting.append((f"{prefix}{name}/", inner[name]))
    return found


def _own(group: Any) -> list[str]:
    """Names of what lies in the group itself, not elsewhere by a link."""
    import h5py

    names = (name for name in group if isinstance(name, str))
    return [name for name in names if isinstance(group.get(name, getlink=True), h5py.HardLink)]


def _class(group: Any, name: str) -> Any:
    return group.get(name, getclass=True)


def holds_pictures(array: Any) -> bool:
    """Whether each row is an encoded picture, as Minari stores images."""
    import h5py

    return h5py.check_vlen_dtype(array.dtype) == np.uint8


def check_stored(array: Any, where: str) -> None:
    """Refuse an array whose numbers are not in this file.

    Raises:
        FarstepError: they are in other files, or were never written.
    """
    if array.is_virtual or array.external:
        raise FarstepError(f"{where} lies in another file: copy the data into one file first.")
    stored = array.id.get_storage_size()
    if array.dtype.kind != "O" and array.nbytes > MOST_DEFLATED * stored:
        raise FarstepError(
            f"{where} declares {array.dtype} {array.shape}, and {stored} bytes of it are in the"
            " file: it was never written whole."
        )


class Hdf5File:
    """An open HDF5 file of flat arrays. A context manager.

    Attributes:
        path: the file.
        headers: the header of each array by its path; D4RL's `infos/qpos` is called `qpos`, and
            its `metadata` are none of them.

    Raises:
        FarstepError: a damaged file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FarstepError(f"There is no file {path}.")
        self._opened = opened(path)
        file = self._opened.__enter__()
        try:
            self._arrays = {
                name.removeprefix("infos/"): array
                for name, array in arrays_in(file).items()
                if not name.startswith("metadata/")
            }
            self.headers: Mapping[str, ArrayHeader] = {
                name: ArrayHeader(array.shape, array.dtype) for name, array in self._arrays.items()
            }
        except BaseException as error:
            # As the context manager sees it, which names the file.
            self._opened.__exit__(type(error), error, error.__traceback__)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._opened.__exit__(*exception)

    @contextmanager
    def rows(self, name: str) -> Iterator[Rows]:
        """A reader of array `name` from its first row; several may be read side by side."""
        array = self._arrays[name]
        check_stored(array, f"{self.path}: '{name}'")
        yield SlicedRows(array)


FLAT = FlatFiles(SUFFIXES, Hdf5File)
