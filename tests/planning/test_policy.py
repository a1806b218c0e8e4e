"""Planned policies: what is aimed at, and where it leads, in worlds whose distance is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import Walker, World, graph_of, walk

from farstep.planning.graph import PENALTY
from farstep.planning.policy import PATIENCE, Plan, PlannedPolicy, Status

SNAKE = World(["..........", "#########.", "..........", ".#########", ".........."])
START, END = SNAKE.at(0, 0), SNAKE.at(9, 4)
SLOT = np.zeros(1, int)


def planned(world, horizon=6.0, **graph):
    return PlannedPolicy(Walker(world, horizon), graph_of(world, **graph))


def choose(policy, *cells, goal):
    """What the episode that goes through these cells stands at after each."""
    world, seen = policy.policy.world, []
    policy.observer = lambda slot, episode: seen.append(replace(episode))
    policy.begin(SLOT, world.at(*cells[0])[None], goal[None])
    for cell in cells:
        policy.act(world.at(*cell)[None], goal[None])
    return seen


def test_the_flat_policy_alone_does_not_arrive_and_planned_it_takes_the_shortest_way():
    flat = Walker(SNAKE, horizon=6.0)
    assert not flat.act(START[None], END[None]).any()
    seen = walk(planned(SNAKE), SNAKE, START, END)
    assert len(seen) - 1 == SNAKE.steps[SNAKE.index(START), SNAKE.index(END)] == 31


def test_noise_in_the_metric_costs_little():
    rng = np.random.default_rng(0)
    noisy = SNAKE.steps * rng.uniform(0.9, 1.1, SNAKE.steps.shape).astype(np.float32)
    policy = planned(SNAKE, steps=noisy, replan_every=3, step_length=3.0)
    assert len(walk(policy, SNAKE, START, END)) - 1 <= 40


def test_a_metric_that_sees_no_wall_is_corrected_by_what_episodes_did():
    """Beyond the cutoff, and where no episode goes, it may say what it likes."""
    blind = np.where(SNAKE.steps == 11, 2.0, SNAKE.steps).astype(np.float32)
    moves = np.argwhere((SNAKE.steps <= 6) & (SNAKE.steps > 0))
    policy = planned(SNAKE, steps=blind, moves=moves)
    assert np.array_equal(walk(policy, SNAKE, START, END)[-1], END)


def test_one_way_doors_are_not_walked_back():
    world = World(["...#...", "...>...", "...#...", "......."])
    policy = planned(world, horizon=3.0, edge_cutoff=3.0, replan_every=1)
    there = walk(policy, world, world.at(0, 1), world.at(6, 1))
    back = walk(policy, world, world.at(6, 1), world.at(0, 1))
    # Back around by the last row: 2 down, 6 along, 2 up.
    assert (len(there) - 1, len(back) - 1) == (6, 10)


def test_the_subgoal_is_the_first_node_of_the_path_that_is_farther_than_a_step_length():
    line = World(["." * 30])
    moves = np.argwhere(line.steps == 1)
    policy = planned(line, moves=moves, step_length=3.0, replan_every=1)
    (first,) = choose(policy, (0, 0), goal=line.at(29, 0))
    assert (first.aim, first.status, first.steps_to_go) == (4, Status.ON_PATH, 29)
    (near,) = choose(policy, (27, 0), goal=line.at(29, 0))
    assert (near.aim, near.status, near.to_goal) == (30, Status.DIRECT, 2)
    np.testing.assert_array_equal(near.subgoal, line.at(29, 0))


def test_an_episode_without_progress_gives_the_edge_up_and_aims_farther_for_a_while():
    line = World(["." * 60])
    moves = np.argwhere((line.steps == 1) | (line.steps == 3))
    policy = planned(line, moves=moves, replan_every=1, step_length=2.0)
    cells = [(0, 0)] * (4 * PATIENCE) + [(1, 0)]
    seen = choose(policy, *cells, goal=line.at(59, 0))
    away = [line.steps[0, episode.aim] for episode in seen[:-1]]
    near, far, again, farther = (set(away[k : k + PATIENCE]) for k in range(0, 16, PATIENCE))
    assert max(near | again) <= 4 < min(far) <= max(far) <= 8 < min(farther)
    first, second = seen[-1].given_up
    assert first == (0, seen[0].route.following[0])
    assert second[1] != first[1]
    assert len({episode.route.path(0)[1] for episode in seen}) > 1


class PressesIntoTheWall(Walker):
    """At a certain state it moves only towards goals that are not near."""

    def _one(self, state, goal):
        away = self.world.steps[self.world.index(state), self.world.index(goal)]
        if np.array_equal(state, self.world.at(4, 0)) and away < 10:
            return np.zeros(2, np.float32)
        return super()._one(state, goal)


def test_stuck_beside_a_wall_an_episode_gets_off_by_aiming_farther():
    policy = planned(SNAKE, replan_every=1)
    policy.policy = PressesIntoTheWall(SNAKE, 40.0)
    seen = walk(policy, SNAKE, START, END, limit=80)
    assert np.array_equal(seen[-1], END)
    stood = sum(np.array_equal(state, SNAKE.at(4, 0)) for state in seen)
    assert PATIENCE < stood < 8 * PATIENCE


def test_one_that_is_carried_off_starts_afresh_from_there():
    line = World(["." * 90])
    policy = planned(line, moves=np.argwhere(line.steps == 1), replan_every=1, step_length=2.0)
    cells = [(60, 0)] * (PATIENCE + 1) + [(10, 0), (11, 0)]
    *_, stuck, away, on = choose(policy, *cells, goal=line.at(89, 0))
    assert (stuck.stuck, stuck.farther) == (0, PATIENCE)
    # The edge that it gave up is dearer still.
    assert (away.stuck, away.farther, away.least) == (0, PATIENCE - 1, 78 + PENALTY)
    assert (on.stuck, on.least) == (0, 77 + PENALTY)


def test_cut_off_a_plan_leads_as_far_as_the_graph_does():
    line = World(["............"])
    start, goal = line.at(0, 0), line.at(11, 0)
    policy = planned(line, states=line.states[6:], horizon=12.0, edge_cutoff=2.0)
    assert np.array_equal(walk(policy, line, start, goal)[-1], goal)
    rooms = World(["......#......"])
    (apart,) = choose(planned(rooms, edge_cutoff=2.0), (0, 0), goal=rooms.at(12, 0))
    assert apart.status == Status.CUT_OFF
    assert apart.aim != len(rooms.states)
    policy = planned(line, states=line.states[:8], edge_cutoff=2.0)
    (far,) = choose(policy, (0, 0), goal=goal)
    assert (far.status, far.steps_to_go) == (Status.CUT_OFF, 11)


def test_slots_do_not_disturb_each_other_and_what_is_over_is_left_alone():
    policy = planned(SNAKE, replan_every=1)
    goals = np.stack([END, SNAKE.at(3, 2), END])
    states = np.stack([START, START, SNAKE.at(9, 2)])
    policy.begin(np.arange(3), states, goals)
    together = policy.act(states, goals)
    for slot in range(3):
        alone = planned(SNAKE, replan_every=1)
        np.testing.assert_array_equal(
            alone.act(states[slot : slot + 1], goals[slot : slot + 1])[0], together[slot]
        )
    policy.end(np.array([1]))
    aimed = policy.episodes[1].subgoal.copy()
    states[1] = SNAKE.at(9, 1)
    policy.act(states, goals)
    np.testing.assert_array_equal(policy.episodes[1].subgoal, aimed)
    # Another goal than before is a new episode, planned for at once; of another type it is none.
    policy.act(states, goals.astype(np.float64))
    assert [policy.episodes[slot].age for slot in range(3)] == [3, 3, 3]
    goals[2] = SNAKE.at(0, 4)
    policy.act(states, goals)
    assert [policy.episodes[slot].age for slot in range(3)] == [4, 4, 1]
    assert policy.episodes[2].steps_to_go == SNAKE.steps[SNAKE.index(states[2]), -10]


def test_a_plan_for_a_loop_of_ones_own():
    plan = Plan(Walker(SNAKE, 6.0), graph_of(SNAKE, replan_every=2), END)
    for name in ("subgoal", "path", "steps_to_go", "status", "reached"):
        with pytest.raises(ValueError, match="call act"):
            getattr(plan, name)
    state = START + plan.act(START)
    np.testing.assert_array_equal(plan.path[0], plan.subgoal)
    np.testing.assert_array_equal(plan.path[-1], END)
    assert (plan.status, plan.steps_to_go, plan.reached) == (Status.ON_PATH, 31, False)
    subgoals = [plan.subgoal]
    for _ in range(2):
        state = state + plan.act(state)
        subgoals.append(plan.subgoal)
    assert [np.array_equal(subgoals[0], one) for one in subgoals] == [True, True, False]
    for _ in range(29):
        state = state + plan.act(state)
    np.testing.assert_array_equal(state, END)
    for _ in range(2):
        plan.act(state)
    assert (plan.reached, plan.status) == (True, Status.DIRECT)
    plan.new_goal(START)
    with pytest.raises(ValueError, match="call act"):
        _ = plan.steps_to_go
    plan.act(state)
    assert (plan.steps_to_go, plan.reached) == (31, False)
