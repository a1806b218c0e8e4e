"""Files and directories that are written whole or not at all and replace only farstep's own."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, Any

from farstep.core.errors import FarstepError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a full disk, a full quota, and a limit on the size of a file."""


def check_writable(path: Path, *, directory: bool = False) -> None:
    """Refuse a place for results before the work whose results they are; creates nothing.

    Args:
        path: the file to be written, or with `directory` the directory for several. Missing parents
            are fine.

    Raises:
        FarstepError: something else stands there or in its way, or the place is not writable.
    """
    try:
        existing = path.resolve()
        if existing.is_dir() and not directory:
            raise FarstepError(f"{path} is a directory: name a file in it.")
        if existing.is_file() and not directory:
            existing = existing.parent
        while not existing.exists():
            existing = existing.parent
    except OSError as error:
        raise FarstepError(f"{path} cannot be written: {error.strerror}.") from error
    if not existing.is_dir():
        raise FarstepError(f"{path} cannot be written: {existing} is not a directory.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise FarstepError(f"{path} cannot be written: {existing} is not writable.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write that replaces the file `path` when the block ends cleanly.

    It has the suffix of `path`, lies beside it, and is removed on an exception. Missing parent
    directories are created; a symbolic link stays, and the file that it names is replaced.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.partial{target.suffix}")
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, in UTF-8."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def staged_directory(
    target: Path, *, overwrite: bool = False, owned: Iterable[str] = ()
) -> Iterator[Path]:
    """An empty directory that takes the place of `target` when the block ends cleanly.

    On any exception it is removed and `target` is as it was. Missing parents are created; a
    symbolic link stays, and the directory that it names is replaced.

    Args:
        overwrite: replace an existing `target`, if it holds nothing but `owned`.
        owned: as for `check_replaceable`.

    Raises:
        FarstepError: `target` exists and may not be replaced, or its parent is not writable.
    """
    target = target.resolve()
    if target.exists():
        if not overwrite:
            raise FarstepError(
                f"{target} already exists. Choose another name, or ask to overwrite it."
            )
        check_replaceable(target, owned)
    suffix = secrets.token_hex(4)
    staging = target.parent / f".{target.name}.{suffix}.partial"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise FarstepError(f"Cannot write to {target.parent}: {error.strerror}.") from error
    try:
        yield staging
        _swap_in(staging, target, target.parent / f".{target.name}.{suffix}.replaced")
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise FarstepError(
                f"{target} could not be written: {error.strerror}. Nothing of it is left there."
            ) from error
        raise


def check_replaceable(target: Path, owned: Iterable[str]) -> None:
    """Refuse to remove the directory `target` if it holds what farstep did not write there.

    Args:
        owned: files and directories that belong to `target`, by their path below it, such as
            `train/manifest.json`. A directory that is named here belongs with all that it holds.

    Raises:
        FarstepError: it is no directory, or holds something else; says what.
    """
    if not target.is_dir():
        raise FarstepError(f"{target} is not a directory: refusing to overwrite it.")
    foreign = _foreign_entry(target, [PurePath(name) for name in owned])
    if foreign is not None:
        raise FarstepError(
            f"{target} holds '{foreign.relative_to(target)}', which does not belong to what is"
            " to be replaced: refusing to overwrite it. Move that away, or choose another name."
        )


def _foreign_entry(directory: Path, owned: list[PurePath]) -> Path | None:
    """The first entry below `directory`, by name, that is not `owned`."""
    for entry in sorted(directory.iterdir()):
        within = [path for path in owned if path.parts[0] == entry.name]
        if any(len(path.parts) == 1 for path in within):
            continue
        if not within or entry.is_symlink() or not entry.is_dir():
            return entry
        deeper = [path.relative_to(entry.name) for path in within]
        if (foreign := _foreign_entry(entry, deeper)) is not None:
            return foreign
    return None


def _swap_in(staging: Path, target: Path, aside: Path) -> None:
    replaces = target.exists()
    if replaces:
        target.rename(aside)
    try:
        staging.rename(target)
    except OSError as error:
        if replaces:
            aside.rename(target)
        raise FarstepError(
            f"Could not move the finished files to {target}: {error.strerror}."
        ) from error
    if replaces:
        shutil.rmtree(aside, ignore_errors=True)


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file for this process until it is closed; False where another process has it.

    Some network file systems have no locks, and what needs one must be possible there.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def format_bytes(count: int | float) -> str:
    """`count` bytes in decimal units, for messages: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def check_free_space(directory: Path, needed: int) -> None:
    """Refuse to begin what cannot fit.

    Raises:
        FarstepError: fewer than `needed` bytes are free where `directory` is or will be.
    """
    existing = directory.resolve()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise FarstepError(
            f"{directory} needs {format_bytes(needed)}, and {format_bytes(free)} are free there."
            " Nothing was written. Free some space, or set FARSTEP_DATA to a larger disk."
        )
