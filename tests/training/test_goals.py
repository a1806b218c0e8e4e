"""Goals that are no observations: from the command line to the policy, and what is learned."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.agents.mqe import MQE
from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.core.goals import GoalRule
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.data.table import TableWriter, open_dataset
from farstep.sampling.batches import DeviceTable
from farstep.sampling.episodes import Episodes
from farstep.serving.policy import load_policy
from farstep.training.program import advance, member, stack, start

TINY = [
    *("--steps", "2", "--batch-size", "4", "--hidden", "8", "--latent", "8", "--groups", "2"),
    *("--data-location", "device"),
]


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """Walks of (x, y, clutter), with where they are as an array of its own."""
    path = tmp_path_factory.mktemp("goals") / "walks"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        with TableWriter(path / split, (3,), "float32", 2) as writer:
            for _ in range(4):
                actions = rng.uniform(-1, 1, (12, 2)).astype(np.float32)
                xy = np.cumsum(actions, axis=0).astype(np.float32) + 5
                clutter = rng.normal(size=(12, 1)).astype(np.float32)
                observations = np.concatenate([xy, clutter], axis=1)
                writer.append(observations, actions, xy=xy)
    return path


def distance_apart(observations):
    """What a user's function may make of observations."""
    return np.hypot(observations[:, :1], observations[:, 1:2])


MINE = f"function:{distance_apart.__module__}:distance_apart"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, distance_apart.__module__, sys.modules[__name__])


@pytest.mark.parametrize(
    ("goal", "size"),
    [
        pytest.param("0,1", 2, marks=pytest.mark.slow),
        # The same way through the program as columns, but for how a goal is made of a row.
        pytest.param("key:xy", 2, marks=pytest.mark.slow),
        # A batch of these goals is held to its function below.
        pytest.param(MINE, 1, marks=pytest.mark.slow),
        pytest.param("observation", 3, marks=pytest.mark.slow),
    ],
)
def test_goals_go_from_the_command_line_into_the_policy_and_its_export(goal, size, walks, tmp_path):
    run = tmp_path / "run"
    main(["train", str(walks), "--out", str(run), "--goal", goal, "--normalize", *TINY])
    config = json.loads((run / "config.json").read_text())
    assert config["spaces"]["goal"]["shape"] == [size]
    main(["train", "--resume", str(run), "--steps", "3"])
    main(["export", str(run), "--out", str(tmp_path / "export")])
    here, there = np.full((1, 3), 5.0), np.full(size, 4.0)
    answers = []
    for policy in (load_policy(run), load_policy(tmp_path / "export")):
        assert str(policy.spaces.rule) == goal
        answers.append((policy.act(here, there), policy.distance(here, there)))
        with pytest.raises(FarstepError, match="goals"):
            policy.act(here, np.zeros(size + 1))
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    np.testing.assert_array_equal(answers[0][1], answers[1][1])
    with pytest.raises(SystemExit):
        main(["train", "--resume", str(run), "--goal", "0"])


def test_goals_of_a_batch_are_made_of_the_states_that_were_drawn(walks):
    table = open_dataset(walks).train
    normalization = Normalization.from_table(table)
    spec = MQE(batch_size=32).spec()
    drawn = {
        text: DeviceTable.from_table(table, normalization, GoalRule.parse(text)).sample(
            spec, root_key(0)
        )
        for text in ("observation", "0,1", "1", "key:xy", MINE)
    }
    whole = np.asarray(drawn["observation"]["goal/value"].goals)
    for text, columns in (("0,1", [0, 1]), ("1", [1])):
        np.testing.assert_allclose(
            drawn[text]["goal/value"].goals, whole[:, columns], rtol=1e-5, atol=1e-6
        )
    raw = whole * normalization.std + normalization.mean
    np.testing.assert_allclose(drawn["key:xy"]["goal/value"].goals, raw[:, :2], rtol=1e-5)
    np.testing.assert_allclose(drawn[MINE]["goal/value"].goals, distance_apart(raw), rtol=1e-4)
    np.testing.assert_array_equal(
        drawn[MINE]["waypoint"].observations, drawn["observation"]["waypoint"].observations
    )


def test_goals_that_cannot_be_made_are_refused_before_anything_is_created(walks, tmp_path, capsys):
    for goal, message in (
        ("7", "column 7"),
        ("x,y", "column numbers"),
        ("0,0", "named once"),
        ("key:xz", "no array 'xz'"),
        ("function:nowhere:f", "nowhere"),
    ):
        with pytest.raises(SystemExit):
            main(["train", str(walks), "--out", str(tmp_path / "run"), "--goal", goal, *TINY])
        assert message in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("agent", ["cmd", "qrl"])
def test_methods_whose_goals_are_states_say_so(agent, walks, tmp_path, capsys):
    words = ["train", str(walks), "--agent", agent, "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main([*words, "--goal", "0,1", "--hidden", "8"])
    assert "makes goals that are no states" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


LENGTH = 6


def corridor():
    """Walks from end to end; beside the place, two columns of noise that goals leave open."""
    rng = np.random.default_rng(0)
    there = np.arange(LENGTH)
    places = np.concatenate([there, there[::-1]] * 40)
    observations = np.concatenate(
        [np.eye(LENGTH)[places], rng.uniform(-0.5, 0.5, (len(places), 2))], 1
    )
    actions = rng.uniform(-0.3, 0.3, (len(places), 2))
    actions[:, 0] = np.repeat([0.8, -0.8] * 40, LENGTH)
    ends = np.arange(LENGTH - 1, len(places), LENGTH)
    goals = jnp.asarray(observations[:, :LENGTH], jnp.float32)
    seen = jnp.asarray(observations, jnp.float32)
    return DeviceTable(seen, jnp.asarray(actions, jnp.float32), Episodes.from_ends(ends), goals)


def test_distances_to_goals_of_some_columns_count_steps():
    """A goal is a place, whatever the clutter: d(ψ(s), ψ_g(g)) is how many steps away it lies."""
    spaces = Spaces(
        Space((LENGTH + 2,)), Space((LENGTH,)), Actions(2), GoalRule(columns=tuple(range(LENGTH)))
    )
    agent = MQE(
        hidden=(32,),
        latent=16,
        groups=2,
        batch_size=32,
        learning_rate=1e-3,
        alpha=1.0,
        discount=0.9,
        diagonal_weight=1.0,
    )
    state = stack([jax.jit(lambda: start(agent, spaces, 0))()])
    first, updates = jnp.asarray(0), jnp.asarray(3000)
    state = member(advance(agent, state, corridor(), first, root_key(0)[None], updates), 0)
    metric = agent.metric(state.state.params)
    assert metric is not None
    here, there = np.divmod(np.arange(LENGTH**2), LENGTH)
    clutter = np.random.default_rng(1).uniform(-0.5, 0.5, (LENGTH**2, 2))
    states = jnp.asarray(np.concatenate([np.eye(LENGTH)[here], clutter], 1), jnp.float32)
    goals = jnp.asarray(np.eye(LENGTH)[there], jnp.float32)
    steps = metric.distance(metric.embed(states), metric.embed_goal(goals)).steps
    errors = np.asarray(steps) - np.abs(there - here)
    assert np.corrcoef(steps, np.abs(there - here))[0, 1] > 0.97
    assert np.mean(np.abs(errors)) < 0.5
    assert np.max(np.asarray(steps)[here == there]) < 0.3
