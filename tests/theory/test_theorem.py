"""Theorem 1 of MQE to machine precision, what more is true, and what each assumption is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.backup import BackupLaw, backup_fixed_point
from theory.counterexamples import (
    DISCOUNT,
    all_counterexamples,
    negative_distance,
    stitching_by_chance,
    stitching_without_chance,
    waypoints_beyond_the_goal,
)
from theory.exact import (
    after_action,
    first_hit,
    greedy_policy,
    nats,
    occupancy,
    optimal_first_hit,
    shortest_steps,
)
from theory.gridworlds import gridworld
from theory.mdp import random_mdp, random_policy, uniform_policy
from theory.relaxation import (
    action_distances,
    assemble,
    behaviour_distances,
    extract,
    relax,
    relax_fully,
    state_distances,
)

ROUNDING = 1e-13
GRIDS = {
    "open": (["....", ".#..", "...."], 0.0),
    "slippery": (["....", ".#..", "...."], 0.3),
    "doors": (["..>..", ".#.#.", "..<.."], 0.1),
    "teleport": (["..a#..", "####..", "a....."], 0.0),
}


@st.composite
def worlds(draw, most_outcomes=3):
    """A random process of any connectivity, a behaviour with full support, and γ."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mdp = random_mdp(
        rng,
        draw(st.integers(3, 8)),
        draw(st.integers(1, 4)),
        outcomes=draw(st.integers(1, most_outcomes)),
    )
    concentration = draw(st.sampled_from([0.1, 1.0, 10.0]))
    return (
        mdp,
        random_policy(rng, mdp, concentration=concentration),
        draw(st.sampled_from([0.5, 0.9, 0.99])),
    )


def assert_improved(mdp, behaviour, policy, discount):
    """By the chance of the first visit, and by that of all visits (Eq. 2)."""
    reached = first_hit(mdp, policy, discount)
    assert np.all(reached >= first_hit(mdp, behaviour, discount) - ROUNDING)
    visits, before = (occupancy(mdp, each, discount) for each in (policy, behaviour))
    assert np.all(visits >= before * (1 - ROUNDING) - ROUNDING)


@settings(max_examples=150)
@given(worlds())
def test_the_extracted_policy_is_no_worse_after_any_number_of_relaxations(world):
    mdp, behaviour, discount = world
    distances = behaviour_distances(mdp, behaviour, discount)
    best = optimal_first_hit(mdp, discount)
    for _ in range(6):
        policy = extract(distances, mdp.states)
        assert_improved(mdp, behaviour, policy, discount)
        # More than the theorem says: the policy keeps what the distance promises.
        promised = np.exp(-state_distances(distances, mdp.states))
        assert np.all(first_hit(mdp, policy, discount) >= promised - ROUNDING)
        assert np.all(promised <= best + ROUNDING)
        assert np.all(promised >= first_hit(mdp, behaviour, discount) - ROUNDING)
        distances = relax(distances)


@pytest.mark.parametrize("name", GRIDS)
def test_gridworlds_improve_too(name):
    rows, slip = GRIDS[name]
    mdp = gridworld(rows, slip=slip).mdp
    behaviour = uniform_policy(mdp)
    relaxed = relax_fully(behaviour_distances(mdp, behaviour, DISCOUNT))
    assert_improved(mdp, behaviour, extract(relaxed, mdp.states), DISCOUNT)


@settings(max_examples=60)
@given(worlds(most_outcomes=1))
def test_without_chance_the_fixed_point_is_the_optimal_number_of_steps(world):
    mdp, behaviour, discount = world
    relaxed = relax_fully(behaviour_distances(mdp, behaviour, discount))
    steps = state_distances(relaxed, mdp.states) / -np.log(discount)
    np.testing.assert_allclose(steps, shortest_steps(mdp), rtol=1e-11, atol=1e-11)
    policy = extract(relaxed, mdp.states)
    np.testing.assert_allclose(
        first_hit(mdp, policy, discount), optimal_first_hit(mdp, discount), atol=ROUNDING
    )


@settings(max_examples=60)
@given(worlds())
def test_relaxing_changes_nothing_without_action_invariance(world):
    """The behaviour's distance obeys the triangle inequality already."""
    mdp, behaviour, discount = world
    distances = behaviour_distances(mdp, behaviour, discount, action_invariance=False)
    np.testing.assert_allclose(relax(distances), distances, rtol=1e-11, atol=1e-11)


@settings(max_examples=30)
@given(worlds())
def test_the_fixed_point_is_a_quasimetric_and_stays(world):
    mdp, behaviour, discount = world
    relaxed = relax_fully(behaviour_distances(mdp, behaviour, discount))
    np.testing.assert_allclose(relax(relaxed), relaxed, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(np.diagonal(relaxed), 0)
    assert np.all(relaxed >= 0)


@settings(max_examples=60)
@given(worlds(), st.sampled_from([0.3, 0.8, 0.95]))
def test_purely_geometric_waypoints_shift_every_distance_to_a_goal_alike(world, lambda_):
    """By log((1 − μR)/(1 − μ)), μ = λγ, with R the behaviour's value of coming back to the goal."""
    mdp, behaviour, discount = world
    values, after = backup_fixed_point(mdp, behaviour, BackupLaw(discount, lambda_, 0.0))
    one_step = after_action(mdp, first_hit(mdp, behaviour, discount), discount)
    back = np.einsum("sa,sas->s", behaviour, one_step)
    factor = (1 - lambda_ * discount) / (1 - lambda_ * discount * back)
    np.testing.assert_allclose(after, one_step * factor, atol=1e-12)
    # So the theorem still holds, though the distances are too long.
    relaxed = relax_fully(assemble(nats(values), nats(after)))
    assert_improved(mdp, behaviour, extract(relaxed, mdp.states), discount)


@settings(max_examples=30)
@given(worlds())
def test_one_step_waypoints_fit_the_behaviour_and_with_the_best_action_the_optimum(world):
    mdp, behaviour, discount = world
    law = BackupLaw(discount, one_step=1.0)
    values, _ = backup_fixed_point(mdp, behaviour, law)
    np.testing.assert_allclose(values, first_hit(mdp, behaviour, discount), atol=1e-12)
    values, _ = backup_fixed_point(mdp, behaviour, law, link="best")
    np.testing.assert_allclose(values, optimal_first_hit(mdp, discount), atol=1e-12)


@settings(max_examples=30)
@given(worlds())
def test_waypoints_only_make_distances_longer(world):
    """So does Eq. 8, joined with action invariance: between the behaviour's and the optimum."""
    mdp, behaviour, discount = world
    one_step = first_hit(mdp, behaviour, discount)
    law = BackupLaw(discount)
    multistep, _ = backup_fixed_point(mdp, behaviour, law)
    assert np.all(multistep <= one_step + ROUNDING)
    best, after = backup_fixed_point(mdp, behaviour, law, link="best")
    assert np.all(best >= multistep - ROUNDING)
    assert np.all(best <= optimal_first_hit(mdp, discount) + ROUNDING)
    # A promise that is kept, if not an improvement: see the counter-examples.
    reached = first_hit(mdp, greedy_policy(nats(after)), discount)
    assert np.all(reached >= best - ROUNDING)


@pytest.mark.parametrize("example", all_counterexamples(), ids=lambda e: e.dropped)
def test_each_assumption_is_needed(example):
    assert example.without < example.behaviour - 0.05
    assert example.kept >= example.behaviour - ROUNDING


@pytest.mark.parametrize("law", [BackupLaw(one_step=0.0), BackupLaw(one_step=1.0)])
def test_the_waypoint_counterexample_is_the_mixtures_alone(law):
    example = waypoints_beyond_the_goal(law)
    assert example.without >= example.behaviour


@pytest.mark.slow
def test_without_chance_the_mixture_of_waypoints_has_not_been_seen_to_fail():
    """No proof: a thousand random worlds, behaviours and settings."""
    rng = np.random.default_rng(0)
    for trial in range(1000):
        discount = (0.9, 0.95, 0.7)[trial % 3]
        mdp = random_mdp(rng, int(rng.integers(3, 9)), int(rng.integers(2, 4)))
        behaviour = random_policy(rng, mdp, concentration=(0.1, 1.0, 10.0)[trial % 3])
        law = BackupLaw(discount, (0.8, 0.95)[trial % 2], rng.choice([0.02, 0.2, 0.5]))
        values, after = backup_fixed_point(mdp, behaviour, law)
        relaxed = relax_fully(assemble(nats(values), nats(after)))
        for policy in (greedy_policy(nats(after)), extract(relaxed, mdp.states)):
            assert_improved(mdp, behaviour, policy, discount)


def test_the_visit_at_time_zero_makes_a_distance_negative():
    assert negative_distance() < -0.01


def test_relaxing_stitches_and_is_optimal_only_without_chance():
    certain = stitching_without_chance()
    assert certain.behaviour < certain.unrelaxed < certain.relaxed == pytest.approx(certain.optimal)
    assert certain.promised == pytest.approx(certain.optimal)
    random = stitching_by_chance()
    assert random.promised <= random.relaxed < random.optimal - 0.1


def test_where_outcomes_are_random_relaxing_may_lose_what_one_improvement_gains():
    """Both improve on the behaviour; neither on the other."""
    rng = np.random.default_rng(1)
    gains = []
    for _ in range(300):
        mdp = random_mdp(rng, 4, 2, outcomes=2)
        behaviour = random_policy(rng, mdp)
        fit = behaviour_distances(mdp, behaviour, DISCOUNT)
        reached = [
            first_hit(mdp, extract(each, mdp.states), DISCOUNT) for each in (fit, relax_fully(fit))
        ]
        gains.append(reached[1] - reached[0])
    assert np.min(gains) < -0.05
    assert np.max(gains) > 0.05


def test_own_goals_among_all_pairs_break_the_bound_where_outcomes_are_random():
    """The diagonal weight of the released code is a term that the theorem does not have."""
    rng = np.random.default_rng(0)
    law = BackupLaw(DISCOUNT, diagonal_weight=0.5)
    worst = 0.0
    for _ in range(100):
        mdp = random_mdp(rng, 4, 2, outcomes=2)
        if not np.all(np.isfinite(shortest_steps(mdp))):
            continue
        behaviour = random_policy(rng, mdp)
        values, _ = backup_fixed_point(mdp, behaviour, law)
        # Promises that no policy can keep.
        worst = max(worst, np.max(values - optimal_first_hit(mdp, DISCOUNT)))
    assert worst > 0.05


def test_extraction_reads_the_distances_after_actions():
    distances = behaviour_distances(
        gridworld(["..."]).mdp, uniform_policy(gridworld(["..."]).mdp), DISCOUNT
    )
    after = action_distances(distances, 3)
    np.testing.assert_array_equal(extract(distances, 3).argmax(-1).T, after.argmin(axis=1))
