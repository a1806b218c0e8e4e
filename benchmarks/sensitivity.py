"""How planned success depends on its settings: a CSV file and a figure.

    python benchmarks/sensitivity.py runs/giant-stitch runs/teleport-stitch

One setting varies at a time around what is calibrated. The rest stays as in `farstep eval --plan
graph`. Stride and reach vary as multiples of the calibrated ones. A dataset that the CSV file holds
already is not measured again. The figure shows every dataset of the file.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from matplotlib.figure import Figure

from farstep.analysis.figures import save_figure
from farstep.data.table import open_dataset
from farstep.evaluation.rollout import evaluate
from farstep.planning.calibration import calibrate
from farstep.planning.policy import PlannedPolicy
from farstep.planning.prepare import GraphOptions, prepare_graph
from farstep.serving.policy import Policy, load_policy

Varied = Literal["landmarks", "reach", "stride", "replan every"]

VARIED: dict[Varied, tuple[float, ...]] = {
    "landmarks": (250, 500, 1000, 2000, 4000),
    "reach": (0.25, 0.5, 1.0, 2.0),
    "stride": (0.5, 1.0, 2.0),
    "replan every": (2, 5, 10, 20),
}
USUAL = {"landmarks": 2000, "reach": 1.0, "stride": 1.0, "replan every": 5}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = field(default=())
    """Run directories."""
    out: Path = Path("docs/results/sensitivity.csv")
    """CSV file; measurements are added to it."""
    figure: Path = Path("docs/images/sensitivity.png")
    """Picture to write."""
    varied: tuple[Varied, ...] = ("landmarks", "reach", "stride", "replan every")
    """The settings that vary."""
    episodes: int = 5
    """Of each task, for each setting."""
    workers: int | None = None
    """Simulator processes."""


def main(options: Options) -> None:
    curves = defaultdict(list)
    if options.out.exists():
        for row in csv.DictReader(options.out.read_text().splitlines()):
            curves[row["dataset"]].append(row)
    for run in options.runs:
        policy = load_policy(run)
        name = policy.dataset.removesuffix("-v0")
        if name not in curves:
            curves[name] = measure(policy, name, options)
            with options.out.open("w", newline="") as file:
                writer = csv.DictWriter(file, curves[name][0].keys(), lineterminator="\n")
                writer.writeheader()
                writer.writerows(row for rows in curves.values() for row in rows)
    save_figure(draw(curves), options.figure, dpi=110)


def measure(policy: Policy, name: str, options: Options) -> list[dict[str, Any]]:
    """Success in % for each setting of `VARIED`."""
    rows, measured = [], {}
    for varied in options.varied:
        for value in VARIED[varied]:
            setting = tuple((USUAL | {varied: value}).items())
            if setting not in measured:
                measured[setting] = success(policy, dict(setting), options)
            row = {"varied": varied, "value": value, "success": measured[setting]}
            rows.append({"dataset": name, **row})
            print(rows[-1], flush=True)
    return rows


def success(policy: Policy, setting: dict[str, float], options: Options) -> float:
    """Mean success in % over the tasks."""
    dataset = open_dataset(policy.data or policy.dataset)
    # Calibrated for the usual replanning, so that one thing varies at a time.
    usual = calibrate(policy.metric, dataset.val or dataset.train, replan_every=5)
    graph, _ = prepare_graph(
        policy.metric,
        dataset,
        GraphOptions(
            landmarks=int(setting["landmarks"]),
            reach=setting["reach"] * usual.reach,
            stride=setting["stride"] * usual.stride,
        ),
    )
    # The lengths stay those of the usual time between choices: one thing is varied at a time.
    every = int(setting["replan every"])
    graph = replace(graph, landmarks=replace(graph.landmarks, replan_every=every))
    planned = PlannedPolicy(policy, graph)
    assert policy.environment is not None
    result = evaluate(
        planned,
        policy.environment,
        episodes_per_task=options.episodes,
        spaces=policy.spaces,
        start_every=every,
        workers=options.workers,
    )
    return 100 * result.mean_success


def draw(curves: Mapping[str, list[dict[str, Any]]]) -> Figure:
    """Success over each setting, a curve per dataset."""
    figure = Figure(figsize=(12, 3), layout="constrained")
    panels = figure.subplots(1, len(VARIED), sharey=True)
    for axes, (varied, values) in zip(panels, VARIED.items(), strict=True):
        for number, (name, rows) in enumerate(sorted(curves.items())):
            points = [
                (float(r["value"]), float(r["success"])) for r in rows if r["varied"] == varied
            ]
            if points:
                label = name.removeprefix("pointmaze-")
                axes.plot(*zip(*points, strict=True), "o-", ms=4, color=f"C{number}", label=label)
        axes.axvline(USUAL[varied], color="0.8", zorder=0)
        axes.set(xscale="log", ylim=(-3, 103))
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
        of = " × the calibrated" if varied in ("reach", "stride") else ""
        axes.set_xlabel(varied + of)
    panels[0].set_ylabel("success, %")
    lines, names = panels[list(VARIED).index("reach")].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside right center", fontsize=7)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Options))
