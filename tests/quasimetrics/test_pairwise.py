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


@pytest.mark.parametrize("leading", [(), (2,), (2, 1)])
def test_ensemble_axes_lead(leading):
    x, y = np.random.default_rng(0).normal(size=(2, *leading, 5, 24)).astype(np.float32)
    y = y[..., :3, :]
    distances = pairwise_mrn(jnp.asarray(x), jnp.asarray(y), groups=3)
    assert distances.shape == (*leading, 5, 3)
    for member in np.ndindex(*leading):
        expected = all_pairs(mrn_reference, x[member], y[member], 3)
        np.testing.assert_allclose(distances[member], expected, rtol=1e-5)


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


def both_sides(distance, weight, groups):
    """The value and both gradients of a weighted sum of all distances."""

    def loss(x, y):
        return (weight * distance(x, y, groups)).sum()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def assert_equals_plain(x, y, weight, groups, tolerance):
    fast = both_sides(pairwise_mrn, weight, groups)(x, y)
    with jax.enable_x64(True):
        exact = both_sides(plain, weight, groups)(x.astype(jnp.float64), y.astype(jnp.float64))
    for ours, theirs in zip(jax.tree.leaves(fast), jax.tree.leaves(exact), strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("offset", [0.0, 1e-6, 1e-4, 1e-2])
def test_near_pairs(offset):
    x, y = near_pairs(offset)
    assert_equals_plain(x, y, jax.random.normal(jax.random.key(4), (2, 6, 6)), 4, 1e-5)


@pytest.mark.parametrize(
    ("rows", "columns", "half", "groups"),
    [
        (17, 33, 3, 2),  # fewer coordinates than an unrolled loop wants, blocks left over
        (4, 5, 67, 1),  # more coordinates than one unrolled loop takes, in unequal chunks
        (257, 300, 1, 1),  # more points of either set than one tile
        # Few rows, whose tiles are wide; and more rows than columns, the other way round.
        pytest.param(3, 700, 2, 2, marks=pytest.mark.slow),
        pytest.param(300, 2, 2, 2, marks=pytest.mark.slow),
    ],
)
def test_every_way_to_cut(rows, columns, half, groups):
    latent = 2 * half * groups
    keys = jax.random.split(jax.random.key(half), 3)
    x = jax.random.normal(keys[0], (rows, latent))
    y = jax.random.normal(keys[1], (columns, latent))
    assert_equals_plain(x, y, jax.random.normal(keys[2], (rows, columns)), groups, 1e-5)


def test_double_precision():
    with jax.enable_x64(True):
        x, y = jax.random.normal(jax.random.key(0), (2, 6, 32), jnp.float64)
        assert_equals_plain(x, y, jax.random.normal(jax.random.key(1), (6, 6)), 4, 1e-13)


def test_narrow_types_are_computed_in_float32():
    x, y = jax.random.normal(jax.random.key(0), (2, 6, 32), jnp.bfloat16)
    weight = jax.random.normal(jax.random.key(1), (6, 6))
    _, gradients = both_sides(pairwise_mrn, weight, 4)(x, y)
    _, expected = both_sides(pairwise_mrn, weight, 4)(x.astype(jnp.float32), y.astype(jnp.float32))
    assert pairwise_mrn(x, y, 4).dtype == jnp.float32
    for ours, theirs in zip(gradients, expected, strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_array_equal(ours, theirs.astype(jnp.bfloat16))


def test_under_vmap_and_scan():
    x, y = jax.random.normal(jax.random.key(0), (2, 3, 2, 6, 32))
    gradients = both_sides(pairwise_mrn, 1.0, 4)
    one_by_one = [gradients(*seed) for seed in zip(x, y, strict=True)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *one_by_one)
    _, scanned = jax.lax.scan(lambda _, seed: (None, gradients(*seed)), None, (x, y))
    for mapped in (jax.jit(jax.vmap(gradients))(x, y), scanned):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), mapped, expected)


def test_memory_is_less_than_the_differences_of_one_half_group():
    x = jnp.zeros((1, 256, 512))
    usage = both_sides(pairwise_mrn, 1.0, 8).lower(x, x).compile().memory_analysis()
    assert usage is not None
    assert usage.temp_size_in_bytes < 256 * 256 * 32 * x.dtype.itemsize


@pytest.mark.parametrize("coordinate", [0, 31])
def test_nan_is_seen(coordinate):
    x = jnp.zeros((2, 32)).at[1, coordinate].set(jnp.nan)
    distances = np.asarray(pairwise_mrn(x, jnp.ones((3, 32)), 1))
    assert np.isnan(distances[1]).all()
    assert not np.isnan(distances[0]).any()


def test_gradient_at_equal_rows_is_zero():
    x = jnp.full((2, 5, 32), 7.0)
    _, gradients = both_sides(pairwise_mrn, 1.0, 4)(x, x)
    for gradient in gradients:
        assert not np.any(gradient)


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
