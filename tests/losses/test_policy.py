from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.core.types import Batch, Sampled
from farstep.losses.policy import DDPGBC, BestOfN, other_rows
from farstep.networks.actors import Gaussian

KEY = jax.random.key(0)
OBSERVATIONS, GOALS, LOGGED = jax.random.normal(KEY, (3, 4, 2))
BATCH = Batch.from_arrays(
    OBSERVATIONS, LOGGED, {"goal/policy": Sampled(jnp.ones(4, jnp.int32), {"goals": GOALS})}
)
ALPHA = 0.3


def improve(goals, gain=0.1):
    """A policy that steers at `gain` times the offset of its goal; q is minus the distance left."""

    class Steering:
        def mode(self, observations, goals):
            return Gaussian(gain * (goals - observations)).mode

        def climb(self, observations, goals, key):
            return self.mode(observations, goals)

        def behaviour_loss(self, observations, goals, actions, key, done=None):
            return -Gaussian(gain * (goals - observations)).log_prob(actions)

        def sample(self, observations, goals, key, temperature=1.0):
            raise NotImplementedError

    def q(actions, towards):
        return -jnp.sum(jnp.square(towards - OBSERVATIONS - actions), axis=-1)

    policy: Any = Steering()
    return DDPGBC(ALPHA, goals).loss(policy, BATCH, KEY, q, lambda goals: goals[:, 0])


def test_every_row_is_given_the_goal_of_another():
    shifted = np.asarray(other_rows(GOALS))
    assert sorted(map(tuple, shifted.tolist())) == sorted(map(tuple, np.asarray(GOALS).tolist()))
    assert not np.any(np.all(shifted == GOALS, axis=-1))


@pytest.mark.parametrize("goals", ["paired", "cross"])
def test_q_aims_at_its_goals_and_cloning_at_the_rows_own(goals):
    q_goals = np.asarray(GOALS if goals == "paired" else other_rows(GOALS))
    actions = np.clip(0.1 * (q_goals - OBSERVATIONS), -1, 1)
    q = -np.square(q_goals - OBSERVATIONS - actions).sum(-1)
    own_mean = 0.1 * np.asarray(GOALS - OBSERVATIONS)
    squares = np.square(np.asarray(LOGGED) - own_mean)
    cloning = 0.5 * squares.sum(-1).mean() + np.log(2 * np.pi)

    loss, metrics = improve(goals)
    assert float(metrics["actor/q"]) == pytest.approx(q.mean(), rel=1e-5)
    assert float(metrics["actor/bc_loss"]) == pytest.approx(cloning, rel=1e-5)
    assert float(metrics["actor/mse"]) == pytest.approx(squares.mean(), rel=1e-5)
    expected = -q.mean() / np.abs(q).mean() + ALPHA * cloning
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_scale_of_q_does_not_matter_and_is_not_differentiated():
    """Where q is the mean itself, normalising leaves the gradient −1/mean|q| and nothing more."""

    def loss(gain):
        return improve("paired", gain)[0] - ALPHA * improve("paired", gain)[1]["actor/bc_loss"]

    def q(gain):
        return improve("paired", gain)[1]["actor/q"]

    assert float(jax.grad(loss)(0.1)) == pytest.approx(float(jax.grad(q)(0.1) / q(0.1)), rel=1e-4)


def test_the_best_of_n_is_what_q_likes_most_of_the_policys_own_actions():
    class Draws:
        def sample(self, observations, goals, key, temperature=1.0):
            return jax.random.uniform(key, observations.shape, minval=-1)

        mode = climb = behaviour_loss = sample

    def q(actions, goals):
        return -jnp.sum(jnp.square(actions - 0.5), axis=-1)

    policy: Any = Draws()

    def act(candidates, key, temperature):
        return BestOfN(candidates).act(policy, OBSERVATIONS, GOALS, key, temperature, q)

    one, many = (act(candidates, KEY, 1.0) for candidates in (1, 200))
    drawn = jax.vmap(lambda key: Draws().sample(OBSERVATIONS, GOALS, key))(
        jax.random.split(KEY, 200)
    )
    best = jnp.argmax(jax.vmap(lambda actions: q(actions, GOALS))(drawn), axis=0)
    np.testing.assert_array_equal(many, drawn[best, jnp.arange(4)])
    assert np.mean(q(many, GOALS)) > np.mean(q(one, GOALS))
    np.testing.assert_array_equal(act(8, KEY, 0.0), act(8, jax.random.key(7), 0.0))
    assert not np.array_equal(act(8, KEY, 1.0), act(8, jax.random.key(7), 1.0))
