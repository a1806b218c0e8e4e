"""The protocol: seeds, success, and independence of workers, slots and the company in a batch."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.core.errors import FarstepError
from farstep.core.goals import GoalRule
from farstep.core.types import Actions, Space, Spaces
from farstep.envs.catalog import environment, make, own_maze
from farstep.envs.mazes import MazeMap
from farstep.evaluation.rollout import episode_seed, evaluate
from farstep.evaluation.trajectories import Trajectories

pytest.importorskip("ogbench")

NAME = "pointmaze-medium-v0"
HALL = MazeMap.from_text(
    """
    ########
    #......#
    ########
    task (1, 1) -> (1, 2)
    task (1, 1) -> (1, 6)
    task (1, 6) -> (1, 1)
    """,
    "hall",
)


class Straight:
    """Goes straight to the goal, and notes how it is called."""

    def __init__(self):
        self.rows: set[int] = set()
        self.began: list[np.ndarray] = []
        self.ended: list[np.ndarray] = []

    def begin(self, slots, observations, goals):
        assert len(slots) == len(observations) == len(goals)
        self.began.append(np.array(slots))

    def end(self, slots):
        self.ended.append(np.array(slots))

    def act(self, observations, goals):
        self.rows.add(len(observations))
        return 5 * (goals[:, :2] - observations[:, :2])


class Network:
    """A compiled MLP with random weights: wanders, and rounds as real policies do."""

    def __init__(self):
        keys = jax.random.split(jax.random.key(1), 3)
        shapes = [(4, 256), (256, 256), (256, 2)]
        weights = [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, shapes, strict=True)]

        @jax.jit
        def forward(observations, goals):
            hidden = jnp.concatenate([observations, goals], axis=-1)
            for weight in weights[:-1]:
                hidden = jax.nn.gelu(hidden @ weight)
            return jnp.tanh(hidden @ weights[-1])

        self._forward = forward

    def begin(self, slots, observations, goals):
        pass

    def end(self, slots):
        pass

    def act(self, observations, goals):
        return np.asarray(self._forward(observations, goals))


def in_hall(policy, **options):
    settings: dict[str, Any] = {
        "episodes_per_task": 3,
        "max_steps": 60,
        "workers": 0,
        "slots": 4,
    } | options
    return evaluate(policy, own_maze("pointmaze", HALL), **settings)


def test_one_episode_at_a_time_gives_the_same_episodes():
    """The evaluator against the few lines that define the protocol."""
    result = in_hall(Straight(), seed=5)
    env = make(own_maze("pointmaze", HALL), max_episode_steps=60)
    policy = Straight()
    for episode in result.episodes:
        assert episode.seed == episode_seed(5, episode.task, episode.index)
        observation, info = env.reset(seed=episode.seed, options={"task_id": episode.task})
        steps, over, success, goal = 0, False, 0.0, info["goal"]
        while not over:
            action = policy.act(observation[None].astype("f"), goal[None].astype("f"))[0]
            observation, _, terminated, truncated, info = env.step(np.clip(action, -1, 1))
            steps, over, success = steps + 1, terminated or truncated, info["success"]
        assert (episode.steps, episode.success) == (steps, success == 1.0)
        assert episode.final_distance == pytest.approx(np.hypot(*(observation - goal)), abs=1e-5)
    env.close()


def test_near_goals_are_reached_and_far_ones_cut():
    near, far, _ = in_hall(Straight()).tasks
    assert near.success_rate == 1
    assert near.mean_steps < 40
    assert far.success_rate == 0
    assert far.mean_steps == 60
    assert far.mean_final_distance is not None
    assert far.mean_final_distance > 1


def test_every_episode_once_whatever_the_slots():
    expected = [(task, index) for task in (1, 2, 3) for index in range(3)]
    for slots in (1, 2, 4, 30):
        policy = Straight()
        result = in_hall(policy, slots=slots)
        assert [(e.task, e.index) for e in result.episodes] == expected
        assert policy.rows == {slots}
        assert result.episodes == in_hall(Straight()).episodes
        # All rows begin at once, then each further episode in the slot that became free.
        assert policy.began[0].tolist() == list(range(slots))
        assert sum(map(len, policy.began[1:])) == max(0, 9 - slots)
        # Rows that no episode is for end at once, the others with their episodes.
        assert policy.ended[0].tolist() == list(range(min(9, slots), slots))
        assert sum(map(len, policy.ended[1:])) == 9


@pytest.mark.parametrize("slots", [1, 4])
def test_episodes_that_start_together_are_the_same(slots):
    """A free slot waits for the next start; one that runs alone has nobody to wait for."""

    class Counting(Straight):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.starts: list[int] = []

        def begin(self, slots, observations, goals):
            super().begin(slots, observations, goals)
            self.starts.append(self.calls)

        def act(self, observations, goals):
            self.calls += 1
            return super().act(observations, goals)

    policy, alone = Counting(), Counting()
    result = in_hall(policy, slots=slots, start_every=7)
    assert result.episodes == in_hall(alone, slots=slots).episodes
    assert len(policy.starts) > 1
    if slots == 1:
        assert policy.starts == alone.starts
    else:
        assert not np.any(np.array(policy.starts) % 7)
        assert np.any(np.array(alone.starts) % 7)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_do_not_change_a_bit(workers):
    alone, shared = Trajectories(2), Trajectories(2)
    settings: dict[str, Any] = {
        "episodes_per_task": 2,
        "tasks": [2, 5],
        "slots": 3,
        "max_steps": 80,
    }
    one = evaluate(Network(), NAME, workers=0, record=alone, **settings)
    other = evaluate(Network(), NAME, workers=workers, record=shared, **settings)
    assert other.episodes == one.episodes
    for episode, route in alone.routes.items():
        np.testing.assert_array_equal(shared.routes[episode], route)


def test_company_does_not_change_a_bit():
    """An episode goes the same way alone, with others, and in another row."""
    alone, among = Trajectories(3), Trajectories(3)
    settings: dict[str, Any] = {"slots": 7, "max_steps": 60, "workers": 0}
    evaluate(Network(), NAME, episodes_per_task=1, tasks=[4], record=alone, **settings)
    evaluate(Network(), NAME, episodes_per_task=3, record=among, **settings)
    assert list(alone.routes) == [(4, 0)]
    np.testing.assert_array_equal(alone.routes[4, 0], among.routes[4, 0])


def test_slots_change_last_bits_at_most():
    routes = {}
    results = {}
    for slots in (3, 64):
        recorder = Trajectories()
        results[slots] = evaluate(
            Network(),
            NAME,
            episodes_per_task=1,
            slots=slots,
            max_steps=60,
            workers=0,
            record=recorder,
        )
        routes[slots] = recorder.routes
    for few, many in zip(results[3].episodes, results[64].episodes, strict=True):
        assert (few.seed, few.success, few.steps) == (many.seed, many.success, many.steps)
    for episode, route in routes[3].items():
        np.testing.assert_allclose(route, routes[64][episode], atol=1e-3)


def test_seeds_differ_by_root_task_and_episode():
    seeds = {episode_seed(s, t, i) for s in range(3) for t in range(1, 6) for i in range(50)}
    assert len(seeds) == 3 * 5 * 50
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_seeds_decide_the_episodes():
    first, again, other = (in_hall(Straight(), seed=seed).episodes for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_wild_actions_are_clipped():
    class Wild(Straight):
        def act(self, observations, goals):
            return 1e6 * super().act(observations, goals)

    class Bounded(Straight):
        def act(self, observations, goals):
            return np.clip(1e6 * super().act(observations, goals), -1, 1)

    assert in_hall(Wild()).episodes == in_hall(Bounded()).episodes


def test_a_policy_may_work_in_the_arrays_it_is_given():
    class InPlace(Straight):
        def begin(self, slots, observations, goals):
            super().begin(slots, observations, goals)
            observations[:], goals[:] = 7, 9

        def act(self, observations, goals):
            goals -= observations
            observations[:] = 0
            return 5 * goals

    assert in_hall(InPlace()).episodes == in_hall(Straight()).episodes


def test_protocol_says_how_to_repeat_it():
    result = in_hall(Straight(), tasks=[3, 1, 3], episodes_per_task=2, seed=9)
    protocol = dict(result.protocol)
    assert set(protocol.pop("versions")) >= {"farstep", "ogbench", "mujoco"}
    assert protocol == {
        "environment": "pointmaze-hall-v0",
        "tasks": [1, 3],
        "episodes_per_task": 2,
        "seed": 9,
        "max_steps": 60,
        "slots": 4,
    }
    assert result.seconds > 0


def test_progress_counts_up_to_all():
    seen = []
    in_hall(Straight(), progress=lambda *figures: seen.append(figures))
    assert [finished for finished, _, _ in seen] == sorted({finished for finished, _, _ in seen})
    assert seen[-1][:2] == (9, 9)
    assert 3 <= seen[-1][2] <= 9


def test_trajectories_run_from_start_to_end():
    recorder = Trajectories(per_task=1)
    result = in_hall(Straight(), record=recorder)
    assert list(recorder.routes) == [(1, 0), (2, 0), (3, 0)]
    for episode in result.episodes:
        if episode.index == 0:
            route = recorder.routes[episode.task, 0]
            assert route.shape == (episode.steps + 1, 2)
            start = HALL.tasks[episode.task - 1][0]
            assert np.abs(route[0] - HALL.ij_to_xy(start)).max() <= 1.001


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": [0, 6]}, r"tasks 1 to 5, not \[0, 6\]"),
        ({"tasks": []}, "empty choice"),
        ({"episodes_per_task": 0}, "episodes per task must be at least 1, not 0"),
        ({"slots": 0}, "slots must be at least 1"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"max_steps": 0}, "max steps must be at least 1"),
        ({"start_every": 0}, "start every must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(FarstepError, match=message):
        evaluate(Straight(), NAME, **settings)


def test_a_world_without_tasks_has_nothing_to_evaluate():
    with pytest.raises(FarstepError, match="pointmaze-hall-v0 has no tasks"):
        evaluate(Straight(), own_maze("pointmaze", replace(HALL, tasks=())))


def test_an_unknown_environment_suggests_the_nearest():
    with pytest.raises(FarstepError, match="pointmaze-medium-v0"):
        evaluate(Straight(), "pointmaze-medum-v0")


def test_a_policy_for_other_spaces_is_refused_before_it_acts():
    class Untouched(Straight):
        def act(self, observations, goals):
            raise AssertionError("must not be asked")

    with pytest.raises(FarstepError, match=r"observations \(2,\) .* trained on observations \(29,"):
        in_hall(Untouched(), spaces=Spaces.from_observation(Space((29,)), Actions(8)))
    fitting = in_hall(Straight(), spaces=Spaces.from_observation(Space((2,)), Actions(2)))
    assert fitting.episodes == in_hall(Straight()).episodes


def test_a_policy_is_given_goals_of_its_own_kind():
    """Columns in another order: the environment's goal is mapped by the rule, at the start too."""

    class Turned(Straight):
        def begin(self, slots, observations, goals):
            np.testing.assert_array_equal(goals.shape, observations.shape)

        def act(self, observations, goals):
            return super().act(observations, goals[:, ::-1])

    spaces = Spaces(Space((2,)), Space((2,)), Actions(2), GoalRule(columns=(1, 0)))
    assert in_hall(Turned(), spaces=spaces).episodes == in_hall(Straight()).episodes
    with pytest.raises(FarstepError, match="--evaluation-episodes 0"):
        in_hall(Straight(), spaces=replace(spaces, rule=GoalRule(key="xy")))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n: np.zeros((n, 3)), r"shape \(4, 2\), but the policy returned \(4, 3\)"),
        (lambda n: np.zeros((1, 2)), r"shape \(4, 2\), but the policy returned \(1, 2\)"),
        (lambda n: np.full((n, 2), np.nan), "not finite at step 0 of task 1"),
    ],
)
def test_useless_actions_are_named(answer, message):
    class Useless(Straight):
        def act(self, observations, goals):
            return answer(len(observations))

    with pytest.raises(FarstepError, match=message):
        in_hall(Useless())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pointmaze-giant-v0", True),
        ("humanoidmaze-medium-v0", True),
        ("visual-antmaze-medium-v0", False),
        ("antsoccer-arena-v0", False),
        ("cube-single-v0", False),
    ],
)
def test_which_environments_observe_a_position(name, expected):
    assert (environment(name).position == (0, 1)) is expected
