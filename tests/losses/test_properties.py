from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farstep.losses.invariance import action_invariance
from farstep.losses.linex import multistep_backup
from farstep.losses.policy import behaviour_cloning, ddpg_bc

SIZE = 4


def backup(distances, targets, steps, **changes: Any):
    settings: dict[str, Any] = {"discount": 0.9, "clip": 5.0, "diagonal_weight": 0.3} | changes
    return multistep_backup(distances, targets, steps, **settings)


@settings(max_examples=30)
@given(
    steps=st.lists(st.integers(1, 40), min_size=SIZE, max_size=SIZE),
    seed=st.integers(0, 2**16),
)
def test_the_backup_is_stationary_where_the_distance_is_the_target_plus_the_steps(steps, seed):
    steps = jnp.asarray(steps, jnp.float32)
    targets = jax.random.uniform(jax.random.key(seed), (2, SIZE, SIZE), maxval=3)
    satisfied = targets - jnp.log(0.9) * steps[:, None]
    (_, metrics), gradient = jax.value_and_grad(lambda d: backup(d, targets, steps), has_aux=True)(
        satisfied
    )
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert float(metrics["backup/excess"]) == pytest.approx(0, abs=1e-5)


@settings(max_examples=30)
@given(offset=st.floats(-4, 4).filter(lambda x: abs(x) > 0.05), seed=st.integers(0, 2**16))
def test_the_backup_pushes_back_from_either_side(offset, seed):
    targets = jax.random.uniform(jax.random.key(seed), (1, SIZE, SIZE), maxval=3)
    steps = jnp.ones(SIZE)
    distances = targets - jnp.log(0.9) + offset
    (_, metrics), gradient = jax.value_and_grad(lambda d: backup(d, targets, steps), has_aux=True)(
        distances
    )
    assert float(metrics["backup/excess"]) > 0
    assert np.all(np.sign(gradient) == np.sign(offset))


def test_beyond_the_clip_the_backup_is_linear():
    targets = jnp.zeros((1, SIZE, SIZE))

    def gradient(distance):
        return jax.grad(lambda d: backup(d, targets, jnp.ones(SIZE), diagonal_weight=0.0)[0])(
            jnp.full((1, SIZE, SIZE), distance)
        )

    np.testing.assert_allclose(gradient(6.0), 1 / SIZE**2, rtol=1e-6)
    np.testing.assert_array_equal(gradient(6.0), gradient(60.0))


@pytest.mark.parametrize(("weight", "own", "other"), [(0.0, 1 / 16, 1 / 16), (1.0, 1 / 4, 0)])
def test_the_diagonal_weight_splits_own_goals_from_all_pairs(weight, own, other):
    gradient = jax.grad(
        lambda d: backup(d, jnp.zeros_like(d), jnp.ones(SIZE), diagonal_weight=weight)[0]
    )(jnp.full((1, SIZE, SIZE), 60.0))[0]
    np.testing.assert_allclose(np.diag(gradient), own, rtol=1e-6)
    np.testing.assert_allclose(gradient[0, 1], other, atol=1e-9)


def test_invariance_is_zero_only_where_acting_costs_nothing():
    assert float(action_invariance(jnp.zeros((2, 3)))[0]) == 0
    assert float(action_invariance(jnp.full((2, 3), 0.1))[0]) == pytest.approx(
        (np.exp(-0.1) - 1) ** 2, rel=1e-5
    )


@settings(max_examples=20)
@given(scale=st.floats(0.01, 100))
def test_the_q_term_does_not_depend_on_the_scale_of_q(scale):
    q = jnp.asarray([-1.0, -2.0, -4.0])
    log_probs = jnp.asarray([-1.0, -2.0, -3.0])
    expected = 1 + 0.5 * 2
    assert float(ddpg_bc(scale * q, log_probs, alpha=0.5)[0]) == pytest.approx(expected, rel=1e-4)


def test_cloning_is_the_mean_negative_log_likelihood():
    assert float(behaviour_cloning(jnp.asarray([-1.0, -3.0]))[0]) == 2
