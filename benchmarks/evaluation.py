"""How fast an evaluation runs, against one environment at a time and against bare simulators.

    python benchmarks/evaluation.py [--environments pointmaze-medium-v0 antmaze-medium-v0]

Four rates of environment steps, each the median over alternating rounds in one run:

- published: one environment of OGBench's own, one call of the policy a step, as evaluators are
  usually written;
- plain: the same loop around farstep's environment, which steps the same physics;
- farstep: `farstep.evaluation.rollout.evaluate`;
- bare: as many processes as cores, each stepping its own environment with a constant action, no
  policy and no communication: what the simulator allows.

The policy of both evaluators is the same compiled MLP of 3 × 256 units on (observation, goal) with
random weights, so that episodes run to their limit.
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
import ogbench  # noqa: F401 (registers its environments with Gymnasium)

from farstep.envs.catalog import make
from farstep.evaluation.rollout import evaluate


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

    def act(self, observations: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return np.asarray(self._forward(observations, goals))


def plain(env: gymnasium.Env, policy: RandomMLP, steps: int) -> float:
    """Steps per second of one environment with one policy call a step."""
    rate = _timed(steps, _episodes(env, policy, steps))
    env.close()
    return rate


def _episodes(env, policy: RandomMLP, steps: int) -> Callable[[], None]:
    def run() -> None:
        over = True
        observation = goal = np.empty(0)
        for step in range(steps):
            if over:
                observation, info = env.reset(seed=step, options={"task_id": 1})
                observation = observation.astype(np.float32)
                goal = info["goal"].astype(np.float32)
            action = np.clip(policy.act(observation, goal), -1, 1)
            observation, _, terminated, truncated, _ = env.step(action)
            observation = observation.astype(np.float32)
            over = terminated or truncated

    return run


def bare(task: tuple[str, int]) -> float:
    """Steps per second of one environment on its own."""
    name, steps = task
    env = make(name, disable_env_checker=True)
    action = np.full(env.action_space.shape or (), 0.05, np.float32)

    def run() -> None:
        env.reset(seed=0, options={"task_id": 1})
        for step in range(steps):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset(seed=step, options={"task_id": 1})

    rate = _timed(steps, run)
    env.close()
    return rate


def _timed(steps: int, run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return steps / (time.perf_counter() - began)


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
        samples.setdefault("published", []).append(plain(gymnasium.make(name), policy, 2 * steps))
        samples.setdefault("plain", []).append(plain(make(name), policy, 2 * steps))
        jobs = [(name, 5 * steps)] * cores()
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
