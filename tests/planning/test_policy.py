"""Planned policies: what is aimed at, and where it leads, in worlds whose distance is known."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest
from worlds import Walker, World, walk

from farstep.agents.mqe import MQE
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.planning.graph import GOAL, LandmarkGraph
from farstep.planning.landmarks import Landmarks
from farstep.planning.location import Locator
from farstep.planning.metric import LearnedMetric
from farstep.planning.plan import Plan
from farstep.planning.policy import PlannedPolicy, Status

SNAKE = World(["..........", "#########.", "..........", ".#########", ".........."])
START, END = SNAKE.at(0, 0), SNAKE.at(9, 4)


def planned(
    world,
    *,
    metric=None,
    states=None,
    reach=6.0,
    stride=1.0,
    moves=None,
    horizon=6.0,
    replan_every=5,
    patience=4,
):
    states = world.states if states is None else states
    landmarks = Landmarks(states, reach, stride, moves, replan_every)
    graph = LandmarkGraph.build(metric or world.metric(), landmarks)
    return PlannedPolicy(Walker(world, horizon), graph, patience)


def test_the_flat_policy_alone_does_not_arrive_and_planned_it_takes_the_shortest_way():
    flat = Walker(SNAKE, horizon=6.0)
    assert not flat.act(START[None], END[None]).any()
    seen = walk(planned(SNAKE), SNAKE, START, END)
    assert len(seen) - 1 == SNAKE.steps[SNAKE.index(START), SNAKE.index(END)] == 31


@pytest.mark.parametrize("replan_every", [1, 3])
def test_noise_in_the_metric_costs_little(replan_every):
    rng = np.random.default_rng(0)
    noisy = SNAKE.steps * rng.uniform(0.9, 1.1, SNAKE.steps.shape)
    # As calibrated: the stride is what is covered between two choices.
    stride = float(replan_every)
    policy = planned(SNAKE, metric=SNAKE.metric(noisy), stride=stride, replan_every=replan_every)
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


def test_an_episode_blames_what_it_cannot_do_and_goes_another_way():
    """The metric sees no wall between two rows, and the data neither: the moves are wrong too."""
    wrong = np.minimum(SNAKE.steps, np.where(SNAKE.steps == 11, 5.0, np.inf))
    believed = np.argwhere((wrong <= 6) & (wrong > 0))

    def walked(patience):
        policy = planned(
            SNAKE, metric=SNAKE.metric(wrong), moves=believed, horizon=6.0, patience=patience
        )
        return walk(policy, SNAKE, START, END, limit=1500)

    assert not np.array_equal(walked(patience=10_000)[-1], END)
    assert np.array_equal(walked(patience=4)[-1], END)


class PressesIntoTheWall(Walker):
    """Beside one, at a certain state, it moves only towards goals that are not near."""

    def act(self, observations, goals, **_):
        actions = super().act(observations, goals)
        beside = (observations == SNAKE.at(4, 0)).all(axis=1)
        cells = zip(observations, goals, strict=True)
        steps = [SNAKE.steps[SNAKE.index(state), SNAKE.index(goal)] for state, goal in cells]
        near = np.array(steps) < 10
        return np.where((beside & near)[:, None], 0, actions)


def test_stuck_beside_a_wall_an_episode_looks_ahead_until_it_moves_again():
    policy = planned(SNAKE, replan_every=1, patience=2)
    policy.policy = PressesIntoTheWall(SNAKE, 40.0)
    seen = walk(policy, SNAKE, START, END, limit=60)
    assert np.array_equal(seen[-1], END)
    stood = sum(np.array_equal(state, SNAKE.at(4, 0)) for state in seen)
    assert 2 <= stood <= 12
    policy.begin(np.zeros(1, int), START[None], END[None])
    policy.act(START[None], END[None])
    near = policy.landmarks[0]
    # It stands still: what it aims at is ever farther along the path, and then the goal itself.
    aims = []
    for _ in range(40):
        policy.act(START[None], END[None])
        aims.append(int(policy.landmarks[0]))
    assert near in aims
    assert GOAL in aims


FOLDED = World(["." * 40, "#" * 39 + ".", "." * 40, "." + "#" * 39, "." * 40])


def test_an_episode_that_walks_again_blames_no_more():
    """The metric is far too short beyond the reach, where looking ahead aims."""
    short = np.where(FOLDED.steps > 6, 6 + 0.2 * (FOLDED.steps - 6), FOLDED.steps)
    start, goal = FOLDED.at(0, 0), FOLDED.at(39, 4)
    policy = planned(FOLDED, metric=FOLDED.metric(short), horizon=200.0, replan_every=1, patience=4)
    policy.begin(np.zeros(1, int), start[None], goal[None])
    state = start
    for step in range(170):
        action = policy.act(state[None], goal[None])[0]
        state = state if step < 7 else state + action
        to_go = FOLDED.steps[FOLDED.index(state), FOLDED.index(goal)]
        assert policy.steps_to_go[0] >= to_go - 1
    np.testing.assert_array_equal(state, goal)
    assert len(policy._blamed[0]) == 1


def test_one_that_is_carried_off_no_longer_looks_ahead():
    policy = planned(FOLDED, replan_every=1, patience=3)
    start, goal = FOLDED.at(0, 0)[None], FOLDED.at(39, 4)[None]
    policy.begin(np.zeros(1, int), start, goal)
    for _ in range(5):
        policy.act(start, goal)
    assert policy._looking_ahead[0] > 0
    away = FOLDED.at(39, 2)
    policy.act(away[None], goal)
    expected = policy._following[0, FOLDED.index(away)]
    assert (policy._looking_ahead[0], policy.landmarks[0]) == (0, expected)


@pytest.mark.parametrize(
    ("walked", "reach", "back"),
    [(2, 6.0, 3.0), (3, 2.0, 1.0)],
    ids=["long ways back", "short reach"],
)
def test_who_walks_is_not_carried_off(walked, reach, back):
    line = World(["." * 60])
    metric = line.metric(np.where(np.tri(60, k=-1), back, 1) * line.steps)
    every = 2
    policy = planned(line, metric=metric, reach=reach, stride=2.0, replan_every=every)
    goal = line.at(59, 0)[None]
    policy.begin(np.zeros(1, int), line.at(0, 0)[None], goal)
    for step in range(8 * every):
        if step == every:
            policy._looking_ahead[0] = 9
        policy.act(line.at(walked * (step // every), 0)[None], goal)
    assert policy._looking_ahead[0] == 9 - 7
    for _ in range(every):
        policy.act(line.at(59, 0)[None], goal)
    assert policy._looking_ahead[0] == 0


def test_one_that_walks_where_landmarks_are_far_is_not_carried_off():
    """Else what it achieved would be void at every choice, and it could go to and fro for ever."""
    line = World(["." * 60])
    few = np.concatenate([line.states[:20], line.states[30:]])
    locator = LandmarkGraph.build(line.metric(), Landmarks(few, 12.0, 1.5)).locator
    # From 22, to what is farther than a stray from all landmarks about there.
    walked = locator.track(
        line.at(24, 0)[None], np.array([10]), 1, back=np.array([12.0]), farthest=3.0
    )
    assert walked.apart[0] > locator.stray
    assert (walked.landmark[0], walked.carried_off[0]) == (19, False)
    carried = locator.track(
        line.at(59, 0)[None], np.array([10]), 1, back=np.array([12.0]), farthest=3.0
    )
    assert carried.carried_off[0]
    # On to where another landmark is nearer, that none about the one before is beside.
    over = locator.track(
        line.at(26, 0)[None], np.array([19]), 1, back=np.array([6.0]), farthest=3.0
    )
    assert not (locator.beside[19] == over.landmark[0]).any()
    assert (over.landmark[0], over.carried_off[0]) == (20, False)


def test_cut_off_and_stuck_an_episode_aims_at_what_has_a_path():
    """Two rooms, the goal in the other one."""
    world = World(["......#......"])
    policy = planned(world, reach=2.0, horizon=0.0, replan_every=1, patience=2)
    start, goal = world.at(0, 0), world.at(12, 0)
    policy.begin(np.zeros(1, int), start[None], goal[None])
    for _ in range(12):
        policy.act(start[None], goal[None])
        assert policy.status[0] == Status.CUT_OFF
        assert policy.landmarks[0] != GOAL


def test_much_blame_leaves_a_way():
    """Nothing is lost to rounding or overflow, however long an episode stands still."""
    world = World(["." * 12])
    policy = planned(world, reach=2.0, horizon=0.0, replan_every=1, patience=1)
    start, goal = world.at(0, 0), world.at(11, 0)
    policy.begin(np.zeros(1, int), start[None], goal[None])
    for _ in range(1500):
        policy.act(start[None], goal[None])
    costs = policy.costs_to_go(0)
    assert np.isfinite(costs).all()
    assert (np.diff(costs) < 0).all()


def test_a_new_episode_blames_nothing():
    world = World(["............"])
    policy = planned(world, reach=2.0, horizon=0.0, replan_every=1, patience=1)
    start, goal = world.at(0, 0)[None], world.at(11, 0)[None]
    policy.begin(np.zeros(1, int), start, goal)
    before = policy.costs_to_go(0)
    for _ in range(8):  # It does not move.
        policy.act(start, goal)
    assert policy.costs_to_go(0)[0] > before[0]
    policy.begin(np.zeros(1, int), start, goal)
    np.testing.assert_array_equal(policy.costs_to_go(0), before)


def test_an_episode_at_its_goal_rests():
    policy = planned(SNAKE, replan_every=1, patience=1)
    policy.begin(np.zeros(1, int), END[None], END[None])
    before = policy.costs_to_go(0)
    for _ in range(8):
        policy.act(END[None], END[None])
    np.testing.assert_array_equal(policy.costs_to_go(0), before)


def test_what_comes_next_is_aimed_at_before_a_landmark_is_reached():
    """Else the agent would slow down, or stop, a little before each."""
    line = World(["." * 30])
    policy = planned(line, reach=6.0, stride=2.0, horizon=30.0, replan_every=1)
    policy.begin(np.zeros(1, int), line.at(0, 0)[None], line.at(29, 0)[None])
    seen = walk(policy, line, line.at(0, 0), line.at(29, 0))
    assert len(seen) == 30
    policy.begin(np.zeros(1, int), line.at(0, 0)[None], line.at(29, 0)[None])
    for x in range(24):
        policy.act(line.at(x, 0)[None], line.at(29, 0)[None])
        assert policy.landmarks[0] == GOAL or policy.subgoals[0, 0] - x > 2


def test_one_that_is_carried_off_is_found_again_and_goes_on_from_there():
    """As by a teleporter: what was achieved on the way is void, and nothing is to blame."""
    policy = planned(SNAKE, replan_every=1, patience=4)
    policy.begin(np.zeros(1, int), SNAKE.at(9, 2)[None], END[None])
    for state in (SNAKE.at(9, 2), START, SNAKE.at(1, 0), SNAKE.at(2, 0)):
        policy.act(state[None], END[None])
    costs = SNAKE.steps[:, SNAKE.index(END)]
    np.testing.assert_allclose(policy.costs_to_go(0), costs)
    assert policy.steps_to_go[0] == costs[SNAKE.index(START)] - 2


def test_a_wall_that_the_metric_does_not_see_is_walked_around_where_episodes_do():
    """A single step through it against many short ones around it."""
    wrong = np.minimum(SNAKE.steps, np.where(SNAKE.steps == 11, 5.0, np.inf))
    moves = np.argwhere((SNAKE.steps <= 3) & (SNAKE.steps > 0))

    def walked(moves):
        policy = planned(
            SNAKE,
            metric=SNAKE.metric(wrong),
            moves=moves,
            horizon=3.0,
            replan_every=1,
            patience=10_000,
        )
        return walk(policy, SNAKE, START, END)

    assert not np.array_equal(walked(None)[-1], END)
    assert len(walked(moves)) - 1 == 31


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
    landmarks = Landmarks(SNAKE.states, 6.0, 1.0, replan_every=4)
    graph = LandmarkGraph.build(SNAKE.metric(noisy), landmarks)
    alone = walk(PlannedPolicy(Walker(SNAKE, 6.0), graph), SNAKE, START, END)

    crowd = PlannedPolicy(Walker(SNAKE, 6.0), graph)
    count = 37
    states = SNAKE.states[rng.integers(len(SNAKE.states), size=count)]
    goals = SNAKE.states[rng.integers(len(SNAKE.states), size=count)]
    crowd.begin(np.arange(count), states, goals)
    # Standing still they blame edges and look ahead.
    for _ in range(22):
        crowd.act(states, goals)
    # A new episode in one's slot, out of step with the others.
    slot = int(np.flatnonzero(crowd._looking_ahead)[-1])
    states[slot], goals[slot] = START, END
    crowd.begin(np.array([slot]), states[[slot]], goals[[slot]])
    for expected in alone:
        np.testing.assert_array_equal(states[slot], expected)
        states = states + crowd.act(states, goals)


@pytest.mark.parametrize("count", [7, 50, 66])
def test_plans_do_not_round_by_their_neighbours(count, monkeypatch):
    """With networks, whose answers round by the height of a call and the place in it."""
    located = []
    track = Locator.track

    def tracked(self, *arguments, **others):
        location = track(self, *arguments, **others)
        assert location.to_aim is not None
        located.append(np.stack([location.apart, location.steps, location.to_aim]))
        return location

    class Still:
        def act(self, observations, goals, **how):
            return np.zeros((len(observations), 2))

    monkeypatch.setattr(Locator, "track", tracked)
    agent = MQE(hidden=(64, 64), latent=64)
    spaces = Spaces.of(Space((2,)), Actions(2))
    params = jax.jit(lambda: agent.networks(spaces, root_key(0)))()
    metric = LearnedMetric(agent, params, Normalization.identity(spaces), spaces)
    rng = np.random.default_rng(2)
    landmarks = rng.normal(size=(200, 2)).astype(np.float32)
    graph = LandmarkGraph.build(metric, Landmarks(landmarks, 1e6, replan_every=2))
    states, goals = rng.normal(size=(2, count, 2)).astype(np.float32)
    for order in (np.arange(count), np.roll(np.arange(count), 2)):
        policy = PlannedPolicy(Still(), graph)
        policy.begin(np.arange(count), states[order], goals[order])
        policy.act(states[order], goals[order])
    # Some begin later, and are alone in their choice.
    policy.begin(np.arange(2, 5), states[:3], goals[:3])
    policy.act(states[order], goals[order])
    every, rolled, some = located
    np.testing.assert_array_equal(rolled, np.roll(every, 2, axis=1))
    np.testing.assert_array_equal(some[:2], every[:2, :3])


def test_an_episode_that_is_over_costs_nothing(monkeypatch):
    """It would blame edges for standing where it ended."""
    policy = planned(SNAKE, replan_every=1)
    slots, starts, goals = np.arange(2), np.stack([START] * 2), np.stack([END] * 2)
    policy.begin(slots, starts, goals)
    policy.act(starts, goals)
    policy.end(slots[:1])
    replanned = []
    track = Locator.track

    def tracked(self, observations, *arguments, **others):
        replanned.append(len(observations))
        return track(self, observations, *arguments, **others)

    monkeypatch.setattr(Locator, "track", tracked)
    for _ in range(6):
        assert len(policy.act(starts, goals)) == 2
    assert replanned == [1] * 6
    policy.begin(slots[:1], starts[:1], goals[:1])
    policy.act(starts, goals)
    assert replanned[-1] == 2


def test_a_new_episode_is_not_sought_about_the_one_before():
    line = World(["." * 60])
    policy = planned(line, reach=6.0, stride=2.0)
    goal = line.at(40, 0)[None]
    # To those about the first, the second is near enough for one that was there a moment ago.
    for start in (line.at(0, 0), line.at(8, 0)):
        policy.begin(np.zeros(1, int), start[None], goal)
        policy.act(start[None], goal)
        assert policy.steps_to_go[0] == 40 - start[0]


def test_a_plan_for_a_loop_of_ones_own():
    landmarks = Landmarks(SNAKE.states, 6.0, 1.0, replan_every=2)
    plan = Plan(Walker(SNAKE, 6.0), LandmarkGraph.build(SNAKE.metric(), landmarks), END)
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


def test_patience_leaves_the_time_between_choices_as_the_graph_has_it():
    """Lengths are calibrated by it: another would make edges too long or too short."""
    landmarks = Landmarks(SNAKE.states, 6.0, 1.0, replan_every=2)
    graph = LandmarkGraph.build(SNAKE.metric(), landmarks)
    patient = PlannedPolicy(Walker(SNAKE, 6.0), graph, patience=9)
    seen = walk(PlannedPolicy(Walker(SNAKE, 6.0), graph), SNAKE, START, END)
    np.testing.assert_array_equal(seen, walk(patient, SNAKE, START, END))
    plan = Plan(Walker(SNAKE, 6.0), graph, END, patience=9)
    subgoals = []
    for state in seen[:4]:
        plan.act(state)
        subgoals.append(plan.subgoal)
    np.testing.assert_array_equal(subgoals[0], subgoals[1])
    assert not np.array_equal(subgoals[1], subgoals[2])


def test_another_goal_than_at_the_beginning_is_planned_for_at_once():
    policy = planned(SNAKE)
    states, goals = np.stack([START] * 2), np.stack([END] * 2)
    policy.begin(np.arange(2), states, goals)
    policy.act(states, goals)
    other = np.stack([END, SNAKE.at(3, 2)])
    policy.act(states, other.astype(np.float64))
    to_go = [SNAKE.steps[SNAKE.index(START), SNAKE.index(goal)] for goal in other]
    np.testing.assert_array_equal(policy.steps_to_go, to_go)
    assert policy._age.tolist() == [2, 1]
    policy.act(states, other.astype(np.float64))
    assert policy._age.tolist() == [3, 2], "a goal of another type is the same goal"


def test_without_a_beginning_the_first_call_is_one():
    policy = planned(SNAKE)
    policy.act(START[None], END[None])
    assert policy.steps_to_go.tolist() == [31]
