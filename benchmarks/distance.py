"""All pairs of MRN against the plain formulation: time, ratio and memory, as a Markdown table.

    python benchmarks/distance.py

Both forms take turns in one process, so that other work on the machine falls on both; the table has
medians. Memory is what the compiled program needs beside its inputs. The floor is the time of the
operations that the distances need, at the rate of large matrix products in the same rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import tyro

from farstep.quasimetrics import pairwise_mrn
from measuring import matmul_flops, matmul_rate, timed
from plain import plain_pairwise_mrn

Step = Callable[[jax.Array, jax.Array], object]

OPERATIONS = {"forward": 3, "forward + backward": 11}
"""For each pair and coordinate. Forward: a difference, then a comparison and a choice or a product
and a sum. Backward: forward again, to find winners and norms; then for each side a comparison, a
choice and a sum, or the multiplication and addition of a matrix product."""

PRODUCT = 512
"""Rows and columns of the matrices whose product tells the machine's rate."""

LARGEST_PLAIN = 2**30
"""Bytes of differences from which the plain form is not run: its gradient holds several copies."""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        batches: rows, and as many columns.
        latents: latent sizes.
        members: members of the ensemble.
        groups: groups of MRN.
        seconds: how long to alternate in each row of the table, at least one round.
    """

    batches: tuple[int, ...] = (64, 256, 512, 1024)
    latents: tuple[int, ...] = (128, 512)
    members: int = 2
    groups: int = 8
    seconds: float = 2.0


def main(options: Options) -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {options.members} members\n")
    print(
        "| B | D | pass | plain ms | farstep ms | ratio | floor ms | of floor "
        "| plain MiB | farstep MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    product = matmul_rate(PRODUCT, PRODUCT)
    for latent in options.latents:
        for batch in options.batches:
            keys = jax.random.split(jax.random.key(0))
            shape = (options.members, batch, latent)
            x, y = (jax.random.normal(key, shape) for key in keys)
            plain_fits = x.nbytes * batch < LARGEST_PLAIN
            for name, wrap in (("forward", forward), ("forward + backward", backward)):
                distances = [pairwise_mrn, plain_pairwise_mrn][: 1 + plain_fits]
                steps = [
                    jax.jit(wrap(distance, options.groups)).lower(x, y).compile()
                    for distance in distances
                ]
                works = [product] + [lambda step=step, x=x, y=y: step(x, y) for step in steps]
                of_product, *times = alternate(works, options.seconds)
                rate = matmul_flops(PRODUCT, PRODUCT) / of_product
                floor = OPERATIONS[name] * options.members * batch**2 * latent / rate
                sizes = [megabytes(step) for step in steps]
                print(f"| {batch} | {latent} | {name} | {cells(times, floor, sizes)} |", flush=True)


def forward(distance: Callable, groups: int) -> Step:
    return lambda x, y: distance(x, y, groups)


def backward(distance: Callable, groups: int) -> Step:
    def loss(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.square(distance(x, y, groups)).mean()

    return jax.value_and_grad(loss, argnums=(0, 1))


def alternate(works: list[Callable[[], object]], seconds: float) -> list[float]:
    """The median milliseconds of each."""
    samples: list[list[float]] = [[] for _ in works]
    stop = time.perf_counter() + seconds
    while not samples[-1] or time.perf_counter() < stop:
        for work, taken in zip(works, samples, strict=True):
            # Untimed first: what the other work left in memory is freed during the next call.
            timed(work)
            taken.append(1e3 * timed(work))
    return [statistics.median(taken) for taken in samples]


def megabytes(step: jax.stages.Compiled) -> float:
    usage = step.memory_analysis()
    if usage is None:
        return float("nan")
    return (usage.temp_size_in_bytes + usage.output_size_in_bytes) / 2**20


def cells(times: list[float], floor: float, sizes: list[float]) -> str:
    limit = f"{floor:.1f} | {times[0] / floor:.1f}"
    if len(times) == 1:
        return f"not run | {times[0]:.1f} | | {limit} | | {sizes[0]:.1f}"
    (fast, plain), (fast_size, plain_size) = times, sizes
    ratio = f"{plain:.1f} | {fast:.1f} | {plain / fast:.1f}"
    return f"{ratio} | {limit} | {plain_size:.1f} | {fast_size:.1f}"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
