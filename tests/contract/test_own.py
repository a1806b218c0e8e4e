"""An agent, a policy or a quasimetric of one's own is one file and one registration."""

import importlib

import numpy as np
import pytest

import farstep
from farstep.agents.registry import AGENTS
from farstep.networks.policies import POLICIES
from farstep.quasimetrics.registry import QUASIMETRICS

REGISTRIES = {
    "farstep.agents.registry.AGENTS": AGENTS,
    "farstep.networks.policies.POLICIES": POLICIES,
    "farstep.quasimetrics.registry.QUASIMETRICS": QUASIMETRICS,
}

AGENT = """
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import farstep
from farstep.core.laws import Ahead
from farstep.core.types import GOALS, Sample
from farstep.networks.policies import Policy, make_policy


class Networks(eqx.Module):
    actor: Policy


@dataclass(frozen=True, kw_only=True)
class Near(farstep.Agent):
    '''Clones the action towards the state a few steps ahead.'''

    reach: int = 3
    hidden: tuple[int, ...] = (64,)

    def spec(self):
        return self.batch({"goal": Sample(Ahead(self.reach), GOALS)})

    def networks(self, spaces, key):
        return Networks(make_policy("gaussian", spaces, self.hidden, key))

    def loss(self, params, batch, key):
        loss = jnp.mean(params.actor.behaviour_loss(
            batch.observations, batch["goal"].goals, batch.actions, key, batch.done
        ))
        return loss, {"actor/bc_loss": loss}


farstep.register_agent("near", Near)
"""

POLICY = """
import equinox as eqx
import jax
import jax.numpy as jnp
import farstep
from farstep.networks.actors import over_actions


class Linear(eqx.Module):
    '''An action that is linear in the observation and its goal.'''

    weights: jax.Array

    def mode(self, observations, goals):
        inputs = jnp.concatenate([observations, goals], axis=-1)
        return jnp.clip(inputs @ self.weights, -1, 1)

    def climb(self, observations, goals, key):
        return self.mode(observations, goals)

    def sample(self, observations, goals, key, temperature=1.0):
        noise = jax.random.normal(key, (len(observations), self.weights.shape[1]))
        return jnp.clip(self.mode(observations, goals) + temperature * noise, -1, 1)

    def behaviour_loss(self, observations, goals, actions, key, done=None):
        return over_actions(jnp.square(self.mode(observations, goals) - actions), done)


def make(spaces, hidden, *, climbs, joins, bounded, key):
    inputs = spaces.observation.shape[0] + spaces.goal.shape[0]
    return Linear(0.1 * jax.random.normal(key, (inputs, spaces.action.size)))


farstep.register_policy("linear", make)
"""

QUASIMETRIC = """
import jax
import farstep
from farstep.quasimetrics import Quasimetric


class Ascent(Quasimetric):
    '''What must be climbed, coordinate by coordinate.'''

    def __call__(self, x, y):
        return jax.nn.relu(y - x).sum(axis=-1)


farstep.register_quasimetric("ascent", lambda latent, groups: Ascent())
"""

SMALL = {"hidden": (8,), "batch_size": 4}


@pytest.mark.parametrize(
    ("source", "name", "options"),
    [
        (AGENT, "near", {"action_chunk": 2}),
        pytest.param(
            *(POLICY, "mqe", {"policy": "linear", "latent": 8, "groups": 2}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(QUASIMETRIC, "qrl", {"quasimetric": "ascent", "latent": 8, "extraction": "awr"}),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["agent", "policy", "quasimetric"],
)
def test_one_file_and_one_registration(source, name, options, toy, tmp_path, monkeypatch):
    for where, registry in REGISTRIES.items():
        monkeypatch.setattr(where, dict(registry))
    module = f"own_{name}"
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(module)
    agent = farstep.make_agent(name, **SMALL, **options)
    training = farstep.TrainConfig(steps=2, evaluation_episodes=0)
    (run,) = farstep.train(toy, agent, training, out=tmp_path / "run")
    policy = farstep.load_policy(run.path)
    assert policy.agent == agent
    actions = policy.act(np.zeros((3, 2)), np.ones((3, 2)))
    assert actions.shape == (3, 2)
    assert np.abs(actions).max() <= 1
    if name != "near":
        there, back = policy.distance(np.array([[0, 0], [1, 1.0]]), np.array([[1, 1], [0, 0.0]]))
        assert there != back
