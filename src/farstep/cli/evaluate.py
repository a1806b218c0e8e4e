"""`farstep eval`: a policy's success rates in its environment."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from farstep.analysis.tables import (
    Cells,
    check_comparable,
    comparison_cells,
    evaluation_cells,
    markdown_table,
    protocol_line,
    rich_table,
)
from farstep.api import evaluate
from farstep.cli.console import plain_console
from farstep.cli.environments import environment_of
from farstep.cli.planner import Planning, described
from farstep.core.files import check_writable
from farstep.envs.opengl import require_drawing
from farstep.envs.specs import EnvironmentSpec
from farstep.evaluation.results import Evaluation
from farstep.evaluation.rollout import SLOTS
from farstep.evaluation.video import Format, Videos
from farstep.planning.policy import PlannedPolicy
from farstep.serving.policy import Policy, load_policy


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a policy's success rates: all tasks of its environment, 50 seeded episodes each."""

    run_path: Annotated[Path, tyro.conf.arg(name="RUN"), tyro.conf.Positional]
    """Directory of a run, or of an exported policy."""
    checkpoint: str = "last"
    """Of a run: `last`, `best`, or a number of updates."""
    environment: str | None = None
    """The environment; that of the policy's data by default."""
    episodes: int = 50
    """Episodes of each task."""
    tasks: tuple[int, ...] = ()
    """Numbers of the tasks, from 1; all if none is given."""
    seed: int = 0
    """Root of all episodes' seeds and, with --plan graph, of the choice of landmarks."""
    max_steps: int | None = None
    """Steps after which an episode is cut; the environment's own number by default."""
    temperature: float | None = None
    """Scale of the policy's own noise; by default 0, and 0.3 where actions are discrete."""
    execute: int | None = None
    """How many actions of the policy's chunks are carried out before it looks again; all by
    default."""
    slots: int = SLOTS
    """Rows of each policy call. The last bits of actions depend on it; keep it to compare."""
    workers: int | None = None
    """Simulator processes, 0 for none; one a core by default. Results do not depend on it."""
    out: Path | None = None
    """Write the result, with every episode, to this JSON file."""
    against: tuple[Path, ...] = ()
    """Results written by --out, to show side by side with this one."""
    markdown: bool = False
    """Print Markdown tables."""
    plan: Literal["none", "graph"] = "none"
    """`graph`: steer the policy along shortest paths over states of its data."""
    planning: tyro.conf.OmitArgPrefixes[Planning] = field(default_factory=Planning)
    video: Path | None = None
    """Write videos of the first episodes of each task into this directory."""
    video_episodes: int = 1
    """Episodes of each task on video."""
    video_every: int = 3
    """Steps between frames of the videos."""
    video_format: Format = "mp4"
    """Format of the videos."""
    video_size: int = 400
    """Width and height of the videos in pixels, where the environment takes them."""

    def run(self) -> None:
        if self.out is not None:
            check_writable(self.out)
        if self.video is not None:
            check_writable(self.video, directory=True)
        console = plain_console()
        policy = load_policy(self.run_path, checkpoint=self.checkpoint)
        spec = environment_of(policy, self.run_path, self.environment)
        earlier = {str(path): Evaluation.load(path) for path in self.against}
        # Before the work, not after it.
        tasks = sorted(set(self.tasks)) or list(range(1, spec.num_tasks + 1))
        asked = {"environment": spec.name, "tasks": tasks}
        check_comparable(
            {str(self.run_path): asked} | {name: one.protocol for name, one in earlier.items()}
        )
        acting: Policy | PlannedPolicy = policy
        if self.plan == "graph":
            acting = self.planning.plan(policy, self.seed, execute=self.execute)
            console.print(described(acting))
        else:
            self.planning.refuse("add --plan graph")
        result = self._evaluate(acting, spec, console)
        about = {"path": str(self.run_path)} | result.protocol["policy"]
        result = replace(result, protocol={**result.protocol, "policy": about})
        console.print(f"{self.run_path} after {policy.step:,} updates", soft_wrap=True)
        self._show(console, evaluation_cells(result))
        console.print(protocol_line(result), soft_wrap=True)
        console.print(
            f"{result.steps:,} steps in {result.seconds:.1f} s, "
            f"{result.steps_per_second:,.0f} a second"
        )
        if earlier:
            self._show(console, comparison_cells({str(self.run_path): result} | earlier))
        if self.out is not None:
            result.save(self.out)
            console.print(f"Result written to {self.out}", soft_wrap=True)

    def _evaluate(
        self, acting: Policy | PlannedPolicy, spec: EnvironmentSpec, console: Console
    ) -> Evaluation:
        options: dict[str, Any] = {}
        with ExitStack() as resources:
            videos = None
            if self.video is not None:
                require_drawing()
                videos = resources.enter_context(
                    Videos(self.video, self.video_episodes, self.video_every, self.video_format)
                )
                if spec.sized:
                    options = {"width": self.video_size, "height": self.video_size}
            bar = resources.enter_context(
                Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TextColumn("episodes, {task.fields[successes]} successful"),
                    TimeElapsedColumn(),
                    console=console,
                    disable=not console.is_terminal,
                    transient=True,
                )
            )
            shown = bar.add_task(spec.name, total=None, successes=0)

            def progress(finished: int, episodes: int, successes: int) -> None:
                bar.update(shown, completed=finished, total=episodes, successes=successes)

            return evaluate(
                acting,
                spec,
                episodes=self.episodes,
                tasks=self.tasks or None,
                seed=self.seed,
                max_steps=self.max_steps,
                temperature=self.temperature,
                execute=self.execute if isinstance(acting, Policy) else None,
                slots=self.slots,
                workers=self.workers,
                options=options,
                record=videos,
                progress=progress,
            )

    def _show(self, console: Console, cells: Cells) -> None:
        if self.markdown:
            console.print(markdown_table(cells), soft_wrap=True)
        else:
            console.print(rich_table(cells))
