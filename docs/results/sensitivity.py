"""How planned success depends on landmarks, stride, reach and replanning: a CSV and a figure.

    python docs/results/sensitivity.py RUN --out docs/results/sensitivity/giant-stitch

One setting varies at a time around what is calibrated; the rest stays as in `farstep eval --plan
graph`. Stride and reach vary as multiples of the calibrated ones.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.figure import Figure

from farstep.data.table import open_dataset
from farstep.evaluation.rollout import evaluate
from farstep.planning.policy import PlannedPolicy, Steering
from farstep.planning.prepare import GraphOptions, prepare_graph
from farstep.serving.policy import load_policy

VARIED = {
    "landmarks": (125, 250, 500, 1000, 2000, 4000),
    "stride ×": (0.25, 0.5, 1.0, 2.0, 4.0),
    "reach ×": (0.25, 0.5, 1.0, 2.0, 4.0),
    "replan every": (1, 2, 5, 10, 20, 40),
}
USUAL = {"landmarks": 2000, "stride ×": 1.0, "reach ×": 1.0, "replan every": 5}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        run: a run directory.
        out: path of the CSV and of the figure, without their endings.
        episodes: a task, for each setting.
        checkpoint: step of the checkpoint; the last one if not given.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path
    episodes: int = 10
    checkpoint: int | None = None


def main(options: Options) -> None:
    rows = []
    measured: dict[tuple, float] = {}
    for varied, values in VARIED.items():
        for value in values:
            setting = USUAL | {varied: value}
            key = tuple(setting.values())
            if key not in measured:
                measured[key] = success(options, setting)
            rows.append({"varied": varied, "value": value, "success": measured[key]})
            print(rows[-1], flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows).savefig(options.out.with_suffix(".png"), dpi=110, bbox_inches="tight")


def success(options: Options, setting: dict[str, float]) -> float:
    """Mean success in % over the tasks."""
    policy = load_policy(options.run, checkpoint=options.checkpoint or "last")
    dataset = open_dataset(policy.data or policy.dataset)
    steering = Steering(replan_every=int(setting["replan every"]))
    # Calibrated once, for the usual replanning, so that one thing varies at a time.
    _, calibration = prepare_graph(policy.metric, dataset, GraphOptions(landmarks=1000))
    assert calibration is not None
    graph, _ = prepare_graph(
        policy.metric,
        dataset,
        GraphOptions(
            landmarks=int(setting["landmarks"]),
            stride=setting["stride ×"] * calibration.stride,
            reach=setting["reach ×"] * calibration.reach,
        ),
    )
    assert policy.environment is not None
    result = evaluate(
        PlannedPolicy(policy, graph, steering),
        policy.environment,
        episodes_per_task=options.episodes,
    )
    return round(100 * result.mean_success, 2)


def draw(rows: list[dict]) -> Figure:
    figure = Figure(figsize=(11, 2.6))
    panels = figure.subplots(1, len(VARIED), sharey=True)
    for axes, varied in zip(panels, VARIED, strict=True):
        mine = [row for row in rows if row["varied"] == varied]
        axes.plot(
            [row["value"] for row in mine], [row["success"] for row in mine], "o-", color="#3b5bdb"
        )
        axes.axvline(USUAL[varied], color="#adb5bd", lw=1, ls="--")
        axes.set_xscale("log", base=2)
        axes.set_xticks([row["value"] for row in mine], [f"{row['value']:g}" for row in mine])
        axes.minorticks_off()
        axes.set_xlabel(varied)
        axes.set_ylim(0, 104)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("success %")
    return figure


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
