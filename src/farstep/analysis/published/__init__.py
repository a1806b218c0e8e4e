"""Results that papers publish, as data: success in % by agent and dataset.

`mqe_table4.csv` is Table 4 of MQE (arXiv 2511.07730): mean and standard error of the overall
success rate, over 8 seeds from states and 4 from pixels. Its first posting had, for MQE,
pointmaze-giant-stitch 28.3, antmaze-large-explore 44.1, cube-double-play 44.3 and scene-play 83.4.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

TABLE4 = "MQE (arXiv 2511.07730), Table 4"


@dataclass(frozen=True)
class PublishedResult:
    """A published mean over seeds, as rates in [0, 1].

    Attributes:
        success: mean over seeds of the overall success rate.
        standard_error: of that mean.
        seeds: how many.
        source: the table.
    """

    success: float
    standard_error: float
    seeds: int
    source: str


def published_result(agent: str, dataset: str) -> PublishedResult | None:
    """What is published for an agent on a dataset, whose name may end in a version (`-v0`)."""
    return _results().get((agent, re.sub(r"-v\d+$", "", dataset)))


@functools.cache
def _results() -> dict[tuple[str, str], PublishedResult]:
    return dict(_table4())


def _table4() -> Iterator[tuple[tuple[str, str], PublishedResult]]:
    text = (resources.files("farstep.analysis.published") / "mqe_table4.csv").read_text(
        encoding="utf-8"
    )
    for row in csv.DictReader(text.splitlines()):
        dataset, kind = row.pop("dataset"), row.pop("kind")
        for agent in [name for name in row if not name.endswith("_se")]:
            yield (
                (agent, dataset),
                PublishedResult(
                    float(row[agent]) / 100,
                    float(row[f"{agent}_se"]) / 100,
                    seeds={"state": 8, "pixel": 4}[kind],
                    source=TABLE4,
                ),
            )
