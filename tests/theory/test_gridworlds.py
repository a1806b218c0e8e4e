"""Gridworlds do what their drawing says."""

from __future__ import annotations

import numpy as np
import pytest

from farstep.core.errors import FarstepError
from theory.exact import shortest_steps
from theory.gridworlds import gridworld

RIGHT, DOWN, LEFT, UP = range(4)


def test_steps_stop_at_walls_and_at_the_border():
    world = gridworld([".#", ".."])
    corner = world.state(0, 0)
    np.testing.assert_array_equal(
        world.mdp.transitions[corner].argmax(axis=-1), [corner, world.state(1, 0), corner, corner]
    )


def test_a_door_is_passed_in_its_direction_only():
    world = gridworld([".>.", "#.#"])
    steps = shortest_steps(world.mdp)
    left, door, right = (world.state(0, column) for column in range(3))
    assert steps[left, right] == 2
    assert np.isinf(steps[right, left])
    # Neither from below nor downwards.
    below = world.state(1, 1)
    assert np.isinf(steps[left, below])
    assert np.isinf(steps[below, door])


def test_a_teleport_leads_from_its_first_end_to_its_second():
    world = gridworld([".a#.", "###a"])
    assert (0, 1) not in world.cells
    exit_ = world.state(1, 3)
    assert world.mdp.transitions[world.state(0, 0), RIGHT, exit_] == 1
    steps = shortest_steps(world.mdp)
    assert steps[world.state(0, 0), world.state(0, 3)] == 2
    assert np.isinf(steps[exit_, world.state(0, 0)])


def test_slips_go_in_all_directions_alike():
    world = gridworld(["...", "...", "..."], slip=0.4)
    middle = world.state(1, 1)
    chances = world.mdp.transitions[middle, RIGHT]
    assert chances[world.state(1, 2)] == pytest.approx(0.7)
    for row, column in ((0, 1), (1, 0), (2, 1)):
        assert chances[world.state(row, column)] == pytest.approx(0.1)
    assert not world.mdp.deterministic
    assert gridworld(["..."]).mdp.deterministic


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["..", "."], "equally long"),
        ([".?"], r"no mark '\?' \(row 0, column 1\)"),
        ([".a", "aa"], "'a' occurs 3 times"),
    ],
)
def test_drawings_that_cannot_be_read_say_why(rows, message):
    with pytest.raises(FarstepError, match=message):
        gridworld(rows)
