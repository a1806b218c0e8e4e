"""A run on a table that stays on disk is the run on the table in memory, bit for bit.

Held-out losses, which train nothing, are equal up to rounding.
"""

import json
import signal
import threading

import numpy as np
import pytest

from farstep.agents.gcbc import GCBC
from farstep.cli.main import main
from farstep.core.trees import named_leaves
from farstep.data.normalize import Normalization
from farstep.data.table import open_dataset
from farstep.sampling import stream
from farstep.sampling.stream import HostTable
from farstep.serving.policy import load_policy
from farstep.training.config import DatasetReference, RunConfig, TrainConfig
from farstep.training.loop import Interrupted, Reporter, Trainer
from farstep.training.run import Run

AGENTS = {
    "gcbc": ["--agent", "gcbc", "--hidden", "16", "--batch-size", "16"],
    "mqe": ["--hidden", "16", "16", "--latent", "32", "--batch-size", "16"],
}
SMALL = ["--log-every", "20", "--checkpoint-every", "40", "--normalize"]


@pytest.fixture(autouse=True)
def chunks_of_a_few_updates(monkeypatch):
    """So that the tests' short runs take several, and stop in the middle of some."""
    monkeypatch.setattr(stream, "CHUNK_UPDATES", 7)


def train(toy, agent, out, steps, *more):
    words = ["train", str(toy), "--steps", str(steps), "--out", str(out)]
    main([*words, *AGENTS[agent], *SMALL, *more])


def metrics(run, *, validation):
    """What the run's log says of training, or of held-out data."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timing = ("seconds", "updates_per_second")
    return [
        {k: v for k, v in x.items() if k not in timing and k.startswith("validation") == validation}
        for x in lines
    ]


def assert_same_networks(one, other):
    mine, theirs = named_leaves(load_policy(one).params), named_leaves(load_policy(other).params)
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


@pytest.fixture(scope="module", params=["gcbc", pytest.param("mqe", marks=pytest.mark.slow)])
def agent(request):
    return request.param


@pytest.fixture(scope="module")
def resident(agent, toy, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "resident"
    train(toy, agent, out, 60, "--data-location", "device")
    return out


def test_a_streamed_run_is_the_resident_run(agent, toy, resident, tmp_path, capsys):
    train(toy, agent, tmp_path / "run", 60, "--data-location", "stream")
    assert "are read from" in capsys.readouterr().out
    assert_same_networks(tmp_path / "run", resident)
    assert metrics(tmp_path / "run", validation=False) == metrics(resident, validation=False)
    mine, theirs = (metrics(run, validation=True) for run in (tmp_path / "run", resident))
    assert len(mine) == len(theirs) == 3
    for line, expected in zip(mine, theirs, strict=True):
        assert line
        assert line == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_a_run_may_go_on_from_elsewhere(agent, toy, resident, tmp_path):
    train(toy, agent, tmp_path / "run", 25, "--data-location", "device")
    main(["train", "--resume", str(tmp_path / "run"), "--steps", "60", "--data-location", "stream"])
    assert_same_networks(tmp_path / "run", resident)


@pytest.mark.slow
def test_seeds_are_streamed_together(agent, toy, tmp_path):
    for place in ("device", "stream"):
        train(toy, agent, tmp_path / place, 20, "--data-location", place, "--seeds", "2")
    for seed in ("s0", "s1"):
        assert_same_networks(tmp_path / "stream" / seed, tmp_path / "device" / seed)


def streaming_trainer(toy, path, *, reporter=None, normalization=None):
    table = open_dataset(toy).train
    config = RunConfig(
        agent=GCBC(hidden=(8,), batch_size=8),
        training=TrainConfig(steps=10_000, log_every=10_000),
        dataset=DatasetReference(name="toy", path=str(toy), digest=table.digest, environment=None),
        spaces=table.spaces,
        normalization=Normalization.identity(table.spaces),
    )
    return Trainer(
        runs=[Run.create(path, config)],
        table=HostTable.from_table(table, normalization or config.normalization),
        validation=None,
        evaluator=None,
        reporter=reporter or Reporter(),
    )


def threads():
    return {thread for thread in threading.enumerate() if "farstep-reader" in thread.name}


def test_what_fails_while_reading_ends_the_run(toy, tmp_path):
    class Failing(Normalization):
        def apply(self, observations):
            raise OSError("the disk was unplugged")

    trainer = streaming_trainer(
        toy, tmp_path / "run", normalization=Failing(np.zeros(2), np.ones(2))
    )
    with pytest.raises(OSError, match="unplugged"):
        trainer.train()
    assert not threads()


def test_a_signal_stops_a_streamed_run_and_its_threads(toy, tmp_path):
    class Stopping(Reporter):
        def advanced(self, step, updates_per_second):
            if step > 10:
                signal.raise_signal(signal.SIGINT)

    trainer = streaming_trainer(toy, tmp_path / "run", reporter=Stopping())
    with pytest.raises(Interrupted) as stopped:
        trainer.train()
    assert load_policy(tmp_path / "run").step == stopped.value.step > 10
    assert not threads()
