"""Registries of objects by the names that files and the command line use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from farstep.core.errors import FarstepError, nearest

Entry = TypeVar("Entry")


def register(known: dict[str, Entry], what: str, name: str, entry: Entry) -> None:
    """Add an entry to `known`; the same one again changes nothing.

    Args:
        what: entries are, for messages, such as `encoder`.
        name: lower-case letters, digits, `_` and `-`, the first one a letter.

    Raises:
        FarstepError: the name is another entry's or has other characters.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise FarstepError(f"'{name}' is no name: use lower-case letters, digits, '_' and '-'.")
    if known.get(name, entry) != entry:
        raise FarstepError(f"'{name}' is the name of another {what}; choose another name.")
    known[name] = entry


def registered(known: Mapping[str, Entry], what: str, name: str) -> Entry:
    """The entry called `name`.

    Raises:
        FarstepError: there is none; suggests the nearest.
    """
    if name not in known:
        raise FarstepError(f"There is no {what} '{name}'.{nearest(name, known)}")
    return known[name]
