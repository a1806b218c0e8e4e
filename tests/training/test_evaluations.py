"""Evaluation between updates and concurrent with them."""

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from rich.console import Console

from farstep.agents.gcbc import GCBC
from farstep.cli.reporting import TrainingReporter
from farstep.core.trees import named_leaves
from farstep.data.normalize import Normalization
from farstep.data.table import open_dataset
from farstep.sampling.batches import DeviceTable
from farstep.serving.policy import load_policy
from farstep.training.checkpoint import Checkpoints
from farstep.training.config import DatasetReference, RunConfig, TrainConfig
from farstep.training.loop import Interrupted, Trainer
from farstep.training.run import Run


@dataclass
class Evaluator:
    """Success by step; the evaluation of step `blocked` waits until it is allowed to end."""

    success: Mapping[int, float | Exception]
    blocked: int | None = None
    seen: dict[int, dict] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)

    def __call__(self, run, params, step):
        if step == self.blocked:
            assert self.release.wait(60)
        self.seen[step] = {name: np.asarray(leaf) for name, leaf in named_leaves(params).items()}
        found = self.success[step]
        if isinstance(found, Exception):
            raise found
        return {"success": found}


class Watcher(TrainingReporter):
    """Lets the blocked evaluation end once training has come past it; asks training to stop."""

    def __init__(self, evaluator, release_at, stop_at):
        super().__init__(Console(quiet=True), 0)
        self.evaluator, self.release_at, self.stop_at = evaluator, release_at, stop_at

    def advanced(self, step, updates_per_second):
        if step >= self.release_at:
            self.evaluator.release.set()
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def train(
    toy, path, evaluator, *, concurrent=False, release_at=0, steps=12, stop_at=0, resume=False
):
    table = open_dataset(str(toy)).train
    config = RunConfig(
        agent=GCBC(hidden=(8,), batch_size=4),
        training=TrainConfig(
            steps=steps, log_every=100, checkpoint_every=4, keep_checkpoints=1, evaluate_every=4
        ),
        dataset=DatasetReference(name="toy", path=str(toy), digest="", environment=None),
        spaces=table.spaces,
        normalization=Normalization.identity(table.spaces),
    )
    run = Run.open(path) if resume else Run.create(path, config)
    Trainer(
        runs=[run],
        table=DeviceTable.from_table(table, config.normalization),
        validation=None,
        evaluator=evaluator,
        reporter=Watcher(evaluator, release_at, stop_at),
        concurrent_evaluation=concurrent,
    ).train(resume=resume)
    return run


def saved(run):
    with Checkpoints(run.path / "checkpoints") as checkpoints:
        return checkpoints.steps, checkpoints.find("best")


def test_training_goes_on_during_an_evaluation_and_ends_up_where_it_would_have(toy, tmp_path):
    success = {4: 0.9, 8: 0.2, 12: 0.4}
    blocking = train(toy, tmp_path / "blocking", Evaluator(success), concurrent=False)
    evaluator = Evaluator(success, blocked=4)
    # The first evaluation ends only after a later update, which a waiting loop never reaches.
    concurrent = train(toy, tmp_path / "concurrent", evaluator, concurrent=True, release_at=5)
    for run in (blocking, concurrent):
        records = [(line["step"], line["success"]) for line in run.records("eval")]
        assert records == list(success.items())
        assert saved(run) == ([4, 12], 4)
        for name, leaf in named_leaves(load_policy(run.path, checkpoint="best").params).items():
            np.testing.assert_array_equal(leaf, evaluator.seen[4][name])
    last = [load_policy(run.path, checkpoint="last").params for run in (blocking, concurrent)]
    for name, leaf in named_leaves(last[0]).items():
        np.testing.assert_array_equal(leaf, named_leaves(last[1])[name])


@pytest.mark.parametrize("concurrent", [False, True])
def test_a_failing_evaluation_ends_training_with_its_step_saved(concurrent, toy, tmp_path):
    evaluator = Evaluator({4: OSError("the simulator is gone")})
    with pytest.raises(OSError, match="simulator is gone"):
        train(toy, tmp_path / "run", evaluator, concurrent=concurrent, steps=4)
    assert saved(Run.open(tmp_path / "run"))[0] == [4]


@pytest.mark.parametrize("stop_at", [4, 8])
def test_an_evaluation_that_a_stop_came_before_is_made_up_on_resume(stop_at, toy, tmp_path):
    success = {4: 0.9, 8: 0.2}
    with pytest.raises(Interrupted):
        train(toy, tmp_path / "run", Evaluator(success), steps=8, stop_at=stop_at)
    run = Run.open(tmp_path / "run")
    assert [line["step"] for line in run.records("eval")] == [s for s in success if s < stop_at]
    train(toy, run.path, Evaluator(success), steps=8, resume=True)
    assert [(line["step"], line["success"]) for line in run.records("eval")] == list(
        success.items()
    )
    assert saved(run) == ([4, 8], 4)
    # Nothing is owed any more.
    train(toy, run.path, Evaluator({}), steps=8, resume=True)
    assert saved(run) == ([4, 8], 4)
