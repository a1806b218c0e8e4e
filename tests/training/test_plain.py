"""The fast path learns what the plain formulation of the equations learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from farstep.agents.mqe import MQE
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.sampling.batches import DeviceTable
from farstep.sampling.episodes import Episodes
from plain import plain_loss, plain_update


@pytest.mark.slow
def test_two_hundred_updates_follow_the_plain_formulation():
    agent = MQE(hidden=(32, 32), latent=64, batch_size=24)
    rng = np.random.default_rng(0)
    table = DeviceTable(
        jnp.asarray(np.cumsum(rng.normal(size=(600, 2)) / 10, axis=0), jnp.float32),
        jnp.asarray(rng.uniform(-1, 1, (600, 2)), jnp.float32),
        Episodes.from_ends(np.arange(29, 600, 30)),
    )
    state = agent.init(Spaces.from_observation(Space((2,)), Actions(2)), root_key(0))
    params, optimizer = state.params, optax.adam(agent.learning_rate).init(state.params)
    slow, fast = plain_update(agent), jax.jit(agent.update)
    sample = jax.jit(lambda key: table.sample(agent.spec(), key))
    fast_loss = jax.jit(lambda p, b: agent.loss(p, b, root_key(0))[0])
    slow_loss = jax.jit(lambda p, b: plain_loss(agent, p, b))
    curves = []
    for step in range(200):
        batch = sample(jax.random.fold_in(root_key(1), step))
        plain_batch = {
            "states": batch.observations,
            "actions": batch.actions,
            "goals": batch["goal/value"].goals,
            "waypoints": batch["waypoint"].observations,
            "steps": batch["waypoint"].offsets.astype(jnp.float32),
            "policy_goals": batch["goal/policy"].goals,
        }
        if step % 20 == 0:
            curves.append((fast_loss(state.params, batch), slow_loss(params, plain_batch)))
        state, _ = fast(state, batch, root_key(0))
        params, optimizer = slow(params, optimizer, plain_batch)
    ours, plain = np.array(curves, float).T
    np.testing.assert_allclose(ours, plain, rtol=1e-4)
    assert ours[-1] < ours[0]
