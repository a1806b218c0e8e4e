"""Where a training run's time goes: its phases on the host, and the operations of one dispatch."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

TRACED_DISPATCH = 3
"""The first compiles and the second tells the rate; the third is as long as all that follow."""

CONTROL = ("while", "call", "conditional", "fusion_call")
"""Operations that only run others, which are counted themselves."""

_INSTRUCTION = re.compile(r'%?([\w.\-]+) = .*op_name="([^"]*)"')


class Profiler:
    """Told by the training loop what it does; sums the time, and traces one dispatch if asked.

    Args:
        path: where the trace goes; without it nothing is traced.
    """

    def __init__(self, path: Path | None = None):
        self.seconds: dict[str, float] = {}
        self._path = path
        self._nested: list[float] = []
        self._dispatches = 0
        self._traced = 0
        self._lower: Callable[[], jax.stages.Lowered] | None = None

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
        """A dispatch of so many updates."""
        self._dispatches += 1
        with ExitStack() as contexts:
            contexts.enter_context(self.phase("compiling" if self._dispatches == 1 else "updates"))
            if self._path is not None and self._dispatches == TRACED_DISPATCH:
                self._traced = updates
                contexts.enter_context(tracing(self._path))
            yield

    def runs(self, program: Any, *arguments: Any) -> None:
        """The jitted `program` is about to run with these arguments, the first one static."""
        if self._path is not None and self._lower is None:
            static, *arrays = arguments
            shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)
            self._lower = lambda: program.lower(static, *shapes)

    def operations(self) -> Operations | None:
        """What the device did in the traced dispatch; None if training ended before it."""
        if self._path is None or self._lower is None or not self._traced:
            return None
        return operations(self._path, self._lower().compile().as_text() or "", self._traced)


@dataclass(frozen=True)
class Operations:
    """What the device did in a traced stretch.

    Attributes:
        updates: how many updates were traced.
        seconds: device time, summed over its threads, by part of the update, such as
            `backward, matrix products`.
    """

    updates: int
    seconds: Mapping[str, float]


@contextmanager
def tracing(path: Path) -> Iterator[None]:
    """Write a trace of everything inside to `path`, for Perfetto, TensorBoard or XProf."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Calls of Python functions would bury the operations.
    with jax.profiler.trace(str(path), profiler_options=options):
        yield


def operations(path: Path, compiled: str, updates: int) -> Operations:
    """Sum a trace by part of the update.

    Args:
        path: where `tracing` wrote.
        compiled: text of the compiled program that was traced, which says where each operation
            comes from.
        updates: how many updates were traced.
    """
    origin = dict(_INSTRUCTION.findall(compiled))
    seconds: dict[str, float] = {}
    newest = max(path.rglob("*.xplane.pb"), key=lambda file: file.stat().st_mtime)
    for name, nanoseconds in _events(newest):
        if not name.startswith(CONTROL):
            part = part_of_update(origin.get(name, ""))
            seconds[part] = seconds.get(part, 0.0) + nanoseconds / 1e9
    return Operations(updates, seconds)


def part_of_update(origin: str) -> str:
    """In words, where in the update an operation comes from, by the path of its scopes."""
    if not origin:
        return "copies"  # What the compiler put in has no origin.
    if "transpose(" in origin:
        direction = "backward"
    elif "jvp(" in origin:
        direction = "forward"
    else:
        return next((part for part in ("sample", "optimizer") if f"/{part}/" in origin), "rest")
    primitive = origin.rsplit("/", 1)[-1]
    if "pairwise_mrn" in origin:
        return f"{direction}, distances of all pairs"
    if primitive.startswith("dot_general"):
        return f"{direction}, matrix products"
    if primitive.startswith("conv_general"):
        return f"{direction}, convolutions"
    return f"{direction}, everything else"


def _events(file: Path) -> Iterator[tuple[str, float]]:
    """Name and nanoseconds of each operation in a trace: the accelerator's, else the CPU's."""
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in devices or planes:
        for line in plane.lines:
            # Of an accelerator the same work is also listed by module and by step.
            if devices and not line.name.startswith("Stream"):
                continue
            for event in line.events:
                statistics = dict(event.stats)
                if "hlo_op" in statistics:
                    yield str(statistics["hlo_op"]), event.duration_ns
