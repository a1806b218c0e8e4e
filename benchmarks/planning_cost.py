"""What planning costs, and what the path relaxation does to a learned distance.

    python benchmarks/planning_cost.py RUN [--landmarks 4000]

For a run on a maze whose data are on this machine:

- time and memory to build the graph, with its edges and embeddings;
- time per step in the simulator of the policy's call and of planning beside it, for 50 episodes as
  in `farstep eval --plan graph` and for one; and the time to start an episode;
- rank correlation and calibration of the raw and of the relaxed distance against the true shortest
  paths of the maze, by range.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from farstep.core.rng import stream_generator
from farstep.core.types import BatchPolicy
from farstep.data.table import Dataset, open_dataset
from farstep.envs.catalog import environment
from farstep.evaluation.rollout import SLOTS, evaluate
from farstep.planning.graph import LandmarkGraph
from farstep.planning.policy import PlannedPolicy
from farstep.planning.prepare import GraphOptions, prepare_graph
from farstep.serving.policy import Policy, load_policy
from planning.relaxation import relaxation_by_range

METRES = (0.0, 4.0, 8.0, 16.0, 32.0, 64.0, 1e3)
"""Ranges of the true distance."""


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure_building(policy: Policy, dataset: Dataset, options: GraphOptions) -> None:
    def build() -> LandmarkGraph:
        return prepare_graph(policy.metric, dataset, options)

    first = seconds(build)
    again = min(seconds(build) for _ in range(3))
    tracemalloc.start()
    graph = build()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    logged = graph.landmarks.logged
    print(f"{len(graph):,} landmarks, {len(logged):,} edges, {logged.sum():,} of them logged")
    print(f"  first build {first:.2f} s (compilation included), another {again:.2f} s")
    print(f"  host memory at most {peak / 1e6:.0f} MB")


class Timed:
    """A policy, and the seconds that its calls took."""

    def __init__(self, policy: BatchPolicy):
        self.policy = policy
        self.acting = self.beginning = 0.0
        self.steps = self.episodes = 0

    def begin(self, slots: np.ndarray, observations: np.ndarray, goals: np.ndarray) -> None:
        self.beginning += seconds(lambda: self.policy.begin(slots, observations, goals))
        self.episodes += len(slots)

    def end(self, slots: np.ndarray) -> None:
        self.policy.end(slots)

    def act(self, observations: np.ndarray, goals: np.ndarray, **how: Any) -> np.ndarray:
        began = time.perf_counter()
        actions = self.policy.act(observations, goals, **how)
        self.acting += time.perf_counter() - began
        self.steps += 1
        return actions


def measure_steps(policy: Policy, graph: LandmarkGraph) -> None:
    assert policy.environment is not None
    print("A step in the simulator: the policy's call, and planning beside it")
    # The first compiles every path: the search at the start, and tracking.
    for title, slots, episodes, most in (
        ("", SLOTS, 2, 50),
        (f"{SLOTS} episodes, all begun together", SLOTS, SLOTS // 5, None),
        (f"of {SLOTS}, begun as slots get free, when others choose", SLOTS, 3 * SLOTS // 5, None),
        ("", 1, 1, 50),
        ("one after another, as in a loop of one's own", 1, 4, None),
    ):
        flat = Timed(policy)
        planned = Timed(PlannedPolicy(flat, graph))
        evaluate(
            planned,
            policy.environment,
            episodes_per_task=episodes,
            max_steps=most,
            slots=slots,
            spaces=policy.spaces,
            start_every=graph.landmarks.replan_every,
        )
        if title:
            call = flat.acting / flat.steps * 1e3
            planning = planned.acting / planned.steps * 1e3 - call
            begin = planned.beginning / planned.episodes * 1e3
            whole = planning + planned.beginning / planned.steps * 1e3
            print(f"  {title}: {call:.2f} ms and {planning:.2f} ms, {planning / call:.2f} times")
            print(f"    a new episode, once {begin:.2f} ms; with that {whole / call:.2f} times")


def measure_relaxation(policy: Policy, graph: LandmarkGraph, states: np.ndarray) -> None:
    maze = environment(policy.environment or "").maze_map
    assert maze is not None
    goals = states[:100]
    true = np.stack(
        [maze.geodesic(graph.landmarks.observations[:, :2], goal[:2]) for goal in goals]
    )
    print("Against the true shortest path   rank correlation   steps per metre   spread 90/10 %")
    print("metres          pairs              raw   relaxed     raw   relaxed     raw   relaxed")
    for row in relaxation_by_range(graph, goals, true, METRES):
        raw, relaxed = row.raw, row.relaxed
        high = f"{row.high:.0f}" if row.high < METRES[-1] else "…"
        print(
            f"{f'{row.low:.0f}-{high}':<10}{raw.pairs:>10,}"
            f"{raw.correlation:>17.3f}{relaxed.correlation:>10.3f}"
            f"{raw.ratio:>8.2f}{relaxed.ratio:>10.2f}{raw.spread:>8.2f}{relaxed.spread:>10.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="What planning costs and what it gains.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--checkpoint", default="last")
    parser.add_argument("--landmarks", type=int, default=4000)
    arguments = parser.parse_args()
    policy = load_policy(arguments.run, checkpoint=arguments.checkpoint)
    dataset = open_dataset(policy.data or policy.dataset)
    graph = prepare_graph(policy.metric, dataset, GraphOptions())
    rows = np.sort(stream_generator(0, "benchmark").integers(dataset.train.num_steps, size=200))
    states = np.asarray(dataset.train.observations[rows])
    measure_building(policy, dataset, GraphOptions(landmarks=arguments.landmarks))
    print(f"{len(graph):,} landmarks cover the data. {graph.diagnosis}")
    measure_steps(policy, graph)
    measure_relaxation(policy, graph, stream_generator(1, "benchmark").permutation(states))


if __name__ == "__main__":
    main()
