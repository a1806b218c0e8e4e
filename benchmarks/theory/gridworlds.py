"""Gridworlds drawn as text: walls, one-way doors, teleports, slips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farstep.core.errors import FarstepError
from theory.mdp import TabularMDP

MOVES = {">": (0, 1), "v": (1, 0), "<": (0, -1), "^": (-1, 0)}
"""Row and column of a step by action, in the order of the actions."""


@dataclass(frozen=True, eq=False)
class Gridworld:
    """A gridworld and where its states lie.

    Attributes:
        mdp: the process; actions are right, down, left, up.
        cells: (row, column) of each state, in reading order.
    """

    mdp: TabularMDP
    cells: tuple[tuple[int, int], ...]

    def state(self, row: int, column: int) -> int:
        """The state of a free cell."""
        return self.cells.index((row, column))


def gridworld(rows: Sequence[str], *, slip: float = 0.0) -> Gridworld:
    """Read a drawing.

    `#` is a wall and `.` free; `>`, `v`, `<`, `^` are doors, entered and left only in their
    direction; of two equal letters, stepping onto the first leads on to the second (in reading
    order), which is a free cell. A step into a wall, the border or against a door stays in place.

    Args:
        rows: equally long.
        slip: chance that the step goes in a uniformly drawn direction instead.

    Raises:
        FarstepError: an unknown mark, a letter that does not occur twice, or ragged rows.
    """
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise FarstepError(f"The rows of a gridworld must be equally long: {list(rows)}.")
    marks = {(r, c): mark for r, row in enumerate(rows) for c, mark in enumerate(row)}
    teleports = _teleports(marks)
    cells = tuple(cell for cell, mark in marks.items() if mark != "#" and cell not in teleports)
    number = {cell: state for state, cell in enumerate(cells)}

    transitions = np.zeros((len(cells), len(MOVES), len(cells)))
    for state, (row, column) in enumerate(cells):
        for action, (direction, (down, right)) in enumerate(MOVES.items()):
            target = (row + down, column + right)
            doors = {marks[row, column], marks.get(target)} & set(MOVES)
            target = teleports.get(target, target)
            free = target in number and doors <= {direction}
            transitions[state, action, number[target] if free else state] = 1
    slipped = transitions.mean(axis=1, keepdims=True)
    return Gridworld(TabularMDP((1 - slip) * transitions + slip * slipped), cells)


def _teleports(marks: dict[tuple[int, int], str]) -> dict[tuple[int, int], tuple[int, int]]:
    ends: dict[str, list[tuple[int, int]]] = {}
    for cell, mark in marks.items():
        # The letter v is a door.
        if mark.isalpha() and mark not in MOVES:
            ends.setdefault(mark, []).append(cell)
        elif mark not in {"#", ".", *MOVES}:
            raise FarstepError(
                f"A gridworld has no mark '{mark}' (row {cell[0]}, column {cell[1]}): use # for a"
                " wall, . for a free cell, > v < ^ for doors, and letters in pairs for teleports."
            )
    for letter, both in ends.items():
        if len(both) != 2:
            raise FarstepError(
                f"A teleport needs two ends, and '{letter}' occurs {len(both)} times."
            )
    return {both[0]: both[1] for both in ends.values()}
