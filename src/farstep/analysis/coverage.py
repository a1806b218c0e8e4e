"""Counts of a dataset's visits to the cells of a maze."""

from __future__ import annotations

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from farstep.analysis.figures import UNSEEN_COLOUR, begin_figure, draw_walls, maze_extent
from farstep.envs.mazes import OFFSET, UNIT, MazeMap


def visits(
    maze: MazeMap, positions: Float[np.ndarray, "n 2"], squares: int = 8
) -> Int[np.ndarray, "height width"]:
    """How many of `positions` lie in each of `squares` × `squares` squares per cell, row 0 first.

    Positions are x and y in metres; those outside the maze count in the nearest square.
    """
    height, width = (cells * squares for cells in maze.shape)
    fine = np.floor((positions + OFFSET + UNIT / 2) * (squares / UNIT)).astype(np.int64)
    columns = np.clip(fine[:, 0], 0, width - 1)
    rows = np.clip(fine[:, 1], 0, height - 1)
    return np.bincount(rows * width + columns, minlength=height * width).reshape(height, width)


def covered_cells(
    maze: MazeMap, positions: Float[np.ndarray, "n 2"]
) -> Int[np.ndarray, "rows columns"]:
    """Number of `positions` in each free cell; 0 at walls."""
    return np.where(maze.grid, 0, visits(maze, positions, squares=1))


def draw_coverage(
    maze: MazeMap, positions: Float[np.ndarray, "n 2"], title: str = "", squares: int = 8
) -> Figure:
    """The maze as its text is written, row 0 on top, coloured by visits on a logarithmic scale.

    Squares never visited are grey, walls dark.
    """
    counts = visits(maze, positions, squares).astype(float)
    height, width = maze.shape
    figure, (axes,) = begin_figure(6.4, 6.4 * height / width * 0.85 + 0.9)
    shown = axes.imshow(
        np.where(counts > 0, counts, np.nan),
        cmap=matplotlib.colormaps["viridis"].with_extremes(bad=UNSEEN_COLOUR),
        norm=LogNorm(vmin=1, vmax=max(2.0, counts.max())),
        extent=maze_extent(maze),
        interpolation="nearest",
    )
    # A body's centre may lean over a wall's edge, so walls are half transparent.
    draw_walls(axes, maze, alpha=0.85)
    axes.set(xlabel="x (metres)", ylabel="y (metres)")
    free = int((~maze.grid).sum())
    seen = int((covered_cells(maze, positions) > 0).sum())
    facts = f"{len(positions):,} steps · {seen} of {free} free cells visited"
    axes.set_title("\n".join(filter(None, [title, facts])), fontsize=11)
    figure.colorbar(shown, ax=axes, label="steps per square", shrink=0.8)
    return figure
