"""`farstep plot`: pictures of what a run has learned."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import tyro
from jaxtyping import Float

from farstep.cli.environments import drawable_maze
from farstep.core.errors import FarstepError
from farstep.core.rng import stream_generator
from farstep.data.table import open_dataset
from farstep.envs.mazes import Cell, MazeMap
from farstep.envs.specs import EnvironmentSpec
from farstep.evaluation.rollout import evaluate
from farstep.evaluation.trajectories import Trajectories
from farstep.serving.policy import Policy, load_policy

Number = TypeVar("Number", int, float)

EVEN_SQUARES = 8
"""Squares along a cell's side where the distance is known everywhere."""

SAMPLED_SQUARES = 4
"""Squares along a cell's side where dataset states fill them."""


@dataclass(frozen=True, kw_only=True)
class PlotDistance:
    """Draw the learned distance to a goal over the maze, beside the true shortest paths.

    A goal is `--goal task:1`, a cell `--goal 6,6` (row, column, from 0), or `--goal-xy 20,20`
    (metres). The policy's episodes to that goal's cell are drawn on the picture.
    """

    run_path: Annotated[Path, tyro.conf.arg(name="RUN"), tyro.conf.Positional]
    """Directory of a run, or of an exported policy."""
    checkpoint: str = "last"
    """Of a run: `last`, `best`, or a number of updates."""
    goal: str = "task:1"
    """The goal of a task, `task:K`, or a cell, `ROW,COLUMN`."""
    goal_xy: str | None = None
    """Position of the goal in metres, `X,Y`, in place of --goal."""
    rollouts: int = 3
    """Episodes of the policy to draw; 0 for none."""
    seed: int = 0
    """Root of the episodes' seeds and of the choice of dataset states."""
    environment: str | None = None
    """The environment; that of the policy's data by default."""
    dataset: str | None = None
    """The dataset of the states, if the body is no point; the policy's own by default."""
    samples: int = 20_000
    """Dataset states to draw, if the body is no point."""
    out: Path | None = None
    """Picture to write, by its ending PNG, PDF or SVG; RUN/plots/distance-GOAL.png by default."""

    def run(self) -> None:
        from farstep.analysis.figures import check_picture, save_figure
        from farstep.analysis.heatmap import distance_field, draw_distance_field

        name = self.goal if self.goal_xy is None else f"({self.goal_xy})"
        plain = re.sub(r"[^\w.]+", "-", name).strip("-")
        out = self.out or self.run_path / "plots" / f"distance-{plain}.png"
        check_picture(out)
        policy = load_policy(self.run_path, checkpoint=self.checkpoint)
        spec, maze = drawable_maze(policy, self.run_path, self.environment)
        goal_xy, starts = self._goal(maze)
        observations, positions, squares = self._states(policy, maze)
        goal = _observation_at(goal_xy, observations, positions)
        field = distance_field(
            lambda states, target: policy.distance(states, policy.spaces.rule.goals(target[None])),
            maze,
            goal,
            goal_xy,
            observations,
            positions,
            squares,
        )
        routes, reached = self._routes(policy, spec, maze, goal_xy, starts)
        figure = draw_distance_field(
            field, f"{spec.name} · goal {name} · {policy.step:,} updates", routes, reached
        )
        save_figure(figure, out)
        print(f"Rank correlation with the true distance {field.correlation:.3f}")
        print(f"Picture written to {out}")

    def _goal(self, maze: MazeMap) -> tuple[tuple[float, float], list[Cell]]:
        """Position of the goal, and cells to start episodes from."""
        if self.goal_xy is not None:
            x, y = _pair(self.goal_xy, float, "--goal-xy", "4.0,20.0")
            cell, xy = maze.xy_to_ij((x, y)), (x, y)
        elif self.goal.startswith("task:"):
            number = self.goal.removeprefix("task:")
            if not number.isdecimal() or not 1 <= int(number) <= len(maze.tasks):
                raise FarstepError(
                    f"--goal {self.goal}: {maze.name} has the tasks task:1 to "
                    f"task:{len(maze.tasks)}"
                )
            start, cell = maze.tasks[int(number) - 1]
            return maze.ij_to_xy(cell), [start]
        else:
            i, j = _pair(self.goal, int, "--goal", "6,6' or like 'task:1")
            cell, xy = (i, j), maze.ij_to_xy((i, j))
        if not maze.contains(cell):
            raise FarstepError(f"the goal lies in cell {cell} of {maze.name}, which is not free")
        others = [start for start, _ in maze.tasks if start != cell]
        return xy, list(dict.fromkeys(others)) or [maze.free_cells[0]]

    def _states(
        self, policy: Policy, maze: MazeMap
    ) -> tuple[Float[np.ndarray, "n obs"], Float[np.ndarray, "n 2"], int]:
        """Observations, their positions, and the squares along a cell's side that they fill."""
        if policy.spaces.observation.shape == (2,):
            from farstep.analysis.heatmap import even_positions

            positions = even_positions(maze, EVEN_SQUARES)
            return positions.astype(np.float32), positions, EVEN_SQUARES
        if self.samples < 1:
            raise FarstepError(f"--samples must be at least 1, not {self.samples}")
        table = open_dataset(self.dataset or policy.data or policy.dataset).train
        rows = stream_generator(self.seed, "heatmap").integers(table.num_steps, size=self.samples)
        rows = np.sort(rows)
        positions = np.asarray(table.observations[rows])[:, :2].astype(np.float64)
        return table.frames(rows, policy.spaces.frames), positions, SAMPLED_SQUARES

    def _routes(
        self,
        policy: Policy,
        spec: EnvironmentSpec,
        maze: MazeMap,
        goal_xy: tuple[float, float],
        starts: list[Cell],
    ) -> tuple[list[Float[np.ndarray, "steps 2"]], int]:
        """The policy's way to the goal's cell from each start in turn, and how many arrive."""
        if self.rollouts == 0:
            return [], 0
        cell = maze.xy_to_ij(goal_xy)
        tasks = tuple((starts[k % len(starts)], cell) for k in range(self.rollouts))
        recorder = Trajectories()
        result = evaluate(
            policy,
            spec.in_maze(replace(maze, tasks=tasks)),
            episodes_per_task=1,
            seed=self.seed,
            spaces=policy.spaces,
            record=recorder,
        )
        return list(recorder.routes.values()), sum(e.success for e in result.episodes)


def _observation_at(
    xy: tuple[float, float],
    observations: Float[np.ndarray, "n obs"],
    positions: Float[np.ndarray, "n 2"],
) -> Float[np.ndarray, "obs"]:
    """The position itself for a point; else the state nearest to it."""
    if observations.shape[1] == 2:
        return np.array(xy, np.float32)
    return observations[np.argmin(np.hypot(*(positions - np.array(xy)).T))]


def _pair(text: str, kind: type[Number], option: str, example: str) -> tuple[Number, Number]:
    try:
        first, second = (kind(part) for part in text.split(","))
    except ValueError:
        raise FarstepError(f"{option} {text}: write it like '{example}'") from None
    return first, second
