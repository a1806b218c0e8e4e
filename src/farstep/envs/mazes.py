"""Mazes as text: the published maps, a user's own, and true distances in them.

A map is written as it looks from above, row 0 first:

    ########
    #..##..#
    #......#
    ########
    task (1, 1) -> (1, 6)

`#` is a wall and `.` is free; `I` marks a teleport's entrance and `O` an exit. Each `task` line is
a start and a goal as (row, column). Cell (i, j) has its centre at x = 4j − 4, y = 4i − 4 metres,
which puts cell (1, 1) at the origin; this is OGBench's convention (Park et al. 2025), and so are
the maps `medium`, `large`, `giant`, `teleport` and `arena`. `colossal` is MQE's (arXiv 2511.07730).

Nothing here needs a simulator.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from farstep.core.errors import FarstepError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Cell = tuple[int, int]
"""(row, column) of a cell."""

Task = tuple[Cell, Cell]
"""Start cell and goal cell."""

UNIT = 4.0
"""Side of a cell in metres."""

OFFSET = 4.0
"""The centre of cell (0, 0) lies at x = y = −OFFSET, in metres."""

WALL, FREE, TELEPORT_IN, TELEPORT_OUT = "#", ".", "I", "O"

# The order decides which of several shortest paths is taken, and is that of OGBench's planner.
NEIGHBOURS: tuple[Cell, ...] = ((-1, 0), (0, -1), (1, 0), (0, 1))

_TASK_LINE = re.compile(r"task\s*\(?(\d+)\s*,\s*(\d+)\)?\s*->\s*\(?(\d+)\s*,\s*(\d+)\)?")


@dataclass(frozen=True)
class MazeMap:
    """A maze of square cells with its evaluation tasks.

    Attributes:
        name: name, also within the names of environments and data sets.
        rows: one string a row, of `#`, `.`, `I` and `O`.
        tasks: start and goal cells; task k of an environment (counted from 1) is `tasks[k - 1]`.

    Raises:
        FarstepError: rows of different lengths, unknown characters, a free cell on the border,
            entrances without exits, or a task whose cells are walls or not connected.
    """

    name: str
    rows: tuple[str, ...]
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        self._check_grid()
        for number, (start, goal) in enumerate(self.tasks, start=1):
            self._check_task(number, start, goal)

    @staticmethod
    def from_text(text: str, name: str, tasks: Sequence[Task] | None = None) -> MazeMap:
        """The maze drawn in `text`, with the `task` lines below the drawing or the given `tasks`.

        Common indentation and blank lines do not matter.

        Raises:
            FarstepError: as the class, and for a line that is neither a row nor a task.
        """
        rows: list[str] = []
        written: list[Task] = []
        for number, line in enumerate((line.strip() for line in text.splitlines()), start=1):
            if not line:
                continue
            if match := _TASK_LINE.fullmatch(line):
                i, j, k, m = map(int, match.groups())
                written.append(((i, j), (k, m)))
            elif line.startswith("task"):
                raise FarstepError(
                    f"maze '{name}', line {number}: cannot read '{line}'; "
                    "write tasks as 'task (1, 1) -> (6, 6)', rows and columns counted from 0"
                )
            else:
                rows.append(line)
        return MazeMap(name, tuple(rows), tuple(written if tasks is None else tasks))

    @staticmethod
    def from_file(path: Path | str) -> MazeMap:
        """The maze of a text file, named after the file.

        Raises:
            FarstepError: as `from_text`, and if the file cannot be read.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FarstepError(f"cannot read the maze file '{path}': {error}") from error
        return MazeMap.from_text(text, path.stem)

    def to_text(self) -> str:
        """The drawing and its task lines; `from_text` reads it back."""
        return "\n".join([*self.rows, *(f"task {start} -> {goal}" for start, goal in self.tasks)])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.rows[0])

    @functools.cached_property
    def grid(self) -> Bool[np.ndarray, "rows columns"]:
        """Whether each cell is a wall."""
        grid = np.array([[mark == WALL for mark in row] for row in self.rows])
        grid.setflags(write=False)
        return grid

    @functools.cached_property
    def free_cells(self) -> tuple[Cell, ...]:
        """Cells that are not walls, row by row."""
        return tuple((int(i), int(j)) for i, j in np.argwhere(~self.grid))

    @functools.cached_property
    def vertex_cells(self) -> tuple[Cell, ...]:
        """Free cells that are not the inside of a straight hallway, row by row."""

        def hallway(i: int, j: int) -> bool:
            vertical = bool(self.grid[i - 1, j]), bool(self.grid[i + 1, j])
            horizontal = bool(self.grid[i, j - 1]), bool(self.grid[i, j + 1])
            passage, closed = (False, False), (True, True)
            return (vertical, horizontal) in ((passage, closed), (closed, passage))

        return tuple(cell for cell in self.free_cells if not hallway(*cell))

    @property
    def teleport_in(self) -> tuple[Cell, ...]:
        """Entrances, row by row."""
        return self._marked(TELEPORT_IN)

    @property
    def teleport_out(self) -> tuple[Cell, ...]:
        """Exits, row by row."""
        return self._marked(TELEPORT_OUT)

    def ij_to_xy(self, cell: Cell) -> tuple[float, float]:
        """Centre of a cell in metres."""
        i, j = cell
        return j * UNIT - OFFSET, i * UNIT - OFFSET

    def xy_to_ij(self, xy: Sequence[float] | Float[np.ndarray, "2"]) -> Cell:
        """The cell that holds a point."""
        return int((xy[1] + OFFSET + UNIT / 2) / UNIT), int((xy[0] + OFFSET + UNIT / 2) / UNIT)

    def contains(self, cell: Cell) -> bool:
        """Whether `cell` lies in the grid and is free."""
        i, j = cell
        rows, columns = self.shape
        return 0 <= i < rows and 0 <= j < columns and not self.grid[i, j]

    def distances_to(self, goal: Cell) -> Int[np.ndarray, "rows columns"]:
        """Cells on the shortest path from every cell to `goal`; −1 at walls and where none exists.

        Steps go to the four neighbours and teleports are not used. The field is computed once per
        goal and read-only. It is also the distance *from* `goal`: the moves are symmetric.
        """
        return _distances_to(self.rows, self._free(goal))

    def next_cells(self, goal: Cell) -> Int[np.ndarray, "rows columns 2"]:
        """The neighbour to go to next from every cell on a shortest path to `goal`.

        A cell that has no path to `goal`, and `goal` itself, point to themselves. Ties are broken
        up, left, down, right, as OGBench's planner does. Computed once per goal and read-only.
        """
        return _next_cells(self.rows, self._free(goal))

    def cells_at(self, start: Cell, steps: int) -> tuple[Cell, ...]:
        """Cells exactly `steps` steps from `start`, row by row."""
        found = np.argwhere(self.distances_to(start) == steps)
        return tuple((int(i), int(j)) for i, j in found)

    def path(self, start: Cell, goal: Cell) -> tuple[Cell, ...]:
        """The cells of the shortest path that `next_cells` describes, both ends included.

        Raises:
            FarstepError: no path.
        """
        left = int(self.distances_to(goal)[self._free(start)])
        if left < 0:
            raise FarstepError(f"maze '{self.name}': no path from cell {start} to cell {goal}")
        following = self.next_cells(goal)
        cells = [start]
        for _ in range(left):
            i, j = following[cells[-1]]
            cells.append((int(i), int(j)))
        return tuple(cells)

    def geodesic_field(
        self, goal_xy: Sequence[float] | Float[np.ndarray, "2"], refine: int = 8
    ) -> Float[np.ndarray, "fine_rows fine_columns"]:
        """Length in metres of the shortest way to `goal_xy` for a point that may not touch walls.

        The maze is cut into `refine` × `refine` sub-cells a cell, and paths run between their
        centres to 16 neighbours without cutting corners, so that lengths are at most 2.8 % above
        the true geodesic, plus the rounding of both ends to sub-cell centres. Entry (a, b) is the
        sub-cell with its centre at x = (b + ½)·4/refine − 6, y = (a + ½)·4/refine − 6; walls and
        places without a way are infinite. Teleports are not used.
        """
        cell = self._fine_cell(np.asarray(goal_xy, float)[None], refine)
        return _geodesic_field(self.rows, (int(cell[0, 0]), int(cell[0, 1])), refine)

    def geodesic(
        self,
        xy: Float[np.ndarray, "*batch 2"],
        goal_xy: Sequence[float] | Float[np.ndarray, "2"],
        refine: int = 8,
    ) -> Float[np.ndarray, "*batch"]:
        """`geodesic_field` read at the points `xy`, in metres."""
        field = self.geodesic_field(goal_xy, refine)
        points = np.asarray(xy, float)
        cells = self._fine_cell(points.reshape(-1, 2), refine)
        return field[cells[:, 0], cells[:, 1]].reshape(points.shape[:-1])

    def _fine_cell(self, xy: Float[np.ndarray, "n 2"], refine: int) -> Int[np.ndarray, "n 2"]:
        cells = np.floor((xy[:, ::-1] + OFFSET + UNIT / 2) * (refine / UNIT)).astype(int)
        return np.clip(cells, 0, np.array(self.shape) * refine - 1)

    def _marked(self, mark: str) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.free_cells if self.rows[cell[0]][cell[1]] == mark)

    def _free(self, cell: Cell) -> Cell:
        if not self.contains(cell):
            raise FarstepError(f"maze '{self.name}': cell {tuple(cell)} is not a free cell")
        return int(cell[0]), int(cell[1])

    def _check_grid(self) -> None:
        if not self.rows:
            raise FarstepError(f"maze '{self.name}' has no rows; draw it with '#' and '.'")
        width = len(self.rows[0])
        for i, row in enumerate(self.rows):
            if len(row) != width:
                raise FarstepError(
                    f"maze '{self.name}', row {i}: {len(row)} cells, but row 0 has {width}; "
                    "all rows must be equally long"
                )
            if unknown := sorted(set(row) - {WALL, FREE, TELEPORT_IN, TELEPORT_OUT}):
                raise FarstepError(
                    f"maze '{self.name}', row {i}: unknown character '{unknown[0]}'; use '#' for "
                    "walls, '.' for free cells, 'I' and 'O' for teleport entrances and exits"
                )
            ends = (0, width - 1) if 0 < i < len(self.rows) - 1 else range(width)
            for j in ends:
                if row[j] != WALL:
                    raise FarstepError(
                        f"maze '{self.name}': cell ({i}, {j}) on the border is free, and an agent "
                        "could leave; close the border with '#'"
                    )
        if not self.free_cells:
            raise FarstepError(f"maze '{self.name}' has no free cell")
        if bool(self.teleport_in) != bool(self.teleport_out):
            raise FarstepError(f"maze '{self.name}': teleports need both entrances and exits")

    def _check_task(self, number: int, start: Cell, goal: Cell) -> None:
        for what, cell in (("start", start), ("goal", goal)):
            if not self.contains(cell):
                raise FarstepError(
                    f"maze '{self.name}', task {number}: the {what} {tuple(cell)} is not a free "
                    "cell; cells are (row, column), counted from 0"
                )
        if self.distances_to(goal)[start] < 0 and not self.teleport_in:
            raise FarstepError(
                f"maze '{self.name}', task {number}: no path from {tuple(start)} to {tuple(goal)}"
            )


@functools.lru_cache(maxsize=4096)
def _distances_to(rows: tuple[str, ...], goal: Cell) -> Int[np.ndarray, "rows columns"]:
    field = np.full((len(rows), len(rows[0])), -1)
    field[goal] = 0
    queue = deque([goal])
    while queue:
        i, j = queue.popleft()
        for di, dj in NEIGHBOURS:
            cell = i + di, j + dj
            if rows[cell[0]][cell[1]] != WALL and field[cell] < 0:
                field[cell] = field[i, j] + 1
                queue.append(cell)
    field.setflags(write=False)
    return field


@functools.lru_cache(maxsize=4096)
def _next_cells(rows: tuple[str, ...], goal: Cell) -> Int[np.ndarray, "rows columns 2"]:
    distances = _distances_to(rows, goal)
    following = np.moveaxis(np.indices(distances.shape), 0, -1).copy()
    for i, j in np.argwhere(distances > 0):
        for di, dj in NEIGHBOURS:
            if distances[i + di, j + dj] == distances[i, j] - 1:
                following[i, j] = i + di, j + dj
                break
    following.setflags(write=False)
    return following


# A move, and the sub-cells besides its end that it passes: these must be free as well.
_MOVES: tuple[tuple[Cell, tuple[Cell, ...]], ...] = tuple(
    ((si * a, sj * b), tuple((si * c, sj * d) for c, d in passed))
    for (a, b), passed in (
        ((1, 0), ()),
        ((0, 1), ()),
        ((1, 1), ((1, 0), (0, 1))),
        ((2, 1), ((1, 0), (1, 1))),
        ((1, 2), ((0, 1), (1, 1))),
    )
    for si in (1, -1)
    for sj in (1, -1)
    if (a or si == 1) and (b or sj == 1)
)


@functools.lru_cache(maxsize=8)
def _fine_graph(rows: tuple[str, ...], refine: int) -> csr_array:
    # Here, not above: this import takes longer than all others together, and simulator processes
    # do without it.
    from scipy.sparse import coo_array

    free = np.array([[mark != WALL for mark in row] for row in rows])
    free = np.kron(free, np.ones((refine, refine), bool))
    # The border is closed, but a move of two sub-cells could index past a border one sub-cell wide.
    padded = np.pad(free, 2)
    index = np.arange(free.size).reshape(free.shape)
    height, width = free.shape

    def shifted(cell: Cell) -> Bool[np.ndarray, "height width"]:
        return padded[2 + cell[0] : 2 + cell[0] + height, 2 + cell[1] : 2 + cell[1] + width]

    sources, targets, lengths = [], [], []
    for move, passed in _MOVES:
        open_ = functools.reduce(np.logical_and, (shifted(cell) for cell in (move, *passed)), free)
        source = index[open_]
        sources.append(source)
        targets.append(source + move[0] * width + move[1])
        lengths.append(np.full(source.size, np.hypot(*move) * UNIT / refine))
    edges = np.concatenate(sources), np.concatenate(targets)
    return coo_array((np.concatenate(lengths), edges), shape=(free.size, free.size)).tocsr()


@functools.lru_cache(maxsize=64)
def _geodesic_field(
    rows: tuple[str, ...], goal: Cell, refine: int
) -> Float[np.ndarray, "fine_rows fine_columns"]:
    from scipy.sparse.csgraph import dijkstra

    shape = len(rows) * refine, len(rows[0]) * refine
    if rows[goal[0] // refine][goal[1] // refine] == WALL:
        return np.full(shape, np.inf)
    source = goal[0] * shape[1] + goal[1]
    field = dijkstra(_fine_graph(rows, refine), indices=source).reshape(shape)
    field.setflags(write=False)
    return field


PUBLISHED: dict[str, MazeMap] = {
    name: MazeMap.from_text(text, name)
    for name, text in {
        "arena": """
            ########
            #......#
            #......#
            #......#
            #......#
            #......#
            #......#
            ########
            task (1, 1) -> (6, 6)
        """,
        "medium": """
            ########
            #..##..#
            #..#...#
            ##...###
            #..#...#
            #.#..#.#
            #...#..#
            ########
            task (1, 1) -> (6, 6)
            task (6, 1) -> (1, 6)
            task (5, 3) -> (4, 2)
            task (6, 5) -> (6, 1)
            task (2, 6) -> (1, 1)
        """,
        "large": """
            ############
            #....#.....#
            #.##.#.#.#.#
            #......#...#
            #.####.###.#
            #..#.#.....#
            ##.#.#.#.###
            #..#...#...#
            ############
            task (1, 1) -> (7, 10)
            task (5, 4) -> (7, 1)
            task (7, 4) -> (1, 10)
            task (3, 8) -> (5, 4)
            task (1, 1) -> (5, 4)
        """,
        "giant": """
            ################
            #.#......##....#
            #.#.##.#.#..##.#
            #...#..#...#...#
            #.###.######.#.#
            #...#...#....#.#
            ###.#.#..#.#.###
            #...#..#...#...#
            #.#.#.######.#.#
            #.###...#...##.#
            #.....#...#....#
            ################
            task (1, 1) -> (10, 14)
            task (1, 14) -> (10, 1)
            task (8, 14) -> (1, 1)
            task (8, 3) -> (5, 12)
            task (5, 9) -> (3, 8)
        """,
        "teleport": """
            ############
            #.....#O#..#
            ##.#...#..##
            ##.###.....#
            #....#I#.#.#
            #I##.#.#.#.#
            #O##.#.#.#O#
            #....#...#.#
            ############
            task (1, 10) -> (7, 1)
            task (1, 1) -> (7, 10)
            task (5, 6) -> (7, 10)
            task (7, 1) -> (7, 10)
            task (5, 6) -> (7, 1)
        """,
        "colossal": """
            ########################
            #.......#..............#
            #.#.###.#.###.###.####.#
            #.#...#...#.#.#...#....#
            #.###.#.###.#.#.###.##.#
            #...#.#.....#.#.#.#..#.#
            ###.#.#####.#.#.#.#.##.#
            #.#.#.....#.#.#.#......#
            #.#.#####.#.#.#.#.####.#
            #...#.....#.#...#....#.#
            #.###.#####.######.#.#.#
            #.#.......#........#.#.#
            #.#.#####.###.######.#.#
            #.#.#.....#...#...#..#.#
            #.#.#.#.###.#.#.#...##.#
            #.#.#.#.#.#.#.#.#.#..#.#
            #.....#.....#...###....#
            ########################
            task (1, 1) -> (16, 22)
            task (1, 14) -> (16, 3)
            task (9, 1) -> (7, 17)
            task (9, 8) -> (2, 22)
            task (9, 14) -> (11, 14)
        """,
    }.items()
}
"""The maps of OGBench and of MQE by name."""
