"""Runs that are stopped, killed and continued, as a user would do it."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.core.trees import named_leaves
from farstep.serving.policy import load_policy

OPTIONS = [
    *("--hidden", "16", "16", "--latent", "32", "--batch-size", "16"),
    *("--log-every", "20", "--checkpoint-every", "40"),
]


def words(toy, out, steps, *more):
    return ["train", str(toy), "--steps", str(steps), "--out", str(out), *OPTIONS, *more]


def resume(out, steps, *more):
    return ["train", "--resume", str(out), "--steps", str(steps), *more]


def start(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "farstep", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_checkpoint(process, out, deadline=120):
    began = time.monotonic()
    # One that is being written has a longer name, and may be marked before it is renamed.
    while not any(path.name.isdigit() for path in out.glob("checkpoints/*")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() - began < deadline, "no checkpoint came"
        time.sleep(0.02)


def assert_same_run(one, other):
    left, right = load_policy(one), load_policy(other)
    assert left.step == right.step
    mine, theirs = named_leaves(left.params), named_leaves(right.params)
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)

    def numbers(run):
        timing = ("seconds", "updates_per_second")
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(x).items() if k not in timing} for x in lines]

    assert numbers(one) == numbers(other)


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """A run of 200 updates that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    main(words(toy, out, 200))
    return out


def test_a_killed_run_continues_bit_for_bit(toy, whole, tmp_path):
    out = tmp_path / "killed"
    with start(words(toy, out, 100_000)) as process:
        wait_for_checkpoint(process, out)
        os.kill(process.pid, signal.SIGKILL)
    reached = load_policy(out).step
    if reached >= 200:
        pytest.fail(f"the machine outran the test: {reached} updates before the kill")
    main(resume(out, 200))
    assert_same_run(out, whole)


def test_a_clock_that_goes_backwards_is_in_nobodys_way(toy, whole, tmp_path, monkeypatch):
    """As when a machine's clock is set, here a minute earlier at each look."""
    now = itertools.count(time.time(), -60.0)
    monkeypatch.setattr(time, "time", lambda: next(now))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(now) * 1e9))
    out = tmp_path / "run"
    main(words(toy, out, 120, "--tensorboard", "--keep-checkpoints", "1"))
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["120"]
    main(resume(out, 200))
    assert_same_run(out, whole)


def test_a_run_is_read_while_its_training_writes_a_checkpoint(toy, tmp_path, capsys):
    """A checkpoint lies under a temporary name while it is written; a reader leaves that alone."""
    out = tmp_path / "run"
    main(words(toy, out, 40))
    half = out / "checkpoints" / "80.orbax-checkpoint-tmp-7"
    half.mkdir()
    (half / "array").write_bytes(b"half of it")

    def found():
        return {str(path): path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}

    was = found()
    assert load_policy(out).step == 40
    main(["export", str(out), "--out", str(tmp_path / "export")])
    with pytest.raises(SystemExit):
        main(["eval", str(out)])
    main(["export", str(out), "--checkpoint", "best", "--out", str(tmp_path / "best")])
    assert found() == was
    (tmp_path / "empty").mkdir()
    (out / "config.json").rename(tmp_path / "empty" / "config.json")
    with pytest.raises(FarstepError, match="holds no checkpoint yet"):
        load_policy(tmp_path / "empty")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["config.json"]


def test_a_run_may_lie_anywhere(toy, whole, tmp_path, capsys):
    """TensorStore reads brackets and backslashes in a path as patterns of its own."""
    out = tmp_path / "a[b]\\c d" / "run [x]"
    main(words(toy, out, 80))
    main(resume(out, 200))
    assert_same_run(out, whole)
    main(["export", str(out)])
    assert load_policy(out / "policy").step == 200
    assert str(out) in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_evaluated_wherever_it_lies(toy, tmp_path):
    pytest.importorskip("ogbench")
    out = tmp_path / "a[b]\\c d" / "run [x]"
    main(words(toy, out, 40))
    quick = ["--episodes", "1", "--tasks", "1", "--max-steps", "5", "--workers", "0"]
    result = tmp_path / "a[b]\\c d" / "result.json"
    words_of_eval = ["--environment", "pointmaze-medium-v0", *quick, "--out", str(result)]
    main(["eval", str(out), *words_of_eval])
    assert result.is_file()


@pytest.mark.slow
def test_a_run_is_read_again_and_again_while_it_trains(toy, tmp_path):
    out = tmp_path / "run"
    often = ["--checkpoint-every", "1", "--log-every", "1000", "--keep-checkpoints", "1"]
    with start([*words(toy, out, 1_000_000), *often]) as process:
        wait_for_checkpoint(process, out)
        steps = [load_policy(out).step for _ in range(8)]
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, printed
    assert steps == sorted(steps)
    assert load_policy(out).step > steps[0]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_exits(number, toy, tmp_path):
    out = tmp_path / "run"
    with start(words(toy, out, 1_000_000)) as process:
        wait_for_checkpoint(process, out)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"Continue with: farstep train --resume {out}\n" in printed
    saved = load_policy(out).step
    assert f"after {saved} updates" in printed
    main(resume(out, saved + 7))
    assert load_policy(out).step == saved + 7


@pytest.mark.slow
def test_a_run_cut_anywhere_is_the_same_run(toy, whole, tmp_path):
    """Stopping between log lines must not change what the next line says."""
    out = tmp_path / "cut"
    main(words(toy, out, 70))
    main(resume(out, 200))
    left, right = load_policy(out), load_policy(whole)
    mine, theirs = named_leaves(left.params), named_leaves(right.params)
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def test_another_configuration_is_refused_with_the_difference(toy, whole, capsys):
    with pytest.raises(SystemExit) as caught:
        main(resume(whole, 200, "--alpha", "0.5"))
    assert caught.value.code == 2
    assert "agent.alpha: 0.1 before, 0.5 now" in capsys.readouterr().err


def test_other_data_are_refused(toy, whole, tmp_path, capsys):
    from farstep.data.table import TableWriter

    with TableWriter(tmp_path / "walks" / "train", (2,), "float32", 2) as writer:
        writer.append(np.zeros((9, 2), np.float32), np.zeros((9, 2), np.float32))
    with pytest.raises(SystemExit) as caught:
        main([*resume(whole, 200), str(tmp_path / "walks")])
    assert caught.value.code == 2
    assert "dataset.digest" in capsys.readouterr().err


@pytest.mark.slow
def test_seeds_trained_together_are_the_seeds_trained_alone(toy, whole, tmp_path):
    main(words(toy, tmp_path / "both", 40, "--seeds", "2"))
    main(words(toy, tmp_path / "one", 40, "--seed", "1"))
    mine = named_leaves(load_policy(tmp_path / "both" / "s1").params)
    theirs = named_leaves(load_policy(tmp_path / "one").params)
    for name in mine:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-3, atol=2e-5, err_msg=name)
    assert load_policy(tmp_path / "both" / "s0").step == 40


@pytest.mark.slow
def test_the_largest_seed_trains_continues_and_acts(toy, tmp_path):
    seed = 2**32 - 1
    main(words(toy, tmp_path / "run", 20, "--seed", str(seed)))
    main(resume(tmp_path / "run", 40))
    policy = load_policy(tmp_path / "run")
    assert policy.step == 40
    states = np.zeros((1, 2), np.float32)
    first, again = (policy.act(states, states, temperature=1.0, seed=s) for s in (seed, seed - 1))
    assert np.any(first != again)
