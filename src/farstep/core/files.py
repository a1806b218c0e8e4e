"""Directories that appear whole or not at all."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farstep.core.errors import FarstepError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a full disk, a full quota, and a limit on the size of a file."""


@contextmanager
def staged_directory(
    target: Path, *, overwrite: bool = False, marks: tuple[str, ...] = ()
) -> Iterator[Path]:
    """An empty directory beside `target` that takes its place when the block ends cleanly.

    On any exception the staging directory is removed and `target` is as it was.

    Args:
        target: the directory to create; missing parents are created too.
        overwrite: replace an existing `target`. It must be an empty directory or hold one of
            `marks`, so that a mistyped path costs nobody their files.
        marks: files, relative to `target`, that show it to be of the kind being written.

    Raises:
        FarstepError: `target` exists and may not be replaced, or its parent is not writable.
    """
    _check_replaceable(target, overwrite, marks)
    suffix = secrets.token_hex(4)
    staging = target.parent / f".{target.name}.{suffix}.partial"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise FarstepError(f"Cannot write to {target.parent}: {error.strerror}.") from error
    try:
        yield staging
        _swap_in(staging, target, target.parent / f".{target.name}.{suffix}.replaced")
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _check_replaceable(target: Path, overwrite: bool, marks: tuple[str, ...]) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FarstepError(f"{target} already exists. Choose another name, or ask to overwrite it.")
    if not target.is_dir() or (
        any(target.iterdir()) and not any((target / mark).is_file() for mark in marks)
    ):
        raise FarstepError(f"{target} holds something else: refusing to overwrite it.")


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


def format_bytes(count: float) -> str:
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
    existing = directory
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise FarstepError(
            f"{directory} needs {format_bytes(needed)}, and {format_bytes(free)} are free there."
            " Nothing was written. Free some space, or set FARSTEP_DATA to a larger disk."
        )
