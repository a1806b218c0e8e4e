"""Beginning and saving figures, and drawing mazes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from farstep.core.errors import FarstepError
from farstep.core.files import check_writable, whole_file
from farstep.envs.mazes import OFFSET, UNIT, MazeMap

WALL_COLOUR = "#2b2b33"
UNSEEN_COLOUR = "#d9d9de"
ROUTE_COLOUR = "#ff5d4a"
GOAL_COLOUR = "#ffd23f"


def begin_figure(
    width: float,
    height: float,
    *,
    rows: int = 1,
    columns: int = 1,
    layout: Literal["constrained", "compressed"] = "constrained",
    **shared: Any,
) -> tuple[Figure, list[Axes]]:
    """A figure, width and height in inches, and its axes row by row; no window, no global state.

    Args:
        layout: `compressed` keeps axes of a fixed aspect together.
        shared: `sharex` and `sharey` of `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).ravel())


def check_picture(path: Path) -> None:
    """Refuse a place for a picture before the work that it is to show.

    Raises:
        FarstepError: the place cannot be written, or matplotlib cannot write the suffix.
    """
    supported = FigureCanvasAgg.filetypes
    if path.suffix[1:].lower() not in supported:
        raise FarstepError(
            f"cannot write a picture as '{path.name}': the name must end in one of "
            + ", ".join(f".{name}" for name in sorted(supported))
        )
    check_writable(path)


def save_figure(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write the figure in the format of the path's suffix, whole or not at all.

    Raises:
        FarstepError: as `check_picture`.
    """
    check_picture(path)
    kind = path.suffix[1:].lower()
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format=kind, dpi=dpi)


def maze_extent(maze: MazeMap) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a maze in metres, with row 0 of its text on top."""
    corner = -OFFSET - UNIT / 2
    rows, columns = maze.shape
    return corner, corner + columns * UNIT, corner + rows * UNIT, corner


def draw_walls(axes: Axes, maze: MazeMap, **style: Any) -> None:
    """Fill the cells of a maze that are walls; `style` goes to `Axes.imshow`."""
    axes.imshow(
        np.where(maze.grid, 1.0, np.nan),
        cmap=ListedColormap([WALL_COLOUR]),
        extent=maze_extent(maze),
        interpolation="nearest",
        **style,
    )


def bare_maze(axes: Axes, maze: MazeMap) -> None:
    """Show the whole maze but half of its outer wall, without ticks."""
    left, right, bottom, top = maze_extent(maze)
    axes.set(xticks=[], yticks=[], xlim=(left + 2, right - 2), ylim=(bottom - 2, top + 2))
