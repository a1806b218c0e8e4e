"""Results that papers publish, as data: success in % by agent and dataset.

`mqe_table4.csv` is Table 4 of MQE (arXiv 2511.07730): mean and standard error of the overall
success rate, over 8 seeds from states and 4 from pixels. Its first posting had, for MQE,
pointmaze-giant-stitch 28.3, antmaze-large-explore 44.1, cube-double-play 44.3 and scene-play 83.4.

`mqe_table1.csv` is its Table 1: the ablations of action invariance (1a) and of the waypoint law
(1b), on humanoidmaze-giant-stitch.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

TABLE4 = "MQE (arXiv 2511.07730), Table 4"
TABLE1 = "MQE (arXiv 2511.07730), Table 1"
TABLE1_DATASET = "humanoidmaze-giant-stitch"


@dataclass(frozen=True)
class PublishedResult:
    """A published mean over seeds, as rates in [0, 1].

    Attributes:
        success: mean over seeds of the overall success rate.
        standard_error: of that mean.
        source: the table.
    """

    success: float
    standard_error: float
    source: str


def published_result(agent: str, dataset: str) -> PublishedResult | None:
    """What is published for an agent on a dataset, whose name may end in a version (`-v0`)."""
    return _results().get((agent, re.sub(r"-v\d+$", "", dataset)))


@functools.cache
def published_ablation(study: str) -> dict[str, PublishedResult]:
    """What Table 1 reports for each setting of a study, `invariance` or `waypoint`."""
    return {
        row["setting"]: PublishedResult(
            float(row["success"]) / 100, float(row["standard_error"]) / 100, TABLE1
        )
        for row in _rows("mqe_table1.csv")
        if row["study"] == study
    }


@functools.cache
def _results() -> dict[tuple[str, str], PublishedResult]:
    return dict(_table4())


def _table4() -> Iterator[tuple[tuple[str, str], PublishedResult]]:
    for row in _rows("mqe_table4.csv"):
        dataset = row.pop("dataset")
        for agent in [name for name in row if f"{name}_se" in row]:
            success, standard_error = float(row[agent]), float(row[f"{agent}_se"])
            result = PublishedResult(success / 100, standard_error / 100, TABLE4)
            yield (agent, dataset), result


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (resources.files("farstep.analysis.published") / name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())
