"""A sweep: its file, and the jobs of it carried out."""

from __future__ import annotations

import itertools
import time
import tomllib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from farstep.agents.registry import agent_class
from farstep.api import PRESET, Execution, make_agent
from farstep.core.errors import FarstepError, nearest
from farstep.core.fields import check_fields, dataclass_from_dict
from farstep.core.goals import GoalRule
from farstep.data.table import open_dataset, spaces_of
from farstep.presets import PRESETS, find_preset
from farstep.sweeps.engines import Engine, Handle
from farstep.sweeps.job import Job
from farstep.training.config import TrainConfig

GRID = ("datasets", "agents", "presets", "seeds", "goal", "frames", "hyperparameters", "label")
"""Keys of a grid: of the file itself, and of each of its `runs`, which override the file's."""

EVALUATION = (
    *("episodes", "tasks", "seed", "max_steps"),
    *("temperature", "execute", "slots", "workers"),
)
"""Keys of [evaluation], as `farstep.evaluate` takes them."""

WHOLE = ("out", "runs", "together", "training", "execution", "evaluation", "slurm", "ray")
"""Keys of the file alone."""

PAUSE = 0.2
"""Seconds between looks at the jobs that run."""

Outcome = Literal["done", "failed", "lost"]

Told = Callable[[Job, str], None]


@dataclass(frozen=True)
class Sweep:
    """What a file asks for.

    Attributes:
        out: the sweep's directory.
        jobs: in the file's order.
        options: of each engine, by its name.
    """

    out: Path
    jobs: Sequence[Job]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Sweep:
        """Read a file, and check all that it asks for.

        Raises:
            FarstepError: not such a file, or one that asks for what there is not; says where.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FarstepError(f"Cannot read {path}: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FarstepError(f"{path} is not a TOML file: {error}") from error
        _check_keys(document, (*GRID, *WHOLE), str(path))
        for name in ("training", "execution", "evaluation", "slurm", "ray", "hyperparameters"):
            if not isinstance(document.get(name, {}), dict):
                raise FarstepError(f"{path}: '{name}' must be a table, [{name}].")
        _check_keys(document.get("evaluation", {}), EVALUATION, f"{path}, [evaluation],")
        runs = document.get("runs", [{}])
        if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
            raise FarstepError(f"{path}: 'runs' must be tables, [[runs]].")
        out = Path(document.get("out", Path("sweeps") / path.stem)).absolute()
        shared = {key: document[key] for key in GRID if key in document}
        jobs: dict[str, Job] = {}
        for number, run in enumerate(runs, start=1):
            where = f"{path}, run {number}" if "runs" in document else str(path)
            _check_keys(run, GRID, where)
            both = shared | run
            both["hyperparameters"] = {
                name: value
                for table in (shared, run)
                for name, value in table.get("hyperparameters", {}).items()
            }
            for job in _jobs(both, document, out, where):
                if job.name in jobs:
                    raise FarstepError(f"{where}: {job.name} is there twice; give one a 'label'.")
                jobs[job.name] = job
        for job in jobs.values():
            job.check()
        options = {name: document.get(name, {}) for name in ("slurm", "ray")}
        return cls(out, tuple(jobs.values()), options)


def carry_out(
    jobs: Sequence[Job], engine: Engine, *, retries: int, told: Told
) -> dict[str, Outcome]:
    """Do what is left of the jobs, and say how each of them ended, by name.

    A job whose worker vanished is started again; one that failed is not, since it would fail again
    by the same input.

    Args:
        retries: how often a lost job is started again.
        told: is told of every job that begins or ends.
    """
    waiting = deque(job for job in jobs if not job.done)
    running: dict[str, tuple[Job, Handle]] = {}
    started: dict[str, int] = {}
    outcomes: dict[str, Outcome] = {job.name: "done" for job in jobs if job not in waiting}
    try:
        while waiting or running:
            while waiting and len(running) < engine.slots:
                job = waiting.popleft()
                started[job.name] = started.get(job.name, 0) + 1
                running[job.name] = job, engine.submit(job)
                told(job, f"started, {job.updates:,} of {job.training.steps:,} updates done")
            for job, handle in list(running.values()):
                if not handle.over():
                    continue
                del running[job.name]
                if job.done:
                    outcomes[job.name] = "done"
                    told(job, "done")
                elif job.failure is not None:
                    outcomes[job.name] = "failed"
                    told(job, f"failed: {job.failure}")
                elif started[job.name] <= retries:
                    told(job, f"lost its worker after {job.updates:,} updates; goes on from there")
                    waiting.append(job)
                else:
                    outcomes[job.name] = "lost"
                    told(job, f"lost its worker {started[job.name]} times; see {job.log}")
            time.sleep(PAUSE)
    finally:
        for _, handle in running.values():
            handle.cancel()
    return outcomes


def _jobs(grid: Mapping[str, Any], document: Mapping[str, Any], out: Path, where: str) -> list[Job]:
    """Every combination of one grid."""
    for name in ("datasets", "agents"):
        if not grid.get(name):
            raise FarstepError(f"{where}: '{name}' says nothing; name at least one.")
    datasets, agents = _names(grid, "datasets", where), _names(grid, "agents", where)
    presets = _names({"presets": PRESET} | dict(grid), "presets", where)
    seeds = _seeds(grid.get("seeds", [0]), where)
    training = dict(document.get("training", {}))
    if "seed" in training:
        raise FarstepError(f"{where}: 'seed' of [training] is set by 'seeds'.")
    execution = dataclass_from_dict(
        Execution, document.get("execution", {}), where=f"{where}, [execution]"
    )
    check_fields(execution)
    execution.check()
    goal, frames = str(grid.get("goal", "observation")), grid.get("frames", 1)
    if type(frames) is not int:
        raise FarstepError(f"{where}: 'frames' must be a whole number, not {frames!r}.")
    evaluation = document.get("evaluation")
    groups = [(seeds[0], len(seeds))] if document.get("together") else [(s, 1) for s in seeds]
    if document.get("together") and seeds != list(range(seeds[0], seeds[0] + len(seeds))):
        raise FarstepError(f"{where}: seeds trained together must follow each other.")
    label = f"-{grid['label']}" if "label" in grid else ""
    jobs = []
    for dataset, agent, preset in itertools.product(datasets, agents, presets):
        agent_class(agent)
        find_preset(preset, PRESETS)
        data = open_dataset(dataset)
        name = data.name
        spaces_of(data.train, GoalRule.parse(goal), frames)
        made = make_agent(agent, name, preset, **grid["hyperparameters"])
        execute = (evaluation or {}).get("execute")
        if execute is not None and execute not in range(1, made.action_chunk + 1):
            raise FarstepError(
                f"{where}: 'execute' of [evaluation] is {execute}, and {agent} gives"
                f" {made.action_chunk} actions at once."
            )
        setting = f"{name}/{agent.replace(':', '.')}-{preset}{label}"
        for first, count in groups:
            full = dataclass_from_dict(
                TrainConfig, training | {"seed": first}, where=f"{where}, [training]"
            )
            title = (
                f"{setting}/s{first}" if count == 1 else f"{setting}/s{first}-{first + count - 1}"
            )
            jobs.append(
                Job(
                    name=title,
                    directory=out / setting,
                    log=out / "logs" / f"{title}.log",
                    dataset=str(Path(dataset).absolute()) if Path(dataset).exists() else dataset,
                    agent=made,
                    training=full,
                    seeds=count,
                    goal=goal,
                    frames=frames,
                    execution=execution,
                    evaluation=evaluation,
                )
            )
    return jobs


def _names(grid: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = grid[key]
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise FarstepError(f"{where}: '{key}' must be a name or a list of names, not {value!r}.")
    return names


def _seeds(value: Any, where: str) -> list[int]:
    """A number of seeds from 0 on, or a list of them."""
    seeds = list(range(value)) if isinstance(value, int) else value
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise FarstepError(
            f"{where}: 'seeds' must be how many, from 0 on, or a list of numbers, not {value!r}."
        )
    return seeds


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise FarstepError(f"{where} has a key '{key}'.{nearest(key, known)}")
