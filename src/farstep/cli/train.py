"""`farstep train`: an agent on a dataset, into a run directory."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_type_hints

import jax
import tyro
from rich.console import Console

from farstep.agents.base import Agent
from farstep.agents.mqe import MQE
from farstep.agents.registry import agent_class, agent_name
from farstep.cli.console import plain_console
from farstep.cli.evaluator import environment_evaluator
from farstep.cli.reporting import TrainingReporter, print_profile
from farstep.core.errors import FarstepError
from farstep.core.fields import dataclass_from_dict
from farstep.core.files import format_bytes
from farstep.core.goals import GoalRule
from farstep.data.normalize import Normalization, report
from farstep.data.table import Dataset, open_dataset, spaces_of
from farstep.presets import PRESETS, find_preset
from farstep.sampling.augment import check_crops
from farstep.sampling.batches import DeviceTable
from farstep.sampling.residency import Residency, place
from farstep.sampling.stream import HostTable
from farstep.training.config import DatasetReference, RunConfig, TrainConfig
from farstep.training.lock import locked
from farstep.training.loggers import Logger, TensorBoardLogger, WandbLogger, check_logger
from farstep.training.loop import Evaluator, Interrupted, Trainer
from farstep.training.profile import Profiler
from farstep.training.program import check as check_program
from farstep.training.run import Run, run_paths

Kind = TypeVar("Kind", bound=Agent)

DEFAULT_AGENT = "mqe"
DEFAULT_PRESET = "paper"

HELP = ("-h", "--help")


@dataclass(frozen=True, kw_only=True)
class Train(Generic[Kind]):
    """Train an agent on a dataset. A run directory holds everything; --resume continues it.

    The agent's hyperparameters are options too; their defaults come from the preset. Another
    agent's are shown by `farstep train DATASET --agent NAME --help`.
    """

    dataset: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(name="DATASET")] = None
    """Name of a dataset (see `farstep data`), or its directory. With --resume, the run's own."""
    agent: str = DEFAULT_AGENT
    """The method."""
    preset: str | None = None
    """Where hyperparameters that are not given come from, `paper` by default; see `farstep
    presets`."""
    hyperparameters: tyro.conf.OmitArgPrefixes[Kind]
    training: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    goal: str | None = None
    """What a goal is: `observation`, columns of it such as `0,1`, `key:NAME` of another array of
    the table, or `function:MODULE:NAME` of observations."""
    seeds: int = 1
    """Train this many seeds, from --seed on, in one program."""
    out: Path | None = None
    """Run directory; runs/DATASET-AGENT-sSEED by default. With --seeds, one a seed inside it."""
    resume: tyro.conf.UseAppendAction[
        Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN")]
    ] = ()
    """Continue this run from its last checkpoint, or all runs inside this directory together;
    repeatable. Its configuration stands, but --steps and how often it is looked at may change."""
    from_step: int | None = None
    """With --resume: from the checkpoint of this step, forgetting later ones; 0 begins anew."""
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
    """End earlier, after so many minutes of updates from now on."""
    tensorboard: bool = False
    """Also write TensorBoard event files."""
    wandb: str | None = None
    """Also log to this Weights & Biases project."""

    @classmethod
    def parse(cls, program: str, words: Sequence[str]) -> Train[Agent]:
        """Read the command line. The agent decides which options there are, and the dataset which
        values of the preset are their defaults.

        Raises:
            FarstepError: an unknown agent, preset or dataset, or neither dataset nor run.
        """
        resumed = [path for run in _values(words, "--resume") for path in run_paths(Path(run))]
        if resumed:
            config = Run.open(resumed[0]).config
            name = agent_name(config.agent)
            for other in _values(words, "--agent"):
                if other != name:
                    raise FarstepError(f"{resumed[0]} is a run of {name}, not of {other}.")
            return _read(program, words, name, config.agent, config.training)
        name = (_values(words, "--agent") or [DEFAULT_AGENT])[-1]
        kind = agent_class(name)
        plain = [word for word in words if word not in HELP]
        asked = _read(program, plain, name, _unchecked(kind), TrainConfig())
        dataset = "" if asked.dataset is None else _preset_name(asked.dataset, plain != list(words))
        if asked.dataset is None and plain == list(words):
            raise FarstepError(
                "Nothing to train on: give a DATASET, its name or its directory, or --resume RUN."
            )
        preset = find_preset(asked.preset or DEFAULT_PRESET, PRESETS)
        values = preset.values(name, dataset)
        defaults = dataclass_from_dict(kind, values, where=f"preset '{preset.name}'")
        return _read(program, words, name, defaults, TrainConfig())

    def run(self) -> None:
        jax.devices()  # Fails where there is none, before anything is made.
        console = plain_console()
        self._check_options()
        resumed = [Run.open(path) for base in self.resume for path in run_paths(base)]
        if resumed:
            resumed = self._going_on(resumed, console)
        dataset = self._dataset(resumed)
        configs = self._configs(dataset, resumed)
        paths = [run.path for run in resumed] or self._paths(dataset)
        check_program(configs[0].agent, configs[0].spaces)
        evaluator = environment_evaluator(configs[0], console)
        with ExitStack() as resources:
            if resumed:
                for run, config in zip(resumed, configs, strict=True):
                    resources.enter_context(locked(run.path))
                    _check_continuable(run, config)
            else:
                for path in paths:
                    Run.check_free(path, overwrite=self.overwrite)
                self._explain_preset(console, dataset.name)
            for line in report(dataset.train, configs[0].normalization):
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            tables = [dataset.train] if dataset.val is None else [dataset.train, dataset.val]
            table, *validation = place(
                tables, configs[0].normalization, self.residency, configs[0].spaces.rule
            )
            if isinstance(table, HostTable):
                console.print(
                    f"Batches are read from {dataset.path} as they are needed"
                    f" ({format_bytes(dataset.train.observations.nbytes)} of observations)."
                )
            if resumed:
                runs = [Run(path, one) for path, one in zip(paths, configs, strict=True)]
            else:
                runs = [
                    Run.create(path, one, overwrite=self.overwrite)
                    for path, one in zip(paths, configs, strict=True)
                ]
                for run in runs:
                    resources.enter_context(locked(run.path))
            self._train(console, runs, table, validation, evaluator, resources)

    def _train(
        self,
        console: Console,
        runs: Sequence[Run],
        table: DeviceTable | HostTable,
        validation: Sequence[DeviceTable | HostTable],
        evaluator: Evaluator | None,
        resources: ExitStack,
    ) -> None:
        reporter = TrainingReporter(console, runs[0].config.training.steps)
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
            evaluator=evaluator,
            evaluate_beside=beside,
            profiler=profiler,
            reporter=reporter,
            loggers=[self._loggers(run) for run in runs],
            time_limit=math.inf if self.max_minutes is None else 60 * self.max_minutes,
        )
        for run in runs:
            console.print(f"Run directory: {run.path}")
        resources.enter_context(reporter)
        for logger in (logger for loggers in trainer.loggers for logger in loggers):
            resources.callback(logger.close)
        try:
            trainer.train(resume=bool(self.resume), from_step=self.from_step)
        except Interrupted as interruption:
            words = shlex.join(word for run in runs for word in ("--resume", str(run.path)))
            console.print(f"Saved and {interruption}. Continue with: farstep train {words}")
            raise SystemExit(128 + interruption.signal_number) from None
        if self.profile:
            print_profile(console, profiler, runs[0].path / "profile")

    def _check_options(self) -> None:
        """Before anything else: what no dataset and no run is needed to judge."""
        if self.seeds < 1:
            raise FarstepError(f"--seeds must be at least 1, not {self.seeds}.")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise FarstepError(f"--max-minutes must be positive, not {self.max_minutes}.")
        if self.from_step is not None and (self.from_step < 0 or not self.resume):
            raise FarstepError("--from-step needs --resume RUN, and a step that is not negative.")
        if self.tensorboard:
            check_logger("tensorboard")
        if self.wandb is not None:
            check_logger("wandb")

    def _going_on(self, runs: Sequence[Run], console: Console) -> list[Run]:
        """Those of the runs asked for that can go on; checks what is asked along with them."""
        given = {
            "--preset": self.preset is not None,
            "--goal": self.goal is not None,
            "--out": self.out is not None,
            "--seeds": self.seeds != 1,
            "--overwrite": self.overwrite,
        }
        for option in (option for option, there in given.items() if there):
            raise FarstepError(f"{option} is for new runs; --resume takes it from the run.")
        alone = {path.resolve() for path in self.resume}
        going = [run for run in runs if not run.frozen or run.path.resolve() in alone]
        for run in runs:
            if run not in going:
                console.print(
                    f"{run.path} was frozen and is left out; --resume {run.path} continues it.",
                    markup=False,
                    soft_wrap=True,
                )
        if not going:
            raise FarstepError(f"All runs of {self.resume[0]} are frozen.")
        return going

    def _dataset(self, resumed: Sequence[Run]) -> Dataset:
        if self.dataset is not None:
            return open_dataset(self.dataset)
        if not resumed:
            raise FarstepError("Nothing to train on: give a dataset or a run to resume.")
        try:
            return open_dataset(Path(resumed[0].config.dataset.path))
        except FarstepError as error:
            raise FarstepError(
                f"{error} If the data of {resumed[0].path} lie elsewhere now, say where: farstep "
                f"train DATASET --resume {resumed[0].path}"
            ) from error

    def _configs(self, dataset: Dataset, resumed: Sequence[Run]) -> list[RunConfig]:
        """What each run is to be, seed by seed."""
        table = dataset.train
        check_crops(self.hyperparameters.crops, table.spaces)
        rule = (
            resumed[0].config.spaces.rule if resumed else GoalRule.parse(self.goal or "observation")
        )
        spaces = spaces_of(table, rule)
        normalization = Normalization.of(table, observations=self.training.normalize)
        reference = DatasetReference(
            name=dataset.name,
            path=str(dataset.path.resolve()),
            digest=table.digest,
            environment=dataset.environment,
        )
        first = self.training.seed
        seeds: Sequence[int] = range(first, first + self.seeds)
        if resumed:
            # The data are known by their content, whatever they are called by now.
            reference = replace(
                resumed[0].config.dataset, path=reference.path, digest=reference.digest
            )
            shift = first - resumed[0].config.training.seed
            seeds = [run.config.training.seed + shift for run in resumed]
        return [
            RunConfig(
                agent=self.hyperparameters,
                training=replace(self.training, seed=seed),
                dataset=reference,
                spaces=spaces,
                normalization=normalization,
            )
            for seed in seeds
        ]

    def _paths(self, dataset: Dataset) -> list[Path]:
        """Where new runs go."""
        first = self.training.seed
        stem = f"{dataset.name}-{self.agent}"
        if self.seeds == 1:
            return [self.out or Path("runs") / f"{stem}-s{first}"]
        base = self.out or Path("runs") / stem
        return [base / f"s{seed}" for seed in range(first, first + self.seeds)]

    def _explain_preset(self, console: Console, dataset: str) -> None:
        preset = find_preset(self.preset or DEFAULT_PRESET, PRESETS)
        for line in preset.applied(self.agent, dataset):
            console.print(line, highlight=False, markup=False, soft_wrap=True)

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


def _check_continuable(run: Run, config: RunConfig) -> None:
    """Raises FarstepError if the run cannot go on as `config`."""
    differences = run.config.differences(config)
    if differences:
        raise FarstepError(
            f"{run.path} cannot be continued, since this is not the run that was started:\n  "
            + "\n  ".join(differences)
        )


def _read(
    program: str, words: Sequence[str], agent: str, defaults: Any, training: TrainConfig
) -> Train[Any]:
    """The command line, with these defaults of the agent's and of the training's options."""
    kind = Train[type(defaults)]
    default = kind(agent=agent, hyperparameters=defaults, training=training)
    return tyro.cli(kind, prog=program, args=list(words), default=default)


def _unchecked(kind: type[Agent]) -> Any:
    """The defaults of `kind` in a class without its checks: values of a preset may be missing."""
    hints = get_type_hints(kind)
    options = [
        (one.name, hints[one.name], field(default=one.default)) for one in fields(kind) if one.init
    ]
    return make_dataclass(kind.__name__, options, frozen=True, kw_only=True)()


def _preset_name(dataset: str, helping: bool) -> str:
    """The name by which presets know a dataset; help is given where there is none, too."""
    try:
        return open_dataset(dataset).name
    except FarstepError:
        if not helping:
            raise
        return Path(dataset).name


def _values(words: Sequence[str], name: str) -> list[str]:
    """The values of all `--name value` and `--name=value`, before all options are known.

    No value of another option begins with a dash, so a word that is `name` is that option.
    """
    given = list(words[: words.index("--")] if "--" in words else words)
    apart = [value for word, value in itertools.pairwise(given) if word == name]
    joined = [word.removeprefix(f"{name}=") for word in given if word.startswith(f"{name}=")]
    return [*apart, *joined]
