"""What planning costs, and what the path relaxation does to a learned distance.

    python benchmarks/planning.py RUN [--landmarks 4000] [--rounds 60]

For a run on a maze whose data are at hand:

- time and memory to build the graph, edges and embeddings included;
- time of one environment step of 50 episodes side by side, flat and planned, the planner replanning
  every fifth step, medians over alternating rounds in one process; and of starting an episode;
- rank correlation and calibration of the raw and of the relaxed distance against the maze's true
  shortest paths, by range.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from farstep.core.rng import stream_generator
from farstep.data.table import Dataset, open_dataset
from farstep.envs.catalog import environment
from farstep.planning.graph import LandmarkGraph
from farstep.planning.policy import PlannedPolicy, Steering
from farstep.planning.prepare import GraphOptions, prepare_graph
from farstep.planning.relaxation import relaxation_by_range
from farstep.serving.policy import Policy, load_policy

ROWS = 50
"""Episodes side by side, as `farstep eval` runs them."""

STRIDE = 0.2
"""Metres that a point moves in a step at most."""

METRES = (0.0, 4.0, 8.0, 16.0, 32.0, 64.0, 1e3)
"""Ranges of the true distance."""


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure_building(policy: Policy, dataset: Dataset, options: GraphOptions) -> None:
    def build() -> LandmarkGraph:
        return prepare_graph(policy.metric, dataset, options)[0]

    first = seconds(build)
    again = min(seconds(build) for _ in range(3))
    tracemalloc.start()
    graph = build()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    embeddings = np.asarray(graph.embeddings).nbytes
    logged = graph.logged.sum()
    print(f"{len(graph):,} landmarks, {graph.edges.nnz:,} edges, {logged:,} of them logged")
    print(f"  first build {first:.2f} s (compilation included), another {again:.2f} s")
    print(f"  host memory at most {peak / 1e6:.0f} MB, embeddings {embeddings / 1e6:.0f} MB")


def measure_steps(policy: Policy, graph: LandmarkGraph, states: np.ndarray, rounds: int) -> None:
    planned = PlannedPolicy(policy, graph, Steering())
    here, goals = states[:ROWS].copy(), states[ROWS : 2 * ROWS]
    slots = np.arange(ROWS)
    planned.begin(slots, here, goals)
    period = planned.steering.replan_every

    def flat() -> None:
        for _ in range(period):
            policy.act(here, goals)

    def steered() -> None:
        for _ in range(period):
            planned.act(here, goals)
            # A body that goes straight to its subgoal, in place of the simulator.
            way = planned.subgoals[:, :2] - here[:, :2]
            length = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
            here[:, :2] += way * np.minimum(1, STRIDE / length)

    # Compiles every path: the search at the start, and tracking.
    for run in (steered, steered, flat):
        run()
    times = [(seconds(flat), seconds(steered)) for _ in range(rounds)]
    plain, steering = (
        statistics.median(column) / period * 1e3 for column in zip(*times, strict=True)
    )
    mean = statistics.fmean(column[1] for column in times) / period * 1e3
    begin = statistics.median(seconds(lambda: planned.begin(slots, here, goals)) for _ in range(5))
    print(f"One step of {ROWS} episodes, median of {rounds} rounds of {period} steps")
    print(f"  flat {plain:.2f} ms, planned {steering:.2f} ms (mean {mean:.2f} ms)")
    print(f"  the shortest paths of a new episode, once {begin / ROWS * 1e3:.2f} ms")


def measure_relaxation(policy: Policy, graph: LandmarkGraph, states: np.ndarray) -> None:
    maze = environment(policy.environment or "").maze_map
    assert maze is not None
    goals = states[:100]
    true = np.stack([maze.geodesic(graph.observations[:, :2], goal[:2]) for goal in goals])
    print("Against the true shortest path   rank correlation   steps a metre     spread 90/10 %")
    print("metres          pairs              raw   relaxed     raw   relaxed     raw   relaxed")
    for row in relaxation_by_range(graph, goals, true, METRES):
        raw, relaxed = row.raw, row.relaxed
        high = f"{row.high:.0f}" if row.high < METRES[-1] else "…"
        print(
            f"{row.low:.0f}-{high:<8}{raw.pairs:>10,}"
            f"{raw.correlation:>17.3f}{relaxed.correlation:>10.3f}"
            f"{raw.ratio:>8.2f}{relaxed.ratio:>10.2f}{raw.spread:>8.2f}{relaxed.spread:>10.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="What planning costs and what it gains.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--checkpoint", default="last")
    parser.add_argument("--landmarks", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    policy = load_policy(arguments.run, checkpoint=arguments.checkpoint)
    dataset = open_dataset(policy.data or policy.dataset)
    graph, calibration = prepare_graph(policy.metric, dataset, GraphOptions())
    assert calibration is not None
    rows = np.sort(stream_generator(0, "benchmark").integers(dataset.train.num_steps, size=200))
    states = np.asarray(dataset.train.observations[rows])
    measure_building(policy, dataset, GraphOptions(landmarks=arguments.landmarks))
    print(f"{len(graph):,} landmarks, reach {graph.reach:.1f} steps (calibrated)")
    measure_steps(policy, graph, states, arguments.rounds)
    measure_relaxation(policy, graph, stream_generator(1, "benchmark").permutation(states))


if __name__ == "__main__":
    main()
