"""Observations of several named arrays: on the host one structured array, for networks a dict.

A structured array has a row for each step like any other, so that what indexes, copies or stores
rows needs not know of how many arrays they are. `rows["image"]` is one of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from farstep.core.errors import FarstepError


def record(arrays: Mapping[str, np.ndarray], axes: int = 1) -> np.ndarray:
    """The arrays, of L rows each, as one structured array (L,).

    Args:
        axes: number of axes that the arrays have in common.

    Raises:
        FarstepError: there are none, or they differ in length.
    """
    lengths = {name: array.shape[:axes] for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise FarstepError(f"the arrays of an observation differ in length: {lengths}")
    rows = np.empty(
        next(iter(lengths.values())),
        [(name, array.dtype, array.shape[axes:]) for name, array in arrays.items()],
    )
    for name, array in arrays.items():
        rows[name] = array
    return rows


def arrays_of(rows: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a structured array by name, or the array itself under an empty name."""
    if rows.dtype.names is None:
        return {"": rows}
    return {name: rows[name] for name in rows.dtype.names}


def by_name(
    observations: np.ndarray, actions: np.ndarray, extras: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """All arrays of some steps by name, those of the observations each by itself.

    The observations are called as by `part`.
    """
    named = {part("observations", key): array for key, array in arrays_of(observations).items()}
    return {**named, "actions": actions, **extras}


def part(name: str, key: str) -> str:
    """The name of one of the arrays in messages and statistics, such as `observations/image`."""
    return f"{name}/{key}" if key else name
