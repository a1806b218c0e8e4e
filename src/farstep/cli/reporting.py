"""Progress of training on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from farstep.training.checkpoint import SUCCESS
from farstep.training.loop import Reporter
from farstep.training.profile import Profiler
from farstep.training.run import Run


class TrainingReporter(Reporter):
    """A progress line with rate and time left on a terminal; a line a log interval in a file."""

    def __init__(self, console: Console, steps: int):
        self._console = console
        self._steps = steps
        self._rate = 0.0
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} updates/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, rate=0.0, note="compiling")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def message(self, line: str) -> None:
        self._console.print(line)

    def advanced(self, step: int, updates_per_second: float) -> None:
        self._rate = updates_per_second
        self._bar.update(self._task, completed=step, rate=updates_per_second)

    def logged(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        telling = [name for name in ("backup/excess", "actor/bc_loss") if name in metrics]
        shown = telling or list(metrics)[:2]
        note = "  ".join(f"{name} {metrics[name]:.4g}" for name in shown)
        self._bar.update(self._task, note=note)
        if not self._console.is_terminal:
            left = f", {(self._steps - step) / self._rate:.0f} s left" if self._rate else ""
            self._console.print(
                f"{run.path.name}: update {step:,} of {self._steps:,}, {self._rate:.1f}/s"
                f"{left}  {note}"
            )

    def frozen(self, run: Run, reason: str) -> None:
        self._console.print(f"{reason} This seed goes no further; the others go on.")

    def evaluated(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        self._console.print(
            f"{run.path.name}: success {100 * metrics[SUCCESS]:.1f} % after {step:,} updates"
        )

    def profiled(self, profiler: Profiler, trace: Path) -> None:
        table = Table(title="The run", title_justify="left")
        table.add_column("")
        table.add_column("s", justify="right")
        table.add_column("%", justify="right")
        total = sum(profiler.seconds.values()) or 1.0
        for name, took in sorted(profiler.seconds.items(), key=lambda item: -item[1]):
            table.add_row(name, f"{took:.2f}", f"{100 * took / total:.1f}")
        self._console.print(table)
        if profiler.traced:
            traced = f"Trace of {profiler.traced} updates for Perfetto, TensorBoard or XProf"
            self._console.print(f"{traced}: {trace}")
        else:
            self._console.print(
                "Training ended before there was anything to trace; give it more --steps."
            )
