"""Results of evaluations, with their protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import Any

from farstep.core.errors import FarstepError
from farstep.core.files import write_text
from farstep.evaluation.intervals import Interval, stratified_wilson, wilson


@dataclass(frozen=True)
class Episode:
    """One evaluation episode.

    Attributes:
        task: number of the task, from 1.
        index: number of the episode in its task, from 0.
        seed: seed of the environment's reset.
        success: the environment's own flag at the last step.
        steps: environment steps taken.
        final_distance: metres from the body to the goal at the end, where the body has a place
            in a maze; None elsewhere.
        progress: points earned at the end, where the environment gives points; None elsewhere.
    """

    task: int
    index: int
    seed: int
    success: bool
    steps: int
    final_distance: float | None = None
    progress: float | None = None


@dataclass(frozen=True)
class TaskResult:
    """The episodes of one task in figures; `interval` is the 95 % Wilson interval of the rate.

    `mean_success_steps` is None where no episode succeeded, `mean_final_distance` where the
    environment has no distance, `mean_progress` and its standard error where it gives no points.
    """

    task: int
    episodes: int
    successes: int
    success_rate: float
    interval: Interval
    mean_steps: float
    mean_success_steps: float | None
    mean_final_distance: float | None
    mean_progress: float | None
    progress_error: float | None


@dataclass(frozen=True)
class Evaluation:
    """Success of one policy in one environment.

    Attributes:
        episodes: every episode, in order of task and index.
        protocol: what it takes to repeat the evaluation: environment, tasks, episodes per task,
            seed, step limit, slots, and the versions of what ran.
        seconds: wall time from the first reset to the end of the last episode.
    """

    episodes: tuple[Episode, ...]
    protocol: Mapping[str, Any]
    seconds: float

    def __post_init__(self) -> None:
        if not self.episodes:
            raise ValueError("an evaluation holds at least one episode")

    @cached_property
    def tasks(self) -> tuple[TaskResult, ...]:
        """One result a task, in order of task."""
        numbers = sorted({episode.task for episode in self.episodes})
        return tuple(
            _task_result(number, [e for e in self.episodes if e.task == number])
            for number in numbers
        )

    @property
    def mean_success(self) -> float:
        """The mean over tasks of their success rates: the benchmark's number for one policy."""
        return math.fsum(task.success_rate for task in self.tasks) / len(self.tasks)

    @property
    def interval(self) -> Interval:
        """95 % interval of `mean_success`, over the episodes of this policy on these tasks.

        It says how well the episodes pin down this one policy's rate; how much rates differ
        between training seeds takes several policies.
        """
        return stratified_wilson(
            [task.successes for task in self.tasks], [task.episodes for task in self.tasks]
        )

    @property
    def steps(self) -> int:
        """Environment steps of all episodes."""
        return sum(episode.steps for episode in self.episodes)

    @property
    def steps_per_second(self) -> float:
        return self.steps / self.seconds

    def to_json(self) -> str:
        """The evaluation as JSON, its summary figures first for readers of the file."""
        return json.dumps(
            {
                "mean_success": self.mean_success,
                "interval": list(self.interval),
                "tasks": [{**asdict(task), "interval": list(task.interval)} for task in self.tasks],
                "protocol": dict(self.protocol),
                "seconds": self.seconds,
                "steps_per_second": self.steps_per_second,
                "episodes": [asdict(episode) for episode in self.episodes],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str, source: str = "evaluation") -> Evaluation:
        """Reads `to_json` back; `source` names the text in errors.

        Raises:
            FarstepError: the text is not an evaluation.
        """
        try:
            document = json.loads(text)
            return cls(
                episodes=tuple(_episode(record) for record in document["episodes"]),
                protocol=document["protocol"],
                seconds=float(document["seconds"]),
            )
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise FarstepError(
                f"{source} is not a result of `farstep eval` ({type(error).__name__}: {error}). "
                "Evaluate again with --out to write one."
            ) from error

    def save(self, path: Path) -> None:
        """Writes `to_json` to `path`, whole or not at all."""
        write_text(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Reads what `save` wrote.

        Raises:
            FarstepError: there is no such file, or it is not an evaluation.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise FarstepError(f"cannot read the evaluation {path}: {error.strerror}") from error
        return cls.from_json(text, source=str(path))


def _task_result(task: int, episodes: list[Episode]) -> TaskResult:
    successes = sum(episode.success for episode in episodes)
    distances = [e.final_distance for e in episodes if e.final_distance is not None]
    points = [e.progress for e in episodes if e.progress is not None]
    return TaskResult(
        task=task,
        episodes=len(episodes),
        successes=successes,
        success_rate=successes / len(episodes),
        interval=wilson(successes, len(episodes)),
        mean_steps=_mean([episode.steps for episode in episodes]),
        mean_success_steps=(
            _mean([episode.steps for episode in episodes if episode.success]) if successes else None
        ),
        mean_final_distance=_mean(distances) if distances else None,
        mean_progress=_mean(points) if points else None,
        progress_error=stdev(points) / math.sqrt(len(points)) if len(points) > 1 else None,
    )


def _mean(values: list[int] | list[float]) -> float:
    return math.fsum(values) / len(values)


def _episode(record: Mapping[str, Any]) -> Episode:
    expected = {field.name for field in fields(Episode)}
    if set(record) != expected:
        raise ValueError(f"an episode holds {sorted(expected)}, not {sorted(record)}")
    return Episode(**record)
