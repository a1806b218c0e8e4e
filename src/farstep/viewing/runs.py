"""Runs on a page: their success with its spread over seeds, their metrics, and how they differ."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from farstep.agents.registry import agent_name
from farstep.analysis.comparison import Cell, compare
from farstep.analysis.curves import learning_curve
from farstep.analysis.scores import Score, run_score
from farstep.analysis.statistics import mean_interval
from farstep.core.errors import FarstepError
from farstep.training.lock import being_trained
from farstep.training.run import CONFIG, Run

POINTS = 200
"""Most records of a run's metrics in a curve, evenly spaced."""

NO_METRICS = ("step", "seconds")
"""Entries of a record that are no metrics."""


def runs_document(runs: Sequence[tuple[str, Path]]) -> dict[str, Any]:
    """What all these runs have come to. Exported policies have no record of it and are left out.

    A run that cannot be read is named with the reason, and does not keep the others from view.
    """
    opened: list[tuple[str, Run]] = []
    problems, notes, scores = [], [], []
    for name, path in runs:
        if not (path / CONFIG).exists():
            continue
        try:
            run = Run.open(path)
            opened.append((name, run))
        except FarstepError as error:
            problems.append(f"{name}: {error}")
            continue
        try:
            scores.append(run_score(path))
        except (FarstepError, OSError, AssertionError) as error:
            notes.append(f"{name} has no success to show: {error}")
    logs = [_thinned(run.path) for _, run in opened]
    comparison = None
    try:
        comparison = compare(scores, notes=notes) if scores else None
        notes = list(comparison.notes) if comparison else notes
    except FarstepError as error:
        notes.append(str(error))
    return {
        "problems": problems,
        # What follows a note's first line, which groups differ in what, is in the tables.
        "notes": [note.partition(":\n")[0] for note in notes],
        "runs": [_summary(name, run, log) for (name, run), log in zip(opened, logs, strict=True)],
        "cells": [] if comparison is None else [_cell(cell) for cell in comparison.cells],
        "differences": _differences(opened),
        "metrics": sorted({metric for log in logs for metric in _metrics(log)}),
    }


def metric_document(runs: Sequence[tuple[str, Path]], metric: str) -> dict[str, Any]:
    """One metric of every run that records it, over updates."""
    curves = []
    for name, path in runs:
        records = _thinned(path)
        points = [(r["step"], r[metric]) for r in records if metric in r and "step" in r]
        if points:
            steps, values = zip(*points, strict=True)
            # JSON has no number for what is none.
            finite = [value if math.isfinite(value) else None for value in values]
            curves.append({"name": name, "steps": steps, "values": finite})
    return {"metric": metric, "curves": curves}


def _summary(name: str, run: Run, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    config = run.config
    done = int(records[-1].get("step", 0)) if records else 0
    if being_trained(run.path):
        state = "training"
    elif run.frozen:
        state = "frozen"
    else:
        state = "ended" if done >= config.training.steps else "stopped"
    return {
        "name": name,
        "agent": agent_name(config.agent),
        "dataset": config.dataset.name,
        "seed": config.training.seed,
        "updates": done,
        "of": config.training.steps,
        "state": state,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    curve = learning_curve(cell)
    interval = _interval(cell.values)
    numbers = {"published": cell.published, "best_published": cell.best_published}
    return {
        "method": cell.method,
        "dataset": cell.dataset,
        "seeds": [score.seed for score in cell.scores],
        "success": float(cell.values.mean()),
        "interval": interval,
        "tasks": _by_task(cell.scores),
        **{name: None if one is None else asdict(one) for name, one in numbers.items()},
        "curve": {
            "updates": curve.x.tolist(),
            "success": curve.success.tolist(),
            "band": None if curve.band is None else [end.tolist() for end in curve.band],
        },
    }


def _interval(values: np.ndarray) -> list[float] | None:
    ends = mean_interval([values])
    return None if ends is None else [float(end) for end in ends]


def _by_task(scores: Sequence[Score]) -> dict[str, float]:
    tasks = sorted(set.intersection(*(set(score.tasks) for score in scores)))
    return {str(task): float(np.mean([score.tasks[task] for score in scores])) for task in tasks}


def _differences(runs: Sequence[tuple[str, Run]]) -> dict[str, Any]:
    """Settings in which the runs differ, and their values by run."""
    settings = [
        {
            "agent": agent_name(run.config.agent),
            "dataset": run.config.dataset.name,
            **{f"agent.{name}": value for name, value in asdict(run.config.agent).items()},
            **asdict(run.config.training),
        }
        for _, run in runs
    ]
    names = dict.fromkeys(name for one in settings for name in one)
    differing = [
        name
        for name in names
        if len({json.dumps(one.get(name), default=str) for one in settings}) > 1
    ]
    return {
        "settings": [name.removeprefix("agent.") for name in differing],
        "runs": [name for name, _ in runs],
        "values": [
            [_said(one[name]) if name in one else "—" for name in differing] for one in settings
        ],
    }


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return " ".join(map(_said, value))
    return str(value)


def _metrics(records: Sequence[dict[str, Any]]) -> list[str]:
    return [
        name
        for record in records[-1:]
        for name, value in record.items()
        if name not in NO_METRICS and isinstance(value, int | float)
    ]


def _thinned(path: Path) -> list[dict[str, Any]]:
    """Some records of `metrics.jsonl`, evenly spaced, the last one among them.

    Only those are parsed, so that a long run costs little. A line that is being written, and one
    that is damaged, is left out: nobody's training depends on it here.
    """
    try:
        *lines, _unfinished = (path / "metrics.jsonl").read_bytes().split(b"\n")
    except OSError:
        return []
    chosen = np.unique(np.linspace(0, len(lines) - 1, min(POINTS, len(lines))).astype(int))
    records = []
    for number in chosen:
        try:
            record = json.loads(lines[number])
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
