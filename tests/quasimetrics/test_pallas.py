"""The kernels for a GPU, interpreted on the CPU, against the portable form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from farstep.quasimetrics import pairwise
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


def test_translates_to_a_gpu_program():
    x, y, weight = points(*SHAPE)
    lowered = both_sides(total, weight).trace(x, y).lower(lowering_platforms=("cuda",))
    assert lowered.as_text().count("triton") >= 4  # distances, pairs and the sums of both sides


def test_the_portable_form_stands_in_without_a_gpu():
    assert not lowers()
    assert pairwise._total_for_device() is pairwise._total


def test_the_kernels_are_chosen_on_a_gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr("farstep.quasimetrics.pallas.lowers", lambda: True)
    assert pairwise._total_for_device() is total
