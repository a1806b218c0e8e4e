"""Visits are counted where they were, and the picture shows them."""

from __future__ import annotations

import numpy as np

from farstep.analysis.coverage import covered_cells, draw_coverage, visits
from farstep.envs.mazes import MazeMap

MAZE = MazeMap.from_text(
    """
    #####
    #...#
    #.###
    #####
    """,
    "corner",
)


def positions_in(*cells: tuple[int, int]) -> np.ndarray:
    return np.array([MAZE.ij_to_xy(cell) for cell in cells])


def test_each_position_counts_in_its_own_cell():
    generator = np.random.default_rng(0)
    cells = [MAZE.free_cells[k] for k in generator.integers(len(MAZE.free_cells), size=200)]
    inside = positions_in(*cells) + generator.uniform(-1.99, 1.99, (200, 2))
    expected = np.zeros(MAZE.shape, int)
    np.add.at(expected, tuple(np.transpose(cells)), 1)
    np.testing.assert_array_equal(covered_cells(MAZE, inside), expected)
    fine = visits(MAZE, inside, squares=4)
    np.testing.assert_array_equal(fine.reshape(4, 4, 5, 4).sum(axis=(1, 3)), expected)


def test_nothing_is_lost_outside_the_maze():
    assert visits(MAZE, np.array([[-1e3, -1e3], [1e3, 1e3]])).sum() == 2
    assert covered_cells(MAZE, positions_in((0, 0), (2, 2))).sum() == 0


def test_the_picture_says_how_much_was_visited():
    figure = draw_coverage(MAZE, positions_in((1, 1), (1, 1), (2, 1)), "corner-v0")
    axes = figure.axes[0]
    assert axes.get_title() == "corner-v0\n3 steps · 2 of 4 free cells visited"
    shown = axes.images[0].get_array()
    assert shown is not None
    assert np.ma.masked_invalid(shown).sum() == 3
