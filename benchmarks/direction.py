"""How far a policy knows the way: how much of its action leads nearer to the goal, by distance.

    python benchmarks/direction.py studies/horizon-pointmaze-giant-navigate

For the runs METHOD/s* of a study on a maze. Each pair of logged states gives the metres by which
the shortest way to the goal becomes shorter per metre in the direction of the policy: 1 straight
along it, 0 sideways or into a wall, −1 straight back. Where the method has a distance after
actions, the same is measured for the direction that the critic prefers, argmin over 16 of
d((s, a), g). A critic that is right beside a policy that is wrong points to the extraction. Two
more columns hold the mean length of the actions, and how the learned distance agrees with the true
one: steps per metre and rank correlation.
"""

from __future__ import annotations

import csv
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib.figure import Figure

from farstep.analysis.figures import save_figure
from farstep.core.errors import FarstepError
from farstep.core.rng import stream_generator
from farstep.data.table import open_dataset
from farstep.envs.catalog import environment
from farstep.envs.mazes import MazeMap
from farstep.serving.policy import Policy, load_policy
from planning.relaxation import agreement

BOUNDS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Of the ranges of distance, metres."""

GOALS, STARTS = 100, 100
"""So many goals, and for each so many starts."""

DIRECTIONS = 16
"""That the critic is asked about."""

REFINE = 16
"""Sub-cells of a maze's cell on a side: quarters of a metre."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    study: Annotated[Path, tyro.conf.Positional]
    """Directory of a study."""
    out: Path = Path("docs/results/direction.csv")
    """CSV file; the rows of the study take the place of those of the same dataset and method."""
    figures: Path = Path("docs/images")
    """Directory of the picture, whose name is direction-DATASET.png."""


def main(options: Options) -> None:
    rows: list[dict[str, Any]] = []
    name = ""
    runs = sorted(options.study.glob("*/s*"))
    if not runs:
        raise SystemExit(f"no runs METHOD/s* in {options.study}; give the directory of a study")
    for run in runs:
        policy = load_policy(run)
        name = policy.dataset.removesuffix("-v0")
        maze = environment(policy.environment or "").maze_map
        assert maze is not None
        who = {"dataset": name, "method": run.parent.name, "seed": run.name.removeprefix("s")}
        rows += [{**who, "updates": policy.step, **row} for row in measured(policy, maze)]
        print(run, "measured", flush=True)
    measured_now = {(row["dataset"], row["method"]) for row in rows}
    kept = (
        list(csv.DictReader(options.out.read_text().splitlines())) if options.out.exists() else []
    )
    kept = [row for row in kept if (row["dataset"], row["method"]) not in measured_now]
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows((*kept, *rows))
    save_figure(draw(rows, name), options.figures / f"direction-{name}.png", dpi=110)


def measured(policy: Policy, maze: MazeMap) -> Iterator[dict[str, Any]]:
    """A row for each chooser and range, the whole range last."""
    states = logged_states(policy)
    goals = np.repeat(states[:GOALS], STARTS, axis=0)
    starts = np.tile(states[GOALS:], (GOALS, 1))
    true = shortest_ways(maze, starts, goals)
    learned = policy.distance(starts, goals) if policy.agent.metric(policy.params) else None
    for chooser, moves in chosen_moves(policy, starts, goals):
        length = np.linalg.norm(moves, axis=1)
        straight = moves / np.maximum(length, 1e-6)[:, None]
        ends = np.concatenate([starts[:, :2] + straight, starts[:, 2:]], axis=1)
        nearer = true - shortest_ways(maze, ends, goals)
        # Into a wall: it stays where it is.
        nearer = np.where(np.isfinite(nearer), nearer, 0)
        for low, high in (*itertools.pairwise(BOUNDS), (BOUNDS[0], np.inf)):
            within = (true >= low) & (true < high)
            if within.any():
                row = {
                    "direction of": chooser,
                    "from": low,
                    "to": high,
                    "pairs": int(within.sum()),
                    "progress": round(float(nearer[within].mean()), 4),
                    "length": round(float(length[within].mean()), 4),
                    "steps per metre": "",
                    "rank correlation": "",
                }
                if learned is not None:
                    each = agreement(learned[within], true[within])
                    row["steps per metre"] = round(each.ratio, 4)
                    row["rank correlation"] = round(each.correlation, 4)
                yield row


def shortest_ways(maze: MazeMap, starts: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Metres from each start to its goal, every goal standing `STARTS` times in a row."""
    blocks = zip(starts.reshape(GOALS, STARTS, -1), goals[::STARTS], strict=True)
    return np.concatenate([maze.geodesic(some[:, :2], goal[:2], REFINE) for some, goal in blocks])


def chosen_moves(
    policy: Policy, starts: np.ndarray, goals: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """The policy's actions as the simulator clips them; those that the critic likes best."""
    yield "policy", np.clip(policy.act(starts, goals), -1, 1)
    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    actions = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    try:
        steps = [
            policy.distance(starts, goals, np.tile(action, (len(starts), 1))) for action in actions
        ]
    except FarstepError:
        return
    yield "critic", actions[np.argmin(steps, axis=0)]


def logged_states(policy: Policy) -> np.ndarray:
    """Goals first, then starts, at random."""
    table = open_dataset(policy.data or policy.dataset).train
    generator = stream_generator(0, "direction")
    chosen = generator.choice(table.num_steps, size=GOALS + STARTS, replace=False)
    order = np.sort(chosen)
    return generator.permutation(np.asarray(table.observations[order]))


def draw(rows: list[dict[str, Any]], name: str) -> Figure:
    """Means over seeds, a curve a method, for the policy and for the critic."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    curves: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        middle = float(np.sqrt(row["from"] * row["to"]))
        if np.isfinite(middle):
            curves[row["direction of"], row["method"]][middle].append(row["progress"])
    methods = sorted({method for _, method in curves})
    for axes, chooser in zip(panels, ("policy", "critic"), strict=True):
        for number, method in enumerate(methods):
            points = sorted(curves[chooser, method].items())
            means = [np.mean(seeds) for _, seeds in points]
            axes.plot([at for at, _ in points], means, "o-", ms=3, color=f"C{number}", label=method)
        axes.axhline(0, color="0.8", zorder=0)
        axes.set(title=f"direction of the {chooser}", xscale="log")
        axes.set_xlabel("shortest way to the goal (m)")
        axes.set_xticks(BOUNDS, [f"{bound:g}" for bound in BOUNDS])
        axes.minorticks_off()
    panels[0].set_ylabel("nearer, metres per metre")
    panels[0].legend(fontsize=7)
    figure.suptitle(name)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
