"""Ten random mazes on which planners are compared, and on which no length is ever set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from farstep.core.rng import stream_generator
from farstep.envs.mazes import Cell, MazeMap

COUNT = 10
SEED = 0
TASKS = 5
OPENED = 0.15
"""The share of the walls between two corridors that is taken away, so that there are loops."""

APART = 0.6
"""A task's path is at least this share of the maze's longest."""


def random_maze(number: int) -> MazeMap:
    """A tree of corridors, one cell wide, with loops; sizes are those of the published mazes.

    The tree is grown by depth-first search over the cells with odd coordinates, 3 to 5 rows and
    4 to 7 columns of them.
    """
    draw = stream_generator(SEED, "held-out maze", number)
    rows, columns = int(draw.integers(3, 6)), int(draw.integers(4, 8))
    free = np.zeros((2 * rows + 1, 2 * columns + 1), bool)
    stack: list[Cell] = [(1 + 2 * int(draw.integers(rows)), 1 + 2 * int(draw.integers(columns)))]
    free[stack[0]] = True
    while stack:
        i, j = stack[-1]
        ahead = [
            (i + 2 * di, j + 2 * dj)
            for di, dj in ((-1, 0), (0, -1), (1, 0), (0, 1))
            if 0 < i + 2 * di < 2 * rows and 0 < j + 2 * dj < 2 * columns
        ]
        ahead = [cell for cell in ahead if not free[cell]]
        if not ahead:
            stack.pop()
            continue
        k, m = ahead[int(draw.integers(len(ahead)))]
        free[k, m] = free[(i + k) // 2, (j + m) // 2] = True
        stack.append((k, m))
    # Walls whose two sides are corridors: one coordinate is even and the other odd.
    walls = [(int(i), int(j)) for i, j in np.argwhere(~free[1:-1, 1:-1]) + 1 if (i + j) % 2]
    for index in draw.permutation(len(walls))[: round(OPENED * len(walls))]:
        free[walls[index]] = True
    text = tuple("".join("." if cell else "#" for cell in row) for row in free)
    maze = MazeMap(f"heldout-{number}", text, ())
    return MazeMap(maze.name, text, _tasks(maze, draw))


def _tasks(maze: MazeMap, draw: np.random.Generator) -> tuple[tuple[Cell, Cell], ...]:
    cells = maze.vertex_cells
    lengths = {(a, b): int(maze.distances_to(b)[a]) for a in cells for b in cells}
    far = [pair for pair, length in lengths.items() if length >= APART * max(lengths.values())]
    return tuple(far[index] for index in draw.choice(len(far), TASKS, replace=False))


def write_mazes(directory: Path) -> None:
    """Write them as map files."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        maze = random_maze(number)
        (directory / f"{maze.name}.txt").write_text(maze.to_text() + "\n")
