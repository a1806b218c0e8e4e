import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.core.ensemble import apply_ensemble, make_ensemble
from farstep.core.types import Spaces
from farstep.networks.actors import Actor
from farstep.networks.critics import StateActionEmbedding
from farstep.networks.mlp import MLP, LayerNorm, Linear

KEY = jax.random.key(0)
SPACES = Spaces((3,), "float32", 2)


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
    critic = StateActionEmbedding(SPACES, (8,), 16, members=2, key=KEY)
    states, actions = jnp.ones((4, 3)), jnp.zeros((4, 2))
    assert critic.phi(states, actions).shape == critic.psi(states).shape == (2, 4, 16)
    gradients = jax.grad(lambda c: c.phi(states, actions).sum())(critic)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients.state))


def test_the_actor_starts_near_zero_and_knows_its_density():
    actor = Actor.of(SPACES, (64, 64), KEY)
    policy = actor(jax.random.normal(KEY, (100, 3)), jnp.ones((100, 3)))
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
