"""`farstep train`: an agent on a dataset, into a run directory."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

import tyro

from farstep.agents.base import Agent
from farstep.agents.mqe import MQE
from farstep.agents.registry import agent_class, agent_name
from farstep.api import PRESET, Execution, resume, train
from farstep.cli.console import plain_console
from farstep.cli.reporting import TrainingReporter
from farstep.core import hosts
from farstep.core.errors import FarstepError
from farstep.core.fields import dataclass_from_dict
from farstep.data.table import open_dataset
from farstep.presets import PRESETS, find_preset
from farstep.training.config import TrainConfig
from farstep.training.loop import Interrupted, Reporter
from farstep.training.run import Run, run_paths

Kind = TypeVar("Kind", bound=Agent)

DEFAULT_AGENT = "mqe"

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
    """What a goal is: `observation`, columns of it such as `0,1`, `key:NAME` of one of its arrays
    or of another array of the table, or `function:MODULE:NAME` of observations."""
    frames: int = 1
    """Stack this many of an episode's last observations, which the networks see as one."""
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
    execution: tyro.conf.OmitArgPrefixes[Execution] = field(default_factory=Execution)
    distributed: bool = False
    """Train with other processes, each started by this same command, on the devices of all of them.
    SLURM, Open MPI and Cloud TPUs say how many there are; or else the next three options."""
    coordinator: str | None = None
    """Address of process 0 as HOST:PORT, with a free port."""
    processes: int | None = None
    """How many processes train together."""
    process: int | None = None
    """Number of this one, from 0."""

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
        preset = find_preset(asked.preset or PRESET, PRESETS)
        values = preset.values(name, dataset)
        defaults = dataclass_from_dict(kind, values, where=f"preset '{preset.name}'")
        return _read(program, words, name, defaults, TrainConfig())

    def run(self) -> None:
        console = plain_console()
        if self.from_step is not None and not self.resume:
            raise FarstepError("--from-step needs --resume RUN.")
        joined = (self.coordinator, self.processes, self.process)
        if self.distributed or joined != (None, None, None):
            hosts.join(*joined)
            console.quiet = not hosts.is_first()
        with TrainingReporter(console, self.training.steps) as reporter:
            try:
                if self.resume:
                    self._resume(reporter)
                else:
                    self._train(reporter)
            except Interrupted as interruption:
                words = [word for run in interruption.runs for word in ("--resume", str(run.path))]
                command = f"farstep train {shlex.join(words)}"
                console.print(f"Saved and {interruption}. Continue with: {command}")
                raise SystemExit(128 + interruption.signal_number) from None

    def _train(self, reporter: Reporter) -> None:
        if self.dataset is None:
            raise FarstepError("Nothing to train on: give a dataset or a run to resume.")
        dataset = open_dataset(self.dataset)
        preset = find_preset(self.preset or PRESET, PRESETS)
        for line in preset.applied(self.agent, dataset.name):
            reporter.message(line)
        train(
            dataset,
            self.hyperparameters,
            self.training,
            goal=self.goal or "observation",
            frames=self.frames,
            seeds=self.seeds,
            out=self.out,
            overwrite=self.overwrite,
            execution=self.execution,
            reporter=reporter,
        )

    def _resume(self, reporter: Reporter) -> None:
        given = {
            "--preset": self.preset is not None,
            "--goal": self.goal is not None,
            "--frames": self.frames != 1,
            "--out": self.out is not None,
            "--seeds": self.seeds != 1,
            "--overwrite": self.overwrite,
        }
        for option in (option for option, there in given.items() if there):
            raise FarstepError(f"{option} is for new runs; --resume takes it from the run.")
        resume(
            *self.resume,
            dataset=self.dataset,
            agent=self.hyperparameters,
            training=self.training,
            from_step=self.from_step,
            execution=self.execution,
            reporter=reporter,
        )


DefaultTrain = Train[MQE]
"""The command with the options of the default agent, for help and completion."""


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
