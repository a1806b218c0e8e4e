"""`farstep export`: a run's policy as two files that need no training code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a policy that stands alone: safetensors and JSON, read by `farstep.load_policy`."""

    run_path: Annotated[Path, tyro.conf.arg(name="RUN"), tyro.conf.Positional]
    """Directory of the run."""
    checkpoint: str = "last"
    """`last`, `best`, or a number of updates."""
    out: Path | None = None
    """Directory to write; RUN/policy by default."""
    overwrite: bool = False
    """Replace an earlier export."""

    def run(self) -> None:
        from farstep.serving.runs import policy_of_run

        policy = policy_of_run(self.run_path, self.checkpoint)
        out = self.out or self.run_path / "policy"
        policy.save(out, overwrite=self.overwrite)
        print(f"Policy after {policy.step:,} updates written to {out}")
