"""MRN of pairs, in both forms: values against the definition and golden vectors, and corners."""

from __future__ import annotations

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distance_reference import all_pairs, mrn_reference

from farstep.quasimetrics import in_lanes, mrn, mrn_both_ways, out_of_lanes, rowwise_mrn
from farstep.quasimetrics.rowwise import UNROLLED


def mrn_in_lanes(x, y, groups=8):
    """`rowwise_mrn` of an ensemble of one."""
    return rowwise_mrn(in_lanes(x[..., None, :], groups), in_lanes(y[..., None, :], groups), groups)


forms = pytest.mark.parametrize("distance", [mrn, mrn_in_lanes])

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("mqe_golden_*.npz"))


@forms
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize(("width", "tolerance"), [(32, 3e-6), (64, 1e-12)])
def test_golden_diagonal(distance, path, width, tolerance):
    golden = np.load(path)
    with jax.enable_x64(width == 64):
        phi, psi = (jnp.asarray(golden[name], f"float{width}") for name in ("phi", "psi_g"))
        distances = distance(phi, psi, int(golden["groups"]))
        reverse = distance(psi, phi, int(golden["groups"]))
    diagonal = {"axis1": 1, "axis2": 2}
    np.testing.assert_allclose(distances, golden["pairwise"].diagonal(**diagonal), rtol=tolerance)
    np.testing.assert_allclose(
        reverse, golden["pairwise_reverse"].diagonal(**diagonal), rtol=tolerance
    )


@forms
@pytest.mark.parametrize("fewer_axes", [False, True])
def test_leading_axes_broadcast(distance, fewer_axes):
    x, y = np.random.default_rng(0).normal(size=(2, 5, 24)).astype(np.float32)
    y_leads = jnp.asarray(y) if fewer_axes else jnp.asarray(y)[None]
    distances = distance(jnp.asarray(x)[:, None], y_leads, groups=3)
    np.testing.assert_allclose(distances, all_pairs(mrn_reference, x, y, 3), rtol=1e-5)


@pytest.mark.parametrize("half", [1, UNROLLED, UNROLLED + 1])
def test_of_an_ensemble_it_is_the_mean_both_ways(half):
    x, y = jax.random.normal(jax.random.key(5), (2, 3, 4, 7, 6 * half))
    x_lanes, y_lanes = (in_lanes(jnp.moveaxis(each, 0, -2), 3) for each in (x, y))
    there, back = mrn_both_ways(x_lanes[:, :1], y_lanes, 3)
    np.testing.assert_array_equal(there, rowwise_mrn(x_lanes[:, :1], y_lanes, 3))
    np.testing.assert_allclose(there, mrn(x[:, :, :1], y, 3).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(back, mrn(y, x[:, :, :1], 3).mean(axis=0), rtol=1e-5)


def test_lanes_lie_as_documented_and_lead_back():
    members, rows, groups, half = 2, 5, 3, 4
    x = jnp.arange(members * rows * groups * 2 * half, dtype=jnp.float32)
    x = x.reshape(rows, members, groups * 2 * half)
    lanes = in_lanes(x, groups)
    assert lanes.shape == (rows, half, 2, members * groups)
    # The second member's last group, second half, third coordinate.
    assert lanes[4, 2, 1, 5] == x[4, 1, 2 * 2 * half + half + 2]
    np.testing.assert_array_equal(out_of_lanes(lanes, groups), x)


@forms
def test_narrow_types_are_computed_in_float32(distance):
    x, y = jax.random.normal(jax.random.key(0), (2, 3, 16), jnp.bfloat16)
    distances, gradient = jax.jit(jax.value_and_grad(lambda x: distance(x, y, 2).sum()))(x)
    assert distances.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16


@forms
@pytest.mark.parametrize("offset", [0.0, 1e-30, 1e-7])
def test_gradient_is_finite_near_equality(distance, offset):
    x = jax.random.normal(jax.random.key(1), (4, 32))
    gradient = jax.jit(jax.grad(lambda x, y: distance(x, y, 4).sum(), argnums=(0, 1)))
    for side in gradient(x, x + offset):
        assert np.isfinite(side).all()
        if offset == 0:
            assert not np.any(side)


@forms
def test_what_is_no_number_stays_so(distance):
    """In either half of any group: training that diverged must show."""
    x = jnp.zeros((16, 16)).at[jnp.diag_indices(16)].set(jnp.nan)
    for there, back in ((x, jnp.ones_like(x)), (jnp.ones_like(x), x)):
        assert np.isnan(distance(there, back, 2)).all()


@forms
def test_gradient_at_the_origin_is_zero(distance):
    zeros = jnp.zeros((3, 16))
    gradient = jax.jit(jax.grad(lambda x: distance(x, zeros, 2).sum()))(zeros)
    assert not np.any(gradient)


@pytest.mark.parametrize(
    ("x_shape", "y_shape", "groups", "message"),
    [
        ((4, 24), (4, 24), 8, "multiple of 16"),
        ((4, 16), (4, 16), 0, "0 groups"),
        ((4, 16), (4, 32), 2, "one latent size"),
        ((4, 16), (3, 16), 2, "do not broadcast"),
    ],
)
def test_bad_shapes(x_shape, y_shape, groups, message):
    # Unwrapped: as a user calls it, without the shape checks of the test suite.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(mrn)(jnp.zeros(x_shape), jnp.zeros(y_shape), groups)


@pytest.mark.parametrize(
    ("x_shape", "y_shape", "groups", "message"),
    [
        ((4, 4, 2, 3), (4, 8, 2, 3), 3, "same halves and lanes"),
        ((4, 4, 2, 3), (4, 4, 2, 3), 2, "multiple of 2 groups"),
        ((2, 3), (2, 3), 3, "same halves and lanes"),
        ((4, 3, 1, 3), (4, 3, 1, 3), 3, "same halves and lanes"),
        ((4, 0, 2, 3), (4, 0, 2, 3), 3, "same halves and lanes"),
        ((4, 4, 2, 3), (3, 4, 2, 3), 3, "do not broadcast"),
    ],
)
def test_bad_lanes(x_shape, y_shape, groups, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(mrn_both_ways)(jnp.zeros(x_shape), jnp.zeros(y_shape), groups)


@pytest.mark.parametrize(("latent", "groups"), [(24, 8), (16, 0)])
def test_latents_that_have_no_lanes(latent, groups):
    with pytest.raises(ValueError, match="does not divide into"):
        inspect.unwrap(in_lanes)(jnp.zeros((1, 4, latent)), groups)
