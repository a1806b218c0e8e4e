"""`farstep export`: a run's policy as two files that need no training code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from farstep.cli.planner import Planning, described


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a policy that stands alone: safetensors and JSON, read by `farstep.load_policy`.

    With --landmarks it can plan without the data.
    """

    run_path: Annotated[Path, tyro.conf.arg(name="RUN"), tyro.conf.Positional]
    """Directory of the run."""
    checkpoint: str = "last"
    """`last`, `best`, or a number of updates."""
    out: Path | None = None
    """Directory to write; RUN/policy by default."""
    planning: tyro.conf.OmitArgPrefixes[Planning] = field(default_factory=Planning)
    overwrite: bool = False
    """Replace an earlier export."""

    def run(self) -> None:
        from farstep.serving.runs import policy_of_run

        if self.planning.landmarks is None:
            self.planning.refuse("say with --landmarks how many states to put into the policy")
        policy = policy_of_run(self.run_path, self.checkpoint)
        if self.planning.landmarks is not None:
            planned = self.planning.plan(policy)
            print(described(planned))
            policy = replace(policy, landmarks=planned.graph.landmarks)
        out = self.out or self.run_path / "policy"
        policy.save(out, overwrite=self.overwrite)
        print(f"Policy after {policy.step:,} updates written to {out}")
