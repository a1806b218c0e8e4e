"""Dataclasses of settings: built from JSON values, and checked field by field.

A field says in its type which values it takes, as in `discount: Annotated[float, Range(above=0)]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from farstep.core.errors import FarstepError, nearest

Built = TypeVar("Built")


@dataclass(frozen=True, kw_only=True)
class Range:
    """The range of a field; None is no bound."""

    least: int | float | None = None
    above: int | float | None = None
    most: int | float | None = None
    below: int | float | None = None

    def __contains__(self, number: int | float) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        words = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
        bounds = {word: getattr(self, name) for name, word in words.items()}
        return " and ".join(f"{word} {n:g}" for word, n in bounds.items() if n is not None)


Probability = Annotated[float, Range(least=0, most=1)]
Weight = Annotated[float, Range(least=0)]
Count = Annotated[int, Range(least=1)]
Discount = Annotated[float, Range(above=0, below=1)]
"""γ: a distance in nats is −log γ a step, so neither 0 nor 1 has one."""


def check_fields(settings: Any) -> None:
    """Refuse values that the types of a dataclass's fields do not take.

    Looks at numbers, their ranges, flags, literals and tuples of these; other types are let pass.

    Raises:
        FarstepError: a value is out of range; names the field, the value and the range.
    """
    kinds = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        allowed, culprit = _refused(kinds[field.name], getattr(settings, field.name))
        if allowed:
            raise FarstepError(
                f"{type(settings).__name__}: {field.name} must be {allowed}, not {culprit!r}."
            )


def _refused(kind: Any, value: Any) -> tuple[str, Any]:
    """The requirement that a value fails, or an empty text, and the failing part."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        ranges = [each for each in arguments[1:] if isinstance(each, Range)]
        allowed, culprit = _refused(arguments[0], value)
        if allowed:
            return " ".join([allowed, *map(str, ranges)]), culprit
        return next((str(each) for each in ranges if value not in each), ""), value
    if origin is tuple:
        if not isinstance(value, tuple) or not value:
            return "a tuple of at least one value", value
        return next((r for each in value if (r := _refused(arguments[0], each))[0]), ("", value))
    if origin is Literal:
        choices = ", ".join(map(repr, arguments))
        return ("" if value in arguments else f"one of {choices}"), value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool:
        return ("" if isinstance(value, bool) else "True or False"), value
    if kind is int:
        return ("" if number and isinstance(value, int) else "a whole number"), value
    if kind is float:
        return ("" if number and math.isfinite(value) else "a finite number"), value
    return "", value


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
        if isinstance(value, Mapping):
            if is_dataclass(hints[key]):
                return dataclass_from_dict(hints[key], value, where=where)
            each: Any = next(iter(get_args(hints[key])[-1:]), None)
            if is_dataclass(each):
                return {
                    k: dataclass_from_dict(cast(Any, each), v, where=where)
                    for k, v in value.items()
                }
        return tuple(value) if isinstance(value, list) else value

    return kind(**{key: built(key, value) for key, value in values.items()})
