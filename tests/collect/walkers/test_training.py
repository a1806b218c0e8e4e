"""Training a walker: the update, the run, and its exact resume."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from farstep.cli.main import run_command  # noqa: E402 (after the checks above)
from farstep.collect.walkers import fitness as tests  # noqa: E402
from farstep.collect.walkers import sac  # noqa: E402
from farstep.collect.walkers.bodies import walker_body  # noqa: E402
from farstep.collect.walkers.fitness import Dribbling, Walking, fitness  # noqa: E402
from farstep.collect.walkers.policy import Walker, shipped_walker  # noqa: E402
from farstep.collect.walkers.sac import RECIPES, WalkerRecipe  # noqa: E402
from farstep.collect.walkers.training import CHECKPOINT, METRICS, WALKER, train  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402

TINY = WalkerRecipe(
    steps=120,
    random_steps=24,
    bodies=4,
    updates=2,
    capacity=80,
    batch=4,
    actor=(8, 8),
    critic=(8, 8),
)


@pytest.mark.parametrize("body", ["ant", pytest.param("antball", marks=pytest.mark.slow)])
def test_it_learns_to_act_along_commands_that_were_never_given(body: str) -> None:
    """In a world where an action's first two numbers are the step, and everything ends at once."""
    recipe = dataclasses.replace(
        TINY,
        body=body,
        batch=64,
        bodies=512,
        random_steps=1,
        updates=400,
        steps=512,
        capacity=512,
        learning_rate=3e-3,
        relabelled=1.0,
    )
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(512, walker_body(body).observation_size)) / 3
    observations[:, 1:5] = 1, 0, 0, 0
    if body == "antball":
        observations[:, 14:18] = 1, 0, 0, 0
    moves = rng.uniform(-1, 1, (512, 8))
    always_east = np.tile([1.0, 0.0], (512, 1))
    rows = [observations, moves, observations, moves[:, :2], always_east]
    rows += [np.ones((512, 1)), np.zeros((512, 1))]
    root = jax.random.key(0)
    learner, _, metrics = sac.advance(
        recipe,
        sac.start(recipe, root),
        jnp.zeros((512, sum(sac.Step.sizes(recipe)))),
        jnp.asarray(np.concatenate(rows, axis=1), jnp.float32),
        jnp.asarray(0),
        root,
    )
    assert np.isfinite([float(value) for value in metrics.values()]).all()
    for command in ((0.0, 1.0), (-1.0, 0.0)):
        acted = sac.explore(
            recipe,
            learner.actor,
            jnp.asarray(observations, jnp.float32),
            jnp.tile(jnp.array(command), (512, 1)),
            root,
            jnp.asarray(1),
        )
        assert float((acted[:, :2] @ jnp.array(command)).mean()) > 0.5


def contents(path: Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    lines = [json.loads(line) for line in (path / METRICS).read_text().splitlines()]
    for line in lines:
        del line["steps_per_second"]
    return load_file(path / CHECKPOINT), lines


def test_a_run_cut_off_and_resumed_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    often = functools.partial(train, log_every=20, test_every=60, test_steps=1)
    often(whole, TINY)
    # The buffer is full and has begun anew by then, and commands have changed.
    often(parts, TINY, stop_after=100)
    with (parts / METRICS).open("a") as journal:
        journal.write('{"step": 116, "lost": 1}\n{"step": 118, "cut o')
    often(parts, TINY, resume=True)
    (arrays, lines), (expected, expected_lines) = contents(parts), contents(whole)
    assert lines == expected_lines
    assert [line["step"] for line in lines] == [20, 40, 60, 80, 100, 120]
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    assert arrays["host.replay"].shape == (80, 68)
    # Not byte by byte: a file's header may name its parts in any order.
    resumed, uninterrupted = Walker.load(parts / WALKER), Walker.load(whole / WALKER)
    assert resumed.about == uninterrupted.about
    for one, other in zip(resumed.layers, uninterrupted.layers, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    # The file holds what the learner's actor computes, in half precision.
    walker = Walker.load(parts / WALKER)
    assert walker.about["steps"] == 120
    observations = arrays["host.observations"].astype(np.float32)
    commands = arrays["host.commands"].astype(np.float32)
    layers = [
        (expected[f"learner.actor.layers.{i}.kernel"], expected[f"learner.actor.layers.{i}.bias"])
        for i in range(3)
    ]
    hidden = jnp.asarray(walker.body.features(jnp, observations, commands))
    for index, (kernel, bias) in enumerate(layers):
        hidden = (hidden if index == 0 else jax.nn.gelu(hidden)) @ kernel + bias
    np.testing.assert_allclose(walker(observations, commands), jnp.tanh(hidden[:, :8]), atol=5e-3)


def test_the_humanoid_trains_by_the_same_code(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        RECIPES["humanoid"],
        steps=16,
        random_steps=4,
        bodies=2,
        updates=1,
        batch=4,
        actor=(8, 8),
        critic=(8, 8),
    )
    often = functools.partial(train, log_every=8, test_every=16, test_steps=1)
    often(tmp_path / "run", recipe, stop_after=8)
    often(tmp_path / "run", recipe, resume=True)
    (*_, last) = contents(tmp_path / "run")[1]
    assert last["step"] == 16
    assert last["test/falls"] == 1.0
    assert Walker.load(tmp_path / "run" / WALKER).body.name == "humanoid"


@pytest.mark.slow
def test_the_dribbler_trains_by_the_same_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(
        RECIPES["antball"],
        steps=210,
        random_steps=180,
        bodies=1,
        updates=1,
        batch=4,
        actor=(8, 8),
        critic=(8, 8),
    )
    often = functools.partial(train, log_every=70, test_every=210, test_steps=1)
    often(tmp_path / "whole", recipe)
    often(tmp_path / "run", recipe, stop_after=205)
    often(tmp_path / "run", recipe, resume=True)
    (arrays, lines), (expected, expected_lines) = (
        contents(tmp_path / "run"),
        contents(tmp_path / "whole"),
    )
    assert lines == expected_lines
    assert {"test/reached", "test/steps", "test/falls"} <= lines[-1].keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    steps = sac.Step.of(jnp.asarray(arrays["host.replay"]), recipe)
    # A goal stays where it is while the ball moves, and no value follows the 200th step.
    nearer = np.asarray(steps.command - steps.displacement)
    np.testing.assert_allclose(nearer[:199], steps.command[1:200], atol=1e-5)
    assert np.abs(nearer[199] - steps.command[200]).max() > 0.1
    assert np.flatnonzero(steps.alive[:, 0] == 0).tolist() == [199]
    run_command(f"walker test {tmp_path / 'run' / WALKER} --episodes 2".split())
    assert "goals that the ball reaches 0.0% of 2" in capsys.readouterr().out


def test_the_command_trains_and_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    line = f"walker train ant --out {run} --steps 40 --bodies 4 --random-steps 60 --batch 4"
    run_command(f"{line} --test-every 40".split())
    assert "test:" in capsys.readouterr().err
    run_command(f"walker test {run / WALKER} --episodes 1".split())
    assert "episodes with a fall      0.0% of 1" in capsys.readouterr().out
    with pytest.raises(FarstepError, match="already exists"):
        run_command(line.split())
    with pytest.raises(FarstepError, match="resume it without --steps"):
        run_command(f"walker train ant --out {run} --resume --steps 80".split())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("walker train aunt", "no body 'aunt'"),
        ("walker train ant --out {here}/none --resume", "no checkpoint to resume from"),
        ("walker train ant --out {here}/none --steps 0", "steps must be at least 1"),
        ("walker train ant --out {here}/none --seed -1", "seed"),
        ("walker train ant --out {here}/none --test-every 0", "--test-every"),
        ("walker test humanoid", "farstep walker train humanoid"),
        ("walker test antball", "farstep walker train antball"),
        ("walker test {here}/none.safetensors", "no walker at"),
        ("walker test {here}/junk.safetensors", "holds no walker"),
        ("walker test ant --episodes 0", "--episodes must be at least 1"),
        ("walker test ant --environment humanoidmaze-large-v0", "is no maze of the ant's states"),
        ("walker test ant --environment visual-antmaze-large-v0", "is no maze of the ant's states"),
    ],
)
def test_mistakes_are_explained_and_create_nothing(
    line: str, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"junk, and more of it")
    with pytest.raises(FarstepError, match=complaint):
        run_command(line.format(here=tmp_path).split())
    assert [entry.name for entry in tmp_path.iterdir()] == ["junk.safetensors"]


def test_the_shipped_ant_walks_as_told() -> None:
    walker = Walker.load(shipped_walker("ant"))
    found = fitness(walker, episodes=2, noise=0.2, steps=300)
    assert isinstance(found, Walking)
    assert found.speed > 1.2
    assert found.turning_steps < 30
    assert found.falls == 0


def test_the_shipped_ant_walks_a_maze(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rooms = tmp_path / "rooms.txt"
    rooms.write_text("#####\n#...#\n#.#.#\n#####\ntask (2, 1) -> (2, 3)")
    run_command(f"walker test ant --episodes 1 --environment antmaze:{rooms}".split())
    _, walked, mean = capsys.readouterr().out.splitlines()
    assert walked.split()[:3] == ["1", "4", "100%"]
    assert 50 < int(walked.split()[3]) < 200
    assert mean.split() == ["mean", "100%"]


def test_an_ant_that_does_nothing_does_not_pass() -> None:
    body = Walker.load(shipped_walker("ant")).body
    still = Walker(body, [(np.zeros((29, 8), np.float32), np.zeros(8, np.float32))], {})
    found = fitness(still, episodes=1, steps=200)
    assert isinstance(found, Walking)
    assert abs(found.speed) < 0.1
    assert found.turning_steps == 100


def test_a_ball_at_its_goal_counts_as_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    still = Walker(walker_body("antball"), [(np.zeros((39, 8)), np.zeros(8))], {})
    assert fitness(still, episodes=2, steps=20) == Dribbling(0.0, 0.0, 0.0, 2)
    monkeypatch.setattr(tests, "GOAL_RADIUS", 30.0)
    assert fitness(still, episodes=2, steps=20) == Dribbling(1.0, 1.0, 0.0, 2)
