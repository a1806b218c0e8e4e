"""Shortest paths over landmarks, by two algorithms, against a world that is known."""

from __future__ import annotations

import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components, floyd_warshall
from worlds import World

from farstep.agents.gcbc import GCBC
from farstep.agents.gciql import GCIQL
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.planning.graph import BESIDE, BLAME, DOUBT, GOAL, NEARBY, LandmarkGraph
from farstep.planning.landmarks import Landmarks
from farstep.planning.metric import LearnedMetric

MAZE = World(["..........", ".########.", ".........#", "#########.", ".........."])
ROOM = World(["........"] * 8)


def graph_of(world, reach, *, steps=None, states=None, **landmarks):
    states = world.states if states is None else states
    return LandmarkGraph.build(world.metric(steps), Landmarks(states, reach, **landmarks))


def costs_to(graph, goals):
    return graph.costs_to(graph.to_goals(goals)).steps


def test_costs_over_all_states_are_the_true_distances():
    world = World(["......", ".####.", "....#.", "###.#.", "......"])
    graph = graph_of(world, 2.0)
    np.testing.assert_allclose(costs_to(graph, world.states), world.steps.T)
    assert not graph.to_goals(world.states).cut_off.any()


def test_no_edge_is_longer_than_the_reach_and_no_landmark_has_one_to_itself():
    graph = graph_of(ROOM, 3.0)
    tails, heads = graph.edges.nonzero()
    assert graph.edges.data.max() == 3.0
    assert np.all(tails != heads)
    expected = (ROOM.steps <= 3) & (ROOM.steps > 0)
    assert graph.edges.nnz == expected.sum()


def test_one_way_doors_stay_one_way():
    world = World(["...#...", "...>...", "...#..."])
    graph = graph_of(world, 1.0)
    left, right = world.at(0, 1), world.at(6, 1)
    there, back = costs_to(graph, right[None])[0], costs_to(graph, left[None])[0]
    assert there[world.index(left)] == 6
    assert np.isinf(back[world.index(right)])
    # Left, the door, right.
    assert connected_components(graph.edges, connection="strong")[0] == 3


def test_a_landmark_twice_is_an_edge_of_no_length():
    states = np.concatenate([ROOM.states, ROOM.states[:1]])
    graph = graph_of(ROOM, 1.0, states=states)
    costs = costs_to(graph, ROOM.states[:1])[0]
    assert costs[0] == costs[-1] == 0


def test_isolated_states_are_dropped():
    states = np.concatenate([ROOM.states[:20:2], ROOM.at(7, 7)[None]])
    graph = graph_of(ROOM, 2.0, states=states)
    assert graph.isolated == 1
    assert len(graph) == 10
    assert not (graph.observations == 7).all(axis=1).any()


def test_a_goal_that_is_cut_off_is_joined_to_the_nearest_landmark_and_said_to_be():
    world = World(["........"])
    graph = graph_of(world, 1.0, states=world.states[:4])
    goals = np.stack([world.at(3, 0), world.at(7, 0)])
    assert graph.to_goals(goals).cut_off.tolist() == [False, True]
    np.testing.assert_allclose(costs_to(graph, goals)[1], [7, 6, 5, 4])


def moves_between(world, pairs):
    return np.array([[world.index(world.at(*a)), world.index(world.at(*b))] for a, b in pairs])


THIN = World([".....", "####.", "....."])
THROUGH = np.minimum(THIN.steps, np.where(THIN.steps == 10, 4.0, np.inf))
"""A wall that the metric does not see: the way through it is a single step of four."""
AROUND = np.argwhere(THIN.steps == 1)


def test_a_step_that_no_episode_takes_is_an_edge_only_up_to_the_stride_and_doubted():
    start, end = THIN.index(THIN.at(0, 0)), THIN.at(0, 2)[None]

    def cost(**landmarks):
        return costs_to(graph_of(THIN, 4.0, steps=THROUGH, **landmarks), end)[0, start]

    assert cost() == 4
    assert cost(stride=2.0, moves=AROUND) == 10
    # Without a move around the corner, steps of two across it are a last resort.
    half = AROUND[~np.isin(AROUND, THIN.index(THIN.at(4, 1))).any(axis=1)]
    assert np.isinf(cost(stride=0.4, moves=half))
    assert cost(stride=4.0, moves=half) == 8 + 2 * DOUBT


def test_edges_know_whether_an_episode_takes_them():
    moves = moves_between(ROOM, [((0, 0), (2, 0)), ((5, 5), (5, 6)), ((0, 0), (7, 7))])
    graph = graph_of(ROOM, 3.0, stride=1.0, moves=moves)
    tails, heads = graph.edges.tocoo().coords
    # The third is beyond the reach; a step of one is an edge whether logged or not.
    logged = {
        (int(t), int(h)) for t, h in zip(tails[graph.logged], heads[graph.logged], strict=True)
    }
    assert logged == {tuple(map(int, pair)) for pair in moves[:2]}
    assert graph.edges.nnz == (ROOM.steps == 1).sum() + 1
    np.testing.assert_array_equal(graph.has_logged(*moves.T), [True, True, False])
    assert graph.has_logged(np.array([3]), np.array([3])).all()
    np.testing.assert_array_equal(graph.costs[~graph.logged], DOUBT)


def test_dropping_isolated_landmarks_keeps_the_moves_between_the_others():
    states = np.concatenate([ROOM.at(7, 7)[None], ROOM.states[:4]])
    graph = graph_of(ROOM, 2.0, states=states, stride=0.5, moves=np.array([[1, 3], [3, 2], [0, 4]]))
    assert graph.isolated == 2
    np.testing.assert_array_equal(graph.landmarks.moves, [[0, 2], [2, 1]])
    again = LandmarkGraph.build(graph.metric, graph.landmarks)
    np.testing.assert_array_equal(again.edges.toarray(), graph.edges.toarray())
    np.testing.assert_array_equal(again.logged, graph.logged)
    np.testing.assert_array_equal(again.beside, graph.beside)
    np.testing.assert_array_equal(again.nearby, graph.nearby)


def test_the_last_edge_to_a_goal_is_doubted_too():
    """Through the wall to the goal, where the episodes lead around it."""
    graph = graph_of(THIN, 4.0, steps=THROUGH, stride=4.0, moves=AROUND)
    start, end = THIN.index(THIN.at(0, 0)), THIN.at(0, 2)[None]
    assert graph.to_goals(end).costs[0, start] == 4 * DOUBT
    assert costs_to(graph, end)[0, start] == 10


def test_a_goal_in_a_corner_that_no_episode_leads_to_is_reached_as_a_last_resort():
    """The landmark at the goal has a way out alone, and none that has a way in is near it."""
    line = World(["." * 12])
    moves = np.array([[x, x + 1] for x in range(9)] + [[10, 9]])
    graph = graph_of(line, 6.0, stride=1.5, moves=moves, states=line.states[[*range(10), 11]])
    goals = np.stack([line.at(11, 0), line.at(5, 0)])
    corner = graph.to_goals(goals).costs[0]
    # A stray is three steps.
    np.testing.assert_array_equal(corner[8:], [3 * DOUBT**2, 2 * DOUBT**2, 0])
    assert np.isinf(corner[:8]).all()
    assert costs_to(graph, goals[:1])[0, 0] == 9 + 2 * DOUBT**2
    # Where a path leads, no other last edge is taken.
    np.testing.assert_array_equal(costs_to(graph, goals[1:])[0, :6], [5, 4, 3, 2, 1, 0])


def test_a_last_resort_that_is_blamed_hides_no_step():
    """Costs are in single precision."""
    line = World(["." * 12])
    moves = np.array([[x, x + 1] for x in range(9)] + [[10, 9]])
    graph = graph_of(line, 6.0, stride=1.5, moves=moves, states=line.states[[*range(10), 11]])
    attached = graph.to_goals(line.at(11, 0)[None])
    costs = graph.costs_to(attached, [(9, GOAL)] * 10).steps[0]
    np.testing.assert_array_equal(np.diff(costs[:9]), -1)
    assert costs[9] > 2 * DOUBT**2


def test_last_edges_may_be_as_long_as_the_reach():
    line = World(["." * 8])
    graph = graph_of(line, 0.3, steps=line.steps * np.float32(0.1))
    assert np.isfinite(graph.to_goals(line.states[:1]).costs).sum() == 4


def test_what_a_goal_costs_does_not_depend_on_those_beside_it():
    """Also where a distance is a network's output for every pair."""
    agent = GCIQL(hidden=(64, 64))
    params = jax.jit(lambda: agent.networks(Spaces.of(Space((2,)), Actions(2)), root_key(0)))()
    spaces = Spaces.of(Space((2,)), Actions(2))
    metric = LearnedMetric(agent, params, Normalization.identity(spaces), spaces)
    states = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    graph = LandmarkGraph.build(metric, Landmarks(states, 1e6))
    together = graph.to_goals(states).costs
    for count in (1, 2, 7):
        np.testing.assert_array_equal(graph.to_goals(states[:count]).costs, together[:count])


def test_what_is_blamed_costs_more_for_that_search_alone():
    line = World(["." * 40])
    graph = graph_of(line, 4.0)
    attached = graph.to_goals(line.at(39, 0)[None])
    before = graph.costs_to(attached).steps[0]
    blamed = graph.costs_to(attached, [(10, 14)]).steps[0]
    assert (blamed[graph.beside[10]] > before[graph.beside[10]]).all()
    assert (blamed >= before).all()
    np.testing.assert_array_equal(blamed[20:], before[20:])
    np.testing.assert_array_equal(graph.costs_to(attached).steps[0], before)
    # The last edge of a path can be blamed as well.
    beyond = graph_of(line, 4.0, states=line.states[:39])
    attached = beyond.to_goals(line.at(39, 0)[None])
    assert beyond.costs_to(attached, [(38, GOAL)]).steps[0, 38] == BLAME


@pytest.mark.parametrize("cells", ["....", "." * 30])
def test_blame_is_spread_over_what_is_near_either_end(cells):
    """Also where a landmark stands among its own neighbours more than once."""
    line = World([cells])
    graph = graph_of(line, 3.0)
    attached = graph.to_goals(line.states[-1:])
    edges, blame = [(1, 2), (3, 2), (1, 2)], np.ones((len(line.states),) * 2)
    for tail, head in edges:
        about = np.zeros((2, len(graph)), bool)
        about[0, graph.beside[tail]] = about[1, graph.beside[head]] = True
        blame[np.ix_(*about)] *= BLAME
    tails, heads = graph.edges.tocoo().coords
    world = np.full(blame.shape, np.inf)
    world[tails, heads] = graph.costs * blame[tails, heads]
    over = floyd_warshall(np.where(np.isfinite(world), world, 0))
    expected = (over + attached.costs).min(axis=1)
    np.testing.assert_allclose(graph.costs_to(attached, edges).steps[0], expected, rtol=1e-5)


def spoilt_room(**landmarks):
    """A graph of the room by a metric that errs, and how far its landmarks are apart."""
    steps = ROOM.steps * np.random.default_rng(0).uniform(0.8, 1.2, ROOM.steps.shape)
    graph = graph_of(ROOM, 30.0, steps=steps, **landmarks)
    there = graph.metric.steps(graph.embeddings, graph.embeddings)
    return graph, np.maximum(there, there.T)


@pytest.fixture(params=[16, 256])
def block(request, monkeypatch):
    """Rows that are looked at together: fewer than there are landmarks, or all."""
    monkeypatch.setattr("farstep.planning.graph.BLOCK", request.param)


@pytest.mark.usefixtures("block")
def test_beside_are_the_nearest_both_ways():
    graph, apart = spoilt_room()
    assert graph.beside.shape == (64, BESIDE)
    for landmark in range(64):
        expected = np.sort(apart[landmark])[:BESIDE]
        np.testing.assert_allclose(np.sort(apart[landmark, graph.beside[landmark]]), expected)
        assert graph.beside[landmark, 0] == landmark
    # Where there are fewer, a landmark stands for what is missing.
    few = graph_of(World(["..."]), 1.0)
    np.testing.assert_array_equal(np.unique(few.beside[0]), [0, 1])
    np.testing.assert_array_equal(np.unique(few.nearby[0]), [0, 1])


@pytest.mark.usefixtures("block")
def test_nearby_are_those_within_a_stray_that_were_chosen_first():
    graph, apart = spoilt_room(stride=2.0)
    assert graph.locator.stray == 4
    assert graph.nearby.shape == (64, NEARBY)
    for landmark in range(64):
        close = np.flatnonzero(apart[landmark] <= 4)
        expected = close[close != landmark][: NEARBY - 1]
        assert graph.nearby[landmark, 0] == landmark
        np.testing.assert_array_equal(graph.nearby[landmark, 1 : 1 + len(expected)], expected)


def test_what_follows_leads_down_the_costs_to_the_goal():
    graph = graph_of(MAZE, 2.0)
    goal = MAZE.states[-1]
    attached = graph.to_goals(goal[None])
    costs = graph.costs_to(attached)
    assert costs.following is not None
    for landmark in range(len(graph)):
        at, hops = landmark, 0
        while (following := costs.following[0, at]) != GOAL:
            edge = graph.edges[at, following]
            assert costs.steps[0, at] == pytest.approx(edge + costs.steps[0, following])
            at, hops = following, hops + 1
        # The last one's own edge to the goal is left.
        assert costs.steps[0, at] == pytest.approx(attached.costs[0, at])


def test_bad_input_is_refused():
    with pytest.raises(FarstepError, match="positive number of steps, not -1"):
        graph_of(ROOM, -1.0)
    with pytest.raises(FarstepError, match="the nearest are 1 apart"):
        graph_of(ROOM, 0.5)
    with pytest.raises(FarstepError, match="no logged episode leads from one to another"):
        graph_of(ROOM, 3.0, stride=0.5, moves=np.zeros((0, 2), np.int32))
    spaces = Spaces.of(Space((2,)), Actions(2))
    with pytest.raises(FarstepError, match="GCBC has learned a policy only"):
        LearnedMetric(GCBC(), None, Normalization(np.zeros(2), np.ones(2)), spaces)


@given(
    seed=st.integers(0, 10_000),
    reach=st.floats(0.05, 1.5),
    stride=st.floats(0.05, 2),
    known=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_costs_are_the_shortest_paths_of_random_metrics(seed, reach, stride, known):
    """Random asymmetric tables, triangle inequality or not, connected or not, with moves or not."""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.01, 2.0, (len(ROOM.states),) * 2).astype(np.float32)
    np.fill_diagonal(steps, 0)
    moves = rng.integers(40, size=(300, 2)) if known else None
    states = ROOM.states[:40]
    graph = graph_of(ROOM, reach, steps=steps, states=states, stride=stride, moves=moves)
    attached = graph.to_goals(ROOM.states[rng.choice(64, 7, replace=False)])
    exact = graph.costs_to(attached).steps
    # Against an algorithm that shares no code with it.
    dense = graph.edges.copy().astype(float)
    dense.data = graph.costs.astype(float)
    dense = dense.toarray()
    dense[dense == 0] = np.inf
    expected = np.min(floyd_warshall(dense)[None] + attached.costs[:, None, :], axis=-1)
    np.testing.assert_allclose(exact, expected, rtol=1e-5)


def test_building_never_holds_the_distance_matrix():
    # 3,000 landmarks: all distances would be 36 MB.
    rng = np.random.default_rng(0)
    big = World(["." * 60] * 50)
    states = big.states[rng.permutation(3000)]
    metric = big.metric()
    LandmarkGraph.build(metric, Landmarks(states[:300], 2.0))
    tracemalloc.start()
    graph = LandmarkGraph.build(metric, Landmarks(states, 2.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 18e6
    assert len(graph) == 3000


def test_only_a_graph_of_all_pairs_is_cut_down_to_moves():
    moves = np.array([[0, 1], [1, 2]], np.int32)
    along = graph_of(ROOM, 3.0, stride=0.5).along(moves)
    assert along.edges.nnz == 2
    with pytest.raises(ValueError, match="has not all pairs"):
        along.along(moves)
