"""Results that papers publish, as data: success in % by agent and dataset.

`mqe_table4.csv` is Table 4 of MQE (arXiv 2511.07730): mean and standard error of the overall
success rate, over 8 seeds from states and 4 from pixels. Its first posting had, for MQE,
pointmaze-giant-stitch 28.3, antmaze-large-explore 44.1, cube-double-play 44.3 and scene-play 83.4.

`mqe_table1.csv` is its Table 1: the ablations of action invariance (1a) and of the waypoint law
(1b), on humanoidmaze-giant-stitch.

`best.csv` has the highest success that another paper reports for a dataset, as far as we found
(November 2026). Some of its methods search a graph at test time or train on augmented data.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
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
        standard_error: standard error of that mean; None where the paper gives none.
        source: the table or paper.
        method: the name that its paper gives it.
    """

    success: float
    standard_error: float | None
    source: str
    method: str = ""


def published_result(agent: str, dataset: str) -> PublishedResult | None:
    """What is published for an agent on a dataset, whose name may end in a version (`-v0`)."""
    return _results().get((agent, _unversioned(dataset)))


def best_published(dataset: str) -> PublishedResult | None:
    """The highest success that is published for a dataset, of whatever method and size."""
    name = _unversioned(dataset)
    table4 = [result for (_, other), result in _results().items() if other == name]
    elsewhere = [_result(row) for row in _rows("best.csv") if row["dataset"] == name]
    return max([*table4, *elsewhere], key=lambda result: result.success, default=None)


def comparable(dataset: str, hidden: Sequence[int], updates: int) -> bool:
    """Whether a run is of the size of Table 4's, by half or more.

    Its networks have three hidden layers of 512. They were trained for 1,000,000 updates from
    states and 500,000 from pixels.

    Args:
        dataset: the data's name.
        hidden: widths of the run's hidden layers.
        updates: after which the run was evaluated.
    """
    published = 500_000 if dataset.startswith("visual-") else 1_000_000
    return min(hidden, default=0) >= 256 and updates >= published / 2


@functools.cache
def published_ablation(study: str) -> dict[str, PublishedResult]:
    """What Table 1 reports for each setting of a study, `invariance` or `waypoint`."""
    return {
        row["setting"]: _result(row | {"source": TABLE1, "method": "MQE"})
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
            told = {"success": row[agent], "standard_error": row[f"{agent}_se"]}
            yield (agent, dataset), _result(told | {"source": TABLE4, "method": agent.upper()})


def _result(row: Mapping[str, str]) -> PublishedResult:
    error = row["standard_error"]
    return PublishedResult(
        float(row["success"]) / 100,
        float(error) / 100 if error else None,
        row["source"],
        row["method"],
    )


def _unversioned(dataset: str) -> str:
    return re.sub(r"-v\d+$", "", dataset)


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (resources.files("farstep.analysis.published") / name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())
