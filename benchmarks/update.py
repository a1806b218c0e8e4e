"""An MQE update against the plain formulation and against its own matrix products.

    python benchmarks/update.py --preset small
    python benchmarks/update.py --preset paper --rounds 3

Plain: one jitted update a batch that NumPy draws on the host. farstep: the training program, which
draws on device and does many updates a dispatch. Both alternate in one process; the medians of the
rounds are printed. The floor is the time of the update's matrix products at the rate measured for
a product of the same height in the same rounds.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from farstep.agents.mqe import MQE
from farstep.core.rng import root_key
from farstep.core.types import Spaces
from farstep.sampling.batches import DeviceTable, Episodes
from farstep.training import program
from plain import HostSampler, plain_update

EPISODES, LENGTH = 1_000, 201
SIZES = {
    "small": MQE(hidden=(256, 256, 256), latent=128, batch_size=256),
    "paper": MQE(),
}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        preset: `small` is 3 × 256 units and 128 latent dimensions, `paper` 3 × 512 and 512; both
            with two critics and batches of 256.
        batch_size: another size of batch.
        observation: dimensions of an observation.
        action: dimensions of an action.
        rounds: how many times to alternate.
        seconds: about how long farstep's updates run in each round.
    """

    preset: Literal["small", "paper"] = "small"
    batch_size: int = 256
    observation: int = 29
    action: int = 8
    rounds: int = 5
    seconds: float = 3.0


def main(options: Options) -> None:
    agent = SIZES[options.preset].__class__(
        **{**vars(SIZES[options.preset]), "batch_size": options.batch_size}
    )
    spaces = Spaces((options.observation,), "float32", options.action)
    rng = np.random.default_rng(0)
    rows = EPISODES * LENGTH
    observations = rng.normal(size=(rows, options.observation)).astype(np.float32)
    actions = rng.uniform(-1, 1, (rows, options.action)).astype(np.float32)
    table = DeviceTable(
        jnp.asarray(observations),
        jnp.asarray(actions),
        Episodes.from_ends(np.arange(LENGTH - 1, rows, LENGTH)),
    )

    began = time.perf_counter()
    progress = program.start(agent, spaces, 0)
    progress = fast(agent, progress, table, 1)
    compile_seconds = time.perf_counter() - began
    state = progress.state
    update, sampler = plain_update(agent), HostSampler(observations, actions, LENGTH, agent)
    plain = jax.block_until_ready(update(state.params, state.optimizer, sampler()))
    size = max(1, round(options.seconds / timed(lambda: fast(agent, copy(progress), table, 3)) * 3))

    plain_times, fast_times, rates = [], [], []
    for _ in range(options.rounds):
        plain_times.append(timed(lambda: jax.block_until_ready(update(*plain, sampler()))))
        fresh = copy(progress)
        fast_times.append(timed(lambda s=fresh: fast(agent, s, table, size)) / size)
        rates.append(matmul_rate(options.batch_size, agent.hidden[0]))
    ours, theirs = statistics.median(fast_times), statistics.median(plain_times)
    work = flops(agent, spaces)
    floor = work / statistics.median(rates)
    print("| size | plain ms | farstep ms | ratio | updates/s | floor ms | of floor | compile s |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {options.preset}, B = {options.batch_size} | {1e3 * theirs:.0f} | {1e3 * ours:.1f} "
        f"| {theirs / ours:.1f} | {1 / ours:.1f} | {1e3 * floor:.1f} | {ours / floor:.2f} "
        f"| {compile_seconds:.1f} |"
    )


def fast(agent: MQE, progress: program.Progress, table: DeviceTable, updates: int):
    return jax.block_until_ready(
        program.advance(agent, progress, table, root_key(0), jnp.asarray(updates))
    )


def copy(progress: program.Progress) -> program.Progress:
    """The training program takes its argument's memory over."""
    return jax.tree.map(jnp.copy, progress)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def matmul_rate(rows: int, width: int) -> float:
    """Floating-point operations a second of (rows, width) × (width, width)."""
    x, y = jnp.ones((rows, width)), jnp.ones((width, width))
    product = jax.jit(lambda a, b: jax.lax.fori_loop(0, 200, lambda _, c: 0.5 * (c @ b), a))
    jax.block_until_ready(product(x, y))
    return 200 * 2 * rows * width**2 / timed(lambda: jax.block_until_ready(product(x, y)))


def flops(agent: MQE, spaces: Spaces) -> float:
    """Operations in the matrix products of one update.

    A product forward costs 2·rows·inputs·outputs, and as much again for the gradient of each of
    its two operands where it is needed.
    """
    (observation,), action, b = spaces.observation_shape, spaces.action_size, agent.batch_size

    def mlp(inputs: int, outputs: int) -> float:
        widths = (inputs, *agent.hidden, outputs)
        return sum(2 * b * i * o for i, o in itertools.pairwise(widths))

    phi = agent.members * mlp(observation + action, agent.latent)
    psi = agent.members * mlp(observation, agent.latent)
    actor = mlp(2 * observation, action)
    learned = 3 * (phi + psi + psi + 2 * actor)
    return learned + psi + (2 * phi + psi)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
