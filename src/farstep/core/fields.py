"""Dataclasses from JSON values, with errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from farstep.core.errors import FarstepError, nearest

Built = TypeVar("Built")


def dataclass_from_dict(kind: type[Built], values: Mapping[str, Any], *, where: str) -> Built:
    """A `kind` with these field values: lists become tuples, mappings the dataclasses they fill.

    Args:
        where: the file or option that the values came from, for messages.

    Raises:
        FarstepError: a key that `kind` does not have; suggests the nearest.
    """
    known = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]
    for key in values:
        if key not in known:
            raise FarstepError(f"{where}: {kind.__name__} has no '{key}'.{nearest(key, known)}")
    hints = get_type_hints(kind)

    def built(key: str, value: Any) -> Any:
        if isinstance(value, Mapping) and is_dataclass(hints[key]):
            return dataclass_from_dict(hints[key], value, where=where)
        return tuple(value) if isinstance(value, list) else value

    return kind(**{key: built(key, value) for key, value in values.items()})
