"""Several seeds in one program against one after another.

    python benchmarks/seeds.py [--seeds 1 2 4 8]

The training programs of MQE for so many seeds take turns in one process; the table has medians. The
ratio is the rate of the seeds together against the rate of single runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from farstep.agents.mqe import MQE
from farstep.core.types import Actions, Space, Spaces
from measuring import Training, alternate, synthetic_table


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        seeds: how many together, a row each.
        width: units of each of three hidden layers.
        latent: width of the embeddings.
        batch_size: rows of a batch.
        rounds: how many times to alternate.
        seconds: about how long each row runs in each round.
    """

    seeds: tuple[int, ...] = (1, 2, 4, 8)
    width: int = 256
    latent: int = 128
    batch_size: int = 128
    rounds: int = 3
    seconds: float = 2.0


def main(options: Options) -> None:
    spaces = Spaces.from_observation(Space((29,)), Actions(8))
    table = synthetic_table(spaces)
    agent = MQE(hidden=(options.width,) * 3, latent=options.latent, batch_size=options.batch_size)
    trainings = {seeds: Training(agent, spaces, table, seeds) for seeds in (1, *options.seeds)}
    updates = {seeds: each.updates_in(options.seconds) for seeds, each in trainings.items()}
    seconds = alternate(
        {
            str(seeds): lambda each=each, count=updates[seeds]: each.run(count)
            for seeds, each in trainings.items()
        },
        options.rounds,
    )
    alone = seconds["1"] / updates[1]
    print("| seeds | ms an update of all | updates/s of all together | ratio |")
    print("|---|---|---|---|")
    for count in options.seeds:
        each = seconds[str(count)] / updates[count]
        print(f"| {count} | {1e3 * each:.1f} | {count / each:.1f} | {count * alone / each:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
