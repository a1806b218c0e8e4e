"""`farstep plot calibration`: learned steps against logged steps in held-out episodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from farstep.data.table import open_dataset
from farstep.serving.policy import load_policy


@dataclass(frozen=True, kw_only=True)
class PlotCalibration:
    """Draw the learned distance between states of held-out episodes over the steps between them.

    No environment is needed. The page "What is a goal, and does my training work?" of the
    documentation says how to read the picture.
    """

    run_path: Annotated[Path, tyro.conf.arg(name="RUN"), tyro.conf.Positional]
    """Directory of a run, or of an exported policy."""
    checkpoint: str = "last"
    """Of a run: `last`, `best`, or a number of updates."""
    dataset: str | None = None
    """Whose validation episodes to take; the policy's own data by default."""
    seed: int = 0
    """Of the choice of states."""
    out: Path | None = None
    """Picture to write, by its ending PNG, PDF or SVG; RUN/plots/calibration.png by default."""

    def run(self) -> None:
        from farstep.analysis.calibration import HeldOutCalibration, draw_calibration
        from farstep.analysis.figures import check_picture, save_figure
        from farstep.analysis.tables import markdown_table

        out = self.out or self.run_path / "plots" / "calibration.png"
        check_picture(out)
        policy = load_policy(self.run_path, checkpoint=self.checkpoint)
        metric = policy.metric
        dataset = open_dataset(self.dataset or policy.data or policy.dataset)
        held_out = dataset.val is not None
        calibration = HeldOutCalibration.measure(metric, dataset.val or dataset.train, self.seed)
        print(markdown_table(calibration.cells))
        print(f"Trusted up to {calibration.trusted:.1f} learned steps")
        print(f"States at random are {calibration.apart:.1f} learned steps apart (median)")
        if not held_out:
            print(f"{dataset.name} has no validation episodes: these are the training episodes.")
        episodes = "held-out" if held_out else "training"
        title = f"{dataset.name} · {policy.step:,} updates · {episodes} episodes"
        save_figure(draw_calibration(calibration, title), out)
        print(f"Picture written to {out}")
