"""A plan over a maze: the landmarks with their cost to go, the subgoals, and the way taken."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from farstep.analysis.figures import (
    GOAL_COLOUR,
    ROUTE_COLOUR,
    bare_maze,
    begin_figure,
    draw_walls,
)
from farstep.envs.mazes import MazeMap

FLOOR_COLOUR = "#f4f3ef"
SUBGOAL_COLOUR = "#1b1b22"

MOST_EDGES = 20_000
"""Edges drawn; of more, every n-th."""


@dataclass(frozen=True)
class PlanPicture:
    """One planned episode, for drawing; positions are in metres.

    Attributes:
        maze: the map.
        landmarks: positions of the landmarks.
        costs: steps from each landmark to the goal along the graph, ∞ where no path leads there.
        edges: pairs of landmarks that an edge joins.
        path: the start, the subgoals as planned there, and the goal.
        subgoals: the landmarks aimed at on the way, in order.
        route: positions of the body.
        goal: position of the goal.
    """

    maze: MazeMap
    landmarks: Float[np.ndarray, "landmarks 2"]
    costs: Float[np.ndarray, " landmarks"]
    edges: np.ndarray
    path: Float[np.ndarray, "path 2"]
    subgoals: Float[np.ndarray, "subgoals 2"]
    route: Float[np.ndarray, "steps 2"]
    goal: Float[np.ndarray, "2"]


def draw_plan(picture: PlanPicture, title: str = "") -> Figure:
    """The maze as its text is written, row 0 on top."""
    height, width = picture.maze.shape
    size = 8.0
    figure, (axes,) = begin_figure(size + 1.0, size * height / width + 0.6, layout="compressed")
    axes.set_facecolor(FLOOR_COLOUR)
    draw_walls(axes, picture.maze, zorder=1)
    ends = picture.landmarks[picture.edges[:: -(-max(1, len(picture.edges)) // MOST_EDGES)]]
    axes.add_collection(
        LineCollection(list(ends), colors="#8a8a94", linewidths=0.25, alpha=0.12, zorder=2)
    )
    reached = np.isfinite(picture.costs)
    axes.plot(*picture.landmarks[~reached].T, ".", color="#c9c9cf", ms=3, zorder=3)
    dots = axes.scatter(
        *picture.landmarks[reached].T,
        c=picture.costs[reached],
        cmap=matplotlib.colormaps["viridis_r"],
        s=9,
        linewidths=0,
        zorder=3,
    )
    outline = [Stroke(linewidth=4.5, foreground="white"), Normal()]
    axes.plot(
        *picture.path.T,
        color=SUBGOAL_COLOUR,
        linewidth=1.1,
        linestyle=(0, (4, 3)),
        zorder=4,
        label="plan at the start",
    )
    axes.plot(
        *picture.route.T,
        color=ROUTE_COLOUR,
        linewidth=2.4,
        path_effects=outline,
        solid_capstyle="round",
        zorder=5,
        label="way taken",
    )
    axes.plot(
        *picture.subgoals.T,
        "o",
        mfc="white",
        mec=SUBGOAL_COLOUR,
        mew=1.1,
        ms=5,
        zorder=6,
        label="subgoals",
    )
    axes.plot(*picture.route[0], "o", color=ROUTE_COLOUR, mec="white", mew=1.5, ms=11, zorder=7)
    axes.plot(*picture.goal, "*", color=GOAL_COLOUR, mec="black", ms=22, zorder=8)
    bare_maze(axes, picture.maze)
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=9)
    bar = figure.colorbar(dots, cax=axes.inset_axes((1.015, 0.0, 0.022, 1.0)))
    bar.set_label("cost to the goal along the graph, in steps")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    axes.set_title(title, fontsize=12)
    return figure
