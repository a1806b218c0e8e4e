"""Policies that give several actions at once: what is learned of them, and how they act."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import farstep
from farstep.agents.gcbc import GCBC
from farstep.agents.nsacbc import NSACBC
from farstep.agents.registry import AGENTS
from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.types import CHUNK, Actions, Batch, Sampled, Space, Spaces
from farstep.losses.linex import multistep_backup
from farstep.losses.values import goal_backup
from farstep.networks.actors import over_actions
from farstep.planning.open_loop import OpenLoop
from farstep.sampling.batches import DeviceTable, batch_shape
from farstep.sampling.episodes import Episodes
from farstep.serving.session import Session, SessionOptions

KEY = root_key(0)
SPACES = Spaces.from_observation(Space((3,)), Actions(2))
SIZES = {"hidden": (8,), "latent": 16, "groups": 2, "batch_size": 64, "action_chunk": 3}
ENDS = np.array([6, 9, 19])


def small(name, **options):
    known = {field.name for field in fields(AGENTS[name])}
    return AGENTS[name](**{key: v for key, v in (SIZES | options).items() if key in known})


@pytest.fixture(scope="module")
def batch():
    """Rows of three short episodes; the actions of a row are its number."""
    rows = np.arange(20)
    table = DeviceTable(
        jnp.asarray(np.repeat(rows[:, None], 3, 1), jnp.float32),
        jnp.asarray(np.stack([rows, -rows], axis=1), jnp.float32) / 20,
        Episodes.from_ends(ENDS),
    )
    return table.sample(small("gcbc").spec(), KEY)


def test_a_chunk_is_the_rows_own_action_and_those_that_follow_in_its_episode(batch):
    rows = np.asarray(batch.observations[:, 0]).round().astype(int)
    left = ENDS[np.searchsorted(ENDS, rows)] - rows
    ahead = np.minimum(np.arange(3), left[:, None] - 1)  # The last step's action leads nowhere.
    expected = np.stack([rows[:, None] + ahead, -(rows[:, None] + ahead)], axis=-1) / 20
    np.testing.assert_allclose(batch.actions, expected.reshape(len(rows), 6), rtol=1e-6)
    np.testing.assert_array_equal(batch.done, np.arange(3) < left[:, None])
    assert not np.all(batch.done)
    assert "actions" not in batch["current"].columns


def test_cloning_counts_the_actions_that_were_done_alone(batch):
    agent = small("gcbc")
    params = agent.encoded_networks(SPACES, KEY)

    @jax.jit
    def loss(actions):
        chunk = Sampled(batch[CHUNK].offsets, {"actions": actions})
        return agent.loss(params, Batch({**batch.samples, CHUNK: chunk}), KEY)[0]

    actions = batch[CHUNK].actions
    beyond = jnp.where(batch.done[..., None], actions, 9.0)
    first = actions.at[0, 0].add(0.1)
    assert float(loss(beyond)) == pytest.approx(float(loss(actions)), rel=1e-6)
    assert abs(float(loss(first)) - float(loss(actions))) > 1e-6
    mean = np.asarray(params(batch.observations, batch["goal/policy"].goals).mean)
    squares = 0.5 * np.square(np.asarray(actions) - mean.reshape(-1, 3, 2)).sum(-1)
    assert float(loss(actions)) == pytest.approx(
        np.mean(np.asarray(batch.done) * (squares + np.log(2 * np.pi))), rel=1e-5
    )
    # What a flow and a tanh-Gaussian count.
    losses = jnp.ones((len(batch.done), 6)).at[:, 4:].set(10.0)
    counted = np.asarray(batch.done) @ np.asarray([2.0, 2.0, 20.0]) / 3
    np.testing.assert_allclose(over_actions(losses, batch.done), counted, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_every_agent_learns_and_acts_by_chunks(name):
    agent = small(name, batch_size=4, extraction="ddpg-bc")

    def run(batch):
        state = agent.init(SPACES, KEY)
        later, metrics = agent.update(state, batch, KEY)
        states = batch.observations
        actions = agent.act(later.params, states, states, KEY)
        metric = agent.metric(later.params)
        if metric is not None and name not in ("gcivl", "hiql"):
            metric.after(states, actions, states)
        return metrics, actions

    metrics, actions = jax.eval_shape(run, batch_shape(agent.spec(), SPACES))
    assert actions.shape == (4, 6)
    assert all(metric.shape == () for metric in metrics.values())


def test_chunks_of_discrete_actions_and_backups_within_a_chunk_are_refused():
    with pytest.raises(FarstepError, match="--action-chunk 1"):
        small("gcbc").encoded_networks(replace(SPACES, action=Actions(4, discrete=True)), KEY)
    with pytest.raises(FarstepError, match="backup_steps must be at least the 3"):
        NSACBC(action_chunk=3, backup_steps=2)
    with pytest.raises(FarstepError, match="action_chunk must be at least 1"):
        GCBC(action_chunk=0)


def test_a_backup_within_a_chunk_tells_of_the_rows_own_goal_alone():
    rng = np.random.default_rng(0)
    distances, targets = jnp.asarray(rng.uniform(0, 2, (2, 1, 3, 3)), jnp.float32)

    def loss(targets, steps):
        return float(
            multistep_backup(
                distances, targets, jnp.asarray(steps, jnp.float32), discount=0.9, chunk=4
            )[0]
        )

    near, far = [3, 4, 9], [4, 4, 9]
    other, own = targets.at[0, 0, 1].add(1), targets.at[0, 0, 0].add(1)
    assert loss(other, near) == loss(targets, near)
    assert loss(own, near) != loss(targets, near)
    assert loss(other, far) != loss(targets, far)


def test_a_backup_over_several_steps_keeps_the_value_of_the_steps_to_the_goal():
    def value(steps):
        return -(1 - 0.9**steps) / (1 - 0.9)

    steps = jnp.asarray([1, 3, 5])
    backups = goal_backup(jnp.asarray(value(7 - np.asarray(steps))), steps == 0, 0.9, steps)
    np.testing.assert_allclose(backups, value(7), rtol=1e-5)


class Counting:
    """A policy whose actions are the number of the call and the place in its chunk of three."""

    action_chunk = 3

    def __init__(self):
        self.calls = 0

    def chunk(self, observations, goals, *, temperature=0.0, seed=0, step=0):
        self.calls += 1
        places = np.stack([np.full(3, self.calls), np.arange(3)], axis=-1)
        return np.broadcast_to(places, (len(observations), 3, 2))


@pytest.mark.parametrize(("execute", "length"), [(None, 3), (2, 2)])
def test_chunks_are_carried_out_and_a_slot_asks_when_its_own_is_used_up(execute, length):
    counting = Counting()
    policy = OpenLoop(counting, execute)
    states = np.zeros((2, 2))
    policy.begin(np.arange(2), states, states)
    both = [policy.act(states, states).tolist() for _ in range(length + 1)]
    assert both == [[[1, k]] * 2 for k in range(length)] + [[[2, 0]] * 2]
    policy.begin(np.array([1]), states[1:], states[1:])
    assert policy.act(states, states).tolist() == [[2, 1], [3, 0]]
    policy.end(np.array([0]))
    for _ in range(length - 1):
        policy.act(states, states)
    assert counting.calls == 3
    with pytest.raises(FarstepError, match="choose 1 to 3"):
        OpenLoop(Counting(), 4)


def test_slots_that_come_later_leave_the_chunks_of_the_others_alone():
    policy, states = OpenLoop(Counting()), np.zeros((3, 2))
    policy.begin(np.arange(2), states[:2], states[:2])
    policy.act(states[:2], states[:2])
    policy.begin(np.array([2]), states[2:], states[2:])
    assert policy.act(states, states).tolist() == [[1, 1], [1, 1], [2, 0]]


def test_a_chunked_policy_is_trained_exported_planned_and_served(toy, tmp_path, capsys):
    out, export = tmp_path / "run", tmp_path / "export"
    sizes = ["--hidden", "8", "--latent", "8", "--groups", "2", "--batch-size", "4"]
    main(["train", str(toy), "--out", str(out), *sizes, "--steps", "2", "--action-chunk", "3"])
    farstep.load_policy(out).save(export)
    policy = farstep.load_policy(export)
    here, there = np.zeros(2, np.float32), np.ones(2, np.float32)
    chunk = policy.chunk(here, there)
    assert chunk.shape == (3, 2)
    np.testing.assert_array_equal(policy.act(here, there), chunk[0])
    assert np.isfinite(policy.distance(here, there, chunk))
    with pytest.raises(FarstepError, match="shape"):
        policy.distance(here, there, chunk[0])

    for execute, length in ((None, 3), (2, 2)):
        session = Session(policy, SessionOptions(execute=execute), there)
        reply = session.answer({"observation": here})
        np.testing.assert_array_equal(reply["actions"], chunk[:length])
    planned = farstep.plan(
        policy, toy, farstep.GraphOptions(landmarks=20, replan_every=5), execute=2
    )
    assert planned.choose_every == 6
    planned.begin(np.arange(1), here[None], there[None])
    taken = [planned.act(here[None], there[None])[0] for _ in range(2)]
    np.testing.assert_array_equal(taken, policy.chunk(here, planned.episodes[0].subgoal)[:2])
    with pytest.raises(FarstepError, match="choose 1 to 3"):
        farstep.evaluate(policy, "pointmaze-medium-v0", execute=5)
