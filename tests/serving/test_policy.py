import copy
import json
import pickle
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

import farstep
from farstep.agents.gciql import GCIQL
from farstep.agents.mqe import MQE
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.planning.graph import LandmarkGraph, Landmarks
from farstep.serving.policy import Policy

SPACES = Spaces.from_observation(Space((3,)), Actions(2))
MEAN, STD = np.array([1, 2, 3], np.float32), np.array([2, 4, 8], np.float32)


def make(agent, spaces=SPACES):
    return Policy(
        agent=agent,
        params=agent.networks(spaces, root_key(0)),
        spaces=spaces,
        normalization=Normalization(MEAN, STD),
        dataset="toy",
        environment=None,
        step=7,
    )


@pytest.fixture
def policy():
    return make(MQE(hidden=(16, 16), latent=32))


@pytest.fixture
def exported(policy, tmp_path):
    policy.save(tmp_path / "policy")
    return tmp_path / "policy"


STATES, GOALS = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)


def test_one_observation_and_a_batch_agree(policy):
    actions, steps = policy.act(STATES, GOALS), policy.distance(STATES, GOALS)
    assert actions.shape == (5, 2)
    assert steps.shape == (5,)
    np.testing.assert_allclose(policy.act(STATES[2], GOALS[2]), actions[2], rtol=1e-5, atol=1e-6)
    assert policy.distance(STATES[2], GOALS[2]) == pytest.approx(steps[2], rel=1e-5)


def test_discrete_actions_are_integers_in_and_out():
    agent = GCIQL(hidden=(16,), extraction="awr")
    policy = make(agent, Spaces.from_observation(Space((3,)), Actions(4, discrete=True)))
    actions = policy.act(STATES, GOALS)
    assert actions.shape == (5,)
    assert actions.dtype == np.int32
    steps = policy.distance(STATES, GOALS, actions)
    assert steps.shape == (5,)
    one = policy.distance(STATES[2], GOALS[2], actions[2])
    assert one == pytest.approx(steps[2], rel=1e-4)


def test_an_export_acts_the_same_after_reading(policy, exported):
    loaded = farstep.load_policy(exported)
    np.testing.assert_array_equal(loaded.act(STATES, GOALS), policy.act(STATES, GOALS))
    np.testing.assert_array_equal(loaded.distance(STATES, GOALS), policy.distance(STATES, GOALS))
    assert (loaded.dataset, loaded.step, loaded.agent) == ("toy", 7, policy.agent)


def test_normalisation_is_part_of_the_policy(policy):
    plain = replace(policy, normalization=Normalization.identity(SPACES))
    np.testing.assert_allclose(
        policy.act(STATES, GOALS), plain.act((STATES - MEAN) / STD, (GOALS - MEAN) / STD), rtol=1e-5
    )


def test_temperature_and_seed_decide_the_noise(policy):
    quiet = policy.act(STATES, GOALS)
    np.testing.assert_array_equal(quiet, policy.act(STATES, GOALS, seed=5))
    noisy = policy.act(STATES, GOALS, temperature=0.3, seed=5)
    np.testing.assert_array_equal(noisy, policy.act(STATES, GOALS, temperature=0.3, seed=5))
    assert not np.array_equal(noisy, policy.act(STATES, GOALS, temperature=0.3, seed=6))
    assert not np.array_equal(noisy, policy.act(STATES, GOALS, temperature=0.3, seed=5, step=1))


def test_one_goal_serves_a_batch_and_one_observation_a_batch_of_goals(policy):
    every = np.broadcast_to(GOALS[0], GOALS.shape)
    for ask in (policy.act, policy.distance):
        for goal in (GOALS[0], GOALS[:1]):
            np.testing.assert_allclose(ask(STATES, goal), ask(STATES, every), rtol=1e-5)
        np.testing.assert_allclose(
            ask(STATES[0], GOALS), ask(np.broadcast_to(STATES[0], GOALS.shape), GOALS), rtol=1e-5
        )
    assert policy.act(STATES[:0], GOALS[0]).shape == (0, 2)
    action = np.array([0.5, -1])
    np.testing.assert_allclose(
        policy.distance(STATES, GOALS, action),
        policy.distance(STATES, GOALS, np.tile(action, (5, 1))),
        rtol=1e-5,
    )


def test_returned_arrays_are_the_callers_own(policy):
    for array in (policy.act(STATES, GOALS), policy.act(STATES[0], GOALS[0])):
        array *= 0.5
    policy.distance(STATES, GOALS)[0] = 0


def landmarks_at(policy, states, moves=((0, 1), (1, 2), (4, 3))):
    """Each is an edge from each, and those moves are logged."""
    landmarks = Landmarks(states, states, 5, step_length=1e4, edge_cutoff=1e5, tolerance=1.0)
    return LandmarkGraph(policy.metric, landmarks).along(np.array(moves)).landmarks


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_policy_is_copied_and_sent_to_other_processes_after_it_has_acted(policy, copied):
    policy = replace(policy, landmarks=landmarks_at(policy, STATES))
    actions, plan = policy.act(STATES, GOALS), policy.plan(GOALS[0])
    first = plan.act(STATES[0])
    other = copied(policy)
    np.testing.assert_array_equal(other.act(STATES, GOALS), actions)
    np.testing.assert_array_equal(other.plan(GOALS[0]).act(STATES[0]), first)
    np.testing.assert_array_equal(copied(plan).act(STATES[1]), plan.act(STATES[1]))


def test_columns_are_saved_as_they_are(policy, tmp_path):
    def in_columns(leaf):
        return np.asarray(leaf, order="F")

    landmarks = landmarks_at(policy, STATES)
    states = in_columns(STATES)
    arrays = {name: in_columns(array) for name, array in landmarks.arrays.items()}
    landmarks = replace(landmarks, **arrays | {"observations": states, "goals": states})
    columns = replace(policy, params=jax.tree.map(in_columns, policy.params), landmarks=landmarks)
    columns.save(tmp_path / "policy")
    loaded = farstep.load_policy(tmp_path / "policy")
    np.testing.assert_array_equal(loaded.act(STATES, GOALS), policy.act(STATES, GOALS))
    assert loaded.landmarks is not None
    np.testing.assert_array_equal(loaded.landmarks.observations, STATES)
    np.testing.assert_array_equal(loaded.landmarks.edges, landmarks.edges)


def test_a_home_directory_is_found(policy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    policy.save("~/policy")
    assert (tmp_path / "policy").is_dir()
    assert farstep.load_policy("~/policy").step == 7
    with pytest.raises(FarstepError, match="no home directory"):
        farstep.load_policy("~nobody-of-this-name/policy")


def test_an_exported_policy_needs_no_training_code_or_simulator(exported):
    program = f"""
import sys, numpy as np, farstep
policy = farstep.load_policy({str(exported)!r})
assert policy.act(np.zeros(3), np.ones(3)).shape == (2,)
assert policy.distance(np.zeros((4, 3)), np.ones((4, 3))).shape == (4,)
banned = (
    "orbax", "gymnasium", "mujoco", "ogbench", "matplotlib", "farstep.training", "farstep.envs"
)
loaded = [name for name in sys.modules if name.startswith(banned)]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_an_existing_export_is_kept_unless_told(policy, exported):
    with pytest.raises(FarstepError, match="already exists"):
        policy.save(exported)
    policy.save(exported, overwrite=True)


def test_an_export_with_landmarks_plans_without_data(policy, tmp_path):
    states = np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32) * STD + MEAN
    landmarks = landmarks_at(policy, states)
    replace(policy, landmarks=landmarks).save(tmp_path / "planned")
    loaded = farstep.load_policy(tmp_path / "planned")
    assert loaded.landmarks is not None
    assert loaded.landmarks.about == landmarks.about
    assert loaded.landmarks.logged.sum() == 3
    for name, array in landmarks.arrays.items():
        np.testing.assert_array_equal(loaded.landmarks.arrays[name], array)
    plan = loaded.plan(GOALS[0])
    action = plan.act(STATES[0])
    np.testing.assert_array_equal(action, loaded.act(STATES[0], plan.subgoal))
    np.testing.assert_array_equal(plan.path[-1], GOALS[0])


def test_without_landmarks_or_data_there_is_no_plan(policy):
    with pytest.raises(FarstepError, match="There is no dataset 'toy'"):
        policy.plan(GOALS[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "policy.json").unlink(), "neither a run"),
        (lambda path: (path / "policy.json").write_text("{"), "does not describe a policy"),
        (lambda path: edit(path, "format", 99), "format 99"),
        (lambda path: edit(path, "agent", {"name": "mqee"}), "Did you mean 'mqe'"),
        (lambda path: edit(path, "sha256", "0"), "is not what was written"),
        (lambda path: truncate(path / "policy.safetensors"), "is not what was written"),
        (lambda path: flip(path / "policy.safetensors", -1), "is not what was written"),
        (lambda path: flip(path / "policy.safetensors", -1000), "is not what was written"),
        (lambda path: (path / "policy.safetensors").unlink(), "Cannot read"),
    ],
)
def test_a_damaged_export_says_what_is_wrong(exported, damage, message):
    damage(exported)
    with pytest.raises(FarstepError, match=message):
        farstep.load_policy(exported)


def test_weights_of_another_network_are_refused(exported):
    document = json.loads((exported / "policy.json").read_text())
    edit(exported, "agent", document["agent"] | {"latent": 64})
    with pytest.raises(FarstepError, match="is expected"):
        farstep.load_policy(exported)


def edit(path, key, value):
    document = json.loads((path / "policy.json").read_text())
    (path / "policy.json").write_text(json.dumps(document | {key: value}))


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:100])
