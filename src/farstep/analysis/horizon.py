"""Success by the distance from start to goal: curves of methods over the tasks of a maze."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from farstep.analysis.curves import Curve
from farstep.core.rng import stream_generator
from farstep.envs.mazes import UNIT, Cell, MazeMap
from farstep.envs.specs import EnvironmentSpec


def task_distances(spec: EnvironmentSpec) -> dict[int, float] | None:
    """Length in metres of the shortest way of each task, cell by cell; None outside mazes.

    In antsoccer the goal is the ball's, so that the body's way does not tell.
    """
    maze = spec.maze_map
    if maze is None or spec.body is None or spec.ball:
        return None
    return pair_distances(maze)


def pair_distances(maze: MazeMap) -> dict[int, float]:
    """Length in metres of the shortest way of each of the map's tasks, by the task's number."""
    return {
        number: UNIT * float(maze.distances_to(goal)[start])
        for number, (start, goal) in enumerate(maze.tasks, start=1)
    }


def spread_pairs(maze: MazeMap, count: int, seed: int) -> list[tuple[Cell, Cell]]:
    """Pairs of start and goal cells whose distances are spread evenly from next door to farthest.

    Of each distance, pairs are drawn at random.
    """
    by_distance: dict[int, list[tuple[Cell, Cell]]] = {}
    for goal in maze.free_cells:
        field = maze.distances_to(goal)
        for start in maze.free_cells:
            by_distance.setdefault(int(field[start]), []).append((start, goal))
    farthest = max(by_distance)
    rng = stream_generator(seed, "horizon")
    return [
        by_distance[distance][rng.integers(len(by_distance[distance]))]
        for distance in map(int, np.round(np.linspace(1, farthest, count)))
    ]


def horizon_curve(
    method: str,
    runs: Sequence[Mapping[int, float]],
    distances: Mapping[int, float] | None,
) -> Curve:
    """The curve of one method over metres, or over numbers of tasks where there are none.

    Args:
        runs: for each seed, the success rate by task.
        distances: distances of the tasks; without them tasks stand in order of number.
    """
    tasks = sorted(runs[0])
    where = np.array([task if distances is None else distances[task] for task in tasks], float)
    points = np.unique(where)
    rates = np.array([[run[task] for task in tasks] for run in runs])
    curves = np.stack([rates[:, where == point].mean(axis=1) for point in points], axis=1)
    return Curve.from_runs(method, points, curves)
