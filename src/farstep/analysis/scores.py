"""A run's number: its success, how it was measured, and with which settings it was trained.

Two sources give one: a run directory, whose evaluations while training are averaged as papers do,
and a result file of `farstep eval`. Both are reduced to a `Score`, which keeps everything that has
to be equal for two numbers to be averaged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from farstep.agents.registry import agent_from_dict, agent_name
from farstep.core.errors import FarstepError
from farstep.evaluation.results import Evaluation
from farstep.evaluation.rollout import SLOTS
from farstep.training.checkpoint import SUCCESS
from farstep.training.config import CONTINUABLE, RunConfig
from farstep.training.run import CONFIG, Run

LAST_EVALUATIONS = 3
"""Number of evaluations whose mean is a run's number (OGBench's protocol)."""

SIMULATORS = ("ogbench", "mujoco")
"""Packages whose version is the environments' version."""

BOOKKEEPING = {*CONTINUABLE, "seed", "normalize"}
"""Training settings that change no number, or that a protocol names in another way.

Every other training setting belongs to the protocol, those of later versions included.
"""

UNKNOWN = "not told"
"""The value in a protocol of a setting that an older file does not record."""


@dataclass(frozen=True)
class Score:
    """One trained policy's success.

    Attributes:
        source: the run directory or result file.
        name: the user's name of the method; by default its agent's name, and whether it plans.
        agent: name of the agent.
        dataset: name of the data.
        seed: seed of the training; None if unknown.
        success: mean over tasks (and evaluations) of the success rate, in [0, 1].
        tasks: the same for each task.
        protocol: settings of training and evaluation besides hyperparameters, as JSON values.
        hyperparameters: hyperparameters of the agent; None if unknown.
        curve: success by updates, at every evaluation while training.
        remark: note on this one run, such as that it ended early.
    """

    source: Path
    name: str
    agent: str
    dataset: str
    seed: int | None
    success: float
    tasks: Mapping[int, float]
    protocol: Mapping[str, Any]
    hyperparameters: Mapping[str, Any] | None
    curve: Mapping[int, float] = field(default_factory=dict)
    remark: str | None = None

    @property
    def planned(self) -> bool:
        """Whether the policy was steered by a plan."""
        return self.protocol["planning"] is not None

    def settings(self) -> dict[str, Any]:
        """Everything that must be equal in runs that are averaged, by name."""
        planning = self.protocol["planning"] or {}
        hyperparameters = self.hyperparameters or {}
        return {
            **self.protocol,
            "planning": "graph" if self.planned else "none",
            **{f"planning.{name}": value for name, value in planning.items()},
            "hyperparameters": UNKNOWN if self.hyperparameters is None else "told",
            **{f"agent.{name}": value for name, value in hyperparameters.items()},
        }


class Found(NamedTuple):
    """The scores of a path, and for each run that was left out a sentence that says why."""

    scores: list[Score]
    left_out: list[str]


def read_scores(
    path: Path, name: str | None = None, *, evaluations: int = LAST_EVALUATIONS
) -> Found:
    """The scores at `path`: a result file, a run directory, or a directory of runs at any depth.

    Below a directory, what is no run of ours or was never evaluated is left out.

    Args:
        name: name of the method.
        evaluations: number of a run's last evaluations to average.

    Raises:
        FarstepError: there is none of them, or the run at `path` itself was never evaluated.
    """
    if not path.is_dir():
        return Found([result_score(path, name)], [])
    if (path / CONFIG).exists():
        return Found([run_score(path, name, evaluations=evaluations)], [])
    found = Found([], [])
    for run in _runs_below(path):
        try:
            found.scores.append(run_score(run, name, evaluations=evaluations))
        except (FarstepError, OSError, UnicodeDecodeError) as error:
            found.left_out.append(f"left out: {error}")
    if not found.scores:
        raise FarstepError(
            "\n  ".join([f"none of the runs below {path} can be compared:", *found.left_out])
            if found.left_out
            else f"{path} holds no run (a directory with {CONFIG}). Name run directories, "
            "directories of them, or result files of 'farstep eval --out'."
        )
    return found


def run_score(path: Path, name: str | None = None, *, evaluations: int = LAST_EVALUATIONS) -> Score:
    """The number of a run directory: the mean over tasks of its last evaluations.

    Raises:
        FarstepError: no run, or one without evaluations.
    """
    try:
        return _run_score(Run.open(path), name, evaluations)
    except KeyError as error:
        raise FarstepError(
            f"{path / 'eval.jsonl'} lacks {error}; evaluate the run again with 'farstep eval'."
        ) from error


def _run_score(run: Run, name: str | None, evaluations: int) -> Score:
    path = run.path
    config = run.config
    curve = {record["step"]: _rate(record[SUCCESS]) for record in run.records("eval")}
    records = run.records("eval")[-evaluations:]
    if not records:
        raise FarstepError(
            f"{path} has no evaluation yet: {SUCCESS} is measured while training if the data name "
            "an environment, or afterwards by 'farstep eval'."
        )
    agent = agent_name(config.agent)
    remark = None
    if records[-1]["step"] < config.training.steps:
        remark = (
            f"last evaluated after {records[-1]['step']:,} of {config.training.steps:,} updates"
        )
    return Score(
        source=path,
        name=name or agent,
        agent=agent,
        dataset=config.dataset.name,
        seed=config.training.seed,
        success=_rate(np.mean([record[SUCCESS] for record in records])),
        tasks=_mean_by_task(records),
        protocol=_run_protocol(config, records) | _simulator_versions(path),
        hyperparameters=_as_json(asdict(config.agent)),
        curve=curve,
        remark=remark,
    )


def result_score(path: Path, name: str | None = None) -> Score:
    """The number in a result file of `farstep eval`.

    Raises:
        FarstepError: the file cannot be read, is no such result, or is not of a trained policy.
    """
    result = Evaluation.load(path)
    protocol = result.protocol
    policy = protocol.get("policy")
    if policy is None:
        raise FarstepError(f"{path} does not tell which policy it measured.")
    source = policy.get("source", {})
    planning = _planning(policy.get("planning"))
    agent = policy["agent"]
    versions = protocol["versions"]
    return Score(
        source=path,
        name=name or (agent if planning is None else f"{agent}+planning"),
        agent=agent,
        dataset=policy["dataset"],
        seed=source.get("seed"),
        success=_rate(result.mean_success),
        tasks={task.task: task.success_rate for task in result.tasks},
        protocol={
            "environment": protocol["environment"],
            "tasks": protocol["tasks"],
            "episodes per task": protocol["episodes_per_task"],
            "step limit": protocol["max_steps"],
            "slots": protocol["slots"],
            "temperature": policy["temperature"],
            "planning": planning,
            "updates": [policy["step"]],
            "normalized": policy.get("normalized", UNKNOWN),
            "data": source.get("digest", UNKNOWN),
        }
        | {package: versions.get(package, UNKNOWN) for package in SIMULATORS},
        hyperparameters=_hyperparameters(policy, path),
    )


def _hyperparameters(policy: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """The file's hyperparameters; options that it lacks have their defaults."""
    if "hyperparameters" not in policy:
        return None
    described = {"name": policy["agent"], **policy["hyperparameters"]}
    return _as_json(asdict(agent_from_dict(described, where=str(path))))


def _runs_below(path: Path) -> Iterator[Path]:
    for directory, children, files in os.walk(path):
        if CONFIG in files:
            children.clear()
            yield Path(directory)
        children.sort()


def _run_protocol(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The protocol of evaluations while training, named as that of `farstep eval`."""
    environment = config.dataset.environment
    assert environment is not None
    training = asdict(config.training)
    return {
        "environment": environment,
        "tasks": sorted(_mean_by_task(records)),
        "episodes per task": config.training.evaluation_episodes,
        "step limit": records[-1]["max_steps"],
        "slots": SLOTS,
        "temperature": records[-1]["temperature"],
        "planning": None,
        "updates": [record["step"] for record in records],
        "normalized": config.training.normalize,
        "data": config.dataset.digest,
    } | {name: value for name, value in training.items() if name not in BOOKKEEPING}


def _simulator_versions(path: Path) -> dict[str, Any]:
    try:
        versions = json.loads((path / "env.json").read_text(encoding="utf-8"))["versions"]
    except (OSError, json.JSONDecodeError, KeyError):
        versions = {}
    return {package: versions.get(package, UNKNOWN) for package in SIMULATORS}


def _mean_by_task(records: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    names = [name for name in records[0] if name.startswith("task") and name.endswith("/success")]
    return {
        int(name.removeprefix("task").removesuffix("/success")): float(
            np.mean([record[name] for record in records])
        )
        for name in names
    }


def _planning(settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The options of planning, without the results for this policy and draw of landmarks."""
    if settings is None:
        return None
    return {name: value for name, value in settings["asked"].items() if name != "seed"}


def _rate(value: float | np.floating) -> float:
    """The rate without the rounding of its sum, so that equal counts give equal rates."""
    return round(float(value), 9)


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they come back from a result file: lists for tuples."""
    return json.loads(json.dumps(values))
