"""`farstep plot plan`: a plan over a maze, and the way that the policy took along it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Int, Shaped

from farstep.cli.environments import drawable_maze
from farstep.cli.planner import Planning, described
from farstep.evaluation.rollout import evaluate
from farstep.evaluation.temperature import SamplingPolicy
from farstep.evaluation.trajectories import Trajectories
from farstep.planning.graph import LandmarkGraph
from farstep.planning.policy import PlannedPolicy
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
    """Another environment than that of the policy's data."""
    out: Path | None = None
    """Picture to write, by its ending PNG, PDF or SVG; RUN/plots/plan-TASK.png by default."""

    def run(self) -> None:
        from farstep.analysis.figures import check_picture, save_figure
        from farstep.analysis.plan import PlanPicture, draw_plan

        out = self.out or self.run_path / "plots" / f"plan-{self.task}.png"
        check_picture(out)
        policy = load_policy(self.run_path, checkpoint=self.checkpoint)
        spec, maze = drawable_maze(policy, self.run_path, self.environment)
        planned = self.planning.plan(policy, self.seed)
        print(described(planned))
        graph = planned.graph
        watched = Watched(policy, graph)
        recorder = Trajectories()
        result = evaluate(
            watched,
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
        picture = PlanPicture(
            maze=maze,
            landmarks=graph.observations[:, :2],
            costs=watched.costs,
            edges=np.stack(graph.edges.tocoo().coords, axis=1)[graph.logged],
            path=np.concatenate([route[:1], watched.planned[:, :2], watched.goal[None, :2]]),
            subgoals=np.array(watched.aimed)[:, :2],
            route=route,
            goal=watched.goal[:2],
        )
        ending = "reached" if episode.success else "not reached"
        title = (
            f"{spec.name} · task {self.task} · {ending} in {episode.steps:,} steps · "
            f"{len(graph):,} landmarks, reach {graph.reach:.0f}"
        )
        save_figure(draw_plan(picture, title), out, dpi=200)
        print(f"Task {self.task} {ending} in {episode.steps:,} steps")
        print(f"Picture written to {out}")


class Watched(PlannedPolicy):
    """A planned policy that keeps what its first slot was told.

    Attributes:
        goal: of the episode.
        costs: steps from each landmark to it.
        planned: observations of the subgoals as planned at the start.
        aimed: observations of the subgoals taken, each once in a row.
    """

    def __init__(self, policy: SamplingPolicy, graph: LandmarkGraph):
        super().__init__(policy, graph)
        self.goal = self.costs = self.planned = np.zeros(0)
        self.aimed: list[np.ndarray] = []

    def begin(
        self,
        slots: Int[np.ndarray, " n"],
        observations: Shaped[np.ndarray, "n *obs"],
        goals: Shaped[np.ndarray, "n *obs"],
    ) -> None:
        super().begin(slots, observations, goals)
        self.goal = goals[0].copy()
        self.costs = self.costs_to_go(0)

    def act(
        self,
        observations: Shaped[np.ndarray, "slots *obs"],
        goals: Shaped[np.ndarray, "slots *obs"],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray:
        actions = super().act(observations, goals, temperature=temperature, seed=seed, step=step)
        if not self.aimed:
            self.planned = self.graph.observations[self.path(0)]
        if not self.aimed or not np.array_equal(self.aimed[-1], self.subgoals[0]):
            self.aimed.append(self.subgoals[0].copy())
        return actions
