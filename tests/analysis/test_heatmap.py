import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from farstep.analysis.figures import save_figure
from farstep.analysis.heatmap import (
    CHUNK,
    distance_field,
    draw_distance_field,
    even_positions,
)
from farstep.core.errors import FarstepError
from farstep.envs.mazes import PUBLISHED, MazeMap

MAZE = PUBLISHED["medium"]
GOAL = MAZE.ij_to_xy((6, 6))


def true_distance(observations, goal):
    return MAZE.geodesic(observations[:, :2].astype(float), goal[:2], refine=4)


def field_of(distance, observations=None, squares=4):
    positions = even_positions(MAZE, squares)
    if observations is None:
        observations = positions.astype(np.float32)
    return distance_field(
        distance, MAZE, np.array(GOAL, np.float32), GOAL, observations, positions, squares
    )


@given(st.sampled_from(sorted(PUBLISHED)), st.integers(1, 6))
def test_even_positions_cover_free_cells_alike(name, squares):
    maze = PUBLISHED[name]
    positions = even_positions(maze, squares)
    cells = [maze.xy_to_ij(xy) for xy in positions]
    assert {cell: cells.count(cell) for cell in set(cells)} == dict.fromkeys(
        maze.free_cells, squares**2
    )


def test_the_true_distance_correlates_fully_whatever_its_unit():
    assert field_of(true_distance).correlation == pytest.approx(1)
    assert field_of(lambda o, g: np.exp(true_distance(o, g) / 9)).correlation == pytest.approx(1)
    assert field_of(lambda o, g: -true_distance(o, g)).correlation == pytest.approx(-1)


def test_straight_lines_through_walls_correlate_less():
    assert field_of(lambda o, g: np.hypot(*(o[:, :2] - g[:2]).T)).correlation < 0.95


def test_an_image_has_means_in_their_squares_and_nothing_in_walls():
    field = field_of(lambda o, g: o[:, 0])
    image = field.image(field.positions[:, 0])
    assert image.shape == (8 * 4, 8 * 4)
    walls = np.kron(MAZE.grid, np.ones((4, 4), bool))
    assert np.isnan(image[walls]).all()
    # Cell (1, 1) is centred on x = 0; its squares are 1 m wide.
    np.testing.assert_allclose(image[4, 4:8], [-1.5, -0.5, 0.5, 1.5])


def test_several_states_of_one_square_are_averaged():
    positions = np.array([[0.1, 0.1], [0.3, 0.2], [4.1, 4.2]])
    states = np.array([[0, 0, 2.0], [0, 0, 4.0], [0, 0, 7.0]], np.float32)
    field = distance_field(lambda o, g: o[:, 2], MAZE, states[0], GOAL, states, positions, 4)
    image = field.image(field.learned)
    assert sorted(image[np.isfinite(image)].tolist()) == [3.0, 7.0]


def test_the_distance_is_asked_in_equal_chunks():
    sizes = []

    def distance(observations, goal):
        sizes.append(len(observations))
        return observations[:, 0] + 100 * observations[:, 1]

    positions = np.concatenate([even_positions(MAZE, 8)] * 3)
    field = distance_field(
        distance, MAZE, np.array(GOAL), GOAL, positions.astype(np.float32), positions, 8
    )
    assert len(positions) > CHUNK
    assert sizes == [CHUNK, CHUNK]
    np.testing.assert_allclose(field.learned, positions @ (1, 100), rtol=1e-6)


def test_positions_without_a_way_to_the_goal_are_left_out():
    maze = MazeMap.from_text("#####\n#.#.#\n#####", "two rooms", tasks=())
    positions = even_positions(maze, 2)
    goal = maze.ij_to_xy((1, 1))
    field = distance_field(
        lambda o, g: np.ones(len(o)), maze, np.zeros(2), goal, positions, positions, 2
    )
    assert len(positions) == 8
    assert len(field.true) == 4
    with pytest.raises(FarstepError, match="no position given has a way"):
        distance_field(
            lambda o, g: np.ones(len(o)), maze, np.zeros(2), goal, positions[1:2], positions[2:3], 2
        )


def test_goals_in_walls_and_diverged_distances_are_refused():
    positions = even_positions(MAZE, 2)
    with pytest.raises(FarstepError, match=r"\(-4, -4\) is not in a free cell of medium"):
        distance_field(true_distance, MAZE, np.zeros(2), (-4, -4), positions, positions, 2)
    with pytest.raises(FarstepError, match="not finite"):
        field_of(lambda o, g: np.full(len(o), np.nan))


def test_a_distance_of_the_wrong_shape_is_a_defect():
    with pytest.raises(ValueError, match="have distances of shape"):
        field_of(lambda o, g: np.ones((len(o), 2)))


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_pictures_are_written_whole(tmp_path, suffix):
    route = np.array([MAZE.ij_to_xy(cell) for cell in MAZE.path((1, 1), (6, 6))])
    figure = draw_distance_field(field_of(true_distance), "a title", [route], reached=1)
    path = tmp_path / "plots" / f"distance.{suffix}"
    save_figure(figure, path, dpi=40)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.stat().st_size > 5000


def test_the_title_holds_the_figures_of_the_picture():
    field = field_of(true_distance)
    route = np.array([[0.0, 0.0], [4.0, 4.0]])
    title = draw_distance_field(field, "run", [route, route], reached=1).get_suptitle()
    assert title.startswith("run\n")
    assert f"rank correlation {field.correlation:.3f} over {len(field.true)} positions" in title
    assert "1 of 2 routes reach the goal" in title
    assert "routes" not in draw_distance_field(field, "run").get_suptitle()


def test_walls_are_drawn_where_the_map_has_them():
    """Pixels of the picture: dark at the centres of walls, coloured at those of free cells."""
    figure = draw_distance_field(field_of(true_distance))
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    axes = figure.axes[0]
    wall = np.array([0x2B, 0x2B, 0x33])
    for i, j in ((0, 3), (1, 3), (3, 1), (6, 4), (1, 1), (4, 4), (3, 2)):
        x, y = axes.transData.transform(MAZE.ij_to_xy((i, j)))
        found = pixels[round(pixels.shape[0] - y), round(x)]
        assert bool(np.abs(found - wall).max() <= 2) == MAZE.grid[i, j], (i, j)


def test_a_constant_distance_orders_nothing_and_still_draws():
    field = field_of(lambda o, g: np.zeros(len(o)))
    assert np.isnan(field.correlation)
    draw_distance_field(field).canvas.draw()


def test_an_unknown_ending_is_refused(tmp_path):
    figure = draw_distance_field(field_of(true_distance))
    with pytest.raises(FarstepError, match=r"must end in one of .*\.png"):
        save_figure(figure, tmp_path / "distance.bmpp")
    assert list(tmp_path.iterdir()) == []
