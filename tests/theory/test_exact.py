"""The exact quantities against each other, and against runs of the process."""

from __future__ import annotations

import numpy as np
import pytest

from farstep.core.errors import FarstepError
from theory.episodes import roll_out
from theory.exact import (
    after_action,
    first_hit,
    future_goals,
    greedy_policy,
    nats,
    occupancy,
    optimal_first_hit,
    shortest_steps,
    stationary_states,
)
from theory.mdp import TabularMDP, explicit_mdp, random_mdp, random_policy, uniform_policy

DISCOUNT = 0.9
CHAIN = explicit_mdp([[1, 0], [2, 0], [2, 2]])
"""0 → 1 → 2 by action 0, back to 0 by action 1; 2 is a trap."""


@pytest.fixture(params=range(8))
def world(request):
    rng = np.random.default_rng(request.param)
    mdp = random_mdp(rng, 6, 3, outcomes=1 + request.param % 3)
    return mdp, random_policy(rng, mdp)


def test_a_chain_by_hand():
    always = np.tile([1.0, 0.0], (3, 1))
    expected = [[1, 0.9, 0.81], [0, 1, 0.9], [0, 0, 1]]
    np.testing.assert_allclose(first_hit(CHAIN, always, DISCOUNT), expected, atol=1e-15)
    np.testing.assert_array_equal(
        shortest_steps(CHAIN), [[0, 1, 2], [1, 0, 1], [np.inf, np.inf, 0]]
    )
    assert occupancy(CHAIN, always, DISCOUNT)[0, 2] == pytest.approx(0.81 / (1 - 0.9))


def test_values_are_those_of_runs(world):
    mdp, policy = world
    start = np.eye(mdp.states)[0]
    runs = roll_out(
        mdp, policy, np.random.default_rng(0), episodes=4000, steps=120, start=start
    ).states
    hit, visits = (np.zeros(mdp.states) for _ in range(2))
    for goal in range(mdp.states):
        at_goal = runs == goal
        first = np.where(at_goal.any(axis=1), at_goal.argmax(axis=1), 10_000)
        hit[goal] = np.mean(DISCOUNT**first)
        visits[goal] = np.mean(at_goal @ DISCOUNT ** np.arange(runs.shape[1]))
    # Four standard errors of 4,000 runs at most.
    np.testing.assert_allclose(first_hit(mdp, policy, DISCOUNT)[0], hit, atol=0.03)
    np.testing.assert_allclose(occupancy(mdp, policy, DISCOUNT)[0], visits, atol=0.2)


def test_occupancy_is_the_first_hit_and_what_follows(world):
    mdp, policy = world
    every_visit = occupancy(mdp, policy, DISCOUNT)
    first = first_hit(mdp, policy, DISCOUNT)
    np.testing.assert_allclose(every_visit, first * every_visit.diagonal(), atol=1e-13)


def test_the_law_of_geometric_goals_is_the_distance_up_to_a_constant_of_the_goal(world):
    """The contrastive log-ratio and the behaviour's distance rank actions alike."""
    mdp, policy = world
    goals = future_goals(mdp, policy, DISCOUNT)
    np.testing.assert_allclose(goals.sum(axis=-1), 1)
    after = after_action(mdp, first_hit(mdp, policy, DISCOUNT), DISCOUNT)
    of_goal = occupancy(mdp, policy, DISCOUNT).diagonal() * (1 - DISCOUNT) / DISCOUNT
    np.testing.assert_allclose(goals, after * of_goal, atol=1e-13)


def test_optimal_values_satisfy_their_equation_and_bound_every_policy(world):
    mdp, policy = world
    best = optimal_first_hit(mdp, DISCOUNT)
    backed_up = after_action(mdp, best, DISCOUNT).max(axis=1)
    np.fill_diagonal(backed_up, 1)
    np.testing.assert_allclose(best, backed_up, atol=1e-14)
    assert np.all(first_hit(mdp, policy, DISCOUNT) <= best + 1e-14)
    reached = greedy_policy(nats(after_action(mdp, best, DISCOUNT)))
    np.testing.assert_allclose(first_hit(mdp, reached, DISCOUNT), best, atol=1e-14)
    if mdp.deterministic:
        np.testing.assert_allclose(DISCOUNT ** shortest_steps(mdp), best, atol=1e-14)


def test_a_policy_for_each_goal_is_that_goals_own(world):
    mdp, policy = world
    other = uniform_policy(mdp)
    mixed = np.stack([policy, *[other] * (mdp.states - 1)])
    values = first_hit(mdp, mixed, DISCOUNT)
    np.testing.assert_allclose(values[:, 0], first_hit(mdp, policy, DISCOUNT)[:, 0])
    np.testing.assert_allclose(values[:, 1:], first_hit(mdp, other, DISCOUNT)[:, 1:])


def test_the_stationary_law_of_an_endless_episode_stays():
    rng = np.random.default_rng(3)
    mdp = random_mdp(rng, 5, 2, outcomes=5)
    policy = random_policy(rng, mdp)
    law = stationary_states(mdp, policy)
    assert law.sum() == pytest.approx(1)
    np.testing.assert_allclose(law @ mdp.under(policy), law, atol=1e-14)


def test_runs_follow_the_policy_and_the_transitions():
    rng = np.random.default_rng(0)
    mdp = random_mdp(rng, 4, 3, outcomes=2)
    policy = random_policy(rng, mdp)
    runs = roll_out(mdp, policy, rng, episodes=2000, steps=40)
    counts = np.zeros((4, 3, 4))
    before = (runs.states[:, :-1].ravel(), runs.actions[:, :-1].ravel(), runs.states[:, 1:].ravel())
    np.add.at(counts, before, 1)
    pairs = counts.sum(axis=-1)
    often = pairs > 500
    assert often.sum() > 6
    np.testing.assert_allclose(
        (counts / np.maximum(pairs, 1)[..., None])[often], mdp.transitions[often], atol=0.1
    )
    np.testing.assert_allclose(pairs / pairs.sum(axis=1, keepdims=True), policy, atol=0.05)


def test_what_is_no_process_is_refused():
    with pytest.raises(FarstepError, match="sum to 1"):
        TabularMDP(np.full((2, 1, 2), 0.4))
    with pytest.raises(FarstepError, match=r"not \(2, 1, 3\)"):
        TabularMDP(np.full((2, 1, 3), 1 / 3))
