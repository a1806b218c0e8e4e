"""TFRecord files: read back what is written, read what TensorFlow wrote, refuse what is damaged."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("google_crc32c", reason="needs the extra 'bridge'")

from farstep.core.errors import FarstepError
from farstep.data.sources.tfrecord import (
    encode_example,
    masked_crc,
    parse_example,
    read_records,
    write_examples,
    write_record,
)

REAL = Path(__file__).parents[4] / "shared" / "samples" / "rlds_bridge" / "1.0.0"

FEATURES = st.dictionaries(
    st.text(max_size=8),
    st.one_of(
        st.lists(st.binary(max_size=9), max_size=4),
        st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5).map(
            lambda values: np.array(values, np.float32)
        ),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5).map(
            lambda values: np.array(values, np.int64)
        ),
    ),
    max_size=4,
)


def same(one: object, other: object) -> bool:
    if isinstance(one, list):
        return one == other
    return isinstance(other, np.ndarray) and np.array_equal(np.asarray(one), other)


@given(FEATURES)
def test_examples_come_back(features: dict) -> None:
    back = parse_example(encode_example(features))
    assert back.keys() == features.keys()
    assert all(same(features[name], back[name]) for name in features)


def test_numbers_that_are_not_packed_are_read_too() -> None:
    # Feature {int64_list {value: 3, value: 300}}, each value with a tag of its own.
    unpacked = bytes([0x1A, 0x05, 0x08, 0x03, 0x08, 0xAC, 0x02])
    entry = bytes([0x0A, 0x01, ord("a"), 0x12, len(unpacked)]) + unpacked
    features = bytes([0x0A, len(entry)]) + entry
    parsed = parse_example(bytes([0x0A, len(features)]) + features)
    assert np.array_equal(parsed["a"], [3, 300])


def test_the_checksum_is_the_documented_one() -> None:
    # CRC-32C of "123456789" is e3069283 (RFC 3720); masked as TFRecord does.
    crc = 0xE3069283
    assert masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_noticed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    stream = io.BytesIO()
    for number in range(3):
        write_record(stream, encode_example({"a": np.array([number, -9])}))
    content = bytearray(stream.getvalue())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        # A file that ends between two records cannot be told from a shorter one.
        length = len(content) // 3
        content = content[: data.draw(st.integers(1, len(content)).filter(lambda n: n % length))]
    path = tmp_path_factory.mktemp("damaged") / "shard"
    path.write_bytes(content)
    with pytest.raises(FarstepError, match=r"shard is (damaged|cut off)"):
        list(read_records(path))


@settings(max_examples=500)
@given(st.binary(max_size=64))
def test_what_is_no_message_is_refused(content: bytes) -> None:
    # UnicodeDecodeError is a ValueError too.
    with contextlib.suppress(ValueError):
        parse_example(content)


@pytest.mark.skipif(not REAL.exists(), reason="the real BridgeData sample is not here")
def test_real_bridge_data_come_back_byte_for_byte_long(tmp_path: Path) -> None:
    (shard,) = REAL.glob("*train.tfrecord*")
    records = [bytes(record) for record in read_records(shard)]
    examples = [parse_example(record) for record in records]
    assert len(examples) == 25
    assert all(example["steps/action"].shape == (70,) for example in examples)  # type: ignore[union-attr]
    assert examples[0]["steps/language_instruction"][0].startswith(b"put cup")  # type: ignore[union-attr]
    assert [len(encode_example(example)) for example in examples] == list(map(len, records))
    assert write_examples(tmp_path / "again", examples) == 25
    again = [parse_example(record) for record in read_records(tmp_path / "again")]
    assert all(same(a[name], b[name]) for a, b in zip(examples, again, strict=True) for name in a)
