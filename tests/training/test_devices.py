"""Training on several devices gives what training on one gives, and either goes on as the other.

The devices are eight that XLA makes of one CPU, in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from farstep.core.errors import FarstepError
from farstep.training.layout import Layout


def test_what_does_not_divide_is_refused():
    with pytest.raises(FarstepError, match="between 1 and the 1 that JAX sees"):
        Layout.on_devices(2, seeds=2, batch_size=4)
    with pytest.raises(FarstepError, match="not 0"):
        Layout.on_devices(0, seeds=1, batch_size=4)
    assert Layout.on_devices(1, seeds=3, batch_size=5).mesh is None


@pytest.mark.slow
def test_eight_devices_give_what_one_gives(tmp_path):
    run(DEVICES, tmp_path)


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
from pathlib import Path

import jax
import numpy as np

import farstep
from farstep.agents.mqe import MQE
from farstep.api import Execution
from farstep.data.table import TableWriter
from farstep.training.config import TrainConfig

place = Path(sys.argv[1])
agent = MQE(hidden=(8, 8), latent=16, groups=2, batch_size=16)

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
