"""Both distances are quasimetrics, and the measures of violation see one that is not."""

from __future__ import annotations

import functools
from typing import Literal

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from axioms import axiom_violations
from hypothesis import given, settings
from hypothesis import strategies as st

from farstep.quasimetrics import iqe, pairwise_mrn

POINTS, LATENT = 5, 16

DISTANCES = {
    "mrn": lambda x: pairwise_mrn(x, x, groups=2),
    "iqe": lambda x: iqe(x[:, None], x[None, :], 0.3, groups=4),
}


@functools.cache
def all_pairs(name: str, x64: bool):
    del x64  # in the key only: a function compiled for one precision serves no other
    return jax.jit(DISTANCES[name])


def points(width: Literal[32, 64], repeats: bool):
    """Latents on scales apart, or on a coarse grid, where rows and coordinates tie."""
    elements = (
        st.sampled_from([-1.0, 0.0, 1.0])
        if repeats
        else st.floats(-1e4, 1e4, width=width, allow_subnormal=False)
    )
    return hnp.arrays(f"float{width}", (POINTS, LATENT), elements=elements)


@pytest.mark.parametrize("repeats", [False, True], ids=["spread", "repeats"])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_quasimetric(name, width, repeats):
    @settings(max_examples=40)
    @given(points(width, repeats))
    def holds(x):
        with jax.enable_x64(width == 64):
            distances = all_pairs(name, width == 64)(jnp.asarray(x))
            assert distances.dtype == x.dtype
            worst = axiom_violations(distances)
            rounding = 32 * np.finfo(x.dtype).eps * max(np.abs(x).max(), 1e-30)
            assert worst.non_negativity == 0
            assert worst.identity == 0
            assert worst.triangle <= rounding

    holds()


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_asymmetric(name):
    x = jnp.zeros((2, LATENT)).at[0, 0].set(1.0)
    distances = DISTANCES[name](x)
    assert not np.allclose(distances, distances.T)


def test_violations_are_seen():
    distances = jnp.array([[0.5, 1.0, 9.0], [1.0, 0.0, 2.0], [-4.0, 8.0, 0.0]])
    worst = axiom_violations(distances)
    assert worst.non_negativity == 4.0
    assert worst.identity == 0.5
    assert worst.triangle == 11.0  # d(2, 1) = 8, and 2 → 0 → 1 costs −4 + 1


def test_violations_are_zero_for_a_quasimetric():
    position = jnp.arange(4.0)
    uphill = jax.nn.relu(position[:, None] - position[None, :])
    assert axiom_violations(uphill) == (0, 0, 0)
