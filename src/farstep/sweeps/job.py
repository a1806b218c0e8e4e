"""One job of a sweep: runs that differ in their seed alone, trained and then evaluated.

A job keeps no state of its own. What is done is read from its run directories, so that it may be
killed anywhere, started again, and even started twice: the second waits for the first.
"""

from __future__ import annotations

import itertools
import json
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from farstep.agents.base import Agent
from farstep.agents.registry import agent_from_dict, agent_to_dict
from farstep.api import Execution, evaluate, resume, train
from farstep.core.errors import FarstepError
from farstep.core.fields import dataclass_from_dict
from farstep.core.files import write_text
from farstep.core.goals import GoalRule
from farstep.data.table import open_dataset, spaces_of
from farstep.evaluation.results import Evaluation
from farstep.training.checkpoint import SUCCESS
from farstep.training.config import CONTINUABLE, TrainConfig
from farstep.training.lock import locked
from farstep.training.loop import Interrupted, Reporter
from farstep.training.run import CONFIG, EVALUATION, Run

BUSY_PAUSE = 2.0
"""Seconds between looks at a run that another process trains."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one worker does.

    Attributes:
        name: unique in its sweep, in letters that a path may have.
        directory: where its runs lie, `s0`, `s1`, ….
        log: the file that tells what happened.
        dataset: the data's name, or their directory.
        agent: with its hyperparameters.
        training: of the first seed.
        seeds: how many, from `training.seed` on, in one program.
        goal: what a goal is.
        frames: observations that are seen as one.
        execution: how training is carried out.
        evaluation: arguments of `farstep.evaluate` for the trained policies; None evaluates no
            more than training does.
    """

    name: str
    directory: Path
    log: Path
    dataset: str
    agent: Agent
    training: TrainConfig
    seeds: int = 1
    goal: str = "observation"
    frames: int = 1
    execution: Execution = field(default_factory=Execution)
    evaluation: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def paths(self) -> dict[int, Path]:
        """The run directory of every seed."""
        first = self.training.seed
        return {seed: self.directory / f"s{seed}" for seed in range(first, first + self.seeds)}

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return all(self._trained(path) and self._evaluated(path) for path in self.paths.values())

    @property
    def updates(self) -> int:
        """Updates behind the last checkpoint of the seed that is least far."""
        return max(0, min(map(_saved, self.paths.values())))

    @property
    def failure(self) -> str | None:
        """Why the job failed when it last ran to its end; None if it did not fail."""
        try:
            return self._failed.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    @property
    def busy(self) -> bool:
        """Whether another process trains one of the runs."""
        try:
            with ExitStack() as locks:
                for path in self.paths.values():
                    if path.exists():
                        locks.enter_context(locked(path))
        except FarstepError:
            return True
        return False

    @property
    def success(self) -> float | None:
        """The mean over seeds of the success that was measured last; None before that."""
        found: list[float] = []
        for path in self.paths.values():
            if (path / EVALUATION).exists():
                found.append(Evaluation.load(path / EVALUATION).mean_success)
            elif (path / CONFIG).exists() and (records := Run.open(path).records("eval")):
                found.append(records[-1][SUCCESS])
        return sum(found) / len(found) if found else None

    def check(self, ignore: Sequence[str] = CONTINUABLE) -> None:
        """Raises FarstepError where a run was made with other settings or data.

        Args:
            ignore: training options that may differ.
        """
        for seed, path in self.paths.items():
            if not (path / CONFIG).exists():
                continue
            config, table = Run.open(path).config, open_dataset(self.dataset).train
            asked = replace(
                config,
                agent=self.agent,
                training=replace(self.training, seed=seed),
                dataset=replace(config.dataset, digest=table.digest),
                spaces=spaces_of(table, GoalRule.parse(self.goal), self.frames),
            )
            differences = config.differences(asked, ignore=ignore)
            if config.training.steps > self.training.steps:
                differences.append(
                    f"training.steps: {config.training.steps} before, {self.training.steps} now"
                )
            if differences:
                raise FarstepError(
                    f"{path} was made with other settings:\n  " + "\n  ".join(differences) + "\n"
                    "Give it another place (out), or undo the change."
                )

    def execute(self, reporter: Reporter | None = None) -> None:
        """Do what is left to do: seeds that are equally far go on together.

        Raises:
            FarstepError: as `farstep.train` and `farstep.evaluate`.
            Interrupted: a signal came; everything is saved.
        """
        tell = (reporter or Reporter()).message
        for seeds, saved, trained in self._groups():
            if trained:
                continue
            paths = [self.paths[seed] for seed in seeds]
            which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
            where = f"{self.name}, {which}, in {self.directory}"
            how: dict[str, Any] = {
                "agent": self.agent,
                "training": replace(self.training, seed=seeds[0]),
                "execution": self.execution,
                "reporter": reporter,
            }
            if saved >= 0:
                tell(f"{where}: going on after {saved:,} updates")
                resume(*paths, dataset=self.dataset, **how)
            else:
                tell(f"{where}: {self.training.steps:,} updates")
                out = self.directory if len(seeds) > 1 else paths[0]
                how |= {"goal": self.goal, "frames": self.frames, "seeds": len(seeds)}
                train(self.dataset, out=out, **how)
        for path in self.paths.values():
            if not self._evaluated(path):
                evaluate(path, **(self.evaluation or {})).save(path / EVALUATION)

    def to_json(self) -> str:
        """The job as a worker is given it."""
        plain = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(self).items()
        }
        parts = {"training": asdict(self.training), "execution": asdict(self.execution)}
        return json.dumps(plain | {"agent": agent_to_dict(self.agent)} | parts)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """`to_json` back."""
        document = json.loads(text)
        where = f"the job {document['name']}"
        return cls(
            **document
            | {
                "directory": Path(document["directory"]),
                "log": Path(document["log"]),
                "agent": agent_from_dict(document["agent"], where=where),
                "training": dataclass_from_dict(TrainConfig, document["training"], where=where),
                "execution": dataclass_from_dict(Execution, document["execution"], where=where),
            }
        )

    @property
    def _failed(self) -> Path:
        return self.log.with_suffix(".failed")

    def _groups(self) -> Iterator[tuple[list[int], int, bool]]:
        """Neighbouring seeds that are equally far: updates saved, and whether nothing is left."""
        states = {seed: (_saved(path), self._trained(path)) for seed, path in self.paths.items()}
        for state, group in itertools.groupby(states, key=lambda seed: states[seed]):
            yield list(group), *state

    def _trained(self, path: Path) -> bool:
        if _saved(path) < self.training.steps:
            return False
        run = Run.open(path)
        training, environment = run.config.training, run.config.dataset.environment
        if environment is None or training.evaluation_episodes == 0:
            return True
        return any(record["step"] >= self.training.steps for record in run.records("eval"))

    def _evaluated(self, path: Path) -> bool:
        if self.evaluation is None:
            return True
        if not (path / EVALUATION).exists():
            return False
        about = Evaluation.load(path / EVALUATION).protocol["policy"]
        return about["step"] == self.training.steps


def attempt(document: str) -> None:
    """What a worker does with a job, given as JSON: never raises, and leaves word of a failure."""
    job = Job.from_json(document)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job._failed.unlink(missing_ok=True)
    with job.log.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            while job.busy:
                time.sleep(BUSY_PAUSE)
            job.execute(_LogReporter())
        except Interrupted as interruption:
            print(f"Saved and {interruption}.", flush=True)
        except FarstepError as error:
            print(error, flush=True)
            write_text(job._failed, f"{error}\n")
        except Exception as error:
            traceback.print_exc()
            write_text(job._failed, f"{type(error).__name__}: {error}\n")


class _LogReporter(Reporter):
    """A line for everything that happens."""

    def message(self, line: str) -> None:
        print(line, flush=True)

    def logged(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        print(f"{run.path}: update {step:,}", flush=True)

    def evaluated(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        print(f"{run.path}: success {metrics[SUCCESS]:.3f} after {step:,} updates", flush=True)


def _saved(path: Path) -> int:
    """Updates behind the last checkpoint of a run; −1 where there is no run yet."""
    if not (path / CONFIG).exists():
        return -1
    steps = [int(one.name) for one in path.glob("checkpoints/*") if one.name.isdecimal()]
    return max(steps, default=0)
