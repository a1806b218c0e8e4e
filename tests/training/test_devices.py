"""Training on several devices gives what training on one gives, and either goes on as the other.

The devices are eight that XLA makes of one CPU, in a process of their own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.training.layout import Layout


def test_what_does_not_divide_is_refused():
    with pytest.raises(FarstepError, match="between 1 and the 1 that JAX sees"):
        Layout.on_devices(2, seeds=2, batch_size=4)
    with pytest.raises(FarstepError, match="not 0"):
        Layout.on_devices(0, seeds=1, batch_size=4)
    assert Layout.on_devices(1, seeds=3, batch_size=5).mesh is None


def test_an_address_without_a_port_is_refused(toy, tmp_path, capsys):
    joined = ["--coordinator", "node0", "--processes", "2", "--process", "0"]
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(toy), "--out", str(tmp_path / "run"), *joined])
    assert stopped.value.code == 2
    assert "needs HOST:PORT of process 0, not 'node0'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_eight_devices_give_what_one_gives(tmp_path):
    run(DEVICES, tmp_path)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    """Two devices each, joined on this machine: seeds apart, batches by rows, data from disk."""
    run(ONE_PROCESS, tmp_path)
    words = ["train", tmp_path / "data", "--agent", "mqe", "--hidden", "8", "8", "--latent", "16"]
    words += ["--groups", "2", "--batch-size", "16", "--log-every", "4", "--checkpoint-every", "4"]
    options = ["--steps", 12, "--seeds", 4, "--data-location", "stream"]
    options += ["--out", tmp_path / "apart"]
    join([*words, *options], code=0)
    join(["train", "--resume", tmp_path / "alone", "--from-step", 8], code=0)
    # A signal to either saves and stops both.
    options = ("--steps", 10**6, "--out", tmp_path / "stopped")
    join([*words, *options], stop=1, code=128 + signal.SIGTERM)
    said = join([*words, "--out", tmp_path / "other"], ["--seed", "{process}"], code=2)
    assert all("different settings" in err for err in said)
    assert not (tmp_path / "other").exists()
    run(COMPARE, tmp_path)


def join(words: list, own: Sequence[str] = (), *, stop: int | None = None, code: int) -> list[str]:
    """The command in two processes that train together; what each says is wrong."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    both = []
    for process in range(2):
        joined = ["--coordinator", address, "--processes", 2, "--process", process]
        mine = [word.format(process=process) for word in own]
        both.append(
            subprocess.Popen(
                [*(sys.executable, "-c", MAIN), *map(str, [*words, *mine, *joined])],
                env=os.environ | {"XLA_FLAGS": flags},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    if stop is not None:
        assert both[0].stdout is not None
        while "update" not in both[0].stdout.readline():
            assert both[0].poll() is None
        both[stop].terminate()
    said = [process.communicate(timeout=900) for process in both]
    assert [process.returncode for process in both] == [code, code], said
    assert "Run directory" not in said[1][0]
    return [error for _, error in said]


MAIN = "import sys; from farstep.cli.main import main; main(sys.argv[1:])"


def run(script: str, place: Path, *words: str, **environment: str) -> str:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", f"{COMMON}\n{script}", str(place), *words],
        env=os.environ | {"XLA_FLAGS": flags} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


COMMON = """
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

import farstep
from farstep.api import Execution, make_agent
from farstep.data.table import TableWriter
from farstep.training.checkpoint import Checkpoints
from farstep.training.config import TrainConfig
from farstep.training.run import Run

place = Path(sys.argv[1])
agent = make_agent("mqe", hidden=[8, 8], latent=16, groups=2, batch_size=16)

def data():
    path = place / "data"
    rng = np.random.default_rng(0)
    with TableWriter(path / "train", (2,), "float32", 2) as writer:
        for _ in range(4):
            actions = rng.uniform(-1, 1, (20, 2)).astype(np.float32)
            writer.append(np.cumsum(actions, axis=0), actions)
    return path

def training(steps):
    return TrainConfig(steps=steps, log_every=4, checkpoint_every=4)

def weights(run):
    return jax.tree.leaves(farstep.load_policy(run.path).params)
"""

DEVICES = """
def same(ours, theirs, **tolerance):
    for a, b in zip(weights(ours), weights(theirs), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)

assert len(jax.devices()) == 8
path, eight = data(), Execution(devices=8)
close = {"rtol": 1e-4, "atol": 1e-6}
(alone,) = farstep.train(path, agent, training(12), out=place / "alone")
straight = weights(alone)

def same(run, **tolerance):
    for ours, theirs in zip(weights(run), straight, strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)

# Seeds lie apart: each device computes what it would compute alone.
apart = farstep.train(path, agent, training(12), seeds=8, out=place / "apart", execution=eight)
same(apart[0], rtol=1e-6, atol=1e-7)

# One seed's batches over the devices, read ahead from disk.
over = Execution(devices=8, data_location="stream")
(wide,) = farstep.train(path, agent, training(12), out=place / "wide", execution=over)
same(wide, **close)

# Either goes on from the other's checkpoint.
same(farstep.resume(alone.path, from_step=8, execution=eight)[0], **close)
same(farstep.resume(wide.path, from_step=8)[0], **close)

try:
    farstep.train(path, agent, seeds=3, out=place / "uneven", execution=eight)
except farstep.FarstepError as error:
    assert "3 seeds do not divide over 8 devices" in str(error)
else:
    raise AssertionError
assert not (place / "uneven").exists()
"""


ONE_PROCESS = """
(alone,) = farstep.train(data(), agent, training(12), out=place / "alone")
np.savez(place / "straight.npz", *weights(alone))
four = Execution(devices=4)
farstep.train(place / "data", agent, training(12), seeds=4, out=place / "four", execution=four)
"""

COMPARE = """
def same(ours, theirs, **tolerance):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)

for seed in range(4):
    same(*(weights(Run.open(place / name / f"s{seed}")) for name in ("apart", "four")), rtol=0)
alone = Run.open(place / "alone")
same(weights(alone), np.load(place / "straight.npz").values(), rtol=1e-4, atol=1e-6)
assert [line["step"] for line in alone.records("metrics")] == [4, 8, 12]
assert sorted(path.name for path in (alone.path / "checkpoints").iterdir()) == ["12", "8"]
stopped = Run.open(place / "stopped")
with Checkpoints(stopped.path / "checkpoints") as saved:
    step = saved.find("last")
farstep.resume(stopped.path, training=replace(stopped.config.training, steps=step + 4))
assert Run.open(stopped.path).records("metrics")[-1]["step"] == step + 4
"""
