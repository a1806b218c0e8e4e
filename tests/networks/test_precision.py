"""Training with products in bfloat16."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.agents.gcbc import GCBC
from farstep.core.rng import root_key
from farstep.core.trees import named_leaves
from farstep.core.types import Actions, Batch, Sampled, Space, Spaces
from farstep.networks.mlp import Linear
from farstep.networks.precision import Product, kernels_in

KEY = root_key(0)
FULL = GCBC(hidden=(16, 16), batch_size=8)
NARROW = replace(FULL, precision="bfloat16")


@pytest.fixture
def batch():
    states, goals = jax.random.normal(KEY, (2, 8, 3))
    steps = jnp.ones(8, jnp.int32)
    samples = {"goal/policy": Sampled(steps, {"goals": goals})}
    return Batch.from_arrays(states, jnp.full((8, 2), 0.3), samples)


def test_only_kernels_are_rounded():
    params = FULL.networks(Spaces.from_observation(Space((3,)), Actions(2)), KEY)
    for name, leaf in named_leaves(kernels_in(params, "bfloat16")).items():
        assert leaf.dtype == ("bfloat16" if name.endswith("kernel") else "float32"), name


def test_what_is_rounded_is_told_by_the_type_of_a_layer_and_not_by_a_name():
    class Own(eqx.Module):
        kernel: jax.Array

    class Narrow(Product):
        weights: jax.Array
        kernel: jax.Array

    array = jnp.ones(3)
    own, narrow = kernels_in((Own(array), Narrow(array, array)), "bfloat16")
    assert (own.kernel.dtype, narrow.weights.dtype, narrow.kernel.dtype) == (
        *("float32", "float32"),
        "bfloat16",
    )


def test_a_layer_rounds_both_operands_and_adds_its_bias_in_full():
    layer = Linear(64, 64, key=KEY)
    x = jax.random.normal(KEY, (5, 64))
    rounded = kernels_in(layer, "bfloat16")(x)
    expected = x.astype("bfloat16") @ layer.kernel.astype("bfloat16")
    assert rounded.dtype == jnp.float32
    np.testing.assert_array_equal(rounded, expected.astype(jnp.float32))
    assert not np.array_equal(rounded, layer(x))


def test_an_update_keeps_weights_in_full_and_moves_them_by_less_than_a_rounding(batch):
    """Steps of 1e-6 would vanish in weights stored as bfloat16."""
    agent = replace(NARROW, learning_rate=1e-6)
    state = agent.init(Spaces.from_observation(Space((3,)), Actions(2)), KEY)
    later, _ = jax.jit(agent.update)(state, batch, KEY)
    before, after = named_leaves(state.params), named_leaves(later.params)
    for name in before:
        assert after[name].dtype == jnp.float32
        if name.endswith("kernel"):
            assert np.any(before[name] != after[name]), name


def test_gradients_agree_to_the_rounding(batch):
    params = FULL.networks(Spaces.from_observation(Space((3,)), Actions(2)), KEY)

    def gradient(agent):
        loss = jax.grad(lambda p: agent.loss(kernels_in(p, agent.precision), batch, KEY)[0])
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(loss(params))])

    full, narrow = gradient(FULL), gradient(NARROW)
    error = np.linalg.norm(narrow - full) / np.linalg.norm(full)
    assert 0 < error < 0.02
