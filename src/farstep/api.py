"""Training, evaluation and planning as functions: the layer that the command line calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax

from farstep.agents.base import Agent
from farstep.agents.registry import agent_class, agent_name
from farstep.core import hosts
from farstep.core.errors import FarstepError
from farstep.core.fields import dataclass_from_dict
from farstep.core.files import format_bytes
from farstep.core.goals import GoalRule
from farstep.core.inputs import expanded_path
from farstep.core.rng import stream_generator
from farstep.core.types import BatchPolicy, Params
from farstep.data.normalize import Normalization, report
from farstep.data.table import Dataset, open_dataset, spaces_of
from farstep.envs.specs import EnvironmentSpec
from farstep.evaluation.results import Evaluation
from farstep.evaluation.rollout import SLOTS, Progress, Recorder, check_environment
from farstep.evaluation.rollout import evaluate as roll_out
from farstep.evaluation.temperature import AtTemperature, protocol_temperature
from farstep.planning.open_loop import OpenLoop
from farstep.planning.policy import Observer, PlannedPolicy
from farstep.planning.prepare import GraphOptions, prepare_graph
from farstep.presets import PRESETS, find_preset
from farstep.sampling.augment import check_augmentation, check_crops
from farstep.sampling.batches import DeviceTable
from farstep.sampling.data_location import DataLocation, place
from farstep.sampling.stream import HostTable
from farstep.serving.policy import Policy, load_policy
from farstep.serving.runs import assemble
from farstep.training import program
from farstep.training.checkpoint import SUCCESS
from farstep.training.config import DatasetReference, RunConfig, TrainConfig
from farstep.training.layout import Layout
from farstep.training.lock import locked
from farstep.training.loggers import Logger, TensorBoardLogger, WandbLogger, check_logger
from farstep.training.loop import Evaluator, Reporter, Trainer
from farstep.training.profile import Profiler
from farstep.training.run import Run, run_paths

PRESET = "paper"
"""The default preset."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How training is carried out. What is learned depends on none of this."""

    data_location: DataLocation = "auto"
    """Where the data lie: in device memory, on disk (batches are read ahead), or by their size."""
    devices: int = 1
    """Devices that do the updates: seeds lie apart on them or, of one seed, the rows of a batch,
    which rounds sums in another order."""
    evaluation: Literal["auto", "blocking", "concurrent"] = "auto"
    """Whether updates wait for an evaluation (`blocking`) or go on while the policy acts on the CPU
    (`concurrent`). `auto` is concurrent where an accelerator does the updates."""
    profile: bool = False
    """Write a trace of half a second of updates to RUN/profile, and print where the time went."""
    max_minutes: float | None = None
    """Minutes of updates after which training ends early."""
    tensorboard: bool = False
    """Also write TensorBoard event files."""
    wandb: str | None = None
    """Also log to this Weights & Biases project."""

    def check(self) -> None:
        """Raises FarstepError for a time that makes no sense, or a package that is missing."""
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise FarstepError(f"--max-minutes must be positive, not {self.max_minutes}.")
        if self.tensorboard:
            check_logger("tensorboard")
        if self.wandb is not None:
            check_logger("wandb")


def make_agent(name: str, dataset: str = "", preset: str = PRESET, **values: Any) -> Agent:
    """The agent called `name`, with the preset's hyperparameters but for `values`.

    Args:
        name: name given to `register_agent`, or `module:Class`.
        dataset: name of the data that it is for; presets may set other values for some.
        preset: a preset's name.
        values: hyperparameters by name.

    Raises:
        FarstepError: no such agent, preset or hyperparameter, or a value out of range.
    """
    chosen = find_preset(preset, PRESETS)
    merged = chosen.values(name, dataset) | values
    return dataclass_from_dict(agent_class(name), merged, where=f"preset '{preset}'")


def train(
    dataset: str | Path | Dataset,
    agent: str | Agent = "mqe",
    training: TrainConfig | None = None,
    *,
    preset: str = PRESET,
    goal: str | GoalRule = "observation",
    frames: int = 1,
    seeds: int = 1,
    out: str | Path | None = None,
    overwrite: bool = False,
    execution: Execution | None = None,
    reporter: Reporter | None = None,
) -> list[Run]:
    """Train an agent, and write a run directory for each seed.

    Args:
        dataset: its name, its directory, or the dataset itself.
        agent: with its hyperparameters, or the name of one whose hyperparameters the preset sets.
        training: for how long, and how often to look.
        preset: preset of an agent that is given by name.
        goal: form of goals, as `GoalRule.parse` reads it: the observation, columns of it such as
            `0,1`, `key:NAME` of one of its arrays or of another, or `function:MODULE:NAME` of
            observations.
        frames: an episode's last observations that are seen as one, this many.
        seeds: number of seeds to train in one program, from `training.seed` on.
        out: the run directory; runs/DATASET-AGENT-sSEED by default. With several seeds, one
            directory for each lies inside it.
        overwrite: replace existing runs.
        execution: how training is carried out.
        reporter: hears how training goes.

    Returns:
        The runs, a seed each; `load_policy(run.path)` reads the policy of one.

    Raises:
        FarstepError: bad input, before anything is written; or a diverged training, a full disk.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; everything is saved.
    """
    jax.devices()  # Fails where there is none, before anything is made.
    execution, reporter = execution or Execution(), _heard(reporter)
    execution.check()
    if seeds < 1:
        raise FarstepError(f"--seeds must be at least 1, not {seeds}.")
    data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if isinstance(agent, str):
        agent = make_agent(agent, data.name, preset)
    training = training or TrainConfig()
    table = data.train
    check_crops(agent.crops, table.spaces)
    check_augmentation(agent.augmentation, table.spaces)
    rule = GoalRule.parse(goal) if isinstance(goal, str) else goal
    spaces = spaces_of(table, rule, frames)
    config = RunConfig(
        agent=agent,
        training=training,
        dataset=DatasetReference(
            name=data.name,
            path=str(data.path.resolve()),
            digest=table.digest,
            environment=data.environment,
        ),
        spaces=spaces,
        normalization=Normalization.from_table(table, observations=training.normalize),
    )
    numbers = range(training.seed, training.seed + seeds)
    configs = [replace(config, training=replace(training, seed=number)) for number in numbers]
    stem = Path("runs") / f"{data.name}-{agent_name(agent).replace(':', '.')}"
    if seeds == 1:
        paths = [expanded_path(out or f"{stem}-s{training.seed}")]
    else:
        paths = [expanded_path(out or stem) / f"s{number}" for number in numbers]
    layout = Layout.on_devices(execution.devices, seeds=seeds, batch_size=agent.batch_size)
    program.check(agent, spaces)
    evaluator = environment_evaluator(config, reporter)
    _check_alike(config, execution)
    runs = [Run(path, one) for path, one in zip(paths, configs, strict=True)]
    with ExitStack() as resources:

        def check() -> None:
            for path in paths:
                Run.check_free(path, overwrite=overwrite)

        def create() -> None:
            for run in runs:
                Run.create(run.path, run.config, overwrite=overwrite)
                resources.enter_context(locked(run.path))

        hosts.by_first(check)
        tables = _placed(data, config, execution, reporter)
        hosts.by_first(create)
        _train(runs, tables, evaluator, execution, layout, reporter)
    return runs


def resume(
    *paths: str | Path,
    dataset: str | Path | Dataset | None = None,
    agent: Agent | None = None,
    training: TrainConfig | None = None,
    from_step: int | None = None,
    execution: Execution | None = None,
    reporter: Reporter | None = None,
) -> list[Run]:
    """Continue runs from their last checkpoint, together in one program.

    Args:
        paths: run directories, or directories that hold some.
        dataset: path of the data, if it has changed.
        agent: agent that the runs are expected to train; any by default.
        training: theirs by default. The number of steps may change, and how often to look.
        from_step: continue from the checkpoint of this step and forget later ones; 0 begins anew.
        execution: how training is carried out.
        reporter: hears how training goes.

    Raises:
        FarstepError: no runs, or none that can go on so; or as `train`.
        Interrupted: as `train`.
    """
    jax.devices()
    execution, reporter = execution or Execution(), _heard(reporter)
    execution.check()
    if from_step is not None and from_step < 0:
        raise FarstepError(f"--from-step must be at least 0, not {from_step}.")
    runs = _going_on([expanded_path(path) for path in paths], reporter)
    first = runs[0].config
    data = _data_of(runs[0]) if dataset is None else dataset
    data = data if isinstance(data, Dataset) else open_dataset(data)
    training = training or first.training
    table = data.train
    shared = RunConfig(
        agent=agent or first.agent,
        training=training,
        # The data are known by their content, whatever they are called by now.
        dataset=replace(first.dataset, path=str(data.path.resolve()), digest=table.digest),
        spaces=spaces_of(table, first.spaces.rule, first.spaces.frames),
        normalization=Normalization.from_table(table, observations=training.normalize),
    )
    shift = training.seed - first.training.seed
    batch_size = shared.agent.batch_size
    layout = Layout.on_devices(execution.devices, seeds=len(runs), batch_size=batch_size)
    program.check(shared.agent, shared.spaces, resumed=True)
    evaluator = environment_evaluator(shared, reporter)
    _check_alike(shared, execution)
    with ExitStack() as resources:

        def lock() -> None:
            for run in runs:
                resources.enter_context(locked(run.path))

        hosts.by_first(lock)
        going = []
        for run in runs:
            seed = run.config.training.seed + shift
            config = replace(shared, training=replace(training, seed=seed))
            differences = run.config.differences(config)
            if differences:
                raise FarstepError(
                    f"{run.path} cannot be continued, since this is not the run that was started:"
                    "\n  " + "\n  ".join(differences)
                )
            going.append(Run(run.path, config))
        tables = _placed(data, shared, execution, reporter)
        how: dict[str, Any] = {"resume": True, "from_step": from_step}
        _train(going, tables, evaluator, execution, layout, reporter, **how)
    return going


def _heard(reporter: Reporter | None) -> Reporter:
    """The reporter, but for silence where another process speaks."""
    return reporter if reporter is not None and hosts.is_first() else Reporter()


def _check_alike(config: RunConfig, execution: Execution) -> None:
    """Raises FarstepError where processes that train together were asked for different things."""
    # The data may lie elsewhere on each.
    placeless = replace(config, dataset=replace(config.dataset, path=""))
    hosts.check_alike(f"{placeless.to_json()}{execution}")


def _going_on(paths: Sequence[Path], reporter: Reporter) -> list[Run]:
    """The runs at these paths or below, without those that were frozen beside others."""
    runs = [Run.open(path) for base in paths for path in run_paths(base)]
    alone = {path.resolve() for path in paths}
    going = [run for run in runs if not run.frozen or run.path.resolve() in alone]
    for run in runs:
        if run not in going:
            reporter.message(
                f"{run.path} was frozen and is left out; --resume {run.path} continues it."
            )
    if not going:
        raise FarstepError(
            f"All runs of {paths[0]} are frozen." if paths else "There is no run to continue."
        )
    return going


def _data_of(run: Run) -> Dataset:
    try:
        return open_dataset(Path(run.config.dataset.path))
    except FarstepError as error:
        raise FarstepError(
            f"{error} If the data of {run.path} lie elsewhere now, say where: farstep "
            f"train DATASET --resume {run.path}"
        ) from error


def _placed(
    data: Dataset, config: RunConfig, execution: Execution, reporter: Reporter
) -> list[DeviceTable | HostTable]:
    """The training table, and the validation table if there is one."""
    for line in report(data.train, config.normalization):
        reporter.message(line)
    tables = [data.train] if data.val is None else [data.train, data.val]
    spaces = config.spaces
    placed = place(
        tables, config.normalization, execution.data_location, spaces.rule, spaces.frames
    )
    if isinstance(placed[0], HostTable):
        reporter.message(
            f"Batches are read from {data.path} as they are needed"
            f" ({format_bytes(data.train.observations.nbytes)} of observations)."
        )
    return placed


def _train(
    runs: Sequence[Run],
    tables: Sequence[DeviceTable | HostTable],
    evaluator: Evaluator | None,
    execution: Execution,
    layout: Layout,
    reporter: Reporter,
    **how: Any,
) -> None:
    """Train the runs, which the caller has locked."""
    trace = runs[0].path / "profile"
    concurrent = execution.evaluation == "concurrent"
    if jax.process_count() > 1:
        concurrent = False  # The others wait for the process that evaluates.
    elif execution.evaluation == "auto":
        concurrent = jax.default_backend() != "cpu"
    for run in runs:
        reporter.message(f"Run directory: {run.path}")
    with ExitStack() as resources:
        loggers = [_loggers(run, execution) for run in runs] if hosts.is_first() else []
        for logger in (logger for each in loggers for logger in each):
            resources.callback(logger.close)
        trainer = Trainer(
            runs=runs,
            table=tables[0],
            validation=tables[1] if len(tables) > 1 else None,
            evaluator=evaluator,
            concurrent_evaluation=concurrent,
            profiler=Profiler(trace if execution.profile and hosts.is_first() else None),
            reporter=reporter,
            loggers=loggers,
            layout=layout,
            time_limit=60 * (execution.max_minutes or math.inf),
        )
        trainer.train(**how)
    if execution.profile:
        reporter.profiled(trainer.profiler, trace)


def _loggers(run: Run, execution: Execution) -> list[Logger]:
    loggers: list[Logger] = []
    if execution.tensorboard:
        loggers.append(TensorBoardLogger(run.path))
    if execution.wandb is not None:
        settings = asdict(run.config.agent) | asdict(run.config.training)
        loggers.append(WandbLogger(run.path, execution.wandb, settings))
    return loggers


def environment_evaluator(config: RunConfig, reporter: Reporter) -> Evaluator | None:
    """Measures success in the dataset's environment; None where there is none.

    Raises:
        FarstepError: the environment cannot be made here, or its spaces are not the data's.
    """
    environment = config.dataset.environment
    episodes = config.training.evaluation_episodes
    if episodes == 0:
        return None
    if environment is None:
        reporter.message("The data name no environment: training without evaluation.")
        return None
    check_environment(environment, config.spaces)
    temperature = protocol_temperature(config.spaces)

    def evaluator(run: Run, params: Params, step: int) -> Mapping[str, float]:
        policy = assemble(run, params, step)
        # Episodes of this run and step alone. Those of `evaluate` would be a test on which the
        # best checkpoint had been chosen.
        drawn = stream_generator(run.config.training.seed, "evaluation while training", step)
        seed = int(drawn.integers(2**31))
        result = roll_out(
            AtTemperature(policy.step_by_step(), temperature, seed),
            environment,
            episodes_per_task=episodes,
            seed=seed,
            spaces=policy.spaces,
            start_every=policy.action_chunk,
        )
        per_task = {f"task{task.task}/success": task.success_rate for task in result.tasks}
        return {
            SUCCESS: result.mean_success,
            "seconds": result.seconds,
            "temperature": temperature,
            "max_steps": result.protocol["max_steps"],
        } | per_task

    return evaluator


def evaluate(
    policy: str | Path | Policy | PlannedPolicy | BatchPolicy,
    environment: str | EnvironmentSpec | None = None,
    *,
    episodes: int = 50,
    tasks: Sequence[int] | None = None,
    seed: int = 0,
    max_steps: int | None = None,
    temperature: float | None = None,
    execute: int | None = None,
    slots: int = SLOTS,
    workers: int | None = None,
    options: Mapping[str, Any] | None = None,
    record: Recorder | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Success rates by OGBench's protocol: all tasks of an environment, seeded episodes of each.

    Args:
        policy: a policy or where it lies, one that `plan` steers, or one of your own.
        environment: its name or its specification; that of the policy's data by default.
        episodes: number of episodes of each task.
        tasks: their numbers, from 1; all by default.
        seed: root of all episodes' seeds.
        max_steps: steps after which an episode is cut; the environment's own number by default.
        temperature: scale of the policy's own noise; the protocol's by default. A policy of your
            own has none.
        execute: number of actions of the policy's chunks carried out before the next observation;
            all by default. Of a planned policy, `plan` says.
        slots: rows of each policy call. The last bits of actions depend on it; keep it to compare.
        workers: simulator processes, 0 for none. Results do not depend on it.
        options: for the environment, such as the size of its pictures.
        record: watches chosen episodes.
        progress: called for every finished episode.

    Raises:
        FarstepError: no environment, one that does not fit the policy, or a number out of range.
    """
    if isinstance(policy, str | Path):
        policy = load_policy(policy)
    if isinstance(policy, Policy):
        policy = policy.step_by_step(execute)
    elif execute is not None:
        raise FarstepError("what is carried out of chunks is said to a policy, or to its plan")
    stepping = policy.policy if isinstance(policy, PlannedPolicy) else policy
    flat = stepping.policy if isinstance(stepping, OpenLoop) else stepping
    if environment is None and isinstance(flat, Policy):
        environment = flat.environment
    if environment is None:
        raise FarstepError("the policy's data name no environment: say in which to evaluate it")
    acting: BatchPolicy = policy
    described: dict[str, Any] = {}
    if isinstance(flat, Policy):
        if temperature is None:
            temperature = protocol_temperature(flat.spaces)
        if not 0 <= temperature < math.inf:
            raise FarstepError(f"the temperature must not be negative: {temperature}")
        acting = AtTemperature(policy, temperature, seed)  # pyright: ignore[reportArgumentType]
        described = _described(flat, temperature)
    elif temperature is not None:
        raise FarstepError("a policy of your own has no temperature that could be set")
    every = 1
    if isinstance(stepping, OpenLoop):
        every = described["execute"] = stepping.execute
    if isinstance(policy, PlannedPolicy):
        every = policy.choose_every
        graph = policy.graph
        found = graph.landmarks.about | asdict(graph.diagnosis)
        described["planning"] = found | {"asked": dict(graph.asked)}
    result = roll_out(
        acting,
        environment,
        episodes_per_task=episodes,
        tasks=tasks,
        seed=seed,
        slots=slots,
        workers=workers,
        max_steps=max_steps,
        options=options,
        spaces=flat.spaces if isinstance(flat, Policy) else None,
        start_every=every,
        record=record,
        progress=progress,
    )
    if not described:
        return result
    return replace(result, protocol={**result.protocol, "policy": described})


def plan(
    policy: str | Path | Policy,
    dataset: str | Path | Dataset | None = None,
    options: GraphOptions | None = None,
    *,
    observer: Observer | None = None,
    execute: int | None = None,
) -> PlannedPolicy:
    """The policy steered along shortest paths over states of its data: `evaluate` takes it.

    For one goal and a loop of your own, see `Policy.plan`.

    Args:
        policy: a policy that has a distance, or where it lies.
        dataset: dataset of the states; the policy's own data by default.
        options: options of the graph. A policy that was exported with landmarks keeps them unless
            data or options are given.
        observer: called for every choice of a subgoal.
        execute: number of actions of the policy's chunks carried out; all by default.

    Raises:
        FarstepError: the method has no distance, there are no data, or an option is out of range.
    """
    if isinstance(policy, str | Path):
        policy = load_policy(policy)
    stepping = policy.step_by_step(execute)
    if policy.landmarks is not None and dataset is None and options is None:
        return PlannedPolicy(stepping, policy.graph, observer)
    # Before the data are opened: without a distance they are of no use.
    metric = policy.metric
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset or policy.data or policy.dataset)
    graph = prepare_graph(metric, dataset, options or GraphOptions())
    return PlannedPolicy(stepping, graph, observer)


def _described(policy: Policy, temperature: float) -> dict[str, Any]:
    """The description of a policy in a result."""
    return {
        "agent": agent_name(policy.agent),
        "hyperparameters": asdict(policy.agent),
        "normalized": not policy.normalization.is_identity,
        "dataset": policy.dataset,
        "source": dict(policy.source),
        "step": policy.step,
        "temperature": temperature,
    }
