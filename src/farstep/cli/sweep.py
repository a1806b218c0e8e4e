"""`farstep sweep`: many runs by one file, on processes of this machine, SLURM or Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from farstep.analysis.tables import Cells, rich_table
from farstep.cli.console import plain_console
from farstep.core.files import check_writable
from farstep.sweeps.engines import EngineName, make_engine
from farstep.sweeps.job import Job
from farstep.sweeps.sweep import Outcome, Sweep, carry_out


@dataclass(frozen=True, kw_only=True)
class SweepCommand:
    """Train and evaluate datasets × agents × presets × seeds, as a TOML file lists them.

    What is done is skipped, what failed or was stopped is tried again, so the same command can be
    given at any time. Exit code 1 if a run failed.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.toml")]
    """What to run; see docs/sweeps.md."""
    engine: EngineName = "local"
    """Processes of this machine, SLURM by submitit, or Ray."""
    workers: int = 1
    """Jobs at once."""
    address: str | None = None
    """Of a Ray cluster, such as `auto`; one is started on this machine by default."""
    retries: int = 2
    """How often a job whose worker was killed is started again."""
    dry_run: bool = False
    """Show the jobs and how far they are, and start none."""

    def run(self) -> None:
        sweep = Sweep.read(self.file)
        console = plain_console()
        if self.dry_run:
            console.print(rich_table(cells(sweep, {}), summary=False))
            return
        check_writable(sweep.out, directory=True)
        for job in sweep.jobs:
            if job.failure is not None and not job.done:
                console.print(f"{job.name} failed before: {job.failure}")
        engine = make_engine(
            self.engine,
            workers=self.workers,
            place=sweep.out,
            address=self.address,
            options=sweep.options.get(self.engine, {}),
        )

        def told(job: Job, what: str) -> None:
            console.print(f"{job.name} {what}")

        try:
            outcomes = carry_out(sweep.jobs, engine, retries=self.retries, told=told)
        finally:
            engine.close()
        console.print(rich_table(cells(sweep, outcomes), summary=False))
        bad = [name for name, outcome in outcomes.items() if outcome != "done"]
        if bad:
            raise SystemExit(1)
        console.print(f"All runs lie in {sweep.out}; farstep compare shows them side by side.")


def cells(sweep: Sweep, outcomes: Mapping[str, Outcome]) -> Cells:
    """A row for each job: how it ended, how far it is, and the success of its seeds in the mean."""
    rows = [["run", "state", "updates", "success"]]
    for job in sweep.jobs:
        success = job.success
        left = "failed" if job.failure is not None else "to do"
        rows.append(
            [
                job.name,
                "done" if job.done else outcomes.get(job.name, left),
                f"{job.updates:,} of {job.training.steps:,}",
                "" if success is None else f"{100 * success:.1f} %",
            ]
        )
    return rows
