"""The graph that `farstep eval --plan`, `plot plan` and `export --landmarks` work with."""

from __future__ import annotations

import dataclasses
from typing import Any

from farstep.data.table import open_dataset
from farstep.planning.calibration import Calibration
from farstep.planning.graph import LandmarkGraph
from farstep.planning.prepare import GraphOptions, prepare_graph
from farstep.serving.policy import Policy


def graph_of(
    policy: Policy, dataset: str | None, asked: dict[str, Any]
) -> tuple[LandmarkGraph, Calibration | None]:
    """The policy's own landmarks if it was exported with them and no others are `asked` for.

    Args:
        policy: whose metric is searched.
        dataset: where landmarks come from; the policy's own data if not given.
        asked: fields of `GraphOptions`, None where the default stands.

    Raises:
        FarstepError: no distance, no data, or an option out of range.
    """
    values = {name: value for name, value in asked.items() if value is not None}
    chosen = values.keys() & {"landmarks", "choice", "reach", "stride", "seed"}
    if policy.landmarks is not None and dataset is None and not chosen:
        return policy.graph, None
    # Before the data are opened: without a distance they are of no use.
    metric = policy.metric
    source = dataset or policy.data or policy.dataset
    return prepare_graph(metric, open_dataset(source), GraphOptions(**values))


def described(graph: LandmarkGraph, calibration: Calibration | None) -> str:
    """The graph in one line."""
    parts = [
        f"{len(graph):,} landmarks",
        f"stride {graph.stride:.1f} and reach {graph.reach:.1f} steps",
    ]
    if calibration is not None:
        parts[1] += f" (calibrated; trusted to {calibration.trusted:.1f})"
    parts.append(f"{graph.edges.nnz:,} edges")
    if graph.isolated:
        parts.append(f"{graph.isolated} isolated states dropped")
    return "Planning over " + ", ".join(parts)


def calibration_record(calibration: Calibration | None) -> dict[str, Any] | None:
    """The calibration with its curve as JSON values."""
    if calibration is None:
        return None
    record = dataclasses.asdict(calibration)
    record["envelope"] = {name: values.tolist() for name, values in record["envelope"].items()}
    return record
