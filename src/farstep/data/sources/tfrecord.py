"""TFRecord files of `tf.Example` messages, read and written without TensorFlow.

A record is framed as

    length      8 bytes, little endian
    CRC-32C     4 bytes, of the length, masked
    content     `length` bytes
    CRC-32C     4 bytes, of the content, masked

and its content is a protocol buffer that maps names to lists of bytes, floats or integers
(tensorflow/core/example/example.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from farstep.core.errors import FarstepError

Feature = list[bytes] | np.ndarray
"""Byte strings, float32 numbers or int64 numbers."""

_LENGTH = struct.Struct("<Q")
_SUM = struct.Struct("<I")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""


def read_records(path: Path) -> Iterator[memoryview]:
    """The contents of a file's records, checked, one in memory at a time.

    Raises:
        FarstepError: the file cannot be read, is cut off, or a checksum is wrong.
    """
    try:
        size = path.stat().st_size
        stream = path.open("rb")
    except OSError as error:
        raise FarstepError(f"Cannot read {path}: {error.strerror}.") from error
    with stream:
        position = 0
        while position < size:
            head = stream.read(_LENGTH.size + _SUM.size)
            if len(head) < _LENGTH.size + _SUM.size:
                raise _cut_off(path, position)
            (length,), (checksum,) = _LENGTH.unpack_from(head), _SUM.unpack_from(head, _LENGTH.size)
            if masked_crc(head[: _LENGTH.size]) != checksum:
                raise FarstepError(
                    f"{path} is damaged at byte {position}: the length of a record fails its"
                    " checksum, so this is no TFRecord file or a part of it is lost."
                )
            end = position + len(head) + length + _SUM.size
            if end > size:
                raise _cut_off(path, position)
            content = stream.read(length)
            if masked_crc(content) != _SUM.unpack(stream.read(_SUM.size))[0]:
                raise FarstepError(
                    f"{path} is damaged at byte {position}: a record fails its checksum. Get the"
                    " file again."
                )
            yield memoryview(content)
            position = end


def write_record(stream: BinaryIO, content: bytes) -> None:
    """Append one framed record."""
    length = _LENGTH.pack(len(content))
    stream.write(length + _SUM.pack(masked_crc(length)))
    stream.write(content + _SUM.pack(masked_crc(content)))


def masked_crc(content: bytes) -> int:
    """TFRecord's checksum: CRC-32C, rotated and shifted so that it can stand inside other data."""
    crc = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def parse_example(content: bytes | memoryview) -> dict[str, Feature]:
    """The features of a `tf.Example` by name.

    Raises:
        ValueError: not such a message.
    """
    found: dict[str, Feature] = {}
    for _, features in _fields(memoryview(content), 1):
        for _, entry in _fields(features, 1):
            name, feature = "", memoryview(b"")
            for number, value in _fields(entry, 1, 2):
                if number == 1:
                    name = bytes(value).decode()
                else:
                    feature = value
            found[name] = _feature(feature)
    return found


def encode_example(features: Mapping[str, Feature]) -> bytes:
    """`parse_example` reversed, names in sorted order."""
    entries = b""
    for name in sorted(features):
        value = features[name]
        if isinstance(value, list):
            kind, packed = 1, b"".join(_tagged(1, item) for item in value)
        elif value.dtype.kind == "f":
            kind, packed = 2, _tagged(1, value.astype("<f4").tobytes())
        else:
            kind, packed = 3, _tagged(1, b"".join(map(_varint, value.tolist())))
        feature = _tagged(kind, packed)
        entries += _tagged(1, _tagged(1, name.encode()) + _tagged(2, feature))
    return _tagged(1, entries)


def write_examples(path: Path, examples: Iterable[Mapping[str, Feature]]) -> int:
    """Write a file of records and return how many there are."""
    count = 0
    with path.open("wb") as stream:
        for example in examples:
            write_record(stream, encode_example(example))
            count += 1
    return count


def _feature(message: memoryview) -> Feature:
    """One list; an empty feature is an empty list of bytes."""
    for kind, values in _fields(message, 1, 2, 3):
        if kind == 1:
            return [bytes(item) for _, item in _fields(values, 1)]
        if kind == 2:
            return np.frombuffer(b"".join(_scalars(values, 4)), "<f4").astype(np.float32)
        parts = [_unpacked(part) for part in _scalars(values, 0)]
        return np.concatenate([np.zeros(0, np.int64), *parts])
    return []


def _scalars(message: memoryview, width: int) -> Iterator[bytes]:
    """The bytes of a repeated scalar's values, packed together or one by one."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        wire = tag & 7
        if wire == _BYTES:
            length, at = _read_varint(message, at)
            end = at + length
        elif width and wire == _FIXED32:
            end = at + width
        elif not width and wire == _VARINT:
            _, end = _read_varint(message, at)
        else:
            raise ValueError(f"wire type {wire} where numbers belong")
        if end > len(message) or (width and (end - at) % width):
            raise ValueError("numbers are cut off")
        yield bytes(message[at:end])
        at = end


def _unpacked(content: bytes) -> np.ndarray:
    """Signed integers from their varints, all at once."""
    raw = np.frombuffer(content, np.uint8)
    if not raw.size:
        return np.zeros(0, np.int64)
    last = raw < 0x80
    if not last[-1]:
        raise ValueError("an integer is cut off")
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(raw.size) - np.repeat(starts, np.diff(np.append(starts, raw.size)))
    if place.max() > 9:
        raise ValueError("an integer is longer than ten bytes")
    parts = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)


def _fields(message: memoryview, *wanted: int) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the length-delimited fields with these numbers."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            length, at = _read_varint(message, at)
            end = at + length
        elif wire == _VARINT:
            _, end = _read_varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            end = at + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"unknown wire type {wire}")
        if end > len(message):
            raise ValueError("a field is longer than its message")
        if number in wanted and wire == _BYTES:
            yield number, message[at:end]
        at = end


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a number is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is longer than ten bytes")


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(0x80 | (value & 0x7F))
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _tagged(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _cut_off(path: Path, position: int) -> FarstepError:
    return FarstepError(
        f"{path} is cut off: the record at byte {position} is longer than what is left of the"
        " file. Get the file again."
    )
