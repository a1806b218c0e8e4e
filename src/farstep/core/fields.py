"""Dataclasses from JSON values, with errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from farstep.core.errors import FarstepError, nearest

Built = TypeVar("Built")


def dataclass_from_dict(kind: type[Built], values: Mapping[str, Any], *, where: str) -> Built:
    """A `kind` with these field values, lists becoming tuples.

    Args:
        where: the file or option that the values came from, for messages.

    Raises:
        FarstepError: a key that `kind` does not have; suggests the nearest.
    """
    known = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]
    for key in values:
        if key not in known:
            raise FarstepError(f"{where}: {kind.__name__} has no '{key}'.{nearest(key, known)}")
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
