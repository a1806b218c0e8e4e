"""`farstep distill`: a flat policy that acts as the planned one does."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from farstep.cli.planner import Planning, described
from farstep.core.errors import FarstepError
from farstep.data.table import goals_of
from farstep.planning.distillation import Distillation, check_teacher, distill
from farstep.serving.policy import load_policy

EVERY = 1000
"""Updates between lines of progress."""


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Teach a policy to act towards far goals as it does towards planned subgoals. Experimental.

    Writes an exported policy that needs no graph: `farstep eval` and `farstep.load_policy` read it.
    A policy that was exported with landmarks needs no data: its landmarks are the states.
    """

    run_path: Annotated[Path, tyro.conf.arg(name="RUN"), tyro.conf.Positional]
    """Directory of a run, or of an exported policy."""
    checkpoint: str = "last"
    """Of a run: `last`, `best`, or a number of updates."""
    out: Path | None = None
    """Directory to write; RUN/distilled by default."""
    options: tyro.conf.OmitArgPrefixes[Distillation] = field(default_factory=Distillation)
    planning: tyro.conf.OmitArgPrefixes[Planning] = field(default_factory=Planning)
    overwrite: bool = False
    """Replace an earlier result."""

    def run(self) -> None:
        out = self.out or self.run_path / "distilled"
        if out.exists() and not self.overwrite:
            raise FarstepError(f"{out} already exists; --overwrite replaces it")
        policy = load_policy(self.run_path, checkpoint=self.checkpoint)
        check_teacher(policy.metric)
        # An export with landmarks holds no other data.
        keeps = self.planning.keeps(policy)
        table = None if keeps else self.planning.data(policy).train
        planned = self.planning.plan(policy, self.options.seed)
        print(described(planned))
        graph = planned.graph
        if table is None:
            source = graph.landmarks.observations, graph.landmarks.goals
        else:
            source = table.observations, goals_of(table, policy.spaces.rule)
        print(f"States and goals are drawn from {'the landmarks' if keeps else 'the data'}")

        def report(update: int, loss: float) -> None:
            if update % EVERY == 0 or update == self.options.updates:
                print(f"update {update:,} of {self.options.updates:,}: loss {loss:.4f}", flush=True)

        params = distill(graph, *source, self.options, report)
        source = {**policy.source, "distilled": asdict(self.options)}
        replace(policy, params=params, source=source, landmarks=None).save(
            out, overwrite=self.overwrite
        )
        print(f"Policy written to {out}")
