"""Options of single agents, and which loss reaches which network."""

from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.agents.cmd import CMD
from farstep.agents.crl import CRL
from farstep.agents.gcbc import GCBC
from farstep.agents.hiql import HIQL
from farstep.agents.mqe import MQE
from farstep.agents.qrl import QRL
from farstep.agents.registry import AGENTS
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.losses.invariance import action_invariance
from farstep.quasimetrics import mrn
from farstep.sampling.batches import DeviceTable, batch_shape
from farstep.sampling.episodes import Episodes

KEY = root_key(0)
SPACES = Spaces.from_observation(Space((3,)), Actions(2))
SIZES = {"hidden": (8,), "latent": 16, "groups": 2, "batch_size": 8}


def small(kind, **options) -> Any:
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in SIZES.items() if name in known}, **options)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return DeviceTable(
        jnp.asarray(rng.normal(size=(44, 3)), jnp.float32),
        jnp.asarray(rng.uniform(-1, 1, (44, 2)), jnp.float32),
        Episodes.from_ends(np.arange(10, 44, 11)),
    )


def metrics_of(agent):
    """The names of the terms of an agent's loss."""

    def run(batch):
        return agent.loss(agent.networks(SPACES, KEY), batch, KEY)[1]

    return set(jax.eval_shape(run, batch_shape(agent.spec(), SPACES)))


@pytest.mark.parametrize("option", [{"invariance": "cross"}, {"policy_goals": "paired"}])
def test_options_of_mqe_change_their_own_term_alone(option, table):
    agent = small(MQE)
    changed = replace(agent, **option)
    params = agent.init(SPACES, KEY).params
    batch = table.sample(agent.spec(), KEY)
    before = jax.jit(agent.loss)(params, batch, KEY)[1]
    after = jax.jit(changed.loss)(params, batch, KEY)[1]
    touched = {name for name in before if not np.allclose(before[name], after[name])}
    term = "invariance/" if "invariance" in option else "actor/"
    assert touched
    assert all(name.startswith(term) for name in touched)


def test_what_an_option_turns_off_is_absent():
    terms = metrics_of(small(MQE, invariance="off"))
    assert not any(name.startswith("invariance") for name in terms)

    cloning = small(QRL, extraction="awr")
    assert not any(name.startswith("dynamics") for name in metrics_of(cloning))
    critic = jax.eval_shape(lambda: cloning.networks(SPACES, KEY).critic)
    assert critic.dynamics is None
    assert jax.eval_shape(lambda: small(QRL).networks(SPACES, KEY).critic).dynamics is not None

    assert jax.eval_shape(lambda: small(CRL).networks(SPACES, KEY)).value is None
    assert "value/loss" not in metrics_of(small(CRL))
    assert "value/loss" in metrics_of(small(CRL, extraction="awr"))


def test_crossed_invariance_pairs_a_state_with_other_rows_actions_not_with_their_states(table):
    agent = small(MQE, invariance="cross")
    critic = agent.init(SPACES, KEY).params.critic
    batch = table.sample(agent.spec(), KEY)
    others = jnp.roll(batch.actions, 1, axis=0)
    phi = critic.phi(batch.observations, others)
    expected = action_invariance(mrn(critic.psi(batch.observations), phi, agent.groups))[0]
    found = agent.critic_loss(critic, batch)[1]["invariance/loss"]
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("goals", ["paired", "cross"])
def test_cmds_policy_sees_each_goal_with_the_action_that_the_critic_sees_it_with(goals, table):
    agent = small(CMD, policy_goals=goals)
    params = agent.init(SPACES, KEY).params
    batch = table.sample(agent.spec(), KEY)
    aims = batch["goal/policy"].goals
    partners = jnp.roll(batch.actions, 1, axis=0)  # as the critic's loss pairs goals with actions
    if goals == "cross":
        aims, partners = (jnp.roll(array, 1, axis=0) for array in (aims, partners))
    actions = params.actor(batch.observations, aims).mode
    starts, ends = params.critic(batch.observations, actions), params.critic(aims, partners)
    expected = -jnp.mean(jnp.max(mrn(starts, ends, agent.groups), axis=0))
    assert float(agent.actor_loss(params, batch, KEY)[1]["actor/q"]) == pytest.approx(
        float(expected)
    )


def reached(agent, loss):
    """The networks that a term's gradient reaches."""

    def gradient(batch):
        params = agent.networks(SPACES, KEY)
        return jax.grad(lambda p: loss(p, batch)[0])(params)

    tangents = jax.jit(gradient)(small_batch(agent))
    return {
        name
        for name, network in vars(tangents).items()
        if any(np.any(leaf) for leaf in jax.tree.leaves(network))
    }


def small_batch(agent):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0, 3, leaf.shape).astype(leaf.dtype)),
        batch_shape(agent.spec(), SPACES),
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "mqe" else [pytest.mark.slow])
        for name in ("cmd", "crl", "gciql", "gcivl", "mqe", "qrl", "tmd")
    ],
)
def test_the_policys_loss_reaches_the_policy_alone(name):
    agent = small(AGENTS[name])
    assert reached(agent, lambda p, batch: agent.actor_loss(p, batch, KEY)) == {"actor"}


@pytest.mark.slow
def test_hiqls_low_policy_shapes_the_representation_only_if_asked():
    agent = small(HIQL)
    assert reached(agent, lambda p, batch: agent.low_loss(p, batch, KEY)) == {"low_actor"}
    shaping = replace(agent, low_representation_gradient=True)
    assert reached(shaping, lambda p, batch: shaping.low_loss(p, batch, KEY)) == {
        "low_actor",
        "representation",
    }


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    """Of equal gradients Adam's step is the learning rate."""

    def steps(**options):
        optimizer, gradient = GCBC(learning_rate=0.1, **options).optimizer(), jnp.ones(())
        state, found = optimizer.init(gradient), []
        for _ in range(9):
            change, state = optimizer.update(gradient, state)
            found.append(-float(jnp.asarray(change)))
        return found

    up = [0.0, 0.025, 0.05, 0.075]
    np.testing.assert_allclose(steps(), [0.1] * 9, rtol=1e-4)
    np.testing.assert_allclose(steps(warmup_steps=4), [*up, *[0.1] * 5], rtol=1e-4)
    down = 0.05 * (1 + np.cos(np.pi * np.arange(5) / 4))
    fallen = steps(warmup_steps=4, decay_steps=8)
    np.testing.assert_allclose(fallen, [*up, *down], rtol=1e-4, atol=1e-6)
    with pytest.raises(FarstepError, match="decay_steps must be above warmup_steps, which is 4"):
        GCBC(warmup_steps=4, decay_steps=4)
