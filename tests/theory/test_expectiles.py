"""The exact values that implicit and n-step learning are compared with."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from theory.exact import (
    after_action,
    expectile_first_hit,
    first_hit,
    greedy_policy,
    n_step_first_hit,
    nats,
    optimal_first_hit,
    shortest_steps,
)
from theory.mdp import random_mdp, random_policy

DISCOUNT = 0.9


@pytest.fixture(params=range(6))
def world(request):
    rng = np.random.default_rng(request.param)
    mdp = random_mdp(rng, 5, 3, outcomes=1 + request.param % 2)
    return mdp, random_policy(rng, mdp)


@pytest.mark.parametrize("over", ["actions", "outcomes"])
def test_an_expectile_of_half_is_the_behaviour(world, over):
    mdp, behaviour = world
    np.testing.assert_allclose(
        expectile_first_hit(mdp, behaviour, DISCOUNT, 0.5, over=over),
        first_hit(mdp, behaviour, DISCOUNT),
        atol=1e-12,
    )


def test_expectiles_rise_from_the_behaviour_to_the_best_action_or_to_the_luckiest_outcome(world):
    mdp, behaviour = world
    ladder = {
        over: [
            expectile_first_hit(mdp, behaviour, DISCOUNT, expectile, over=over)
            for expectile in (0.5, 0.7, 0.9, 1 - 1e-9)
        ]
        for over in ("actions", "outcomes")
    }
    for rungs in ladder.values():
        for low, high in itertools.pairwise(rungs):
            assert np.all(high >= low - 1e-12)
    best = optimal_first_hit(mdp, DISCOUNT)
    np.testing.assert_allclose(ladder["actions"][-1], best, atol=1e-4)
    lucky = DISCOUNT ** shortest_steps(mdp)
    np.testing.assert_allclose(ladder["outcomes"][-1], lucky, atol=1e-4)
    if mdp.deterministic:
        for of_actions, of_outcomes in zip(*ladder.values(), strict=True):
            np.testing.assert_allclose(of_actions, of_outcomes, atol=1e-12)
    else:
        assert np.max(lucky - best) > 0.05


def test_backups_of_one_step_are_the_policys_and_of_many_the_behaviours(world):
    mdp, behaviour = world
    best = optimal_first_hit(mdp, DISCOUNT)
    policy = greedy_policy(nats(after_action(mdp, best, DISCOUNT)))
    one, many = (n_step_first_hit(mdp, behaviour, policy, DISCOUNT, n) for n in (1, 400))
    np.testing.assert_allclose(one, after_action(mdp, best, DISCOUNT), atol=1e-12)
    logged = after_action(mdp, first_hit(mdp, behaviour, DISCOUNT), DISCOUNT)
    np.testing.assert_allclose(many, logged, atol=1e-12)
