"""Evaluations while training, which may run concurrently with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from farstep.core.types import Params
from farstep.training.program import TrainState

Measure = Callable[[int, Sequence[Params | None]], list[Mapping[str, float]]]
"""A function of the step and each seed's networks to their metrics; None is left out."""


class Evaluation(NamedTuple):
    """One evaluation, under way or over.

    Attributes:
        step: updates done when it began.
        state: state of training at that step; a copy, if training went on.
        result: metrics of each seed.
    """

    step: int
    state: TrainState
    result: Future[list[Mapping[str, float]]]


class Evaluations:
    """Starts evaluations; a context manager, which waits at its end for one under way.

    A concurrent evaluation acts on the CPU: on the device, each call of the policy would wait for
    the dispatch of updates that is running there.

    Args:
        measure: evaluates the networks of every seed.
        concurrent: return at once and measure in a thread, while training goes on.
    """

    def __init__(self, measure: Measure, *, concurrent: bool):
        self._measure = measure
        self._concurrent = concurrent
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="farstep-evaluation")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def start(self, step: int, state: TrainState, params: Sequence[Params | None]) -> Evaluation:
        """Evaluate the networks `params` of each seed, as `state` holds them at `step`."""
        if self._concurrent:
            kept = jax.tree.map(jnp.copy, state)  # Training reuses the original's memory.
            copies = [on_cpu(one) for one in params]
            return Evaluation(step, kept, self._thread.submit(self._measure, step, copies))
        now: Future[list[Mapping[str, float]]] = Future()
        try:
            now.set_result(self._measure(step, params))
        except BaseException as error:
            now.set_exception(error)
        return Evaluation(step, state, now)


def on_cpu(params: Params) -> Params:
    """A copy in main memory that JAX also computes with there."""
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names the accelerator alone.
        return jax.tree.map(jnp.copy, params)
    return jax.tree.map(lambda leaf: jax.device_put(leaf, cpu, may_alias=False), params)
