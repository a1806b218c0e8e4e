"""Which rules of the planner are worth their lines, and what published planners' rules do.

    python benchmarks/ablation.py --mazes mazes        # write the ten held-out mazes
    python benchmarks/ablation.py runs/*               # every planner on every run

A held-out maze gets data by `farstep data make navigate --maze mazes/heldout-0.txt` (`stitch` for
odd numbers), and a network by `farstep train`. Each planner is evaluated on each network with
landmarks and episodes drawn by each of the seeds, and is given at most 1,000 steps (2,000 in the
colossal maze). What `docs/results/planners.csv` holds already is not measured again.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from farstep.core.types import BatchPolicy
from farstep.data.table import open_dataset
from farstep.evaluation.results import Evaluation
from farstep.evaluation.rollout import evaluate
from farstep.planning.policy import PlannedPolicy
from farstep.planning.prepare import GraphOptions, prepare_graph
from farstep.serving.policy import Policy, load_policy
from planning.mazes import write_mazes
from planning.planners import PLANNERS

HEAD = ("network", "updates", "draw", "planner", "episodes", "success", "steps")
FLAT = "flat"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Success and steps of planners."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Runs or exported policies."""
    mazes: Path | None = None
    """Write the held-out mazes into this directory."""
    planners: tuple[str, ...] = (FLAT, *PLANNERS)
    """Which."""
    episodes: int = 5
    """Of each task."""
    draws: tuple[int, ...] = (0,)
    """Seeds of landmarks and episodes."""
    out: Path = Path("docs/results/planners.csv")
    """Rows are added to this file."""

    def run(self) -> None:
        if self.mazes is not None:
            write_mazes(self.mazes)
        for path in self.runs:
            policy = load_policy(path)
            for draw in self.draws:
                self._measure(policy, network(policy), draw)

    def _measure(self, policy: Policy, name: str, draw: int) -> None:
        known = {tuple(row)[:4] for row in read(self.out)}
        key = name, str(policy.step), str(draw)
        missing = [planner for planner in self.planners if (*key, planner) not in known]
        graph = None
        if set(missing) - {FLAT}:
            dataset = open_dataset(policy.data or policy.dataset)
            graph = prepare_graph(policy.metric, dataset, GraphOptions(seed=draw))
            print(name, draw, graph.landmarks.about, graph.diagnosis, flush=True)
        for planner in missing:
            acting = (
                policy if graph is None or planner == FLAT else PLANNERS[planner](policy, graph)
            )
            began = time.perf_counter()
            result = self._evaluate(policy, acting, draw)
            row = (*key, planner, *totals(result))
            write(self.out, row)
            print(*row, f"{time.perf_counter() - began:.0f} s", flush=True)

    def _evaluate(self, policy: Policy, acting: BatchPolicy, draw: int) -> Evaluation:
        assert policy.environment is not None
        every = 1
        if isinstance(acting, PlannedPolicy):
            every = acting.graph.landmarks.replan_every
        return evaluate(
            acting,
            policy.environment,
            episodes_per_task=self.episodes,
            seed=draw,
            slots=25,
            max_steps=2000 if "colossal" in policy.environment else 1000,
            spaces=policy.spaces,
            start_every=every,
        )


def network(policy: Policy) -> str:
    """The data's name and the seed."""
    name = policy.dataset.removeprefix("pointmaze-").removesuffix("-v0")
    return f"{name}-s{policy.source.get('seed', 0)}"


def totals(result: Evaluation) -> tuple[int, int, int]:
    """Episodes, successes and steps."""
    episodes = result.episodes
    return len(episodes), sum(e.success for e in episodes), sum(e.steps for e in episodes)


def read(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def write(path: Path, row: Sequence[object]) -> None:
    """Add a row."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([HEAD, row] if new else [row])


if __name__ == "__main__":
    tyro.cli(Ablation).run()
