"""Every policy and extraction with every agent that has the choice, down to the command line."""

from dataclasses import fields
from itertools import product

import jax
import numpy as np
import pytest

import farstep
from farstep.agents.registry import AGENTS
from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.networks.policies import POLICIES
from farstep.sampling.batches import batch_shape

KEY = root_key(0)
SPACES = Spaces.from_observation(Space((3,)), Actions(2))
DISCRETE = Spaces.from_observation(Space((3,)), Actions(4, discrete=True))
SIZES = {"hidden": (8,), "latent": 16, "groups": 2, "batch_size": 4, "candidates": 3}
NAMES = {name: {field.name for field in fields(kind)} for name, kind in AGENTS.items()}
CHOICES = [
    (name, policy, extraction)
    for name, known in NAMES.items()
    if "policy" in known
    for policy, extraction in product(
        (["tanh-gaussian"] if name == "nsacbc" else []) + list(POLICIES),
        ("ddpg-bc", "awr", "best-of-n") if "extraction" in known else ("",),
    )
]


def small(name, policy, extraction):
    options = SIZES | {"policy": policy} | ({"extraction": extraction} if extraction else {})
    return AGENTS[name](**{key: value for key, value in options.items() if key in NAMES[name]})


@pytest.mark.parametrize(("name", "policy", "extraction"), CHOICES)
def test_it_updates_and_acts(name, policy, extraction):
    agent = small(name, policy, extraction)

    def run(batch):
        state = agent.init(SPACES, KEY)
        later, metrics = agent.update(state, batch, KEY)
        states = batch.observations
        return state, later, metrics, agent.act(later.params, states, states, KEY, 0.5)

    state, later, metrics, actions = jax.eval_shape(run, batch_shape(agent.spec(), SPACES))
    assert jax.tree.structure(state) == jax.tree.structure(later)
    assert actions.shape == (agent.batch_size, 2)
    assert all(metric.shape == () for metric in metrics.values())


def test_every_agent_has_the_choice():
    assert {name for name, *_ in CHOICES} == set(AGENTS)


@pytest.mark.parametrize("name", AGENTS)
def test_a_flow_of_discrete_actions_is_refused(name):
    with pytest.raises(FarstepError, match="discrete"):
        small(name, "flow", "awr").networks(DISCRETE, KEY)


@pytest.mark.parametrize(
    "extraction", ["ddpg-bc", pytest.param("best-of-n", marks=pytest.mark.slow)]
)
def test_a_flow_trains_and_acts_from_the_command_line(extraction, toy, tmp_path):
    out = str(tmp_path / "run")
    sizes = ["--hidden", "8", "--latent", "8", "--groups", "2", "--batch-size", "4"]
    choice = ["--policy", "flow", "--extraction", extraction, "--candidates", "4"]
    cadence = ["--steps", "4", "--log-every", "2", "--checkpoint-every", "4"]
    main(["train", str(toy), "--out", out, *sizes, *choice, *cadence])
    policy = farstep.load_policy(out)
    actions = policy.act(np.zeros((5, 2)), np.ones((5, 2)))
    assert actions.shape == (5, 2)
    assert np.abs(actions).max() <= 1
    assert np.isfinite(policy.distance(np.zeros(2), np.ones(2)))
