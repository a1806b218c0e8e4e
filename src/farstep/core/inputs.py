"""Checks of arrays and paths that callers pass."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from farstep.core.arrays import record
from farstep.core.errors import FarstepError
from farstep.core.types import Space


def checked_array(
    values: Any, shape: tuple[int, ...], dtype: str, name: str, *, batch: bool = False
) -> np.ndarray:
    """`values` as an array of `shape` and `dtype`, or, where a `batch` may be given, of many.

    Nothing is lost on the way: floats are not cut to bytes, and numbers beyond the dtype's range
    are refused.

    Args:
        name: name of the array in messages, such as `observations` or `the goal`.

    Raises:
        FarstepError: no array of numbers, another shape, a number that is not finite, or one that
            the dtype cannot hold.
    """
    are, have = ("are", "have") if name.endswith("s") else ("is", "has")
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise FarstepError(f"{name} {are} no array: {error}") from error
    whole = np.issubdtype(dtype, np.integer)
    if given.dtype.kind not in ("iu" if whole else "biuf"):
        needed = "whole numbers" if whole else "numbers"
        raise FarstepError(f"{name} {are} of {given.dtype}, and {needed} are needed")
    if given.shape != shape and not (batch and given.shape[1:] == shape and given.ndim):
        many = f" or (batch, {', '.join(map(str, shape))})" if batch and shape else ""
        many = " or (batch,)" if batch and not shape else many
        raise FarstepError(f"{name} {have} shape {given.shape}, and {shape}{many} is needed")
    if whole:
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if given.size and (given.min() < least or given.max() > most):
            raise FarstepError(f"{name} must be in {least} to {most}")
        return given.astype(dtype, copy=False)
    with np.errstate(over="ignore"):  # What overflows is found below.
        array = given.astype(dtype, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(index) for index in np.argwhere(~finite)[0])
        raise FarstepError(f"{name} {are} not finite: {array[where]} at {where}")
    return array


def checked_rows(values: Any, space: Space, name: str, *, batch: bool = False) -> np.ndarray:
    """`values` as an observation or a goal of `space`; of several arrays, given as a dict or as a
    structured array, a structured one.

    Args:
        name: as for `checked_array`.
        batch: many may be given as well as one.

    Raises:
        FarstepError: arrays are missing or unknown; or as `checked_array` of one of them.
    """
    if not space.keys:
        return checked_array(values, space.shape, space.dtype, name, batch=batch)
    if isinstance(values, np.ndarray | np.void) and values.dtype.names:
        values = {name: values[name] for name in values.dtype.names}
    if not isinstance(values, Mapping) or values.keys() != space.keys.keys():
        given = ", ".join(map(str, values)) if isinstance(values, Mapping) else "one array"
        raise FarstepError(f"{name} must be {', '.join(space.keys)} by name, and there is {given}")
    arrays = {
        key: checked_array(values[key], each.shape, each.dtype, f"{name} '{key}'", batch=batch)
        for key, each in space.keys.items()
    }
    axes = {array.ndim - len(space.keys[key].shape) for key, array in arrays.items()}
    if len(axes) > 1:
        raise FarstepError(f"{name} must be one by all names or many by all names")
    return record(arrays, axes.pop())


def expanded_path(path: str | os.PathLike[str]) -> Path:
    """The path with `~` and `~user` replaced by the home directory.

    Raises:
        FarstepError: there is no such user, or no home directory here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FarstepError(
            f"{path}: there is no home directory that its ~ could mean. Give the whole path (of "
            "datasets in FARSTEP_DATA)."
        ) from error
