"""Standardised observations."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from farstep.data.normalize import Normalization, report
from farstep.data.table import Table, TableWriter


def table_of(path, observations: np.ndarray) -> Table:
    kind = observations.dtype.name
    with TableWriter(path, observations.shape[1:], kind, 1) as writer:
        writer.append(observations, np.zeros((len(observations), 1)))
    return Table.open(path)


def test_the_table_becomes_standard(tmp_path):
    generator = np.random.default_rng(0)
    raw = generator.normal([5, -100, 0.01], [1, 30, 0.001], (500, 3)).astype(np.float32)
    normalization = Normalization.from_table(table_of(tmp_path / "t", raw))
    seen = normalization.apply(raw)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std(axis=0), 1, rtol=1e-4)
    assert [leaf.shape for leaf in jax.tree.leaves(normalization)] == [(3,), (3,), (0,), (0,)]


def test_a_constant_dimension_is_centred(tmp_path):
    raw = np.stack([np.full(10, 7), np.arange(10)], axis=1).astype(np.float32)
    seen = Normalization.from_table(table_of(tmp_path / "t", raw)).apply(raw)
    np.testing.assert_array_equal(seen[:, 0], 0)
    assert np.isfinite(seen).all()


def test_pixels_pass_untouched(tmp_path):
    raw = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    normalization = Normalization.from_table(table_of(tmp_path / "t", raw))
    assert normalization.apply(raw) is raw


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_identity(tmp_path, kind):
    raw = np.arange(96).reshape(2, 4, 4, 3).astype(kind)
    raw = raw if kind == "uint8" else raw.reshape(-1, 3)
    normalization = Normalization.identity(table_of(tmp_path / "t", raw).spaces)
    np.testing.assert_array_equal(normalization.apply(raw), raw)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None] + np.zeros((len(values), 1), np.float32)


@pytest.mark.parametrize(
    ("values", "deviation"),
    [
        (column(1e-9, 2e-9, 3e-9), np.std([1, 2, 3])),
        (column(-1e-7, 0, 1e-7), np.std([-1, 0, 1])),
        (column(1e6, 1e6 + 0.0625, 1e6), None),
        (column(0, 0, 0), None),
    ],
    ids=["small units", "around zero", "rounding of a large number", "zero"],
)
def test_constant_is_what_hardly_varies_for_its_magnitude(tmp_path, values, deviation):
    seen = Normalization.from_table(table_of(tmp_path / "t", values)).apply(values)
    if deviation is None:
        assert np.abs(seen).max() < 1
    else:
        np.testing.assert_allclose(seen.std(), 1, rtol=1e-3)


def test_a_spike_does_not_drown_the_other_columns(tmp_path):
    raw = np.zeros((2000, 2), np.float32)
    raw[:, 0] = np.linspace(-1, 1, 2000)
    raw[7, 1] = 1
    table = table_of(tmp_path / "t", raw)
    normalization = Normalization.from_table(table)
    assert normalization.apply(raw).max() == 10
    assert normalization.apply(np.array([0, -1e9], np.float32)).tolist() == [0, -10]
    (_, clipped) = report(table, normalization)
    assert "columns 1, which reach 45" in clipped
    assert Normalization.identity(table.spaces).apply(raw) is raw


def test_actions_keep_their_units_outside(tmp_path):
    actions = np.array([[-30, 0.5], [10, 0.5], [0, 0.5]], np.float32)
    with TableWriter(tmp_path / "t", (1,), "float32", 2) as writer:
        writer.append(column(0, 1, 2), actions)
    normalization = Normalization.from_table(Table.open(tmp_path / "t"), observations=False)
    scaled = normalization.scale_actions(actions)
    np.testing.assert_allclose(scaled[:, 0], [-1, 1, 0.5])
    np.testing.assert_array_equal(scaled[:, 1], 0)
    np.testing.assert_allclose(normalization.unscale_actions(scaled), actions, atol=1e-5)


def test_actions_within_the_range_stay_bit_for_bit(tmp_path):
    actions = np.array([[-1, 0.1], [0.25, 0.7]], np.float32)
    with TableWriter(tmp_path / "t", (1,), "float32", 2) as writer:
        writer.append(column(0, 1), actions)
    normalization = Normalization.from_table(Table.open(tmp_path / "t"))
    assert normalization.scale_actions(actions) is actions
    assert normalization.unscale_actions(actions) is actions


def test_a_robots_metres_count_as_much_as_its_gripper(tmp_path):
    actions = np.array([[-0.05, 1], [0.05, 0], [0.01, 0]], np.float32)
    for scale in (True, False):
        with TableWriter(tmp_path / f"{scale}", (1,), "float32", 2, scale_actions=scale) as writer:
            writer.append(column(0, 1, 2), actions)
    scaled = Normalization.from_table(Table.open(tmp_path / "True")).scale_actions(actions)
    np.testing.assert_allclose(scaled, [[-1, 1], [1, -1], [0.2, -1]], atol=1e-6)
    assert (
        Normalization.from_table(Table.open(tmp_path / "False")).scale_actions(actions) is actions
    )
