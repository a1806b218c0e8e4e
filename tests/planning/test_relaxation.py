"""What the relaxation is said to gain, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import World, graph_of

from planning.relaxation import agreement, relaxation_by_range

SNAKE = World(["..........", "#########.", "..........", ".#########", ".........."])


def test_relaxing_restores_long_distances_that_saturate():
    saturated = np.minimum(SNAKE.steps, 8 + 0.1 * SNAKE.steps)
    graph = graph_of(SNAKE, steps=saturated.astype(np.float32), edge_cutoff=4.0)
    rows = relaxation_by_range(graph, SNAKE.states, SNAKE.steps.T, (0, 6, 16, 40))
    assert [(row.low, row.high) for row in rows] == [(0, 6), (6, 16), (16, 40)]
    for row in rows:
        assert row.relaxed.correlation == pytest.approx(1)
        assert row.relaxed.ratio == pytest.approx(1)
        assert row.relaxed.spread == pytest.approx(1)
    assert rows[0].raw.ratio == pytest.approx(1)
    assert rows[2].raw.ratio < 0.7
    assert rows[2].raw.spread > 1.2


def test_agreement_by_hand():
    same = agreement(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert (same.pairs, same.ratio, same.spread) == (3, 2, 1)
    assert same.correlation == pytest.approx(1)
    assert agreement(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])).correlation < -0.99
    assert np.isnan(agreement(np.ones(3), np.array([1.0, 2.0, 3.0])).correlation)
