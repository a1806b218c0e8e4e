"""The kernels for a GPU, interpreted on the CPU, against the portable form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from farstep.quasimetrics import pairwise, pairwise_mrn
from farstep.quasimetrics.pallas import lowers, total

SHAPE = 40, 33, 2, 3
"""Rows, columns, groups, half: over the edges of several tiles, with no power of two."""


def points(rows, columns, groups, half):
    keys = jax.random.split(jax.random.key(rows), 3)
    x = jax.random.normal(keys[0], (2, rows, groups, 2, half))
    y = jax.random.normal(keys[1], (2, columns, groups, 2, half))
    # A pair of equal points in each member.
    return x, y.at[:, 2].set(x[:, 1]), jax.random.normal(keys[2], (2, rows, columns))


def both_sides(form, weight):
    def loss(x, y):
        return (weight * jax.vmap(form)(x, y)).sum()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def test_equals_the_portable_form():
    x, y, weight = points(*SHAPE)
    ours = both_sides(lambda x, y: total(x, y, interpret=True), weight)(x, y)
    portable = both_sides(pairwise._total, weight)(x, y)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(portable), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def test_nan_is_seen():
    x, y, _ = points(*SHAPE)
    distances = total(x[0].at[1, 0, 0, 0].set(jnp.nan), y[0], interpret=True)
    assert np.isnan(distances[1]).all()
    assert not np.isnan(distances[0]).any()


def program(form, platform):
    """The text of a program for `platform`, which need not be here."""
    x, y, weight = points(*SHAPE)
    step = both_sides(form, weight).trace(x, y)
    return step.lower(lowering_platforms=(platform,)).as_text()


def chosen(x, y):
    flat = (z.reshape(len(z), -1) for z in (x, y))
    return pairwise_mrn(*flat, groups=SHAPE[2])


def test_a_program_for_a_gpu_has_the_kernels_and_one_for_a_cpu_has_not():
    # Distances, pairs and the sums of both sides.
    assert program(chosen, "cuda").count("triton") >= 4
    assert "triton" not in program(chosen, "cpu")


def test_products_behind_the_switch_are_in_full_precision():
    products = [
        line for line in program(pairwise._total, "cuda").splitlines() if "dot_general" in line
    ]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_a_device_that_does_not_compile_them_is_named_once(caplog):
    device = jax.devices("cpu")[0]
    lowers.cache_clear()
    assert not lowers(device)
    assert not lowers(device)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(device) in record.getMessage()


def test_the_portable_form_stands_in_on_such_a_device(monkeypatch):
    monkeypatch.setattr("farstep.quasimetrics.pallas.usable", lambda: False)
    assert "triton" not in program(chosen, "cuda")
