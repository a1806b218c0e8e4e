"""IQE: values against the definition, gradients at the corners."""

from __future__ import annotations

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

COORDINATES = st.floats(-100, 100, width=32) | st.sampled_from([-1.0, 0.0, 1.0])


@settings(max_examples=50, deadline=None)
@given(hnp.arrays("float32", (2, 12), elements=COORDINATES), st.floats(-3, 3, width=32))
def test_values(pair, raw_alpha):
    x, y = pair
    np.testing.assert_allclose(
        iqe(x, y, raw_alpha, groups=3), iqe_reference(x, y, raw_alpha, 3), rtol=1e-5, atol=1e-4
    )


def test_leading_axes_broadcast():
    x, y = jax.random.normal(jax.random.key(0), (2, 5, 16))
    matrix = iqe(x[:, None], y[None], 0.0, groups=2)
    np.testing.assert_array_equal(matrix.diagonal(), iqe(x, y, 0.0, groups=2))


def test_gradients():
    with jax.enable_x64(True):
        x, y = jax.random.normal(jax.random.key(0), (2, 3, 16), jnp.float64)
        check_grads(lambda *args: iqe(*args, groups=4), (x, y, 0.5), order=1, modes=["rev"])


@pytest.mark.parametrize("offset", [0.0, 1e-7])
def test_gradient_is_finite_near_equality(offset):
    x = jax.random.normal(jax.random.key(1), (4, 32)).round(1)
    gradients = jax.grad(lambda x, y: iqe(x, y, 0.0, 4).sum(), argnums=(0, 1))(x, x + offset)
    for gradient in gradients:
        assert jnp.isfinite(gradient).all()
        if offset == 0:
            assert (gradient == 0).all()


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
