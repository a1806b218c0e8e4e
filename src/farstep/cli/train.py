"""`farstep train`: an agent on a dataset, into a run directory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import jax
import tyro
from rich.console import Console

from farstep.agents.base import Agent
from farstep.agents.mqe import MQE
from farstep.agents.registry import agent_class
from farstep.cli.evaluator import environment_evaluator
from farstep.cli.reporting import TrainingReporter, print_profile
from farstep.core.errors import FarstepError
from farstep.core.fields import dataclass_from_dict
from farstep.core.files import format_bytes
from farstep.data.normalize import Normalization
from farstep.data.table import Dataset, open_dataset
from farstep.presets import PRESETS, find_preset
from farstep.sampling.augment import check_crops
from farstep.sampling.residency import Residency, place
from farstep.sampling.stream import HostTable
from farstep.training.config import DatasetReference, RunConfig, TrainConfig
from farstep.training.loggers import Logger, TensorBoardLogger, WandbLogger
from farstep.training.loop import Interrupted, Trainer
from farstep.training.profile import Profiler
from farstep.training.run import Run

Kind = TypeVar("Kind", bound=Agent)

DEFAULT_AGENT = "mqe"
DEFAULT_PRESET = "paper"


@dataclass(frozen=True, kw_only=True)
class Train(Generic[Kind]):
    """Train an agent on a dataset. A run directory holds everything; --resume continues it.

    The agent's hyperparameters are options too; their defaults come from the preset. Another
    agent's are shown by `farstep train DATASET --agent NAME --help`.
    """

    dataset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(name="DATASET")]
    """Name of a dataset (see `farstep data`), or its directory."""
    agent: str = DEFAULT_AGENT
    """The method."""
    preset: str = DEFAULT_PRESET
    """Where hyperparameters that are not given come from; see `farstep presets`."""
    hyperparameters: tyro.conf.OmitArgPrefixes[Kind]
    training: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    seeds: int = 1
    """Train this many seeds, from --seed on, in one program."""
    out: Path | None = None
    """Run directory; runs/DATASET-AGENT-sSEED by default. With --seeds, one a seed inside it."""
    resume: bool = False
    """Continue the run from its last checkpoint; its configuration must be the same."""
    overwrite: bool = False
    """Replace an existing run."""
    residency: Residency = "auto"
    """Where the data lie: in device memory, on disk (batches are read ahead), or by their size."""
    evaluation: Literal["auto", "between", "beside"] = "auto"
    """Whether updates wait for an evaluation or go on beside it, the policy then acting on the CPU;
    `auto`: beside where an accelerator does the updates."""
    profile: bool = False
    """Write a trace of half a second of updates to RUN/profile, and print where the time went."""
    max_minutes: float | None = None
    """End earlier, after so many minutes of updates."""
    tensorboard: bool = False
    """Also write TensorBoard event files."""
    wandb: str | None = None
    """Also log to this Weights & Biases project."""

    @classmethod
    def parse(cls, program: str, words: Sequence[str]) -> Train[Agent]:
        """Read the command line in two passes: the agent decides which options there are."""
        kind = agent_class(_option(words, "--agent") or DEFAULT_AGENT)
        name = _option(words, "--agent") or DEFAULT_AGENT
        preset = find_preset(_option(words, "--preset") or DEFAULT_PRESET, PRESETS)
        dataset = next((word for word in words[:1] if not word.startswith("-")), "")
        values = preset.values(name, Path(dataset).name)
        defaults = dataclass_from_dict(kind, values, where=f"preset '{preset.name}'")
        return tyro.cli(
            Train[kind],
            prog=program,
            args=list(words),
            default=Train[kind](dataset=tyro.MISSING, hyperparameters=defaults),
        )

    def run(self) -> None:
        console = Console()
        dataset = open_dataset(self.dataset)
        config = self._config(dataset)
        runs = self._runs(config)
        fallback = find_preset(self.preset, PRESETS).fallback(self.agent, Path(self.dataset).name)
        if fallback is not None:
            console.print(fallback, highlight=False)
        reporter = TrainingReporter(console, config.training.steps)
        tables = [dataset.train] if dataset.val is None else [dataset.train, dataset.val]
        table, *validation = place(tables, config.normalization, self.residency)
        if isinstance(table, HostTable):
            console.print(
                f"Batches are read from {dataset.path} as they are needed"
                f" ({format_bytes(dataset.train.observations.nbytes)} of observations)."
            )
        profiler = Profiler(runs[0].path / "profile" if self.profile else None)
        beside = (
            jax.default_backend() != "cpu"
            if self.evaluation == "auto"
            else (self.evaluation == "beside")
        )
        trainer = Trainer(
            runs=runs,
            table=table,
            validation=validation[0] if validation else None,
            evaluator=environment_evaluator(config, console),
            evaluate_beside=beside,
            profiler=profiler,
            reporter=reporter,
            loggers=[self._loggers(run) for run in runs],
            time_limit=math.inf if self.max_minutes is None else 60 * self.max_minutes,
        )
        for run in runs:
            console.print(f"Run directory: [bold]{run.path}[/]")
        with ExitStack() as resources:
            resources.enter_context(reporter)
            for logger in (logger for loggers in trainer.loggers for logger in loggers):
                resources.callback(logger.close)
            try:
                trainer.train(resume=self.resume)
            except Interrupted as interruption:
                console.print(f"Saved and {interruption}. Continue with --resume.")
                raise SystemExit(128 + interruption.signal_number) from None
        if self.profile:
            print_profile(console, profiler, runs[0].path / "profile")

    def _config(self, dataset: Dataset) -> RunConfig:
        table = dataset.train
        check_crops(self.hyperparameters.crops, table.spaces)
        normalization = (
            Normalization.of(table)
            if self.training.normalize
            else Normalization.identity(table.spaces)
        )
        return RunConfig(
            agent=self.hyperparameters,
            training=self.training,
            dataset=DatasetReference(
                name=dataset.name,
                path=str(dataset.path.resolve()),
                digest=table.digest,
                environment=dataset.environment,
            ),
            spaces=table.spaces,
            normalization=normalization,
        )

    def _runs(self, config: RunConfig) -> list[Run]:
        first = config.training.seed
        stem = f"{config.dataset.name}-{self.agent}"
        if self.seeds < 1:
            raise FarstepError(f"--seeds must be at least 1, not {self.seeds}.")
        if self.seeds == 1:
            paths = [self.out or Path("runs") / f"{stem}-s{first}"]
        else:
            base = self.out or Path("runs") / stem
            paths = [base / f"s{seed}" for seed in range(first, first + self.seeds)]
        configs = [
            replace(config, training=replace(config.training, seed=first + index))
            for index in range(self.seeds)
        ]
        if self.resume:
            return [_reopen(path, one) for path, one in zip(paths, configs, strict=True)]
        if not self.overwrite:
            for path in paths:
                Run.check_absent(path)
        return [
            Run.create(path, one, overwrite=self.overwrite)
            for path, one in zip(paths, configs, strict=True)
        ]

    def _loggers(self, run: Run) -> list[Logger]:
        loggers: list[Logger] = []
        if self.tensorboard:
            loggers.append(TensorBoardLogger(run.path))
        if self.wandb is not None:
            settings = asdict(run.config.agent) | asdict(run.config.training)
            loggers.append(WandbLogger(run.path, self.wandb, settings))
        return loggers


DefaultTrain = Train[MQE]
"""The command with the options of the default agent, for help and completion."""


def _reopen(path: Path, config: RunConfig) -> Run:
    """The run at `path`, if it can go on as `config`."""
    run = Run.open(path)
    differences = run.config.differences(config)
    if differences:
        raise FarstepError(
            f"{path} cannot be continued, since this is not the run that was started:\n  "
            + "\n  ".join(differences)
        )
    return run.with_config(config)


def _option(words: Sequence[str], name: str) -> str | None:
    """The value of `--name value` or `--name=value`, before all options are known."""
    for index, word in enumerate(words):
        if word == name and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return None
