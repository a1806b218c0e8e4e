"""Which moves are found in logged episodes, and where states are found to be."""

from __future__ import annotations

import numpy as np
from worlds import World

from farstep.data.table import Table, TableWriter
from farstep.planning.graph import LandmarkGraph
from farstep.planning.landmarks import Landmarks, farthest_points
from farstep.planning.location import Locator
from farstep.planning.moves import PIECE, logged_moves

LINE = World(["." * 60])
WALLED = World(["." * 12, "#" * 11 + ".", "." * 12])


def graph_of(world, *, steps=None, states=None, reach=12.0, stride=2.0):
    states = world.states if states is None else states
    return LandmarkGraph.build(world.metric(steps), Landmarks(states, reach, stride))


def table_of(path, *episodes) -> Table:
    with TableWriter(path, (2,), "float32", 2) as writer:
        for states in episodes:
            writer.append(np.array(states, np.float32), np.zeros((len(states), 2), np.float32))
    return Table.open(path)


def found(graph, table, longest, seed=0):
    return {tuple(map(int, pair)) for pair in logged_moves(graph.follower, table, longest, seed)}


def test_moves_are_the_pairs_within_the_time_that_one_may_take(tmp_path):
    rightwards = [(x, 0) for x in range(10, 40)]
    table = table_of(tmp_path / "t", rightwards)
    expected = {(a, b) for a in range(10, 40) for b in range(a + 1, min(a + 4, 40))}
    assert found(graph_of(LINE), table, longest=3) == expected


def test_between_episodes_there_is_no_move(tmp_path):
    table = table_of(tmp_path / "t", [(x, 0) for x in range(5)], [(x, 0) for x in range(40, 45)])
    moves = found(graph_of(LINE), table, longest=3)
    assert max(b - a for a, b in moves) == 3


def test_states_belong_to_the_landmark_that_is_nearest_both_ways(tmp_path):
    """From one side the metric is short through the wall, from the other it is not."""
    steps = WALLED.steps.copy()
    above = np.flatnonzero(WALLED.states[:, 1] == 0)
    below = np.flatnonzero(WALLED.states[:, 1] == 2)
    steps[np.ix_(above, below)] = np.minimum(steps[np.ix_(above, below)], 0.5)
    # No landmark on the upper row but every other cell's.
    states = np.concatenate([WALLED.states[above[::2]], WALLED.states[below]])
    graph = graph_of(WALLED, steps=steps, states=states)
    table = table_of(tmp_path / "t", [(x, 0) for x in range(12)])
    for tail, head in found(graph, table, longest=2):
        assert states[tail][1] == states[head][1] == 0


def test_one_that_was_carried_off_is_looked_for_everywhere():
    locator = graph_of(LINE).locator
    states = np.stack([LINE.at(11, 0), LINE.at(50, 0)])
    location = locator.track(states, np.array([10, 10]), 2, back=np.zeros(2), farthest=20.0)
    np.testing.assert_array_equal(location.landmark, [11, 50])
    np.testing.assert_array_equal(location.apart, [0, 0])
    np.testing.assert_array_equal(location.carried_off, [False, True])
    near = graph_of(LINE, states=LINE.states[::20], reach=20.0, stride=np.inf)
    alone = near.locator.search(LINE.at(24, 0)[None])
    assert (alone.landmark[0], alone.apart[0], alone.steps[0]) == (1, 4, 4)


def test_a_logged_episode_is_followed_beside_where_it_was_alone():
    """One under way is found at once wherever it may have gone; beside are 16 of the landmarks."""
    graph = graph_of(LINE, reach=20.0, stride=8.0)
    state, previous = LINE.at(17, 0)[None], np.array([30])
    assert graph.locator.track(state, previous, 1).landmark == [17]
    followed = graph.follower.track(state, previous, 1)
    assert followed.landmark in graph.beside[30]
    assert followed.apart > 0


def test_ways_from_a_state_and_to_it_are_not_confused():
    steps = LINE.steps.copy()
    steps[np.tril_indices(60, -1)] += 5
    locator = graph_of(LINE, steps=steps, reach=30.0).locator
    np.testing.assert_array_equal(locator.leave(LINE.at(20, 0)[None])[0], steps[20])
    np.testing.assert_array_equal(locator.approach(LINE.at(20, 0)[None])[0][0], steps[:, 20])


def test_one_that_passes_many_landmarks_at_a_time_is_not_lost_from_sight(monkeypatch):
    """Landmarks so dense that those beside one are passed by sooner than it is looked again."""
    field = World(["." * 40] * 40)
    metric = field.metric()
    states = np.random.default_rng(0).permutation(field.states)
    landmarks = choose(metric, states)
    graph = LandmarkGraph.build(metric, Landmarks(landmarks, 24.0, 6.0))
    at, lag = int(np.flatnonzero((landmarks == 0).all(axis=1))[0]), []
    monkeypatch.delattr(Locator, "search")
    for place in range(0, 78, 6):
        state = field.at(min(place, 39), max(place - 39, 0))[None]
        location = graph.locator.track(state, np.array([at]), 1)
        at = int(location.landmark[0])
        lag.append(location.apart[0])
    assert np.mean(lag) < 1


def choose(metric, states):
    """All of them, those first that lie apart."""
    order = farthest_points(metric, states, len(states), np.random.default_rng(0))
    return states[order]


def carried(*ends):
    """Episodes that walk to 10 and are carried off from there to one end after another."""
    walk = [(x, 0) for x in range(5, 11)]
    return [[*walk, (end, 0), (end + 1, 0)] for end in ends]


def test_where_chance_carries_an_episode_no_move_leads(tmp_path):
    graph = graph_of(LINE, reach=60.0, stride=2.0)
    table = table_of(tmp_path / "t", *carried(30, 40, 50))
    moves = found(graph, table, longest=3)
    assert max(b - a for a, b in moves) == 3
    # What was done before and after stands.
    assert {(8, 10), (9, 10), (30, 31), (50, 51)} <= moves


def test_where_all_are_carried_to_one_place_it_can_be_counted_on(tmp_path):
    graph = graph_of(LINE, reach=60.0, stride=2.0)
    table = table_of(tmp_path / "t", *carried(30, 30, 31, 50))
    moves = found(graph, table, longest=3)
    assert {(10, 30), (9, 30), (10, 31)} <= moves
    assert not {head for _, head in moves} & {50}


def test_through_a_one_way_door_moves_lead(tmp_path):
    """Beyond it nothing that was near is near any more: no way leads back."""
    steps = LINE.steps.copy()
    steps[30:, :30] += 1000
    graph = graph_of(LINE, steps=steps)
    table = table_of(tmp_path / "t", *[[(x, 0) for x in range(20, 40)]] * 3)
    assert {(29, 30), (28, 31), (27, 30)} <= found(graph, table, longest=3)


def test_of_much_data_some_pieces_are_looked_at_and_always_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("farstep.planning.moves.ROWS_EACH", 4)
    rng = np.random.default_rng(0)
    episodes = [
        [(min(x + i, 59), 0) for i in range(length)]
        for x, length in zip(rng.integers(60, size=40), rng.integers(1, 4 * PIECE, 40), strict=True)
    ]
    table = table_of(tmp_path / "t", *episodes)
    graph = graph_of(LINE)
    some, again, others = (found(graph, table, 1, seed) for seed in (0, 0, 1))
    assert some == again
    assert 0 < len(some) < 59
    assert all(b - a == 1 for a, b in some | others)


def test_an_episode_shorter_than_what_is_looked_at_does_no_harm(tmp_path):
    table = table_of(tmp_path / "t", [(0, 0), (1, 0)])
    assert not found(graph_of(LINE), table, longest=20)
