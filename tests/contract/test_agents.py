"""Every registered agent against the one contract that training, serving and planning rely on."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.agents.mqe import MQE
from farstep.agents.registry import AGENTS, agent_class, agent_from_dict, agent_to_dict
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.trees import named_leaves
from farstep.core.types import Spaces
from farstep.sampling.batches import DeviceTable, Episodes

SPACES = Spaces((3,), "float32", 2)
KEY = root_key(0)
SMALL = {
    "mqe": {"hidden": (16, 16), "latent": 32, "batch_size": 12},
    "gcbc": {"hidden": (16, 16), "batch_size": 12},
}


@pytest.fixture(params=sorted(AGENTS))
def agent(request):
    return AGENTS[request.param](**SMALL[request.param])


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    steps = 20 * 11
    return DeviceTable(
        jnp.asarray(rng.normal(size=(steps, 3)), jnp.float32),
        jnp.asarray(rng.uniform(-1, 1, (steps, 2)), jnp.float32),
        Episodes.from_ends(np.arange(10, steps, 11)),
    )


@pytest.fixture
def batch(agent, table):
    return table.sample(agent.spec(), KEY)


def test_an_update_changes_every_network_and_counts(agent, batch):
    state = agent.init(SPACES, KEY)
    later, metrics = jax.jit(agent.update)(state, batch, KEY)
    assert int(later.step) == 1
    before, after = named_leaves(state.params), named_leaves(later.params)
    kernels = [name for name in before if name.endswith("kernel")]
    assert all(np.any(before[name] != after[name]) for name in kernels)
    assert all(np.all(np.isfinite(leaf)) for leaf in after.values())
    for name, value in metrics.items():
        assert value.shape == (), name
        assert np.isfinite(value), name
        assert "/" in name


def test_jit_computes_what_eager_does(agent, batch):
    params = agent.init(SPACES, KEY).params
    eager, _ = agent.loss(params, batch, KEY)
    jitted, _ = jax.jit(agent.loss)(params, batch, KEY)
    np.testing.assert_allclose(jitted, eager, rtol=1e-5)


def test_equal_keys_initialise_equal_networks_and_others_do_not(agent):
    first, again, other = (
        named_leaves(agent.init(SPACES, key).params) for key in (KEY, KEY, root_key(1))
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    kernels = [name for name in first if name.endswith("kernel")]
    assert not any(np.array_equal(first[name], other[name]) for name in kernels)


def test_actions_lie_in_bounds_and_noise_needs_temperature(agent):
    params = agent.init(SPACES, KEY).params
    states, goals = jnp.ones((5, 3)), jnp.zeros((5, 3))
    actions = agent.act(params, states, goals, KEY)
    assert actions.shape == (5, 2)
    np.testing.assert_array_equal(actions, agent.act(params, states, goals, root_key(1)))
    noisy = agent.act(params, states, goals, KEY, 100.0)
    assert not np.array_equal(noisy, actions)
    assert float(jnp.abs(noisy).max()) <= 1


def test_distance_is_in_nats_and_steps_or_clearly_absent(agent):
    params = agent.init(SPACES, KEY).params
    states, goals = jax.random.normal(KEY, (2, 5, 3))
    if not agent.has_distance:
        with pytest.raises(TypeError, match="no distance"):
            agent.distance(params, states, goals)
        return
    distance = agent.distance(params, states, goals)
    assert distance.nats.shape == distance.steps.shape == (5,)
    assert np.all(np.asarray(distance.nats) >= 0)
    step = -np.log(agent.discount)
    np.testing.assert_allclose(distance.nats / step, distance.steps, rtol=1e-5)
    np.testing.assert_allclose(agent.distance(params, states, states).nats, 0, atol=1e-5)
    assert agent.distance(params, states, goals, jnp.zeros((5, 2))).nats.shape == (5,)


def test_pairwise_distances_are_those_of_each_pair(agent):
    params = agent.init(SPACES, KEY).params
    states, goals = jax.random.normal(KEY, (2, 5, 3))
    starts = agent.embed(params, states)
    assert len(starts) == 5
    if not agent.has_distance:
        with pytest.raises(TypeError, match="no distance"):
            agent.pairwise(params, starts, goals)
        return
    pairwise = agent.pairwise(params, starts[:4], agent.embed(params, goals))
    assert pairwise.nats.shape == pairwise.steps.shape == (4, 5)
    for i, state in enumerate(states[:4]):
        each = agent.distance(params, jnp.broadcast_to(state, goals.shape), goals)
        np.testing.assert_allclose(pairwise.nats[i], each.nats, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(pairwise.steps[i], each.steps, rtol=1e-5, atol=1e-4)
        alone = agent.pairwise(params, starts[i : i + 1], agent.embed(params, goals))
        np.testing.assert_allclose(alone.steps[0], pairwise.steps[i], rtol=1e-5, atol=1e-4)


def test_training_lowers_the_loss_on_a_fixed_batch(agent, batch):
    state = agent.init(SPACES, KEY)
    update = jax.jit(agent.update)
    before, _ = agent.loss(state.params, batch, KEY)
    for _ in range(60):
        state, _ = update(state, batch, KEY)
    after, _ = agent.loss(state.params, batch, KEY)
    assert float(after) < float(before)


def test_hyperparameters_survive_json(agent):
    assert agent_from_dict(agent_to_dict(agent), where="file") == agent


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(FarstepError, match="Did you mean 'mqe'"):
        agent_class("mqee")
    values = agent_to_dict(MQE()) | {"discont": 0.9}
    with pytest.raises(FarstepError, match=r"config.json: MQE has no 'discont'.*'discount'"):
        agent_from_dict(values, where="config.json")


class TestMQE:
    """What only MQE promises."""

    agent = MQE(**SMALL["mqe"])

    @pytest.mark.parametrize("option", [{"invariance": "cross"}, {"policy_goals": "paired"}])
    def test_options_change_their_own_term_alone(self, option, table):
        changed = replace(self.agent, **option)
        params = self.agent.init(SPACES, KEY).params
        batch = table.sample(self.agent.spec(), KEY)
        _, before = self.agent.loss(params, batch, KEY)
        _, after = changed.loss(params, batch, KEY)
        touched = {name for name in before if not np.allclose(before[name], after[name])}
        term = "invariance/" if "invariance" in option else "actor/"
        assert touched
        assert all(name.startswith(term) for name in touched)

    def test_without_invariance_its_metrics_are_absent(self, table):
        agent = replace(self.agent, invariance="off")
        params = agent.init(SPACES, KEY).params
        _, metrics = agent.loss(params, table.sample(agent.spec(), KEY), KEY)
        assert not any(name.startswith("invariance") for name in metrics)

    def test_the_policy_loss_leaves_the_critic_alone_and_the_critic_loss_the_policy(self, table):
        params = self.agent.init(SPACES, KEY).params
        batch = table.sample(self.agent.spec(), KEY)
        actor = jax.grad(lambda p: self.agent.actor_loss(p, batch)[0])(params)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(actor.critic))
        assert any(np.any(leaf) for leaf in jax.tree.leaves(actor.actor))

    def test_cross_goals_belong_to_other_rows(self, table):
        """The q term of row i must follow another row's goal: moving goal 0 moves row 1's term."""
        params = self.agent.init(SPACES, KEY).params
        batch = table.sample(self.agent.spec(), KEY)

        def q(goals):
            moved = replace_goals(batch, goals)
            return self.agent.actor_loss(params, moved)[1]["actor/q"]

        goals = batch.goals["policy"].observations
        assert float(q(goals)) != pytest.approx(float(q(goals.at[0].add(1.0))), abs=1e-9)

    def test_the_distance_learns_a_chain(self):
        """Where every episode walks the same line, the steps between its states come out right.

        Only with goals of the row's own episode: nothing here leads back, and pairs across
        episodes would push the distance to what lies behind beyond any bound.
        """
        length, episodes = 12, 40
        observations = np.tile(np.arange(length, dtype=np.float32), episodes)[:, None] / 4
        table = DeviceTable(
            jnp.asarray(observations),
            jnp.ones((length * episodes, 1), jnp.float32),
            Episodes.from_ends(np.arange(length - 1, length * episodes, length)),
        )
        agent = MQE(
            hidden=(64, 64),
            latent=64,
            batch_size=64,
            learning_rate=1e-3,
            discount=0.9,
            diagonal_weight=1.0,
        )
        spaces = Spaces((1,), "float32", 1)

        def step(index, state):
            key = jax.random.fold_in(KEY, index)
            return agent.update(state, table.sample(agent.spec(), key), key)[0]

        state = jax.jit(lambda s: jax.lax.fori_loop(0, 1000, step, s))(agent.init(spaces, KEY))
        starts = jnp.asarray([[0.0], [0.0], [3.0], [6.0]]) / 4
        goals = jnp.asarray([[3.0], [9.0], [9.0], [11.0]]) / 4
        steps = agent.distance(state.params, starts, goals, jnp.ones((4, 1))).steps
        np.testing.assert_allclose(steps, [3, 9, 6, 5], rtol=0.1)


def replace_goals(batch, goals):
    import equinox as eqx

    return eqx.tree_at(lambda b: b.goals["policy"].observations, batch, goals)
