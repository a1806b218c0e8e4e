"""What the triangle inequality rules out is never what is looked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import World

from farstep.core.errors import FarstepError
from farstep.planning.graph import LandmarkGraph
from farstep.planning.landmarks import Cover, Landmarks, farthest_points
from farstep.planning.location import PIVOTS, Follower
from farstep.planning.triangle import pairs_left

ROOMS = World(
    [
        "............#............",
        "............#............",
        ".........................",
        "............#............",
        "............#............",
        "######>###########.######",
        "............#............",
        "............#............",
        ".........................",
        "............#............",
        "............#............",
    ]
)


def random_quasimetric(seed: int, points: int) -> np.ndarray:
    """Shortest paths over random lengths, most of them longer one way than the other."""
    steps = np.random.default_rng(seed).exponential(size=(points, points))
    np.fill_diagonal(steps, 0)
    for by in range(points):
        steps = np.minimum(steps, steps[:, by, None] + steps[None, by])
    return steps


@given(
    seed=st.integers(0, 2**32 - 1),
    centres=st.integers(1, 6),
    bound=st.floats(0, 2),
    per_query=st.booleans(),
)
def test_no_pair_within_the_bound_is_ruled_out(seed, centres, bound, per_query):
    steps = random_quasimetric(seed, 24)
    queries, members = np.arange(8), np.arange(8, 24)
    centre = np.random.default_rng(seed).integers(centres, size=len(members))
    radius = steps[members, centre]
    if per_query:
        bounds = bound * np.linspace(0, 1, len(queries))
        left = pairs_left(steps[queries][:, :centres], centre, radius, bounds)
        near = steps[np.ix_(queries, members)] <= bounds[:, None]
    else:
        bounds = bound * np.linspace(0, 1, len(members))
        left = pairs_left(steps[queries][:, :centres], centre, radius + bounds)
        near = steps[np.ix_(queries, members)] <= bounds
    found = set(zip(*(part.tolist() for part in left), strict=True))
    assert set(zip(*(part.tolist() for part in np.nonzero(near)), strict=True)) <= found
    assert (np.diff(left[0]) >= 0).all()


def test_most_pairs_are_ruled_out_where_members_are_near_their_centres():
    line = np.arange(100.0)
    centres = line[5::10]
    centre = np.abs(line[:, None] - centres).argmin(axis=1)
    queries, members = pairs_left(
        np.abs(line[:, None] - centres), centre, np.abs(line - centres[centre]), 0.5
    )
    assert set(zip(line, line, strict=True)) <= set(zip(queries, members, strict=True))
    assert len(queries) < 100 * 100 / 4


def test_what_is_not_a_number_rules_nothing_out():
    steps = np.array([[np.nan], [9.0]])
    queries, members = pairs_left(steps, np.zeros(3, int), np.ones(3), 1.0)
    np.testing.assert_array_equal(queries, [0, 0, 0])
    np.testing.assert_array_equal(members, [0, 1, 2])


def test_a_cover_knows_the_nearest_chosen_one_and_the_way_back():
    metric, states = ROOMS.metric(), ROOMS.states
    cover = Cover(metric, states)
    generator = np.random.default_rng(0)
    chosen = generator.permutation(len(states))[:60]
    for new in np.split(chosen, [1, 2, 9, 30]):
        cover.add(new)
        np.testing.assert_array_equal(cover.chosen[-len(new) :], new)
        ways = ROOMS.steps[cover.chosen]
        others = np.setdiff1d(np.arange(len(states)), cover.chosen)
        np.testing.assert_array_equal(cover.steps[others], ways.min(axis=0)[others])
        nearest = np.array(cover.chosen)[cover.nearest[others]]
        np.testing.assert_array_equal(ROOMS.steps[nearest, others], cover.steps[others])
        np.testing.assert_array_equal(ROOMS.steps[others, nearest], cover.back[others])
        assert (cover.steps[cover.chosen] < 0).all()


def test_a_cover_refuses_distances_that_are_not_numbers():
    cover = Cover(ROOMS.metric(np.full_like(ROOMS.steps, np.nan)), ROOMS.states)
    with pytest.raises(FarstepError, match="diverged"):
        cover.add(np.array([0]))


def test_states_of_data_are_found_where_episodes_under_way_are(monkeypatch):
    """By looking at few landmarks in place of all."""
    states = np.random.default_rng(0).permutation(ROOMS.states)[::2]
    graph = LandmarkGraph.build(ROOMS.metric(), Landmarks(states, 12.0, 2.0))
    computed = []
    monkeypatch.setattr("farstep.planning.location.PIVOTS", 16)
    ways = type(graph.metric).ways

    def counted(metric, starts, goals, pairs):
        computed.append(pairs.shape[1])
        return ways(metric, starts, goals, pairs)

    monkeypatch.setattr(type(graph.metric), "ways", counted)
    found, expected = graph.follower.search(ROOMS.states), graph.locator.search(ROOMS.states)
    np.testing.assert_array_equal(found.landmark, expected.landmark)
    np.testing.assert_array_equal(found.apart, expected.apart)
    np.testing.assert_array_equal(found.steps, expected.steps)
    assert sum(computed) < len(ROOMS.states) * len(states) / 2


def test_fewer_landmarks_than_pivots_are_no_trouble():
    graph = LandmarkGraph.build(ROOMS.metric(), Landmarks(ROOMS.states[:30], 12.0, 2.0))
    assert len(graph) < PIVOTS
    assert isinstance(graph.follower, Follower)
    found = graph.follower.search(ROOMS.states[:30])
    np.testing.assert_array_equal(found.landmark, np.arange(30))


def test_of_any_distance_a_state_is_found_no_farther_than_the_nearest_pivot(monkeypatch):
    """Such as a value's: nothing holds of it but that it is not negative."""
    monkeypatch.setattr("farstep.planning.location.PIVOTS", 16)
    steps = np.random.default_rng(0).exponential(size=ROOMS.steps.shape).astype(np.float32)
    states = ROOMS.states[::2]
    graph = LandmarkGraph.build(ROOMS.metric(steps), Landmarks(states, 100.0, 100.0))
    found = graph.follower.search(ROOMS.states)
    apart = np.maximum(steps, steps.T)[:, ::2]
    np.testing.assert_array_equal(found.apart, apart[np.arange(len(apart)), found.landmark])
    assert (found.apart <= apart[:, :16].min(axis=1)).all()


def test_of_any_distance_as_many_states_are_chosen_as_are_asked_for():
    for steps in (
        np.zeros_like(ROOMS.steps),
        np.random.default_rng(0).exponential(size=ROOMS.steps.shape),
    ):
        metric = ROOMS.metric(steps)
        chosen = farthest_points(metric, ROOMS.states, 50, np.random.default_rng(0))
        assert len(set(chosen.tolist())) == 50


def test_no_pairs_have_no_distances():
    metric = ROOMS.metric()
    states = metric.embed(ROOMS.states)
    there, back = metric.ways(states, states, np.zeros((2, 0), int))
    assert there.shape == back.shape == (0,)
