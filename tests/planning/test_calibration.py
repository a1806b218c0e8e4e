"""The reach that is chosen, on data whose distances are known."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import World

from farstep.core.errors import FarstepError
from farstep.data.table import Table, TableWriter, open_dataset
from farstep.planning.calibration import calibrate, envelope
from farstep.planning.graph import LandmarkGraph
from farstep.planning.landmarks import choose_landmarks, farthest_points
from farstep.planning.prepare import GraphOptions, prepare_graph

LINE = World(["." * 60])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Walks along a line, a cell a step, that stop half way and wait."""
    path = tmp_path_factory.mktemp("line") / "line"
    for split, seed in (("train", 0), ("val", 1)):
        rng = np.random.default_rng(seed)
        with TableWriter(path / split, (2,), "float32", 2) as writer:
            for _ in range(30):
                first, direction = rng.integers(20, 40), rng.choice([-1, 1])
                moved = np.minimum(np.arange(41), 20)
                positions = np.clip(first + direction * moved, 0, 59)
                states = np.stack([positions, np.zeros(41)], axis=1).astype(np.float32)
                writer.append(states, np.zeros((41, 2), np.float32))
    return open_dataset(path)


def test_the_envelope_is_the_gap_until_episodes_wait(dataset):
    curve = envelope(LINE.metric(), dataset.val)
    moving = curve.gaps <= 20
    np.testing.assert_allclose(curve.steps[moving, -1], curve.gaps[moving])
    assert curve.steps[-1, -1] == 20
    # Walks of 20 steps get no farther in 40: flat from a half as far again as 20 / 1.5 on.
    assert 20 / 1.5 < curve.trusted(2) <= 20
    assert curve.covered(10) == pytest.approx(10, abs=0.5)


def test_the_stride_is_what_is_covered_between_choices_and_the_reach_a_few_of_them(dataset):
    calibration = calibrate(LINE.metric(), dataset.val, replan_every=3)
    assert calibration.stride == pytest.approx(3, abs=0.25)
    assert calibration.reach == pytest.approx(4 * calibration.stride)


def test_no_edge_is_longer_than_the_distance_is_trusted(dataset):
    # Episodes wait after 20 steps: four strides of 10 would be beyond what they bear out.
    calibration = calibrate(LINE.metric(), dataset.val, replan_every=10)
    assert calibration.stride == pytest.approx(10, abs=1)
    assert calibration.reach == calibration.trusted
    assert 20 / 1.5 < calibration.trusted <= 20


def test_a_distance_that_is_noisy_between_neighbours_is_not_taken_for_flat(dataset):
    """One step looks as long as six: the envelope rises slowly at first, and then as it should."""
    noisy = np.where(LINE.steps > 0, LINE.steps + 5, 0)
    calibration = calibrate(LINE.metric(noisy), dataset.val, replan_every=3)
    assert calibration.stride == pytest.approx(8, abs=1)
    assert calibration.trusted > 15


def test_a_diverged_distance_is_refused(dataset):
    broken = LINE.metric(np.full_like(LINE.steps, np.nan))
    with pytest.raises(FarstepError, match="training has diverged"):
        calibrate(broken, dataset.val, replan_every=3)


def test_landmarks_follow_the_seed(dataset):
    metric = LINE.metric()
    first, again, other = (
        choose_landmarks(metric, dataset.train, 20, "random", seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(FarstepError, match="at least one landmark, not 0"):
        choose_landmarks(metric, dataset.train, 0)


def test_farthest_points_cover_better_than_random_ones(dataset):
    metric = LINE.metric()

    def worst(landmarks):
        visited = np.unique(dataset.train.observations, axis=0)
        return metric.steps(metric.embed(landmarks), metric.embed(visited)).min(axis=0).max()

    spread = choose_landmarks(metric, dataset.train, 10, "farthest")
    assert len(np.unique(spread, axis=0)) == 10
    # The first of them lie apart, too.
    for count in (10, 5):
        by_chance = np.median(
            [
                worst(choose_landmarks(metric, dataset.train, count, "random", seed))
                for seed in range(5)
            ]
        )
        assert worst(spread[:count]) < by_chance
    picked = farthest_points(metric, LINE.states, 60, np.random.default_rng(0))
    assert sorted(picked) == list(range(60))


@pytest.mark.parametrize("choice", ["farthest", "random"])
def test_landmarks_do_not_come_in_the_order_of_the_data(tmp_path, choice):
    """So the first of them are all over the data: an episode is found again among those."""
    with TableWriter(tmp_path / "t", (2,), "float32", 2) as writer:
        writer.append(LINE.states, np.zeros((60, 2), np.float32))
    chosen = choose_landmarks(LINE.metric(), Table.open(tmp_path / "t"), 12, choice)
    assert np.ptp(chosen[:4, 0]) > 20


def test_states_that_coincide_are_chosen_once_each():
    states = np.repeat(LINE.states[:3], 20, axis=0)
    picked = farthest_points(LINE.metric(), states, 60, np.random.default_rng(0))
    assert sorted(picked) == list(range(60))


def test_a_distance_that_is_not_a_number_is_named():
    metric = LINE.metric(np.full((60, 60), np.nan, np.float32))
    with pytest.raises(FarstepError, match="not a number"):
        farthest_points(metric, LINE.states, 10, np.random.default_rng(0))


def test_what_is_given_is_not_calibrated(dataset):
    def prepared(**lengths):
        return prepare_graph(LINE.metric(), dataset, GraphOptions(landmarks=100, **lengths))

    graph, calibration = prepared(reach=4.0, stride=2.0)
    assert calibration is None
    assert (graph.reach, graph.stride) == (4.0, 2.0)
    same = LandmarkGraph.build(LINE.metric(), graph.landmarks)
    np.testing.assert_array_equal(same.edges.toarray(), graph.edges.toarray())

    for name, value in (("reach", 7.0), ("stride", 1.0)):
        graph, calibration = prepared(**{name: value})
        assert calibration is not None
        other = {"reach": "stride", "stride": "reach"}[name]
        assert getattr(graph, name) == value
        assert getattr(graph, other) == getattr(calibration, other)
