"""How fast an evaluation runs, against one environment at a time and against bare simulators.

    python benchmarks/evaluation.py [--environments pointmaze-medium-v0 antmaze-medium-v0]

Four rates of environment steps, each the median over alternating rounds in one run:

- published: one environment of OGBench with one call of the policy per step, the usual evaluator;
- plain: the same loop around farstep's environment, which steps the same physics;
- farstep: `farstep.evaluation.rollout.evaluate`;
- bare: as many processes as cores, without policy and communication. Each repeats the actions of
  the episodes of `plain` in one environment. This is the limit that the simulator sets.

The policy is the same compiled MLP of 3 × 256 units on (observation, goal) for all. Its weights are
random, so that episodes run to their limit. All rates are over episodes of all five tasks, because
a body at a wall is simulated more slowly than one in the open.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from farstep.envs.catalog import make
from farstep.evaluation.rollout import episode_seed, evaluate

TASKS = range(1, 6)

Actions = dict[int, list[np.ndarray]]
"""Those of an episode of each task."""


class RandomMLP:
    """The policy of both evaluators."""

    def __init__(self, observation_size: int, action_size: int, width: int = 256, depth: int = 3):
        sizes = [2 * observation_size, *[width] * depth, action_size]
        keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
        weights = [
            jax.random.normal(key, shape) / np.sqrt(shape[0])
            for key, shape in zip(keys, itertools.pairwise(sizes), strict=True)
        ]

        @jax.jit
        def forward(observations: jax.Array, goals: jax.Array) -> jax.Array:
            hidden = jnp.concatenate([observations, goals], axis=-1)
            for weight in weights[:-1]:
                hidden = jax.nn.gelu(hidden @ weight)
            # Small actions, so that bodies do not fall and episodes stay alike.
            return 0.1 * jnp.tanh(hidden @ weights[-1])

        self._forward = forward

    def begin(self, slots: np.ndarray, observations: np.ndarray, goals: np.ndarray) -> None:
        """Nothing to forget."""

    def end(self, slots: np.ndarray) -> None:
        """Nothing to spare."""

    def act(self, observations: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return np.asarray(self._forward(observations, goals))


def plain(env: gymnasium.Env, policy: RandomMLP, limit: int) -> tuple[float, Actions]:
    """One episode of every task, one policy call a step: steps per second, and the actions."""
    taken: Actions = {}

    def run() -> None:
        for task in TASKS:
            observation, info = env.reset(seed=seed_of(task), options={"task_id": task})
            goal = info["goal"].astype(np.float32)
            taken[task] = []
            over = False
            while not over and len(taken[task]) < limit:
                action = np.clip(policy.act(observation.astype(np.float32), goal), -1, 1)
                observation, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated
                taken[task].append(action)

    seconds = _timed(run)
    env.close()
    return sum(map(len, taken.values())) / seconds, taken


def bare(job: tuple[str, Actions]) -> float:
    """The same episodes without a policy, their actions being known: steps per second."""
    name, known = job
    env = make(name, disable_env_checker=True)

    def run() -> None:
        for task, actions in known.items():
            env.reset(seed=seed_of(task), options={"task_id": task})
            for action in actions:
                env.step(action)

    seconds = _timed(run)
    env.close()
    return sum(map(len, known.values())) / seconds


def seed_of(task: int) -> int:
    """That of the task's first episode in `evaluate`."""
    return episode_seed(0, task, 0)


def _timed(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def rates(
    name: str, rounds: int, steps: int, workers: Sequence[int], pool: Pool
) -> dict[str, float]:
    """Median environment steps per second of alternating rounds, after one that warms up."""
    env = make(name)
    policy = RandomMLP(np.size(env.reset(seed=0)[0]), np.size(env.action_space.sample()))
    env.close()
    samples: dict[str, list[float]] = {}
    for round_ in range(rounds + 1):
        for count in workers:
            result = evaluate(policy, name, episodes_per_task=10, max_steps=steps, workers=count)
            samples.setdefault(f"farstep, {count} workers", []).append(result.steps_per_second)
        rate, _ = plain(gymnasium.make(f"ogbench:{name}"), policy, steps)
        samples.setdefault("published", []).append(rate)
        rate, actions = plain(make(name), policy, steps)
        samples.setdefault("plain", []).append(rate)
        jobs = [(name, actions)] * cores()
        samples.setdefault("bare", []).append(sum(pool.map(bare, jobs, chunksize=1)))
        if round_ == 0:
            samples.clear()  # compiles and warms the caches
    return {what: statistics.median(values) for what, values in samples.items()}


def cores() -> int:
    return os.cpu_count() or 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How fast an evaluation runs.")
    parser.add_argument("--environments", nargs="+", default=["pointmaze-medium-v0"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500, help="limit of an episode")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, cores()])
    arguments = parser.parse_args()
    print(f"median environment steps per second of {arguments.rounds} rounds, {cores()} cores\n")
    print("| environment | | steps/s | × published | × plain | % of bare |")
    print("|---|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(cores()) as processes:
        for name in arguments.environments:
            median = rates(name, arguments.rounds, arguments.steps, arguments.workers, processes)
            for what, rate in median.items():
                print(
                    f"| {name} | {what} | {rate:,.0f} | {rate / median['published']:.2f} "
                    f"| {rate / median['plain']:.2f} "
                    f"| {100 * rate / median['bare']:.0f} |",
                    flush=True,
                )
