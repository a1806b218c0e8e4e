"""Errors that bad input causes, with messages that say what to do."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

CLONE = Path(__file__).resolve().parents[3]
"""Where the source lies, if this farstep runs from a clone."""


class FarstepError(Exception):
    """Bad input: what is wrong, where, and what to do about it.

    The command line prints the message alone and exits with status 2; any other exception is a
    defect of the library and keeps its traceback.
    """


def nearest(name: str, choices: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the closest choices to a misspelled `name`, else the full list."""
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return " Did you mean " + " or ".join(f"'{match}'" for match in close) + "?"
    return " Known: " + ", ".join(known) + "." if known else ""


def install_command(extra: str) -> str:
    """The command that adds one of farstep's extras: from a clone, for no package index has it."""
    if not (CLONE / "uv.lock").exists():
        python = shlex.quote(sys.executable)
        return f"{python} -m pip install '.[{extra}]'   (in a clone of farstep)"
    # `make setup` marks what it installed last, and removes extras that are not named again.
    marks = [path.name.removeprefix(".synced-") for path in CLONE.glob(".venv/.synced-*")]
    extras = dict.fromkeys("-".join([*marks, extra]).split("-"))
    return f"make -C {shlex.quote(str(CLONE))} setup EXTRAS='{' '.join(extras)}'"
