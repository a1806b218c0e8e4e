"""Maps, shortest paths and true distances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse.csgraph import shortest_path

from farstep.core.errors import FarstepError
from farstep.envs.mazes import PUBLISHED, UNIT, MazeMap

ROOMS = """
    ######
    #....#
    #.##.#
    #....#
    ######
    task (1, 1) -> (3, 4)
"""


@st.composite
def mazes(draw: st.DrawFn) -> MazeMap:
    inner = draw(
        st.integers(2, 6).flatmap(
            lambda width: st.lists(
                st.text("#..", min_size=width, max_size=width), min_size=2, max_size=6
            )
        )
    )
    assume(any("." in row for row in inner))
    closed = "#" * (len(inner[0]) + 2)
    return MazeMap("drawn", (closed, *(f"#{row}#" for row in inner), closed), ())


def all_pairs(maze: MazeMap) -> np.ndarray:
    """Distances between all cells, by an algorithm that shares nothing with the one tested."""
    free = ~maze.grid
    height, width = free.shape
    index = np.arange(free.size).reshape(free.shape)
    graph = np.zeros((free.size, free.size))
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        both = free[a] & free[b]
        graph[index[a][both], index[b][both]] = 1
    return shortest_path(graph, directed=False, unweighted=True).reshape(
        height, width, height, width
    )


@given(mazes())
def test_distance_fields_are_the_shortest_paths(maze: MazeMap) -> None:
    true = all_pairs(maze)
    for goal in maze.free_cells:
        field = maze.distances_to(goal)
        expected = np.where(np.isfinite(true[goal]) & ~maze.grid, true[goal], -1)
        np.testing.assert_array_equal(field, expected)


@given(mazes())
def test_every_next_cell_is_a_free_neighbour_one_step_nearer(maze: MazeMap) -> None:
    for goal in maze.free_cells:
        distances, following = maze.distances_to(goal), maze.next_cells(goal)
        for cell in np.ndindex(maze.shape):
            nearer = tuple(following[cell])
            if distances[cell] <= 0:
                assert nearer == cell
            else:
                assert abs(nearer[0] - cell[0]) + abs(nearer[1] - cell[1]) == 1
                assert distances[nearer] == distances[cell] - 1


@given(mazes(), st.data())
def test_geodesic_is_a_metric_between_the_euclidean_and_the_manhattan_way(
    maze: MazeMap, data: st.DataObject
) -> None:
    cells = [data.draw(st.sampled_from(maze.free_cells)) for _ in range(3)]
    x, y, z = (np.array(maze.ij_to_xy(cell)) for cell in cells)
    xy, yz, xz = (maze.geodesic(a, b, refine=3) for a, b in ((x, y), (y, z), (x, z)))
    assert maze.geodesic(x, x, refine=3) == 0
    assert xy == pytest.approx(maze.geodesic(y, x, refine=3))
    assert xz <= xy + yz + 1e-9
    steps = maze.distances_to(cells[1])[cells[0]]
    if steps < 0:
        assert np.isinf(xy)
    else:
        assert np.linalg.norm(x - y) - 1e-9 <= xy <= UNIT * steps + 1e-9


def test_geodesic_without_walls_is_euclidean_within_its_stated_error() -> None:
    arena = PUBLISHED["arena"]
    points = np.random.default_rng(0).uniform(-1.9, 21.9, (200, 2))
    centre = np.array([0.25, 0.25])
    true = np.linalg.norm(points - centre, axis=1)
    rounding = 2 * np.hypot(0.25, 0.25)
    measured = arena.geodesic(points, centre)
    assert (measured >= true - rounding).all()
    assert (measured <= 1.028 * (true + rounding)).all()


def test_geodesic_goes_round_walls_and_is_infinite_inside_them() -> None:
    maze = MazeMap.from_text(ROOMS, "rooms")
    assert maze.geodesic(np.array([4.0, 4.0]), (0.0, 0.0)) == np.inf
    # (1, 1) to (3, 1): two cells down, one column of walls beside it.
    assert maze.geodesic(np.array([0.0, 8.0]), (0.0, 0.0)) == pytest.approx(8.0, abs=0.6)
    # (1, 2) to (3, 2): round two corners, by exact geometry 2·√8 + 4 metres.
    around = 2 * np.sqrt(8) + 4
    assert around <= maze.geodesic(np.array([4.0, 8.0]), (4.0, 0.0)) <= 1.1 * around


@pytest.mark.parametrize("name", PUBLISHED)
def test_text_is_read_back_as_it_was_written(name: str) -> None:
    maze = PUBLISHED[name]
    assert MazeMap.from_text(maze.to_text(), name) == maze


@pytest.mark.parametrize("name", PUBLISHED)
def test_cells_and_positions_are_inverse_up_to_the_edges_of_a_cell(name: str) -> None:
    maze = PUBLISHED[name]
    rng = np.random.default_rng(0)
    for cell in maze.free_cells:
        within = rng.uniform(-1.999, 1.999, 2)
        assert maze.xy_to_ij(np.array(maze.ij_to_xy(cell)) + within) == cell
    assert maze.ij_to_xy((1, 1)) == (0.0, 0.0)


def test_the_published_tasks_are_this_far() -> None:
    """Counted once by hand-checked search; a slip in a drawing would change them."""
    cells = {
        name: [int(maze.distances_to(goal)[start]) for start, goal in maze.tasks]
        for name, maze in PUBLISHED.items()
    }
    assert cells == {
        "arena": [10],
        "medium": [10, 10, 6, 10, 8],
        "large": [15, 19, 12, 14, 15],
        "giant": [30, 26, 30, 26, 17],
        "teleport": [19, 15, 10, 21, 15],
        "colossal": [40, 38, 40, 39, 32],
    }


def test_vertices_are_all_but_the_insides_of_straight_hallways() -> None:
    maze = MazeMap.from_text(ROOMS, "rooms")
    assert maze.vertex_cells == ((1, 1), (1, 4), (3, 1), (3, 4))


def test_path_follows_the_next_cells() -> None:
    maze = MazeMap.from_text(ROOMS, "rooms")
    # Both ways round are five cells long; left comes before down, and down before right.
    assert maze.path((1, 1), (3, 4)) == ((1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (3, 4))
    assert maze.cells_at((1, 1), 5) == ((3, 4),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no rows"),
        ("###\n#.##\n###", "row 1: 4 cells"),
        ("####\n#.x#\n####", "unknown character 'x'"),
        ("####\n#...\n####", "cell (1, 3) on the border"),
        ("#.##\n#..#\n####", "cell (0, 1) on the border"),
        ("###\n###\n###", "no free cell"),
        ("####\n#I.#\n####", "both entrances and exits"),
        ("####\n#..#\n####\ntask (1, 1) -> (1, 3)", "task 1: the goal (1, 3)"),
        ("####\n#..#\n####\ntask (1, 1) -> (7, 7)", "task 1: the goal (7, 7)"),
        ("#####\n#.#.#\n#####\ntask (1, 1) -> (1, 3)", "no path from (1, 1) to (1, 3)"),
        ("####\n#..#\n####\ntask 1 to 2", "line 4: cannot read"),
    ],
)
def test_a_bad_map_says_what_is_wrong_where(text: str, complaint: str) -> None:
    with pytest.raises(FarstepError) as caught:
        MazeMap.from_text(text, "mine")
    assert complaint in str(caught.value)
    assert "'mine'" in str(caught.value)


def test_cells_that_are_walls_have_no_distances() -> None:
    with pytest.raises(FarstepError, match=r"\(0, 0\) is not a free cell"):
        PUBLISHED["medium"].distances_to((0, 0))


def test_fields_are_computed_once_and_cannot_be_written() -> None:
    maze = PUBLISHED["giant"]
    field = maze.distances_to((1, 1))
    assert maze.distances_to((1, 1)) is field
    with pytest.raises(ValueError, match="read-only"):
        field[1, 1] = 5
