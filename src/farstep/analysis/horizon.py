"""Success by how far the goal lies from the start: curves of methods over the tasks of a maze."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from farstep.analysis.bootstrap import RESAMPLES, pointwise_band
from farstep.core.rng import stream_generator
from farstep.envs.catalog import EnvironmentSpec
from farstep.envs.mazes import UNIT, Cell, MazeMap


@dataclass(frozen=True)
class HorizonCurve:
    """A method's success over distances.

    Attributes:
        method: its name.
        distances: in metres, or numbers of tasks where there are none; ascending, each once.
        success: mean over seeds and over the tasks at that distance, in [0, 1].
        band: pointwise 95 % interval over seeds; None for a single seed.
    """

    method: str
    distances: Float[np.ndarray, " points"]
    success: Float[np.ndarray, " points"]
    band: tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]] | None


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

    Args:
        count: how many; of each distance, pairs are drawn at random.
        seed: of the draw.
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
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> HorizonCurve:
    """The curve of one method.

    Args:
        runs: for each seed, the success rate by task.
        distances: of the tasks; without them tasks stand in order of number.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    tasks = sorted(runs[0])
    where = np.array([task if distances is None else distances[task] for task in tasks], float)
    points = np.unique(where)
    rates = np.array([[run[task] for task in tasks] for run in runs])
    curves = np.stack([rates[:, where == point].mean(axis=1) for point in points], axis=1)
    band = pointwise_band(curves, seed=seed, resamples=resamples)
    return HorizonCurve(method, points, curves.mean(axis=0), band)
