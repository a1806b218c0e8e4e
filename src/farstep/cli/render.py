"""`farstep data render`: the pictures of a data set of states."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from farstep.cli.console import plain_console, progress_bar
from farstep.collect.render import render
from farstep.core.errors import FarstepError
from farstep.data.table import data_root, open_dataset
from farstep.envs.catalog import ENVIRONMENTS


@dataclass(frozen=True)
class DataRender:
    """Draw the states of a data set as 64 × 64 pictures, row by row.

    `farstep data render cube-double-play` makes visual-cube-double-play.

    Attributes:
        name: a data set with simulator states (qpos and qvel).
        processes: drawing processes; one a core unless told otherwise.
        out: directory to write; by default visual-NAME under $FARSTEP_DATA or ~/.farstep/data.
        overwrite: replace a data set that is already there.
    """

    name: tyro.conf.Positional[str]
    processes: int | None = None
    out: Path | None = None
    overwrite: bool = False

    def run(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise FarstepError(f"--processes must be at least 1, not {self.processes}")
        source = open_dataset(self.name)
        shown = source.environment
        shows = [one for one in ENVIRONMENTS.values() if one.states and one.states == shown]
        if not shows:
            known = sorted({one.states for one in ENVIRONMENTS.values() if one.states})
            raise FarstepError(
                f"No environment shows pictures of '{source.environment}', which {source.path} is"
                f" from. Shown: {', '.join(known)}."
            )
        name = f"visual-{source.name}"
        path = self.out or data_root() / name
        began = time.perf_counter()
        with progress_bar("{task.completed:,.0f} frames") as bar:
            task = bar.add_task(name, total=None)

            def report(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            render(
                path,
                source,
                shows[0],
                name=name,
                processes=self.processes,
                overwrite=self.overwrite,
                progress=report,
            )
        seconds = time.perf_counter() - began
        frames = source.train.num_steps + (source.val.num_steps if source.val else 0)
        plain_console(stderr=True).print(f"{frames:,} frames in {path}, {seconds:,.0f} s")
