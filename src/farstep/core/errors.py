"""What goes wrong because of the input, said so that the reader can act on it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
