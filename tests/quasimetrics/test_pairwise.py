"""MRN of all pairs: the fast form against the definition, the golden vectors and autodiff."""

from __future__ import annotations

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distance_reference import all_pairs, mrn_reference

from farstep.quasimetrics import pairwise_mrn

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("mqe_golden_*.npz"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize(("width", "tolerance"), [(32, 3e-6), (64, 1e-12)])
def test_golden(path, width, tolerance):
    golden = np.load(path)
    groups = int(golden["groups"])
    with jax.enable_x64(width == 64):
        phi, psi = (jnp.asarray(golden[name], f"float{width}") for name in ("phi", "psi_g"))
        distances = pairwise_mrn(phi, psi, groups)
        reverse = pairwise_mrn(psi, phi, groups)
    np.testing.assert_allclose(distances, golden["pairwise"], rtol=tolerance)
    np.testing.assert_allclose(reverse, golden["pairwise_reverse"], rtol=tolerance)


def test_ensemble_axes_are_optional():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 24)).astype(np.float32)
    expected = all_pairs(mrn_reference, x, y[:3], 3)
    np.testing.assert_allclose(pairwise_mrn(x, y[:3], groups=3), expected, rtol=1e-5)
    stacked = pairwise_mrn(x[None, None], y[None, None, :3], groups=3)
    np.testing.assert_allclose(stacked[0, 0], expected, rtol=1e-5)


def plain(x, y, groups):
    """The definition with all differences in memory; of tied coordinates, the first wins."""
    difference = x[..., :, None, :] - y[..., None, :, :]
    halves = difference.reshape(*difference.shape[:-1], groups, 2, -1)
    winner = halves[..., 0, :].argmax(axis=-1, keepdims=True)
    largest = jnp.take_along_axis(halves[..., 0, :], winner, axis=-1)[..., 0]
    squared = jnp.square(halves[..., 1, :]).sum(axis=-1)
    norm = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    return (jax.nn.relu(largest) + norm).mean(axis=-1) / np.sqrt(x.shape[-1])


def near_pairs(offset: float):
    """Two rows of `y` a step of `offset` from rows of `x`, far from the origin; the rest apart."""
    x, y = jax.random.normal(jax.random.key(3), (2, 2, 6, 32)) + 20
    return x, y.at[:, 1].set(x[:, 1] * (1 + offset)).at[:, 4].set(x[:, 2] * (1 - offset))


@pytest.mark.parametrize("offset", [0.0, 1e-6, 1e-4, 1e-2])
def test_near_pairs(offset):
    x, y = near_pairs(offset)
    weight = jax.random.normal(jax.random.key(4), (2, 6, 6))

    def loss(distance):
        return lambda x, y: (weight * distance(x, y, 4)).sum()

    fast = jax.jit(jax.value_and_grad(loss(pairwise_mrn), argnums=(0, 1)))(x, y)
    with jax.enable_x64(True):
        exact = jax.jit(jax.value_and_grad(loss(plain), argnums=(0, 1)))(
            x.astype(jnp.float64), y.astype(jnp.float64)
        )
    for ours, theirs in zip(jax.tree.leaves(fast), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradient_at_equal_rows_is_zero():
    x = jnp.full((2, 5, 32), 7.0)
    gradients = jax.grad(lambda x, y: pairwise_mrn(x, y, 4).sum(), argnums=(0, 1))(x, x)
    for gradient in gradients:
        assert (gradient == 0).all()


@pytest.mark.parametrize(
    ("x_shape", "y_shape", "groups", "message"),
    [
        ((4, 24), (4, 24), 8, "multiple of 16"),
        ((4, 16), (4, 32), 2, "differ in their rows alone"),
        ((2, 4, 16), (3, 4, 16), 2, "differ in their rows alone"),
        ((16,), (16,), 2, "differ in their rows alone"),
    ],
)
def test_bad_shapes(x_shape, y_shape, groups, message):
    # Unwrapped: as a user calls it, without the shape checks of the test suite.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(pairwise_mrn)(jnp.zeros(x_shape), jnp.zeros(y_shape), groups)
