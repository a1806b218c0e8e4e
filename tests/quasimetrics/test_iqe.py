"""IQE: values against the definition, gradients at the corners."""

from __future__ import annotations

import functools
import inspect

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distance_reference import iqe_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from farstep.quasimetrics import iqe

three_groups = jax.jit(functools.partial(iqe, groups=3))
COORDINATES = st.floats(-100, 100, width=32) | st.sampled_from([-1.0, 0.0, 1.0])


@settings(max_examples=50)
@given(hnp.arrays("float32", (2, 12), elements=COORDINATES), st.floats(-3, 3, width=32))
def test_values(pair, raw_alpha):
    x, y = pair
    distance = three_groups(jnp.asarray(x), jnp.asarray(y), jnp.float32(raw_alpha))
    np.testing.assert_allclose(distance, iqe_reference(x, y, raw_alpha, 3), rtol=1e-5, atol=1e-4)


def test_leading_axes_broadcast():
    x, y = jax.random.normal(jax.random.key(0), (2, 5, 16))
    distance = jax.jit(lambda x, y: iqe(x, y, 0.0, groups=2))
    matrix = distance(x[:, None], y[None])
    np.testing.assert_allclose(matrix.diagonal(), distance(x, y), rtol=1e-6)


def test_gradients():
    with jax.enable_x64(True):
        x, y = jax.random.normal(jax.random.key(0), (2, 3, 16), jnp.float64)
        distance = jax.jit(functools.partial(iqe, groups=4))
        check_grads(distance, (x, y, jnp.float64(0.5)), order=1, modes=["rev"])


@pytest.mark.parametrize("offset", [0.0, 1e-7])
def test_gradient_is_finite_near_equality(offset):
    x = jax.random.normal(jax.random.key(1), (4, 32)).round(1)
    gradient = jax.jit(jax.grad(lambda x, y: iqe(x, y, 0.0, 4).sum(), argnums=(0, 1)))
    for side in gradient(x, x + offset):
        assert np.isfinite(side).all()
        if offset == 0:
            assert not np.any(side)


@pytest.mark.parametrize(
    ("x_shape", "y_shape", "groups", "message"),
    [
        ((4, 24), (4, 24), 5, "does not divide into 5"),
        ((4, 16), (4, 32), 2, "one latent size"),
        ((4, 16), (3, 16), 2, "do not broadcast"),
    ],
)
def test_bad_shapes(x_shape, y_shape, groups, message):
    # Unwrapped: as a user calls it, without the shape checks of the test suite.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(iqe)(jnp.zeros(x_shape), jnp.zeros(y_shape), 0.0, groups)
