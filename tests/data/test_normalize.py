"""Standardised observations."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from farstep.data.normalize import Normalization
from farstep.data.table import Table, TableWriter


def table_of(path, observations: np.ndarray) -> Table:
    kind = observations.dtype.name
    with TableWriter(path, observations.shape[1:], kind, 1) as writer:
        writer.append(observations, np.zeros((len(observations), 1)))
    return Table.open(path)


def test_the_table_becomes_standard_and_comes_back(tmp_path):
    generator = np.random.default_rng(0)
    raw = generator.normal([5, -100, 0.01], [1, 30, 0.001], (500, 3)).astype(np.float32)
    normalization = Normalization.of(table_of(tmp_path / "t", raw))
    seen = normalization.apply(raw)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(normalization.invert(seen), raw, rtol=1e-4, atol=1e-5)
    assert [leaf.shape for leaf in jax.tree.leaves(normalization)] == [(3,), (3,)]


def test_a_constant_dimension_is_centred(tmp_path):
    raw = np.stack([np.full(10, 7), np.arange(10)], axis=1).astype(np.float32)
    seen = Normalization.of(table_of(tmp_path / "t", raw)).apply(raw)
    np.testing.assert_array_equal(seen[:, 0], 0)
    assert np.isfinite(seen).all()


def test_pixels_pass_untouched(tmp_path):
    raw = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    normalization = Normalization.of(table_of(tmp_path / "t", raw))
    assert normalization.apply(raw) is raw
    assert normalization.invert(raw) is raw


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_identity(tmp_path, kind):
    raw = np.arange(12).reshape(4, 3).astype(kind)
    normalization = Normalization.identity(table_of(tmp_path / "t", raw).spaces)
    np.testing.assert_array_equal(normalization.apply(raw), raw)
