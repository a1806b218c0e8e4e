"""MQE's value loss in place of action invariance (Table 1a)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.agents.mqe import MQE, expectile_value
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.sampling.batches import batch_shape

KEY = root_key(0)
SPACES = Spaces.from_observation(Space((3,)), Actions(2))


def test_the_loss_by_hand():
    values, targets = jnp.array([[2.0, 1.0]]), jnp.array([[1.0, 3.0]])
    # A = 1 and −2: the first action brings the goal nearer than the value says.
    loss, metrics = expectile_value(values, targets, 0.9)
    assert float(loss) == pytest.approx((0.9 * 1 + 0.1 * 4) / 2)
    assert float(metrics["value/advantage"]) == pytest.approx(-0.5)
    assert float(expectile_value(values, targets, 0.5)[0]) == pytest.approx(0.5 * 5 / 2)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_a_value_settles_near_its_best_action(expectile):
    """Of two equally frequent actions to 1 and 3 nats away, at κ·1 + (1 − κ)·3."""
    targets = jnp.array([[1.0, 3.0]])

    def loss(value):
        return expectile_value(jnp.full((1, 2), value), targets, expectile)[0]

    settled = expectile * 1 + (1 - expectile) * 3
    assert float(jax.grad(loss)(settled)) == pytest.approx(0, abs=1e-6)
    assert float(jax.grad(loss)(settled + 0.1)) > 0 > float(jax.grad(loss)(settled - 0.1))


def test_what_actions_lead_to_is_not_bent_towards_the_value():
    gradient = jax.grad(lambda targets: expectile_value(jnp.ones((2, 3)), targets, 0.7)[0])
    np.testing.assert_array_equal(gradient(jnp.zeros((2, 3))), 0)


@pytest.mark.parametrize("invariance", ["off", "expectile"])
def test_it_takes_the_place_of_action_invariance(invariance):
    agent = MQE(hidden=(8,), latent=8, groups=2, batch_size=4, invariance=invariance)

    def terms(batch):
        return agent.loss(agent.networks(SPACES, KEY), batch, KEY)[1]

    found = jax.eval_shape(terms, batch_shape(agent.spec(), SPACES))
    names = {name.partition("/")[0] for name in found}
    assert "invariance" not in names
    assert ("value" in names) == (invariance == "expectile")
