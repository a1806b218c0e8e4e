"""Whether the speeds that docs/benchmarks.md reports still hold, within a wide margin.

    make bench-smoke

It takes under two minutes on two free cores. Each ratio is one of medians from alternating rounds
in one process. About half of the reported ratio passes, since the machine may be busy. The script
exits with 1 if one fails. It is no part of `make test`, because a busy machine would fail it.
"""

from __future__ import annotations

import multiprocessing
import sys

import jax
import jax.numpy as jnp

import distance
import evaluation
import generation
import update
from farstep.quasimetrics import pairwise_mrn
from measuring import alternate
from plain import plain_pairwise_mrn


def distance_ratio() -> float:
    """All pairs of 256 × 256 with 512 dimensions, forward and backward."""
    x, y = jax.random.normal(jax.random.key(0), (2, 2, 256, 512))
    forms = {"fast": pairwise_mrn, "plain": plain_pairwise_mrn}
    steps = {name: jax.jit(distance.backward(form, 8)) for name, form in forms.items()}
    seconds = alternate(
        {name: lambda step=step: step(x, y) for name, step in steps.items()}, rounds=3
    )
    values = [step(x, y)[0] for step in steps.values()]
    assert jnp.allclose(*values, rtol=1e-4), "the two forms differ"
    return seconds["plain"] / seconds["fast"]


def update_ratio() -> float:
    """An MQE update of the small size."""
    options = update.Options(rounds=3, seconds=1.0)
    measured = update.compare(update.SIZES["small"], options)
    assert measured.plain is not None
    return measured.plain / measured.farstep


def evaluation_ratio() -> float:
    """Evaluation of a point mass."""
    with multiprocessing.get_context("spawn").Pool(evaluation.cores()) as processes:
        rates = evaluation.rates("pointmaze-medium-v0", 1, 250, [evaluation.cores()], processes)
    return max(rate for what, rate in rates.items() if "farstep" in what) / rates["plain"]


def generation_ratio() -> float:
    """Making point-mass data."""
    slow, fast = generation.medians(
        generation.Options(plain_steps=2_000, farstep_steps=60_000, rounds=1)
    )
    return fast.rate / slow.rate


CHECKS = (
    (distance_ratio, 6.0),
    (update_ratio, 2.5),
    (evaluation_ratio, 1.6),
    (generation_ratio, 2.0),
)


def main() -> None:
    failed = False
    for check, least in CHECKS:
        ratio = check()
        failed |= ratio < least
        verdict = "FAILED, at least" if ratio < least else "at least"
        print(f"{check.__doc__} {ratio:.1f} × plain ({verdict} {least})", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
