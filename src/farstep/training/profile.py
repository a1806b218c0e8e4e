"""Where a training run's time goes: its phases on the host, and a trace of one dispatch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax

TRACED_DISPATCH = 3
"""The first dispatch compiles, the second measures the rate; the third has its final length."""


class Profiler:
    """The training loop tells it what runs. It sums the time by phase and traces one dispatch.

    Args:
        path: the directory of the trace. Without it there is no trace.

    Attributes:
        seconds: the time of each phase, without the phases inside it.
        traced: number of updates in the trace; 0 before there is one.
    """

    def __init__(self, path: Path | None = None):
        self.seconds: dict[str, float] = {}
        self.traced = 0
        self._path = path
        self._nested: list[float] = []
        self._dispatches = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside towards `name`, but for the phases within."""
        self._nested.append(0.0)
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + took - self._nested.pop()
            if self._nested:
                self._nested[-1] += took

    @contextmanager
    def dispatch(self, updates: int) -> Iterator[None]:
        """Count the time inside as one dispatch of `updates` updates."""
        self._dispatches += 1
        with ExitStack() as contexts:
            contexts.enter_context(self.phase("compiling" if self._dispatches == 1 else "updates"))
            if self._path is not None and self._dispatches == TRACED_DISPATCH:
                self.traced = updates
                # Calls of Python functions would bury the operations of the device.
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0
                trace = jax.profiler.trace(str(self._path), profiler_options=options)
                contexts.enter_context(trace)
            yield
