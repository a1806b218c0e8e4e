"""Values, advantages and contrasts against what their formulas say by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from farstep.losses.contrastive import all_products, binary_nce, info_nce, products
from farstep.losses.policy import advantage_weighted
from farstep.losses.values import (
    SMALLEST,
    expectile_loss,
    goal_backup,
    implicit_value,
    value_to_nats,
)

KEY = jax.random.key(0)


@settings(max_examples=30)
@given(steps=st.floats(0, 600), discount=st.sampled_from([0.9, 0.98, 0.99, 0.995]))
def test_a_value_tells_the_steps_that_it_discounts(steps, discount):
    value = -(1 - discount**steps) / (1 - discount)
    nats = float(value_to_nats(jnp.asarray([value]), discount)[0])
    farthest = -np.log(SMALLEST)
    assert nats == pytest.approx(min(-steps * np.log(discount), farthest), rel=0.05, abs=1e-3)


def test_values_out_of_range_are_at_the_goal_or_as_far_as_can_be_told():
    nats = value_to_nats(jnp.asarray([0.5, -1000.0]), 0.99)
    np.testing.assert_allclose(nats, [0, -np.log(SMALLEST)], atol=1e-6)


def test_backups_end_at_the_goal():
    values = jnp.asarray([[-3.0, -3.0]])
    backups = goal_backup(values, jnp.asarray([True, False]), 0.9)
    np.testing.assert_allclose(backups, [[0.0, -3.7]], rtol=1e-6)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_loss_is_least_at_the_expectile(expectile):
    samples = jnp.asarray([0.0, 1.0, 5.0])
    grid = jnp.linspace(0, 5, 2001)
    costs = expectile_loss(samples - grid[:, None], samples - grid[:, None], expectile).sum(-1)
    best = float(grid[jnp.argmin(costs)])
    above, below = np.clip(np.asarray(samples) - best, 0, None), np.clip(best - samples, 0, None)
    assert expectile * above.sum() == pytest.approx((1 - expectile) * below.sum(), abs=0.01)


def test_the_ensemble_agrees_on_the_side_of_the_expectile():
    values = jnp.asarray([[0.0], [0.0]])
    target = jnp.asarray([[-1.0], [-2.0]])
    following = jnp.asarray([[-1.0], [1.0]])  # Backups −1.9 and −0.1, the least against −1.5.
    loss, metrics = implicit_value(
        values, target, following, jnp.asarray([False]), discount=0.9, expectile=0.8
    )
    assert float(metrics["value/advantage"]) == pytest.approx(-0.4, rel=1e-5)
    assert float(loss) == pytest.approx(0.2 * (1.9**2 + 0.1**2), rel=1e-5)


def test_weights_of_cloning_are_exponential_up_to_a_ceiling():
    log_probs, advantages = jnp.asarray([-1.0, -2.0, -3.0]), jnp.asarray([0.0, -0.5, 9.0])
    loss, metrics = advantage_weighted(log_probs, advantages, inverse_temperature=2.0)
    assert float(loss) == pytest.approx((1 + 2 * np.exp(-1) + 300) / 3, rel=1e-5)
    assert float(metrics["actor/bc_loss"]) == pytest.approx(2.0)
    gradient = jax.grad(lambda a: advantage_weighted(log_probs, a, inverse_temperature=2.0)[0])(
        advantages
    )
    assert not np.any(gradient)


def test_contrasts_are_cross_entropies_of_the_diagonal():
    logits = jax.random.normal(KEY, (2, 5, 5))
    diagonal = np.arange(5)
    columns = -log_softmax(logits, axis=1)[:, diagonal, diagonal].mean()
    rows = -log_softmax(logits, axis=2)[:, diagonal, diagonal].mean()
    assert float(info_nce(logits, axes=(-2,))[0]) == pytest.approx(columns, rel=1e-5)
    assert float(info_nce(logits, axes=(-2, -1))[0]) == pytest.approx(columns + rows, rel=1e-5)

    chance = 1 / (1 + np.exp(-np.asarray(logits)))
    own = np.eye(5)
    expected = -(own * np.log(chance) + (1 - own) * np.log(1 - chance)).mean()
    loss, metrics = binary_nce(logits)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    others = np.asarray(logits)[:, own == 0].mean()
    assert float(metrics["contrastive/others"]) == pytest.approx(others, rel=1e-4)


def test_no_axis_mistakes_goals_for_rows():
    """A logit that only the goal decides tells rows apart for no goal, but goals for every row."""
    by_goal = jnp.broadcast_to(jnp.asarray([0.0, 3.0, -2.0]), (1, 3, 3))
    assert float(info_nce(by_goal, axes=(-2,))[0]) == pytest.approx(np.log(3), rel=1e-5)
    assert float(info_nce(by_goal, axes=(-1,))[0]) != pytest.approx(np.log(3), rel=1e-2)


def test_products_are_the_diagonal_of_all_products():
    x, y = jax.random.normal(KEY, (2, 3, 4, 16))
    every = all_products(x, y)
    assert every.shape == (3, 4, 4)
    np.testing.assert_allclose(
        products(x, y), jnp.diagonal(every, axis1=-2, axis2=-1), rtol=1e-5, atol=1e-6
    )
