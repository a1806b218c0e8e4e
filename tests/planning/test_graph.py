"""Shortest paths over landmarks, by two algorithms, against a world that is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components, floyd_warshall
from worlds import World

from farstep.agents.gcbc import GCBC
from farstep.core.errors import FarstepError
from farstep.data.normalize import Normalization
from farstep.planning.graph import NOTHING, LandmarkGraph, effort
from farstep.planning.metric import LearnedMetric

MAZE = World(["..........", ".########.", ".........#", "#########.", ".........."])
ROOM = World(["........"] * 8)


def ask(question, goals):
    """Of goals given by their states."""
    return question(question.__self__.metric.embed(goals))


def test_costs_over_all_states_are_the_true_distances():
    world = World(["......", ".####.", "....#.", "###.#.", "......"])
    graph = LandmarkGraph.build(world.metric(), world.states, reach=2.0)
    costs = ask(graph.costs_to, world.states)
    np.testing.assert_allclose(costs.steps, world.steps.T)
    assert not costs.cut_off.any()


def test_no_edge_is_longer_than_the_reach_and_no_landmark_has_one_to_itself():
    graph = LandmarkGraph.build(ROOM.metric(), ROOM.states, reach=3.0)
    tails, heads = graph.edges.nonzero()
    assert graph.edges.data.max() == 3.0
    assert np.all(tails != heads)
    expected = (ROOM.steps <= 3) & (ROOM.steps > 0)
    assert graph.edges.nnz == expected.sum()


def test_one_way_doors_stay_one_way():
    world = World(["...#...", "...>...", "...#..."])
    graph = LandmarkGraph.build(world.metric(), world.states, reach=1.0)
    left, right = world.at(0, 1), world.at(6, 1)
    there = ask(graph.costs_to, right[None]).steps[0]
    back = ask(graph.costs_to, left[None]).steps[0]
    assert there[world.index(left)] == 6
    assert np.isinf(back[world.index(right)])
    # Left, the door, right.
    assert connected_components(graph.edges, connection="strong")[0] == 3


def test_a_landmark_twice_is_an_edge_of_no_length():
    states = np.concatenate([ROOM.states, ROOM.states[:1]])
    graph = LandmarkGraph.build(ROOM.metric(), states, reach=1.0)
    costs = ask(graph.costs_to, ROOM.states[:1]).steps[0]
    assert costs[0] == costs[-1] == 0
    np.testing.assert_allclose(ask(graph.relaxed_costs_to, ROOM.states[:1]).steps[0], costs)


def test_isolated_states_are_dropped():
    states = np.concatenate([ROOM.states[:20:2], ROOM.at(7, 7)[None]])
    graph = LandmarkGraph.build(ROOM.metric(), states, reach=2.0)
    assert graph.isolated == 1
    assert len(graph) == 10
    assert not (graph.observations == 7).all(axis=1).any()


def test_a_goal_that_is_cut_off_is_joined_to_the_nearest_landmark_and_said_to_be():
    world = World(["........"])
    graph = LandmarkGraph.build(world.metric(), world.states[:4], reach=1.0)
    costs = ask(graph.costs_to, np.stack([world.at(3, 0), world.at(7, 0)]))
    assert costs.cut_off.tolist() == [False, True]
    np.testing.assert_allclose(costs.steps[1], [7, 6, 5, 4])


def test_edges_up_to_the_stride_cost_their_length_and_longer_ones_more():
    steps = np.array([0.5, 2.0, 4.0, 6.0])
    np.testing.assert_allclose(effort(steps, 2.0), [0.5, 2.0, 16.0, 54.0])
    np.testing.assert_array_equal(effort(steps, np.inf), steps)


def test_a_long_edge_is_taken_only_where_short_ones_do_not_lead_on():
    """A wall that the metric does not see: the way through it is a single long step."""
    world = World([".....", "####.", "....."])
    through_the_wall = np.minimum(world.steps, np.where(world.steps == 10, 4.0, np.inf))
    start, end = world.index(world.at(0, 0)), world.at(0, 2)
    metric = world.metric(through_the_wall)
    cost = {
        stride: ask(LandmarkGraph.build(metric, world.states, 4.0, stride).costs_to, end[None])
        for stride in (1.5, 4.0)
    }
    # Around, in ten steps of one, or through: 4 · (4 / 1.5)² = 28.4 or 4.
    assert cost[1.5].steps[0, start] == 10
    assert cost[4.0].steps[0, start] == 4


def test_what_follows_leads_down_the_costs_to_the_goal():
    graph = LandmarkGraph.build(MAZE.metric(), MAZE.states, reach=2.0)
    goal = MAZE.states[-1]
    costs = ask(graph.costs_to, goal[None])
    assert costs.following is not None
    for landmark in range(len(graph)):
        at, hops = landmark, 0
        while (following := costs.following[0, at]) != NOTHING:
            edge = graph.edges[at, following]
            assert costs.steps[0, at] == pytest.approx(edge + costs.steps[0, following])
            at, hops = following, hops + 1
        # The last one's own edge to the goal is left.
        last = ask(graph.to_goals, goal[None]).costs[0, at]
        assert costs.steps[0, at] == pytest.approx(last)


def test_bad_input_is_refused():
    with pytest.raises(FarstepError, match="positive number of steps, not -1"):
        LandmarkGraph.build(ROOM.metric(), ROOM.states, reach=-1.0)
    with pytest.raises(FarstepError, match="the nearest are 1 apart"):
        LandmarkGraph.build(ROOM.metric(), ROOM.states, reach=0.5)
    with pytest.raises(FarstepError, match="GCBC learns a policy only"):
        LearnedMetric(GCBC(), None, Normalization(np.zeros(2), np.ones(2)))


@given(
    seed=st.integers(0, 10_000),
    reach=st.floats(0.05, 1.5),
    stride=st.floats(0.05, 2) | st.just(np.inf),
)
@settings(max_examples=25, deadline=None)
def test_dijkstra_and_relaxation_agree_on_random_metrics(seed, reach, stride):
    """Random asymmetric tables, triangle inequality or not, connected or not."""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.01, 2.0, (len(ROOM.states),) * 2).astype(np.float32)
    np.fill_diagonal(steps, 0)
    graph = LandmarkGraph.build(ROOM.metric(steps), ROOM.states[:40], reach, stride)
    goals = ROOM.states[rng.choice(64, 7, replace=False)]
    exact, relaxed = ask(graph.costs_to, goals), ask(graph.relaxed_costs_to, goals)
    np.testing.assert_allclose(relaxed.steps, exact.steps, rtol=1e-5)
    np.testing.assert_array_equal(relaxed.cut_off, exact.cut_off)
    # Both against an algorithm that shares no code with them.
    dense = effort(graph.edges.toarray().astype(float), stride)
    dense[dense == 0] = np.inf
    among = floyd_warshall(dense)
    last = np.where(np.isfinite(attached := ask(graph.to_goals, goals).costs), attached, np.inf)
    expected = np.min(among[None] + last[:, None, :], axis=-1)
    np.testing.assert_allclose(exact.steps, expected, rtol=1e-5)


def test_building_never_holds_the_distance_matrix():
    # 3,000 landmarks: all distances would be 36 MB.
    rng = np.random.default_rng(0)
    big = World(["." * 60] * 50)
    states = big.states[rng.permutation(3000)]
    metric = big.metric()
    LandmarkGraph.build(metric, states[:300], reach=2.0)
    tracemalloc.start()
    graph = LandmarkGraph.build(metric, states, reach=2.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 18e6
    assert len(graph) == 3000
