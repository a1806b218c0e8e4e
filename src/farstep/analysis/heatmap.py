"""The learned distance to a goal over a maze, beside the length of the shortest way.

Both pictures show the same positions. If the observation is the position, they cover the maze
evenly. For any other body they are those of observations drawn from a dataset, averaged over small
squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from farstep.analysis.figures import (
    GOAL_COLOUR,
    ROUTE_COLOUR,
    UNSEEN_COLOUR,
    bare_maze,
    begin_figure,
    draw_walls,
    maze_extent,
)
from farstep.core.errors import FarstepError
from farstep.envs.mazes import OFFSET, UNIT, MazeMap

DistanceFunction = Callable[[Float[np.ndarray, "n obs"], Float[np.ndarray, "obs"]], np.ndarray]
"""(observations, one goal) -> distances in environment steps, (n,)."""

CHUNK = 4096
"""Observations of one call of the distance function: bounds the memory, compiles once."""

CONTOURS = 12
"""Most contour lines of a picture; their spacing is a round number."""


@dataclass(frozen=True)
class DistanceField:
    """Distances to one goal from many positions of a maze.

    Attributes:
        maze: the map.
        goal_xy: position of the goal in metres.
        positions: positions of the distances, in metres.
        learned: the learned distance in environment steps.
        true: length in metres of the shortest way for a point that may not touch walls.
        squares: squares along a cell's side of the pictures.
    """

    maze: MazeMap
    goal_xy: tuple[float, float]
    positions: Float[np.ndarray, "n 2"]
    learned: Float[np.ndarray, " n"]
    true: Float[np.ndarray, " n"]
    squares: int

    @property
    def correlation(self) -> float:
        """Spearman's rank correlation of learned and true distance: 1 if they order alike.

        NaN where all learned distances, or all true ones, are the same.
        """
        if np.ptp(self.learned) == 0 or np.ptp(self.true) == 0:
            return float("nan")
        return float(np.corrcoef(rankdata(self.learned), rankdata(self.true))[0, 1])

    def image(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, "height width"]:
        """Means of `values` over the squares, row 0 of the maze first; NaN where there is none."""
        height, width = (cells * self.squares for cells in self.maze.shape)
        columns, rows = np.floor(
            (self.positions.T + OFFSET + UNIT / 2) * (self.squares / UNIT)
        ).astype(int)
        square = rows * width + columns
        count = np.bincount(square, minlength=height * width)
        total = np.bincount(square, weights=values, minlength=height * width)
        with np.errstate(invalid="ignore"):
            return (total / count).reshape(height, width)


def even_positions(maze: MazeMap, squares: int = 8) -> Float[np.ndarray, "n 2"]:
    """Centres of the `squares` × `squares` squares of every free cell, in metres."""
    free = np.kron(~maze.grid, np.ones((squares, squares), bool))
    rows, columns = np.nonzero(free)
    return (np.stack([columns, rows], axis=1) + 0.5) * (UNIT / squares) - OFFSET - UNIT / 2


def distance_field(
    distance: DistanceFunction,
    maze: MazeMap,
    goal: Float[np.ndarray, "obs"],
    goal_xy: Sequence[float],
    observations: Float[np.ndarray, "n obs"],
    positions: Float[np.ndarray, "n 2"],
    squares: int = 8,
) -> DistanceField:
    """The learned distance from each observation to `goal`, beside the true one.

    Observations at positions from which no way leads to the goal are left out.

    Args:
        distance: from observations to one goal, in environment steps.
        goal: the goal's observation.
        goal_xy: its position in metres.
        positions: positions of `observations`, in metres.
        squares: squares along a cell's side of the pictures.

    Raises:
        FarstepError: the goal lies in a wall, no position has a way to it, or a learned distance
            is not finite.
    """
    goal_xy = float(goal_xy[0]), float(goal_xy[1])
    if not maze.contains(maze.xy_to_ij(goal_xy)):
        raise FarstepError(
            f"the goal ({goal_xy[0]:g}, {goal_xy[1]:g}) is not in a free cell of {maze.name}"
        )
    true = maze.geodesic(positions, goal_xy, refine=squares)
    reachable = np.isfinite(true)
    if not reachable.any():
        raise FarstepError(f"no position given has a way to ({goal_xy[0]:g}, {goal_xy[1]:g})")
    observations, positions, true = observations[reachable], positions[reachable], true[reachable]
    parts = []
    for start in range(0, len(true), CHUNK):
        part = observations[start : start + CHUNK]
        # The last part is filled up, so that the distance compiles for one size.
        whole = np.resize(part, (CHUNK, *part.shape[1:]))
        parts.append(np.asarray(distance(whole, goal))[: len(part)])
    learned = np.concatenate(parts).astype(np.float64)
    if learned.shape != true.shape:
        raise ValueError(f"{len(true)} observations have distances of shape {learned.shape}")
    if not np.isfinite(learned).all():
        raise FarstepError("learned distances are not finite: the training has diverged")
    return DistanceField(maze, goal_xy, positions, learned, true, squares)


def draw_distance_field(
    field: DistanceField,
    title: str = "",
    routes: Sequence[Float[np.ndarray, "steps 2"]] = (),
    reached: int | None = None,
) -> Figure:
    """Learned distance on the left, true length on the right, the policy's routes on both.

    The maze is drawn as its text is written, row 0 on top. Contours lie at equal steps.

    Args:
        routes: positions of episodes in metres, drawn from their starts.
        reached: number of `routes` that end at the goal, if known.
    """
    height, width = field.maze.shape
    panel = 4.6 * max(1.0, min(1.6, width / height))
    size = (2 * panel + 1.6, panel * height / width + 0.5)
    figure, (left, right) = begin_figure(
        *size, columns=2, layout="compressed", sharex=True, sharey=True
    )
    _draw_panel(figure, left, field, field.learned, "learned distance", "environment steps")
    _draw_panel(figure, right, field, field.true, "shortest path", "metres")
    for axes in (left, right):
        _draw_routes(axes, field, routes)
    facts = [f"rank correlation {field.correlation:.3f} over {len(field.true):,} positions"]
    if routes:
        count = f"{reached} of {len(routes)}" if reached is not None else str(len(routes))
        facts.append(f"{count} routes" + (" reach the goal" if reached is not None else ""))
    figure.suptitle("\n".join(filter(None, [title, " · ".join(facts)])), fontsize=12)
    return figure


def _draw_panel(
    figure: Figure,
    axes: Axes,
    field: DistanceField,
    values: Float[np.ndarray, " n"],
    name: str,
    unit: str,
) -> None:
    image = field.image(values)
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=UNSEEN_COLOUR)
    extent = maze_extent(field.maze)
    shown = axes.imshow(
        image, cmap=colours, extent=extent, vmin=0, interpolation="nearest", aspect="equal"
    )
    step = _round_step(float(np.nanmax(image)) / CONTOURS)
    levels = np.arange(step, float(np.nanmax(image)), step)
    if levels.size:
        axes.contour(
            _smooth(image),
            levels=levels,
            extent=extent,
            origin="upper",
            colors="white",
            linewidths=0.9,
            alpha=0.75,
        )
    # Walls go over the contours, which run a little into them.
    draw_walls(axes, field.maze, zorder=3)
    bare_maze(axes, field.maze)
    axes.set_title(name, fontsize=11)
    bar = figure.colorbar(shown, cax=axes.inset_axes((1.02, 0.0, 0.03, 1.0)))
    bar.set_label(f"{unit} (contours every {step:g})")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def _draw_routes(
    axes: Axes, field: DistanceField, routes: Sequence[Float[np.ndarray, "steps 2"]]
) -> None:
    outline = [Stroke(linewidth=2.4, foreground="white"), Normal()]
    for route in routes:
        axes.plot(*route.T, color=ROUTE_COLOUR, linewidth=1.2, path_effects=outline, zorder=4)
    if routes:
        starts = np.stack([route[0] for route in routes])
        axes.plot(*starts.T, "o", color=ROUTE_COLOUR, mec="white", ms=6, zorder=5)
    axes.plot(*field.goal_xy, "*", color=GOAL_COLOUR, mec="black", ms=17, zorder=6)


def _smooth(image: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Evens out bin noise before contours are drawn, filling bins without a sample from beside.

    Walls are at least as wide as a cell, many times the filter, so nothing leaks across them.
    """
    seen = np.isfinite(image)
    weight = gaussian_filter(seen.astype(float), 0.8, mode="constant")
    total = gaussian_filter(np.where(seen, image, 0.0), 0.8, mode="constant")
    near = weight > 0.05
    smooth = np.full(image.shape, np.nan)
    smooth[near] = total[near] / weight[near]
    return smooth


def _round_step(least: float) -> float:
    """The least of 1, 2, 2.5, 5 × 10ⁿ that is not below `least`."""
    if least <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= least * (1 - 1e-9)))
