"""The plane that states are shown in: a maze, two coordinates, or a map of embeddings.

It is cut into squares, and a state stands for each square that the data reach. So the page colours
squares, whatever the states are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from farstep.core.errors import FarstepError
from farstep.envs.mazes import OFFSET, UNIT, MazeMap

Positions = Callable[[np.ndarray], Float[np.ndarray, "n 2"]]
"""Where observations (n, *obs) lie."""

PER_CELL = (8, 6, 5, 4, 3, 2)
"""Squares along the side of a maze's cell, the finest first."""

MOST_SQUARES = 64
"""Squares along the longer side of any other chart."""


@dataclass(frozen=True)
class Chart:
    """A plane cut into squares.

    Attributes:
        positions: where observations lie in it.
        axes: names of the two coordinates.
        left: least first coordinate.
        top: least second coordinate, which is the first row's.
        square: side of a square.
        shape: rows and columns of squares.
        maze: the map, in which row 0 is drawn on top; else the first row is at the bottom.
    """

    positions: Positions
    axes: tuple[str, str]
    left: float
    top: float
    square: float
    shape: tuple[int, int]
    maze: MazeMap | None = None

    @classmethod
    def of_maze(cls, maze: MazeMap, columns: Sequence[int], most: int) -> Chart:
        """The maze, with no more than `most` free squares if that can be.

        Args:
            columns: of an observation, which are the position in metres.
        """
        free = len(maze.free_cells)
        per_cell = next((k for k in PER_CELL if free * k**2 <= most), PER_CELL[-1])
        corner = -OFFSET - UNIT / 2
        rows, across = maze.shape
        return cls(
            coordinates(columns),
            ("x in metres", "y in metres"),
            corner,
            corner,
            UNIT / per_cell,
            (rows * per_cell, across * per_cell),
            maze,
        )

    @classmethod
    def of_states(
        cls,
        positions: Positions,
        axes: tuple[str, str],
        points: Float[np.ndarray, "n 2"],
        most: int,
    ) -> Chart:
        """The plane about these points, of which no more than `most` squares hold any.

        Raises:
            FarstepError: they all lie at one place.
        """
        low, high = points.min(axis=0), points.max(axis=0)
        extent = float((high - low).max())
        if not extent > 0:
            raise FarstepError(
                f"{axes[0]} and {axes[1]} do not change over the data; choose other --coordinates."
            )
        # So many that most hold a state where states are spread evenly.
        squares = min(MOST_SQUARES, max(8, int(len(points) ** 0.5 / 1.5)))
        while True:
            square = extent / squares
            across, rows = (int(np.floor(size / square)) + 1 for size in high - low)
            chart = cls(positions, axes, float(low[0]), float(low[1]), square, (rows, across))
            if squares <= 2 or len(np.unique(chart.squares_of(points))) <= most:
                return chart
            squares = squares * 7 // 8

    @property
    def count(self) -> int:
        """How many squares there are."""
        return self.shape[0] * self.shape[1]

    def squares_of(self, points: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
        """Numbers of the squares that these points lie in, row by row; -1 outside."""
        column, row = np.floor((points - (self.left, self.top)) / self.square).astype(int).T
        inside = (column >= 0) & (column < self.shape[1]) & (row >= 0) & (row < self.shape[0])
        return np.where(inside, row * self.shape[1] + column, -1)

    def centres(self, squares: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
        """Middles of the squares."""
        row, column = np.divmod(squares, self.shape[1])
        return (np.stack([column, row], axis=1) + 0.5) * self.square + (self.left, self.top)

    def free_squares(self) -> Int[np.ndarray, " n"]:
        """Those of a maze that are not in its walls."""
        assert self.maze is not None
        per_cell = self.shape[0] // self.maze.shape[0]
        free = np.kron(~self.maze.grid, np.ones((per_cell, per_cell), bool))
        return np.flatnonzero(free.reshape(-1))

    def one_each(self, points: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, " m"]:
        """Of the points in each square, the index of the one nearest to its middle."""
        squares = self.squares_of(points)
        inside = np.flatnonzero(squares >= 0)
        away = np.abs(points[inside] - self.centres(squares[inside])).max(axis=1)
        order = inside[np.lexsort((away, squares[inside]))]
        _, first = np.unique(squares[order], return_index=True)
        return order[first]

    def document(self) -> dict[str, Any]:
        """What the page needs of it."""
        return {
            "axes": list(self.axes),
            "left": self.left,
            "top": self.top,
            "square": self.square,
            "rows": self.shape[0],
            "columns": self.shape[1],
            "maze": None if self.maze is None else list(self.maze.rows),
        }


def coordinates(columns: Sequence[int]) -> Positions:
    """Two columns of vectors."""
    chosen = list(columns)
    return lambda observations: np.asarray(observations[:, chosen], np.float64)
