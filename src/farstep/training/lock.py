"""One writer for each run directory."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from farstep.core.errors import FarstepError
from farstep.core.files import try_lock

LOCK = ".lock"
"""The locked file. It stays in the directory; the lock itself ends with its process."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a run directory; readers need none.

    Raises:
        FarstepError: another process holds it; says which, where and since when.
    """
    try:
        file = (directory / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise FarstepError(f"Cannot write to the run {directory}: {error.strerror}.") from error
    with file:
        if not try_lock(file):
            raise FarstepError(f"{directory} is being trained by {_holder(file)}.")
        began = datetime.now().astimezone().isoformat(" ", "seconds")
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": began}, file)
        file.flush()
        yield


def being_trained(directory: Path) -> bool:
    """Whether a process holds the lock of a run directory; changes nothing."""
    try:
        with (directory / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # There is no lock, or no locks on that file system.
        pass
    return False


def _holder(file: TextIO) -> str:
    file.seek(0)
    try:
        found = json.load(file)
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, KeyError, TypeError):  # It has the lock and has not signed yet.
        return "another process"
