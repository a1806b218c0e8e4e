"""Steering: what is aimed at, and where it leads, in worlds whose distance is known."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from worlds import FAR, Walker, World, walk

from farstep.core.errors import FarstepError
from farstep.planning.graph import LandmarkGraph
from farstep.planning.plan import Plan
from farstep.planning.policy import PlannedPolicy, Steering
from farstep.planning.subgoals import GOAL, Status, choose

SNAKE = World(["..........", "#########.", "..........", ".#########", ".........."])
START, END = SNAKE.at(0, 0), SNAKE.at(9, 4)


def planned(world, *, metric=None, states=None, reach=6.0, stride=np.inf, horizon=6.0, **steering):
    graph = LandmarkGraph.build(
        metric or world.metric(), world.states if states is None else states, reach, stride
    )
    return PlannedPolicy(Walker(world, horizon), graph, Steering(**steering))


def test_the_flat_policy_alone_does_not_arrive_and_planned_it_takes_the_shortest_way():
    flat = Walker(SNAKE, horizon=6.0)
    assert not flat.act(START[None], END[None]).any()
    seen = walk(planned(SNAKE), SNAKE, START, END)
    assert len(seen) - 1 == SNAKE.steps[SNAKE.index(START), SNAKE.index(END)] == 31


@pytest.mark.parametrize("replan_every", [1, 3])
def test_noise_in_the_metric_costs_little(replan_every):
    rng = np.random.default_rng(0)
    noisy = SNAKE.steps * rng.uniform(0.9, 1.1, SNAKE.steps.shape)
    policy = planned(SNAKE, metric=SNAKE.metric(noisy), replan_every=replan_every)
    assert len(walk(policy, SNAKE, START, END)) - 1 <= 40


def test_a_metric_that_is_wrong_beyond_a_range_is_right_within_the_reach():
    """Far states look near, as through a wall: with long edges the plan runs into it."""
    wrong = np.where(SNAKE.steps > 6, 6.5, SNAKE.steps)
    good = planned(SNAKE, metric=SNAKE.metric(wrong), reach=6.0)
    assert np.array_equal(walk(good, SNAKE, START, END)[-1], END)
    misled = planned(SNAKE, metric=SNAKE.metric(wrong), reach=7.0)
    assert not np.array_equal(walk(misled, SNAKE, START, END)[-1], END)


def test_one_way_doors_are_not_walked_back():
    world = World(["...#...", "...>...", "...#...", "......."])
    policy = planned(world, reach=3.0, horizon=3.0, replan_every=1)
    there = walk(policy, world, world.at(0, 1), world.at(6, 1))
    assert len(there) - 1 == 6
    back = walk(policy, world, world.at(6, 1), world.at(0, 1))
    # Around by the last row: 2 down, 6 along, 2 up.
    assert len(back) - 1 == 10


def test_once_within_reach_the_goal_itself_is_aimed_at():
    policy = planned(SNAKE)
    near = SNAKE.at(4, 4)
    policy.begin(np.zeros(1, int), near[None], END[None])
    policy.act(near[None], END[None])
    np.testing.assert_array_equal(policy.subgoals[0], END)
    assert (policy.landmarks[0], policy.status[0]) == (GOAL, Status.DIRECT)
    assert policy.steps_to_go[0] == 5


def test_a_start_that_is_cut_off_goes_to_the_nearest_state_with_a_path():
    world = World(["............"])
    policy = planned(world, states=world.states[6:], reach=2.0, horizon=12.0)
    start, goal = world.at(0, 0), world.at(11, 0)
    policy.begin(np.zeros(1, int), start[None], goal[None])
    policy.act(start[None], goal[None])
    assert policy.status[0] == Status.CUT_OFF
    np.testing.assert_array_equal(policy.subgoals[0], world.at(6, 0))
    assert np.array_equal(walk(policy, world, start, goal)[-1], goal)


def test_a_goal_that_is_cut_off_is_approached_and_reported():
    world = World(["............"])
    policy = planned(world, states=world.states[:8], reach=2.0, horizon=12.0)
    start, goal = world.at(0, 0), world.at(11, 0)
    policy.begin(np.zeros(1, int), start[None], goal[None])
    assert policy.goal_cut_off[0]
    policy.act(start[None], goal[None])
    assert policy.status[0] == Status.ON_PATH
    assert policy.steps_to_go[0] == 11


def test_the_farthest_of_the_near_best_is_chosen_and_ties_go_to_the_first():
    to_landmarks = jnp.array([[1.0, 3.0, 3.0, 5.0, 2.0]])
    costs = jnp.array([[9.0, 7.0, 7.0, 6.0, jnp.inf]])
    goal = jnp.array([20.0])
    landmark, status, steps = choose(to_landmarks, goal, costs, jnp.array([4.0]), jnp.array([0.0]))
    assert (int(landmark[0]), int(status[0]), float(steps[0])) == (1, Status.ON_PATH, 10.0)
    landmark, *_ = choose(to_landmarks, goal, costs, jnp.array([6.0]), jnp.array([0.1]))
    assert int(landmark[0]) == 3
    landmark, status, _ = choose(to_landmarks, goal, costs, jnp.array([0.5]), jnp.array([0.0]))
    assert (int(landmark[0]), int(status[0])) == (0, Status.CUT_OFF)
    nowhere = jnp.full_like(costs, jnp.inf)
    landmark, status, _ = choose(to_landmarks, goal, nowhere, jnp.array([6.0]), jnp.array([0.0]))
    assert (int(landmark[0]), int(status[0])) == (GOAL, Status.CUT_OFF)


def test_a_stuck_episode_gets_more_slack():
    """A landmark that the walker stands on but never counts as reached would hold it for ever."""
    world = World(["............"])
    # From 0, the metric says that all ways but by 1 are longer than they are.
    steps = world.steps.copy()
    steps[0, 2:] += 1.0
    steps[0, 2:][steps[0, 2:] > 4] = FAR
    blocked = Walker(world, horizon=12.0)

    class Lame(Walker):
        def _one(self, state, goal):
            if self.world.steps[self.world.index(state), self.world.index(goal)] < 2:
                return np.zeros(2, np.float32)
            return super()._one(state, goal)

    graph = LandmarkGraph.build(world.metric(steps), world.states, 4.0)
    start, goal = world.at(0, 0), world.at(11, 0)
    patient = PlannedPolicy(Lame(world, 12.0), graph, Steering(patience=1000, replan_every=1))
    assert np.array_equal(walk(patient, world, start, goal)[-1], start)
    restless = PlannedPolicy(Lame(world, 12.0), graph, Steering(patience=4, replan_every=1))
    assert walk(restless, world, start, goal)[-1][0] > 8
    assert blocked.act(start[None], goal[None]).any()


def test_the_subgoal_lies_ahead_on_the_path_until_the_episode_was_stuck():
    world = World(["............"])
    start, goal = world.at(0, 0)[None], world.at(11, 0)[None]
    # Edges of one are free, of two cost four times as much: the path is cell by cell.
    policy = planned(world, reach=2.5, stride=1.0, horizon=12.0, replan_every=1, patience=2)
    policy.begin(np.zeros(1, int), start, goal)
    policy.act(start, goal)
    np.testing.assert_array_equal(policy.graph.observations[policy.landmarks[0]], [1, 0])
    np.testing.assert_array_equal(policy.subgoals[0], [2, 0])
    for _ in range(5):  # It does not move: stuck.
        policy.act(start, goal)
    np.testing.assert_array_equal(
        policy.subgoals[0], policy.graph.observations[policy.landmarks[0]]
    )
    policy.begin(np.zeros(1, int), start, goal)
    policy.act(start, goal)
    np.testing.assert_array_equal(policy.subgoals[0], [2, 0])


def test_a_wall_that_the_metric_does_not_see_is_walked_around():
    """A single long step through it against many short ones around it."""
    wrong = np.minimum(SNAKE.steps, np.where(SNAKE.steps == 11, 5.0, np.inf))
    misled = planned(SNAKE, metric=SNAKE.metric(wrong), reach=6.0, horizon=3.0)
    assert not np.array_equal(walk(misled, SNAKE, START, END)[-1], END)
    careful = planned(SNAKE, metric=SNAKE.metric(wrong), reach=6.0, stride=1.5, horizon=3.0)
    assert np.array_equal(walk(careful, SNAKE, START, END)[-1], END)


def test_equal_ways_are_not_changed_between():
    """Two ways of equal length and a metric that favours the one not taken."""
    world = World([".......", ".#####.", ".#####.", "......."])
    steps = world.steps.copy()
    start, goal = world.at(0, 1), world.at(6, 1)
    policy = planned(world, metric=world.metric(steps), reach=3.0, horizon=3.0, replan_every=1)
    seen = walk(policy, world, start, goal)
    costs = [world.steps[world.index(state), world.index(goal)] for state in seen]
    assert costs == sorted(costs, reverse=True)


def test_an_episode_does_not_depend_on_slots_or_neighbours():
    rng = np.random.default_rng(1)
    noisy = SNAKE.steps * rng.uniform(0.8, 1.2, SNAKE.steps.shape)
    graph = LandmarkGraph.build(SNAKE.metric(noisy), SNAKE.states, 6.0)
    steering = Steering(replan_every=4)
    alone = walk(PlannedPolicy(Walker(SNAKE, 6.0), graph, steering), SNAKE, START, END)

    crowd = PlannedPolicy(Walker(SNAKE, 6.0), graph, steering)
    count, slot = 37, 23
    states = SNAKE.states[rng.integers(len(SNAKE.states), size=count)]
    goals = SNAKE.states[rng.integers(len(SNAKE.states), size=count)]
    crowd.begin(np.arange(count), states, goals)
    for _ in range(3):
        states = states + crowd.act(states, goals)
    # A new episode in one slot, out of step with the others.
    states[slot], goals[slot] = START, END
    crowd.begin(np.array([slot]), states[[slot]], goals[[slot]])
    for expected in alone:
        np.testing.assert_array_equal(states[slot], expected)
        states = states + crowd.act(states, goals)


def test_a_plan_for_a_loop_of_ones_own():
    graph = LandmarkGraph.build(SNAKE.metric(), SNAKE.states, 6.0)
    plan = Plan(Walker(SNAKE, 6.0), graph, END, Steering(replan_every=2))
    with pytest.raises(ValueError, match="call act"):
        _ = plan.subgoal
    state = START
    state = state + plan.act(state)
    path = plan.path
    np.testing.assert_array_equal(path[0], plan.subgoal)
    np.testing.assert_array_equal(path[-1], END)
    assert plan.status == Status.ON_PATH
    assert plan.steps_to_go == 31
    assert not plan.goal_cut_off
    hops = [SNAKE.steps[SNAKE.index(a), SNAKE.index(b)] for a, b in itertools.pairwise(path)]
    assert max(hops) <= 6
    for _ in range(30):
        state = state + plan.act(state)
    np.testing.assert_array_equal(state, END)


@pytest.mark.parametrize("wrong", [{"replan_every": 0}, {"patience": 0}, {"slack": -0.1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(FarstepError, match=next(iter(wrong))):
        Steering(**wrong)
