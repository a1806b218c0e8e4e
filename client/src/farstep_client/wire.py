"""Messages as bytes: msgpack with NumPy arrays, in the form of openpi's protocol.

An array is the map {b"__ndarray__": True, b"data": bytes, b"dtype": str, b"shape": list}, a scalar
{b"__npgeneric__": True, b"data": number, b"dtype": str}. Types are a closed list, an array has
exactly the bytes that its shape says, and nothing is ever unpickled.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

DTYPES = frozenset(
    ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]
)
"""Types of arrays that are read, as `dtype.str` has them."""

MOST_AXES = 5

DEEPEST = 8
"""Levels of maps and lists in a message."""


class WireError(ValueError):
    """A message that is not of this protocol."""


def pack(message: Any) -> bytes:
    """The bytes of a message of maps, lists, numbers, texts, bytes and arrays.

    Raises:
        TypeError: an array of another type, such as one of objects.
    """
    packed: bytes = msgpack.Packer(default=_described).pack(message)
    return packed


def unpack(content: bytes) -> Any:
    """A message from its bytes; arrays are read-only views of them.

    Raises:
        WireError: the bytes are no such message.
    """
    try:
        message = msgpack.unpackb(content, object_hook=_array, strict_map_key=False)
    except WireError:
        raise
    except Exception as error:  # msgpack has several kinds, and maps may have any key.
        raise WireError(f"no msgpack message: {type(error).__name__}") from None
    _check_depth(message, DEEPEST)
    return message


def _described(value: Any) -> dict[bytes, Any]:
    if isinstance(value, (np.ndarray, np.generic)):
        little = value.dtype.newbyteorder("<").str
        if little not in DTYPES:
            raise TypeError(f"arrays of {value.dtype} cannot be sent")
        if isinstance(value, np.generic):
            return {b"__npgeneric__": True, b"data": value.item(), b"dtype": little}
        data = np.ascontiguousarray(value, little).tobytes()
        return {b"__ndarray__": True, b"data": data, b"dtype": little, b"shape": value.shape}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _array(described: dict[Any, Any]) -> Any:
    if b"__ndarray__" in described:
        data, shape = described.get(b"data"), described.get(b"shape")
        dtype = _dtype(described)
        if not isinstance(data, bytes) or not isinstance(shape, list):
            raise WireError("an array without data or shape")
        if len(shape) > MOST_AXES or not all(type(n) is int and n >= 0 for n in shape):
            raise WireError("an array with an impossible shape")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise WireError(f"an array of {len(data)} bytes that says it is {shape} {dtype}")
        return np.frombuffer(data, dtype).reshape(shape)
    if b"__npgeneric__" in described:
        try:
            return _dtype(described).type(described.get(b"data"))
        except (TypeError, ValueError, OverflowError):
            raise WireError("a scalar that is not of its type") from None
    return described


def _dtype(described: dict[Any, Any]) -> np.dtype[Any]:
    dtype = described.get(b"dtype")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WireError("an array of a type that is not read")
    return np.dtype(dtype)


def _check_depth(message: Any, left: int) -> None:
    if isinstance(message, (dict, list)):
        if not left:
            raise WireError("a message that is nested too deeply")
        for inner in message.values() if isinstance(message, dict) else message:
            _check_depth(inner, left - 1)
