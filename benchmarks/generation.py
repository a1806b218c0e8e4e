"""How fast point-mass data are generated, against OGBench's environment stepped by the recipe.

    python benchmarks/generation.py [--dataset pointmaze-giant-stitch] [--rounds 3]

Two rates of stored steps per second, each the median over alternating rounds in one run:

- plain: one process that steps OGBench's environment, asks its planner for the next subgoal at
  every step as the published recipe does, and keeps the steps in memory;
- farstep: `farstep.collect.generate.generate` with as many processes as cores, including the start
  of the processes and the writing of the tables.

The second column is the processor time per step, summed over processes. Other load on the machine
does not stretch it.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ogbench  # noqa: F401 (registers its environments with Gymnasium)
import tyro

from farstep.collect.generate import generate
from farstep.collect.mazes import STITCH_CELLS, MazeRecipe, published_recipe
from farstep.envs.catalog import EnvironmentSpec, environment_of
from farstep.envs.mazes import MazeMap


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        dataset: a published data set of the point mass.
        plain_steps: steps of a plain round, in whole episodes.
        farstep_steps: steps of a farstep round, in whole episodes.
        rounds: rounds of each.
    """

    dataset: str = "pointmaze-giant-stitch"
    plain_steps: int = 4_000
    farstep_steps: int = 300_000
    rounds: int = 3


def plain_episode(
    env: gymnasium.Env, maze: MazeMap, recipe: MazeRecipe, rng: np.random.Generator
) -> list[tuple[Any, ...]]:
    """One episode as the recipe is published: a plan from scratch at every step."""
    inner: Any = env.unwrapped
    start = maze.free_cells[rng.integers(len(maze.free_cells))]
    if recipe.behaviour == "stitch":
        reachable = maze.cells_at(start, STITCH_CELLS) or (start,)
        goal = reachable[rng.integers(len(reachable))]
    else:
        goal = maze.vertex_cells[rng.integers(len(maze.vertex_cells))]
    observation, _ = env.reset(options={"task_info": {"init_ij": start, "goal_ij": goal}})
    stored = []
    for _ in range(recipe.steps):
        position = inner.get_xy()
        subgoal, _ = inner.get_oracle_subgoal(position, inner.cur_goal_xy)
        heading = subgoal - position
        heading = heading / (np.linalg.norm(heading) + 1e-6)
        action = np.clip(heading + rng.normal(0, recipe.noise, 2), -1, 1)
        following, _, _, _, info = env.step(action)
        if info["success"] and recipe.behaviour == "navigate":
            inner.set_goal(maze.vertex_cells[rng.integers(len(maze.vertex_cells))])
        stored.append((observation, action, info["prev_qpos"], info["prev_qvel"]))
        observation = following
    return stored


@dataclass(frozen=True)
class Cost:
    """What one round took: steps a second, and microseconds of processor time a step."""

    rate: float
    processor: float


def measured(run: Callable[[], int]) -> Cost:
    """The cost of `run`, which returns how many steps it made; its child processes count."""

    def processor() -> float:
        used = os.times()
        return used.user + used.system + used.children_user + used.children_system

    began, used = time.perf_counter(), processor()
    steps = run()
    return Cost(
        rate=steps / (time.perf_counter() - began), processor=(processor() - used) / steps * 1e6
    )


def plain(
    env: gymnasium.Env, maze: MazeMap, recipe: MazeRecipe, steps: int, rng: np.random.Generator
) -> int:
    """At least `steps` steps of the plain form; returns how many."""
    kept = []
    while len(kept) < steps:
        kept.extend(plain_episode(env, maze, recipe, rng))
    return len(kept)


def farstep(spec: EnvironmentSpec, recipe: MazeRecipe, steps: int, directory: Path) -> int:
    """About `steps` steps of farstep, those for validation included; returns how many."""
    episodes = max(1, round(steps / recipe.steps / 1.1))
    recipe = dataclasses.replace(recipe, episodes=episodes)
    generate(directory / "made", spec, recipe, overwrite=True)
    return (recipe.episodes + recipe.validation_episodes) * recipe.steps


def medians(options: Options) -> tuple[Cost, Cost]:
    """Of the plain form and of farstep, over alternating rounds."""
    spec = environment_of(options.dataset)
    maze = spec.maze_map
    assert maze is not None
    behaviour = "stitch" if "stitch" in options.dataset else "navigate"
    recipe = published_recipe(spec.name, behaviour)
    env = gymnasium.make(spec.name, terminate_at_goal=False, max_episode_steps=recipe.steps + 1)
    rng = np.random.default_rng(0)
    slow, fast = [], []
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        for _ in range(options.rounds):
            slow.append(measured(lambda: plain(env, maze, recipe, options.plain_steps, rng)))
            fast.append(measured(lambda: farstep(spec, recipe, options.farstep_steps, made)))
    return _median(slow), _median(fast)


def _median(rounds: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.rate for cost in rounds),
        statistics.median(cost.processor for cost in rounds),
    )


def main(options: Options) -> None:
    """Alternate both and print medians and their ratio."""
    slow, fast = medians(options)
    print(f"{options.dataset}, {os.cpu_count()} cores, median of {options.rounds} rounds\n")
    print("| | steps/s | processor µs a step |\n|---|---|---|")
    for name, cost in (("plain, one process", slow), ("farstep", fast)):
        print(f"| {name} | {cost.rate:,.0f} | {cost.processor:.0f} |")
    print(f"| ratio | {fast.rate / slow.rate:.1f} | {slow.processor / fast.processor:.1f} |")


if __name__ == "__main__":
    main(tyro.cli(Options))
