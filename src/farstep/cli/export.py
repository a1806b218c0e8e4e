"""`farstep export`: a run's policy as two files that need no training code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from farstep.cli.planner import described, graph_of
from farstep.planning.landmarks import Choice


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a policy that stands alone: safetensors and JSON, read by `farstep.load_policy`."""

    run_path: Annotated[Path, tyro.conf.arg(name="RUN"), tyro.conf.Positional]
    """Directory of the run."""
    checkpoint: str = "last"
    """`last`, `best`, or a number of updates."""
    out: Path | None = None
    """Directory to write; RUN/policy by default."""
    landmarks: int = 0
    """States of the run's data to put into it, so that it can plan without them; 0 for none."""
    landmark_choice: Choice = "farthest"
    """How they are chosen: `farthest` from one another, or at `random`."""
    reach: float | None = None
    """Longest step of a plan in environment steps; calibrated on held-out episodes by default."""
    stride: float | None = None
    """Longest step of a plan that no logged episode takes; calibrated by default."""
    dataset: str | None = None
    """Where landmarks come from; the run's own data by default."""
    overwrite: bool = False
    """Replace an earlier export."""

    def run(self) -> None:
        from farstep.serving.runs import policy_of_run

        policy = policy_of_run(self.run_path, self.checkpoint)
        if self.landmarks:
            asked = {
                "landmarks": self.landmarks,
                "choice": self.landmark_choice,
                "reach": self.reach,
                "stride": self.stride,
            }
            graph, calibration = graph_of(policy, self.dataset, asked)
            print(described(graph, calibration))
            policy = replace(policy, landmarks=graph.landmarks)
        out = self.out or self.run_path / "policy"
        policy.save(out, overwrite=self.overwrite)
        print(f"Policy after {policy.step:,} updates written to {out}")
