"""A flow policy learns to act in either of two ways where a Gaussian acts between them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.networks.flow import FlowPolicy

KEY = root_key(0)
SPACES = Spaces.from_observation(Space((1,)), Actions(1))
ROWS = 256
STATES = jnp.zeros((ROWS, 1))


@pytest.fixture(scope="module")
def policy():
    """Trained on actions of −0.7 and 0.7, equally often at one state."""
    optimizer = optax.adam(3e-3)

    @jax.jit
    def trained():
        first: Any = FlowPolicy(SPACES, (32, 32), one_step=True, key=KEY)

        def update(state: Any, key):
            policy, moments = state
            action_key, loss_key = jax.random.split(key)
            actions = 0.7 * jax.random.rademacher(action_key, (ROWS, 1), float)

            def loss(policy: FlowPolicy):
                return jnp.mean(policy.behaviour_loss(STATES, STATES, actions, loss_key))

            gradient: Any = jax.grad(loss)(policy)
            change, moments = optimizer.update(gradient, moments)
            later: Any = jax.tree.map(jnp.add, policy, change)
            return (later, moments), None

        keys = jax.random.split(KEY, 1500)
        return jax.lax.scan(update, (first, optimizer.init(first)), keys)[0][0]

    return trained()


def flowed(policy):
    return eqx.tree_at(lambda each: each.one_step, policy, None)


def test_samples_are_either_way_and_seldom_between(policy):
    for form in (policy, flowed(policy)):
        actions = np.asarray(form.sample(STATES, STATES, KEY))
        assert actions.shape == (ROWS, 1)
        assert np.mean(np.abs(np.abs(actions) - 0.7) < 0.2) > 0.8
        assert 0.3 < np.mean(actions > 0) < 0.7


def test_one_step_comes_to_what_the_flow_does(policy):
    steps, flow = (form.sample(STATES, STATES, KEY) for form in (policy, flowed(policy)))
    assert np.mean(np.square(steps - flow)) < 0.05


def test_without_temperature_it_is_one_way_and_always_the_same(policy):
    for form in (policy, flowed(policy)):
        actions = np.asarray(form.mode(STATES, STATES))
        np.testing.assert_array_equal(actions, form.sample(STATES, STATES, root_key(1), 0.0))
        np.testing.assert_allclose(np.abs(actions), 0.7, atol=0.3)
        assert np.ptp(actions) < 1e-5


def test_a_critic_climbs_through_the_one_step_form_alone(policy):
    def q(policy):
        return jnp.mean(policy.climb(STATES, STATES, KEY))

    gradient = jax.grad(q)(policy)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient.one_step))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient.velocity))
