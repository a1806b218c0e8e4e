"""`farstep plot plan`: a plan over a maze, and the way that the policy took along it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from farstep.cli.environments import drawable_maze
from farstep.cli.planner import Planning, described
from farstep.evaluation.rollout import evaluate
from farstep.evaluation.trajectories import Trajectories
from farstep.planning.policy import Episode
from farstep.serving.policy import load_policy


@dataclass(frozen=True, kw_only=True)
class PlotPlan:
    """Draw a task's plan over the maze: landmarks, path, subgoals, and one episode along it."""

    run_path: Annotated[Path, tyro.conf.arg(name="RUN"), tyro.conf.Positional]
    """Directory of a run, or of an exported policy."""
    checkpoint: str = "last"
    """Of a run: `last`, `best`, or a number of updates."""
    task: int = 1
    """Number of the task, from 1."""
    planning: tyro.conf.OmitArgPrefixes[Planning] = field(default_factory=Planning)
    seed: int = 0
    """Root of the episode's seed and of the choice of landmarks."""
    environment: str | None = None
    """The environment; that of the policy's data by default."""
    out: Path | None = None
    """Picture to write, by its ending PNG, PDF or SVG; RUN/plots/plan-TASK.png by default."""

    def run(self) -> None:
        from farstep.analysis.figures import check_picture, save_figure
        from farstep.analysis.plan import PlanPicture, draw_plan

        out = self.out or self.run_path / "plots" / f"plan-{self.task}.png"
        check_picture(out)
        policy = load_policy(self.run_path, checkpoint=self.checkpoint)
        spec, maze = drawable_maze(policy, self.run_path, self.environment)
        choices: list[Episode] = []

        def observer(slot: int, episode: Episode) -> None:
            choices.append(replace(episode))

        planned = self.planning.plan(policy, self.seed, observer)
        print(described(planned))
        graph = planned.graph
        recorder = Trajectories()
        result = evaluate(
            planned,
            spec.name,
            tasks=[self.task],
            episodes_per_task=1,
            seed=self.seed,
            slots=1,
            workers=0,
            spaces=policy.spaces,
            record=recorder,
        )
        (episode,) = result.episodes
        (route,) = recorder.routes.values()
        first, goal = choices[0], choices[0].goal[:2]
        landmarks = graph.landmarks.goals[:, :2]
        planned_path = first.route.path(first.aim)[:-1]
        picture = PlanPicture(
            maze=maze,
            landmarks=landmarks,
            costs=first.route.costs[:-1],
            edges=graph.landmarks.edges[graph.landmarks.logged],
            path=np.concatenate([route[:1], landmarks[planned_path], goal[None]]),
            subgoals=np.array([choice.subgoal[:2] for choice in choices]),
            route=route,
            goal=goal,
        )
        ending = "reached" if episode.success else "not reached"
        title = (
            f"{spec.name} · task {self.task} · {ending} in {episode.steps:,} steps · "
            f"{len(graph):,} landmarks, edge cutoff {graph.landmarks.edge_cutoff:.0f}"
        )
        save_figure(draw_plan(picture, title), out, dpi=200)
        print(f"Task {self.task} {ending} in {episode.steps:,} steps")
        print(f"Picture written to {out}")
