"""An update of every agent, at one size of network and batch, against its own matrix products.

    python benchmarks/agents.py [--agents mqe gcbc] [--precision bfloat16]

The training programs of all agents take turns in each round; the table has medians. The floor is
the time of the matrix products of the update, counted in its program, at the rate measured for
products of as many rows in the same rounds. Memory is what the program needs beside its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import tyro

from farstep.agents.base import Agent
from farstep.agents.registry import AGENTS
from farstep.core.types import Actions, Space, Spaces
from farstep.networks.precision import Precision
from measuring import (
    Training,
    alternate,
    matmul_flops,
    matmul_rate,
    synthetic_table,
    temporary_mebibytes,
)


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        agents: their names.
        width: units of each of three hidden layers.
        latent: width of embeddings, of agents that have them.
        batch_size: rows of a batch.
        precision: of the matrix products.
        observation: dimensions of an observation.
        action: dimensions of an action.
        rounds: how many times to alternate.
        seconds: about how long the updates of one agent run in each round.
    """

    agents: tuple[str, ...] = tuple(AGENTS)
    width: int = 256
    latent: int = 128
    batch_size: int = 256
    precision: Precision = "float32"
    observation: int = 29
    action: int = 8
    rounds: int = 3
    seconds: float = 2.0


def main(options: Options) -> None:
    spaces = Spaces.from_observation(Space((options.observation,)), Actions(options.action))
    table = synthetic_table(spaces)
    trainings = {
        name: Training(sized(AGENTS[name], options), spaces, table) for name in options.agents
    }
    updates = {name: each.updates_in(options.seconds) for name, each in trainings.items()}
    works = {
        name: lambda each=each, count=updates[name]: each.run(count)
        for name, each in trainings.items()
    }
    matmul = matmul_rate(options.batch_size, options.width)
    seconds = alternate({**works, "matmul": matmul}, options.rounds)
    rate = matmul_flops(options.batch_size, options.width) / seconds["matmul"]
    print("| agent | farstep ms | updates/s | floor ms | of floor | MiB | compile s |")
    print("|---|---|---|---|---|---|---|")
    for name, each in trainings.items():
        ours, floor = seconds[name] / updates[name], each.flops / rate
        print(
            f"| {name} | {1e3 * ours:.1f} | {1 / ours:.0f} | {1e3 * floor:.1f} "
            f"| {ours / floor:.2f} | {temporary_mebibytes(each.compiled):.0f} "
            f"| {each.compile_seconds:.1f} |"
        )


def sized(kind: type[Agent], options: Options) -> Agent:
    """The agent at the benchmark's size; what else it has is its own default."""
    sizes = {
        "hidden": (options.width,) * 3,
        "latent": options.latent,
        "batch_size": options.batch_size,
        "precision": options.precision,
    }
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in sizes.items() if name in known})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
