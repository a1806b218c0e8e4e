"""What agents ask of a batch, drawn 10⁵ times: joint laws of row and offset, by chi-squared."""

from dataclasses import fields

import jax
import numpy as np
import pytest
from scipy import stats

from farstep.agents.registry import AGENTS
from farstep.core.types import BatchSpec
from farstep.sampling.batches import Episodes, draw

DRAWS = 100_000
KEY = jax.random.key(3)
ENDS = np.array([7, 9, 14])
EPISODES = Episodes.from_ends(ENDS)
LEFT = {int(i): int(ENDS[np.searchsorted(ENDS, i)] - i) for i in EPISODES.valid}
"""Steps to the end of its episode, by row."""


def specs():
    """Every agent's spec, with horizons that these short episodes can tell apart."""
    options = {"discount": 0.7, "waypoint_lambda": 0.6, "policy_random": 0.25, "subgoal_steps": 3}
    options |= {"backup_steps": 4}
    for kind in AGENTS.values():
        known = {field.name for field in fields(kind)}
        yield kind(**{name: value for name, value in options.items() if name in known}).spec()


def future_law(goal, left):
    if goal.law == "geometric":
        law = {k: goal.discount ** (k - 1) * (1 - goal.discount) for k in range(1, left)}
        return law | {left: goal.discount ** (left - 1)}
    if left == 1:
        return {1: 1.0}
    law = dict.fromkeys(range(1, left + 1), 1 / (left - 1))
    law[1] = law[left] = 0.5 / (left - 1)
    return law


def goal_law(goal, left):
    itself = goal.random / len(LEFT)
    law = {k: goal.future * p for k, p in future_law(goal, left).items()}
    return law | {0: goal.current + itself, -1: goal.random - itself}


def waypoint_law(waypoint, goal, left):
    law = dict.fromkeys(range(1, left + 1), 0.0)
    for reach, probability in future_law(goal, left).items():
        multistep = {k: waypoint.lambda_ ** (k - 1) * (1 - waypoint.lambda_) for k in law}
        for k in range(1, reach + 1):
            beyond = waypoint.lambda_ ** (k - 1) if k == reach else multistep[k]
            one_step = waypoint.one_step if k == 1 else 0.0
            law[k] += probability * (one_step + (1 - waypoint.one_step) * beyond)
    return law


def assert_joint(rows, offsets, law):
    """Rows are uniform over the valid steps, and each row's offsets follow its own law."""
    joint = {(i, k): p / len(LEFT) for i, left in LEFT.items() for k, p in law(left).items()}
    drawn, counts = np.unique(np.stack([rows, offsets]), axis=1, return_counts=True)
    observed = dict(zip(map(tuple, drawn.T.tolist()), counts, strict=True))
    assert {cell for cell, p in joint.items() if p == 0}.isdisjoint(observed)
    assert observed.keys() <= joint.keys(), "an offset that the law excludes was drawn"
    cells = [cell for cell, p in joint.items() if p > 0]
    expected = DRAWS * np.array([joint[cell] for cell in cells])
    observed_counts = np.array([observed.get(cell, 0) for cell in cells])
    assert expected.min() > 5
    assert stats.chisquare(observed_counts, expected).pvalue > 1e-4


@pytest.mark.parametrize(
    "goal", sorted({goal for spec in specs() for goal in spec.goals.values()}, key=str), ids=str
)
def test_goals_follow_the_law_that_agents_ask_for(goal):
    drawn = draw(BatchSpec(DRAWS, goals={"goal": goal}), EPISODES, KEY)
    indices, offsets = map(np.asarray, drawn.goals["goal"])
    rows = np.asarray(drawn.rows)
    assert_joint(rows, offsets, lambda left: goal_law(goal, left))
    ahead = offsets >= 0
    np.testing.assert_array_equal(indices[ahead], (rows + offsets)[ahead])
    assert set(indices[~ahead]) <= set(LEFT)
    assert np.all(indices[~ahead] != rows[~ahead])


@pytest.mark.parametrize("spec", [spec for spec in specs() if spec.waypoint is not None])
def test_waypoints_follow_the_law_that_agents_ask_for(spec):
    drawn = draw(BatchSpec(DRAWS, goals=spec.goals, waypoint=spec.waypoint), EPISODES, KEY)
    goal = spec.goals[spec.waypoint.goal]
    assert drawn.waypoint is not None
    indices, offsets = map(np.asarray, drawn.waypoint)
    assert_joint(
        np.asarray(drawn.rows), offsets, lambda left: waypoint_law(spec.waypoint, goal, left)
    )
    np.testing.assert_array_equal(indices, drawn.rows + offsets)


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_successors_stop_at_the_episodes_end_and_at_the_goal(name):
    spec = dict(zip(AGENTS, specs(), strict=True))[name]
    drawn = draw(
        BatchSpec(DRAWS, goals=spec.goals, successors=spec.successors, capped_by=spec.capped_by),
        EPISODES,
        KEY,
    )
    rows = np.asarray(drawn.rows)
    left = np.array([LEFT[i] for i in rows])
    for successor, steps in spec.successors.items():
        expected = np.minimum(steps, left)
        if successor in spec.capped_by:
            goal_offsets = np.asarray(drawn.goals[spec.capped_by[successor]][1])
            expected = np.where(goal_offsets < 0, expected, np.minimum(expected, goal_offsets))
        indices, offsets = drawn.successors[successor]
        np.testing.assert_array_equal(offsets, expected)
        np.testing.assert_array_equal(indices, rows + expected)


def test_a_cap_must_name_what_is_asked_for():
    with pytest.raises(ValueError, match="both must be asked for"):
        BatchSpec(8, successors={"later": 3}, capped_by={"later": "value"})
