"""Shortest paths over landmarks, and how the graph is made of data, in worlds that are known."""

from __future__ import annotations

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import floyd_warshall
from worlds import FAR, World, graph_of

from farstep.agents.gciql import GCIQL
from farstep.agents.mqe import MQE
from farstep.core.errors import FarstepError
from farstep.core.goals import GoalRule
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.data.table import open_dataset
from farstep.data.writer import TableWriter
from farstep.planning.graph import PENALTY, LandmarkGraph
from farstep.planning.metric import LearnedMetric
from farstep.planning.prepare import GraphOptions, prepare_graph

MAZE = World(["......", ".####.", "....#.", "###.#.", "......"])
LINE = World(["." * 60])


def costs_to(graph, goal):
    return graph.route(goal).costs[:-1]


def test_costs_over_all_states_are_the_true_distances_and_paths_lead_along_edges():
    graph = graph_of(MAZE, edge_cutoff=2.0)
    for goal, state in enumerate(MAZE.states):
        route = graph.route(state)
        others = np.arange(len(MAZE.states)) != goal
        np.testing.assert_allclose(route.costs[:-1][others], MAZE.steps[others, goal])
        path = route.path(0)
        assert path[-1] == len(graph)
        assert all(MAZE.steps[a, b] <= 2 for a, b in itertools.pairwise(path[:-1]))
        assert not route.cut_off


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_dijkstra_agrees_with_floyd_and_warshall(seed):
    rng = np.random.default_rng(seed)
    steps = rng.uniform(1, 9, (12, 12)).astype(np.float32)
    np.fill_diagonal(steps, 0)
    row = World(["." * 12])
    moves = np.argwhere(rng.random((12, 12)) < 0.5)
    graph = graph_of(row, steps=steps, edge_cutoff=6.0, moves=moves)
    logged = np.zeros((12, 12), bool)
    logged[tuple(moves.T)] = True
    costs = np.where(steps <= 6, steps * np.where(logged, 1, PENALTY), np.inf)
    np.fill_diagonal(costs, 0)
    route = graph.search(np.array([3]), np.zeros(1))
    np.testing.assert_allclose(route.costs[:-1], floyd_warshall(costs)[:, 3], rtol=1e-5)


def test_pairs_that_no_episode_joins_are_a_last_resort_and_the_cutoff_is_the_end():
    moves = np.argwhere((LINE.steps == 1) & (np.arange(60)[:, None] != 30))
    graph = graph_of(LINE, edge_cutoff=2.0, moves=moves)
    costs = costs_to(graph, LINE.at(59, 0))
    # From cell 30 no episode goes on; before and behind it all do.
    assert costs[31] == 28
    assert costs[30] == PENALTY + 28
    assert costs[29] == 1 + PENALTY + 28
    assert np.isinf(
        costs_to(graph_of(World(["..#.."]), edge_cutoff=1.0), np.array([4, 0], np.float32))[0]
    )
    with pytest.raises(FarstepError, match="no logged episode leads from one of the 60 landmarks"):
        graph_of(LINE, edge_cutoff=0.5)


def test_a_goal_far_from_all_landmarks_is_joined_to_the_nearest_and_said_to_be_cut_off():
    graph = graph_of(LINE, states=LINE.states[:40], edge_cutoff=3.0)
    assert not graph.route(LINE.at(42, 0)).cut_off
    route = graph.route(LINE.at(50, 0))
    assert route.cut_off
    assert (route.costs[0], route.path(0)[-2]) == (50, 39)


def test_the_diagnosis_tells_short_hops_from_long_ones_and_what_is_not_joined():
    short, long = (graph_of(LINE, edge_cutoff=cutoff).diagnosis for cutoff in (2.0, 20.0))
    assert 0 < short.longest_hop < 0.15 < long.longest_hop
    assert short.cut_off == 0
    rooms = World([".....#....."])
    assert graph_of(rooms, edge_cutoff=2.0).diagnosis.cut_off == pytest.approx(0.5)
    assert "no path between 50.0 %" in str(graph_of(rooms, edge_cutoff=2.0).diagnosis)


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """Walks along a line, a cell a step, in both directions."""
    path = tmp_path_factory.mktemp("line") / "line"
    for split, seed in (("train", 0), ("val", 1)):
        rng = np.random.default_rng(seed)
        with TableWriter(path / split, (2,), "float32", 2) as writer:
            for _ in range(60):
                first, direction = rng.integers(0, 60), rng.choice([-1, 1])
                positions = np.clip(first + direction * np.arange(41), 0, 59)
                states = np.stack([positions, np.zeros(41)], axis=1).astype(np.float32)
                writer.append(states, np.zeros((41, 2), np.float32))
    return open_dataset(path)


def test_every_length_comes_from_the_data_and_the_draw_from_the_seed(walks):
    graph = prepare_graph(LINE.metric(), walks, GraphOptions())
    marks = graph.landmarks
    # A cell a step: motion adds up at once.
    assert (marks.replan_every, marks.step_length, marks.edge_cutoff) == (1, 1.0, 4.0)
    assert len(graph) == 60, "every state is within less than a cell of one"
    assert costs_to(graph, LINE.at(59, 0)).max() == 59
    slower = prepare_graph(LINE.metric(), walks, GraphOptions(replan_every=6)).landmarks
    assert (slower.step_length, slower.edge_cutoff) == (6.0, 24.0)
    apart = np.abs(LINE.states[:, :1] - slower.observations[:, 0])
    assert apart.min(axis=1).max() <= 6
    given = GraphOptions(landmarks=9, replan_every=6, step_length=5.0, edge_cutoff=20.0, seed=1)
    first, again = (prepare_graph(LINE.metric(), walks, given) for _ in range(2))
    assert len(first) == 9
    np.testing.assert_array_equal(first.landmarks.edges, again.landmarks.edges)
    other = prepare_graph(LINE.metric(), walks, replace(given, seed=2))
    assert not np.array_equal(first.landmarks.observations, other.landmarks.observations)
    assert (first.landmarks.step_length, first.landmarks.edge_cutoff) == (5.0, 20.0)


def test_where_a_metric_is_noisy_subgoals_are_chosen_less_often(walks):
    """One step looks as long as six: only over several does motion show."""
    noisy = LINE.metric(np.where(LINE.steps > 0, LINE.steps + 2, 0))
    assert prepare_graph(noisy, walks, GraphOptions()).landmarks.replan_every > 5


def test_a_diverged_metric_and_bad_options_are_refused(walks):
    with pytest.raises(FarstepError, match="training has diverged"):
        prepare_graph(LINE.metric(np.full_like(LINE.steps, np.nan)), walks, GraphOptions())
    for name in ("landmarks", "replan_every", "step_length", "edge_cutoff"):
        with pytest.raises(FarstepError, match=f"{name} must be a positive number, not 0"):
            GraphOptions(**{name: 0})


def test_moves_are_those_of_episodes_and_a_door_is_passed_one_way(tmp_path):
    """The metric sees neither the wall nor the door's direction; the episodes never cross it."""
    world = World(["....#....", "....>....", "....#...."])
    blind = np.abs(world.states[:, None] - world.states[None]).sum(axis=2).astype(np.float32)
    rng = np.random.default_rng(0)
    with TableWriter(tmp_path / "train", (2,), "float32", 2) as writer:
        for _ in range(200):
            states = [world.states[rng.integers(len(world.states))]]
            for _ in range(20):
                near = np.flatnonzero(world.steps[world.index(states[-1])] == 1)
                states.append(world.states[rng.choice(near)] if near.size else states[-1])
            writer.append(np.stack(states), np.zeros((21, 2), np.float32))
    options = GraphOptions(replan_every=1, step_length=1.0)
    graph = prepare_graph(world.metric(blind), open_dataset(tmp_path), options)
    marks = graph.landmarks
    at = [world.index(state) for state in marks.observations]
    logged = marks.edges[marks.logged]
    assert all(world.steps[at[a], at[b]] < FAR for a, b in logged)
    left, right = world.at(0, 1), world.at(8, 1)
    number = {world.index(state): k for k, state in enumerate(marks.observations)}
    assert graph.route(right).costs[number[world.index(left)]] == 8
    assert graph.route(left).costs[number[world.index(right)]] > PENALTY


def test_a_goal_that_is_part_of_a_state_is_joined_to_all_landmarks_that_satisfy_it(tmp_path):
    spaces = Spaces.from_observation(Space((2,)), Actions(2))
    rule = GoalRule(columns=(0,))
    agent = GCIQL(hidden=(8,))
    spaces = replace(spaces, goal=Space((1,)), rule=rule)
    params = agent.networks(spaces, root_key(0))
    metric = LearnedMetric(agent, params, Normalization.identity(spaces), spaces)
    rng = np.random.default_rng(0)
    with TableWriter(tmp_path / "train", (2,), "float32", 2) as writer:
        for _ in range(20):
            states = np.cumsum(rng.normal(size=(30, 2)), axis=0).astype(np.float32)
            writer.append(states, np.zeros((30, 2), np.float32))
    graph = prepare_graph(
        metric, open_dataset(tmp_path), GraphOptions(landmarks=30, replan_every=2)
    )
    np.testing.assert_array_equal(graph.landmarks.goals, graph.landmarks.observations[:, :1])
    route = graph.route(np.array([0.5], np.float32))
    embedded = metric.embed_goals(np.array([[0.5]], np.float32))
    near = metric.steps(graph.states.starts, embedded)[:, 0] <= graph.landmarks.step_length
    assert near.sum() > 1
    assert (route.following[:-1][near] == len(graph)).any()


@pytest.mark.parametrize("agent", [MQE(latent=8, groups=2, hidden=(8,)), GCIQL(hidden=(8,))])
def test_where_a_state_is_does_not_depend_on_what_is_computed_beside_it(agent):
    spaces = Spaces.from_observation(Space((3,)), Actions(2))
    params = jax.jit(lambda: agent.networks(spaces, root_key(0)))()
    metric = LearnedMetric(agent, params, Normalization.identity(spaces), spaces)
    states = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    world = graph_of(LINE)
    graph = LandmarkGraph(metric, replace(world.landmarks, observations=states, goals=states))
    alone = graph.ways(states[:1], height=8)
    beside = graph.ways(states[:5], height=8)
    for one, many in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one[0], many[0])
    exact = metric.between(np.repeat(states[:1], 40, axis=0), states)
    np.testing.assert_allclose(alone[0][0], exact, rtol=1e-4, atol=1e-3)
    if isinstance(agent, MQE):
        assert graph.nearest(states, None).tolist() == list(range(40))
