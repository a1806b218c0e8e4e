import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.core.ensemble import apply_ensemble, make_ensemble
from farstep.core.types import Actions, Space, Spaces
from farstep.networks.actors import Actor, Categorical, Gaussian, TanhGaussian, TanhGaussianActor
from farstep.networks.critics import GoalValue, StateActionEmbedding
from farstep.networks.mlp import MLP, LayerNorm, Linear
from farstep.networks.targets import copy_of, polyak

KEY = jax.random.key(0)
SPACES = Spaces.from_observation(Space((3,)), Actions(2))


def test_kernels_follow_variance_scaling_over_the_mean_of_fans():
    kernel = np.asarray(Linear(300, 100, key=KEY).kernel)
    limit = np.sqrt(3 / 200)
    assert np.abs(kernel).max() <= limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.02)


def test_layer_norm_standardises_the_last_axis():
    x = 3 + 5 * jax.random.normal(KEY, (7, 64))
    y = np.asarray(LayerNorm(64)(x))
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-4)


def test_an_mlp_is_layers_with_activation_then_norm_between():
    mlp = MLP(3, (8, 5), layer_norm=True, key=KEY)
    x = jax.random.normal(KEY, (4, 3))
    hidden = mlp.norms[0](jax.nn.gelu(x @ mlp.layers[0].kernel + mlp.layers[0].bias))
    expected = hidden @ mlp.layers[1].kernel + mlp.layers[1].bias
    np.testing.assert_allclose(mlp(x), expected, rtol=1e-6)
    assert len(mlp.norms) == 1
    assert not MLP(3, (8, 5), layer_norm=False, key=KEY).norms


def test_ensemble_members_are_independent_and_applied_alike():
    members = make_ensemble(lambda key: MLP(3, (8, 5), layer_norm=True, key=key), 2, KEY)
    x = jax.random.normal(KEY, (4, 3))
    outputs = apply_ensemble(members, x)
    assert outputs.shape == (2, 4, 5)
    for index in range(2):
        member = jax.tree.map(lambda leaf, i=index: leaf[i], members)
        np.testing.assert_allclose(outputs[index], member(x), rtol=1e-5, atol=1e-6)
    assert not np.allclose(outputs[0], outputs[1])


def test_the_critic_embeds_states_and_pairs_by_separate_networks():
    critic = StateActionEmbedding(SPACES, (8,), 16, ensemble_size=2, key=KEY)
    states, actions = jnp.ones((4, 3)), jnp.zeros((4, 2))
    assert critic.phi(states, actions).shape == critic.psi(states).shape == (2, 4, 16)
    gradients = jax.grad(lambda c: c.phi(states, actions).sum())(critic)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients.state))


def test_the_actor_starts_near_zero_and_knows_its_density():
    actor = Actor(SPACES, (64, 64), key=KEY)
    policy = actor(jax.random.normal(KEY, (100, 3)), jnp.ones((100, 3)))
    assert isinstance(policy, Gaussian)
    assert float(jnp.abs(policy.mean).max()) < 0.1
    actions = jax.random.normal(KEY, (100, 2))
    expected = [
        sum(-0.5 * (a - m) ** 2 - 0.5 * np.log(2 * np.pi) for a, m in zip(row, mean, strict=True))
        for row, mean in zip(np.asarray(actions), np.asarray(policy.mean), strict=True)
    ]
    np.testing.assert_allclose(policy.log_prob(actions), expected, rtol=1e-5)
    np.testing.assert_array_equal(policy.sample(KEY, 0.0), policy.mean)
    noise = policy.sample(KEY, 0.5) - policy.mean
    assert float(noise.std()) == pytest.approx(0.5, rel=0.15)


def test_discrete_policies_are_categoricals():
    policy = Actor(Spaces.from_observation(Space((3,)), Actions(4, discrete=True)), (16,), key=KEY)(
        jnp.ones((5, 3)), jnp.zeros((5, 3))
    )
    assert isinstance(policy, Categorical)
    chances = jnp.exp(jnp.stack([policy.log_prob(jnp.full(5, a)) for a in range(4)]))
    np.testing.assert_allclose(chances.sum(axis=0), 1, rtol=1e-5)


def test_a_categorical_is_sampled_by_its_logits_and_temperature():
    logits = jnp.log(jnp.asarray([0.6, 0.3, 0.1]))
    policy = Categorical(jnp.broadcast_to(logits, (20_000, 3)))
    assert set(np.asarray(policy.sample(KEY, 0.0))) == {0}
    for temperature in (1.0, 0.5):
        shares = np.bincount(policy.sample(KEY, temperature), minlength=3) / 20_000
        expected = jax.nn.softmax(logits / temperature)
        np.testing.assert_allclose(shares, expected, atol=0.015)


def test_a_tanh_gaussian_knows_its_density():
    """The density of samples, binned, against the density that comes with them."""
    policy = TanhGaussian(jnp.full((50_000, 1), 0.4), jnp.full((50_000, 1), -0.5))
    actions, log_probs = policy.sample_and_log_prob(KEY)
    assert float(jnp.abs(actions).max()) <= 1
    counts, edges = np.histogram(actions[:, 0], bins=20, range=(-0.9, 0.9))
    bins = np.digitize(actions[:, 0], edges) - 1
    for index in range(3, 20):
        density = np.exp(np.asarray(log_probs)[bins == index]).mean()
        assert counts[index] / 50_000 / 0.09 == pytest.approx(density, rel=0.12)
    np.testing.assert_allclose(policy.sample(KEY, 0.0), jnp.tanh(policy.mean), rtol=1e-6)


def test_a_tanh_gaussians_density_is_finite_at_its_ends():
    policy = TanhGaussian(jnp.asarray([[40.0, -40.0]]), jnp.zeros((1, 2)))
    actions, log_probs = policy.sample_and_log_prob(KEY)
    assert np.all(np.isfinite(log_probs))
    np.testing.assert_allclose(jnp.abs(actions), 1, atol=1e-6)


def test_the_tanh_actor_bounds_its_deviation():
    actor = TanhGaussianActor(SPACES, (8,), key=KEY)
    policy = actor(1e4 * jax.random.normal(KEY, (50, 3)), jnp.ones((50, 3)))
    assert float(policy.log_std.min()) >= -5
    assert float(policy.log_std.max()) <= 2


def test_targets_start_equal_in_memory_of_their_own_and_follow_slowly():
    network = MLP(3, (4,), layer_norm=False, key=KEY)
    target = copy_of(network)
    np.testing.assert_array_equal(target.layers[0].kernel, network.layers[0].kernel)
    assert target.layers[0].kernel is not network.layers[0].kernel
    moved = polyak(target, jax.tree.map(lambda leaf: leaf + 1, network), 0.1)
    np.testing.assert_allclose(moved.layers[0].bias, 0.1, rtol=1e-6)


def test_members_of_a_goal_value_share_what_encodes_and_nothing_else():
    value = GoalValue(SPACES, (8,), ensemble_size=3, key=KEY)
    values = value(jnp.ones((4, 3)), jnp.zeros((4, 3)))
    assert values.shape == (3, 4)
    assert len(np.unique(np.asarray(values)[:, 0])) == 3
