"""`farstep quickstart`: everything once, sized for two cores, by the commands that users type."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farstep.cli.console import plain_console
from farstep.core.errors import FarstepError

DATASET = "pointmaze-medium-stitch-v0"
UPDATES = 12_000
BASELINE_UPDATES = 10_000_000
"""More updates than the baseline can do in its time."""


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Make data, train MQE and GCBC on them, evaluate both, and MQE again with a planner on top.

    The logged episodes cover four cells of a maze; the tasks ask for up to three times that.
    Takes a few minutes on two cores.
    """

    out: Path = Path("quickstart")
    """Directory for the data, the runs and the picture."""
    seed: int = 0
    """Root of everything random: data, training and evaluation."""
    updates: int = UPDATES
    """Updates of MQE; GCBC gets the same time."""
    episodes: int = 1_000
    """Logged episodes to make."""
    evaluation_episodes: int = 20
    """Episodes of each task."""

    def run(self) -> None:
        from farstep.analysis.tables import comparison_cells, rich_table
        from farstep.cli.main import run_command
        from farstep.evaluation.results import Evaluation
        from farstep.training.run import Run

        console = plain_console()

        def step(words: str) -> None:
            console.print(f"\n$ farstep {words}", style="bold")
            run_command(shlex.split(words))

        data, mqe, gcbc = (self.out / name for name in (DATASET, "mqe", "gcbc"))
        self._make_data(data, step)
        options = f"--preset small --seed {self.seed} --evaluation-episodes 0 --overwrite"
        step(
            f"train {_quote(data)} --agent mqe --steps {self.updates} {options} --out {_quote(mqe)}"
        )
        minutes = Run.open(mqe).records("metrics")[-1]["seconds"] / 60
        step(
            f"train {_quote(data)} --agent gcbc --steps {BASELINE_UPDATES} "
            f"--max-minutes {minutes:.2f} {options} --out {_quote(gcbc)}"
        )
        rows = (
            ("GCBC", gcbc, ""),
            ("MQE", mqe, ""),
            ("MQE + planning", mqe, " --plan graph"),
        )
        results = {}
        for name, run, planning in rows:
            result = self.out / f"{name.lower().replace(' + ', '-')}.json"
            step(
                f"eval {_quote(run)}{planning} --episodes {self.evaluation_episodes} "
                f"--seed {self.seed} --out {_quote(result)}"
            )
            results[name] = Evaluation.load(result)
        distance, plan = self.out / "distance.png", self.out / "plan.png"
        step(f"plot distance {_quote(mqe)} --goal task:1 --out {_quote(distance)}")
        step(f"plot plan {_quote(mqe)} --task 1 --out {_quote(plan)}")
        console.print()
        console.print("Success on tasks beyond the data", style="bold")
        console.print(rich_table(comparison_cells(results)))
        console.print(f"Pictures  {distance}, {plan}\nData      {data}\nRuns      {mqe}, {gcbc}")

    def _make_data(self, data: Path, step: Callable[[str], None]) -> None:
        from farstep.data.table import open_dataset

        if data.exists():
            if open_dataset(str(data)).train.num_episodes != self.episodes:
                raise FarstepError(
                    f"{data} holds other data than this quickstart would make. "
                    "Remove it, or choose another place with --out."
                )
            return
        step(
            f"data make {DATASET} --episodes {self.episodes} --seed {self.seed} "
            f"--out {_quote(data)}"
        )


def _quote(path: Path) -> str:
    return shlex.quote(str(path))
