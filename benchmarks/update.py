"""An MQE update against the plain formulation and against its own matrix products.

    python benchmarks/update.py --preset small
    python benchmarks/update.py --preset paper --batch-sizes 64 256 1024 --rounds 3

Plain: one jitted update per batch, which NumPy draws on the host. farstep: the training program,
which draws on the device and does many updates per dispatch. All take turns in one process; the
table has medians. The floor is the time of the matrix products of the update, counted in its
program, at the rate measured for products of as many rows in the same rounds. Memory is what the
compiled update needs beside its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import jax
import numpy as np
import tyro

from farstep.agents.mqe import MQE
from farstep.core.types import Actions, Space, Spaces
from farstep.networks.precision import Precision
from measuring import (
    LENGTH,
    Training,
    alternate,
    matmul_flops,
    matmul_rate,
    synthetic_table,
    temporary_mebibytes,
    timed,
)
from plain import HostSampler, plain_update

SIZES = {
    "small": MQE(hidden=(256, 256, 256), latent=128),
    "paper": MQE(),
}

LARGEST_PLAIN = 2**31
"""Bytes of one copy of all differences from which the plain form is not run: it holds several."""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        preset: `small` is 3 × 256 units and 128 latent dimensions, `paper` 3 × 512 and 512; both
            with two critics.
        batch_sizes: a row of the table each.
        latents: other latent sizes than the preset's, a row each for each batch size.
        precision: of farstep's matrix products.
        observation: dimensions of an observation.
        action: dimensions of an action.
        rounds: how many times to alternate.
        seconds: about how long farstep's updates run in each round.
    """

    preset: Literal["small", "paper"] = "small"
    batch_sizes: tuple[int, ...] = (256,)
    latents: tuple[int, ...] = ()
    precision: Precision = "float32"
    observation: int = 29
    action: int = 8
    rounds: int = 5
    seconds: float = 3.0


def main(options: Options) -> None:
    print(
        "| size | B | D | plain ms | farstep ms | ratio | updates/s | floor ms | of floor "
        "| plain MiB | farstep MiB | compile s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    base = replace(SIZES[options.preset], precision=options.precision)
    for latent in options.latents or (base.latent,):
        for batch_size in options.batch_sizes:
            agent = replace(base, batch_size=batch_size, latent=latent)
            cells = compare(agent, options).cells()
            print(f"| {options.preset} | {batch_size} | {latent} | {cells} |", flush=True)


@dataclass(frozen=True)
class Comparison:
    """Seconds of one update and MiB beside its arguments; plain is None where it was not run."""

    plain: float | None
    farstep: float
    floor: float
    plain_memory: float | None
    memory: float
    compiling: float

    def cells(self) -> str:
        """The cells of the table from `plain ms` on."""
        ours = f"{1e3 * self.farstep:.1f}"
        if self.plain is None:
            times, memory = f"not run | {ours} |", "not run"
        else:
            times = f"{1e3 * self.plain:.0f} | {ours} | {self.plain / self.farstep:.1f}"
            memory = f"{self.plain_memory:.0f}"
        return (
            f"{times} | {1 / self.farstep:.1f} | {1e3 * self.floor:.1f} "
            f"| {self.farstep / self.floor:.2f} | {memory} | {self.memory:.0f} "
            f"| {self.compiling:.1f}"
        )


def compare(agent: MQE, options: Options) -> Comparison:
    """Alternate farstep's update, the plain one, and the machine's matrix products."""
    spaces = Spaces.from_observation(Space((options.observation,)), Actions(options.action))
    table = synthetic_table(spaces)
    training = Training(agent, spaces, table)
    updates = training.updates_in(options.seconds)
    works = {
        "farstep": lambda: training.run(updates),
        "matmul": matmul_rate(agent.batch_size, agent.hidden[0]),
    }
    plain_memory, repeats = None, 0
    if 4 * agent.ensemble_size * agent.batch_size**2 * agent.latent < LARGEST_PLAIN:
        state = agent.init(spaces, jax.random.key(0))
        rows = np.asarray(table.observations), np.asarray(table.actions)
        sampler = HostSampler(*rows, LENGTH, agent)
        arguments = (state.params, state.optimizer, sampler())
        update = plain_update(agent).lower(*arguments).compile()
        plain_memory = temporary_mebibytes(update)
        jax.block_until_ready(update(*arguments))
        repeats = max(1, round(options.seconds / timed(lambda: update(*arguments))))

        def plain() -> object:
            params, optimizer = state.params, state.optimizer
            for _ in range(repeats):
                params, optimizer = jax.block_until_ready(update(params, optimizer, sampler()))
            return params

        works["plain"] = plain
    seconds = alternate(works, options.rounds)
    rate = matmul_flops(agent.batch_size, agent.hidden[0]) / seconds["matmul"]
    return Comparison(
        plain=seconds["plain"] / repeats if repeats else None,
        farstep=seconds["farstep"] / updates,
        floor=training.flops / rate,
        plain_memory=plain_memory,
        memory=temporary_mebibytes(training.compiled),
        compiling=training.compile_seconds,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
