"""Each critic, with a free number for everything, comes to what its theory says it estimates."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from farstep.losses.invariance import action_invariance
from farstep.losses.linex import multistep_backup
from farstep.quasimetrics import mrn
from theory.backup import BackupLaw, backup_fixed_point, batch_law
from theory.exact import (
    after_action,
    expectile_first_hit,
    first_hit,
    future_goals,
    greedy_policy,
    n_step_first_hit,
    nats,
    optimal_first_hit,
    shortest_steps,
    stationary_states,
)
from theory.fits import (
    Descent,
    fit_backup,
    fit_crl,
    fit_gciql,
    fit_implicit_value,
    fit_nsacbc,
    fit_qrl,
    fit_tmd,
)
from theory.mdp import explicit_mdp, uniform_policy
from theory.report import (
    DISCOUNT,
    centred,
    counterexamples_table,
    critics_table,
    measure,
    settle_mqe,
    settled_table,
    stitching_table,
    worlds,
)

RING = explicit_mdp([[1, 0], [2, 0], [0, 2]])
"""0 → 1 → 2 → 0 by action 0; action 1 stays, or goes back from 1 to 0."""

COIN = explicit_mdp([[{1: 0.5, 0: 0.5}, 0], [{2: 0.75, 0: 0.25}, 0], [0, 2]])
"""The ring with outcomes that are not certain."""

QUICK = Descent(steps=500, rate=0.1)


@pytest.fixture(
    params=[pytest.param(RING, marks=pytest.mark.slow), COIN], ids=["certain", "random"]
)
def mdp(request):
    return request.param


@pytest.fixture
def behaviour(mdp):
    return uniform_policy(mdp)


def test_mqes_backup_alone_comes_to_its_fixed_point(mdp, behaviour):
    law = BackupLaw(DISCOUNT, lambda_=0.5, diagonal_weight=0.5)
    learned = fit_backup(mdp, behaviour, law, QUICK)
    states, actions = backup_fixed_point(mdp, behaviour, law)
    np.testing.assert_allclose(learned.states, nats(states), atol=1e-3)
    np.testing.assert_allclose(learned.actions, nats(actions), atol=1e-3)


def test_crls_logits_are_the_log_ratio_and_the_odds_of_a_pair(mdp, behaviour):
    logits = fit_crl(mdp, behaviour, DISCOUNT, QUICK, batch_size=16)
    goals = future_goals(mdp, behaviour, DISCOUNT)
    marginal = np.einsum("s,sa,sag->g", stationary_states(mdp, behaviour), behaviour, goals)
    np.testing.assert_allclose(logits, np.log(goals / marginal) - np.log(15), atol=0.02)


@pytest.mark.slow
def test_tmds_contrast_is_the_behaviours_distance_up_to_a_constant_of_the_goal():
    mdp, behaviour = COIN, uniform_policy(COIN)
    learned = fit_tmd(mdp, behaviour, DISCOUNT, QUICK, backup_weight=0.0, invariance_weight=0.0)
    exact = nats(after_action(mdp, first_hit(mdp, behaviour, DISCOUNT), DISCOUNT))
    np.testing.assert_allclose(centred(learned.actions), centred(exact), atol=1e-2)


def test_gcivl_and_hiql_take_the_expectile_over_outcomes(mdp, behaviour):
    values = fit_implicit_value(mdp, behaviour, DISCOUNT, 0.9, QUICK)
    exact = expectile_first_hit(mdp, behaviour, DISCOUNT, 0.9, over="outcomes")
    np.testing.assert_allclose(nats(1 + (1 - DISCOUNT) * values), nats(exact), atol=5e-3)


def test_gciql_takes_the_expectile_over_actions_alone(mdp, behaviour):
    learned = fit_gciql(mdp, behaviour, DISCOUNT, 0.9, QUICK)
    exact = expectile_first_hit(mdp, behaviour, DISCOUNT, 0.9, over="actions")
    np.testing.assert_allclose(nats(1 + (1 - DISCOUNT) * learned.states), nats(exact), atol=5e-3)


def test_n_step_sac_follows_the_behaviour_for_n_steps_and_then_its_policy(mdp, behaviour):
    best = greedy_policy(nats(after_action(mdp, optimal_first_hit(mdp, DISCOUNT), DISCOUNT)))
    q = fit_nsacbc(mdp, behaviour, best, DISCOUNT, 2, QUICK)
    np.testing.assert_allclose(q, n_step_first_hit(mdp, behaviour, best, DISCOUNT, 2), atol=1e-3)


def test_qrl_counts_the_fewest_steps_up_to_its_margin_lucky_ones_among_them():
    steps = fit_qrl(COIN, QUICK, margin=0.001)
    exact = shortest_steps(COIN)
    apart = exact > 0
    ratios = steps[apart] / exact[apart]
    assert np.all(ratios > 0.95)
    assert np.all(ratios < 1.15)


class TestCollapse:
    """States all in one place: what the critic's loss has against it."""

    def excess(self, steps, own):
        """What ψ(s) = 0, with φ(s, a) the mean step away, loses on backup and invariance."""
        rows, latent = len(steps), 8
        cost = -np.log(np.mean(DISCOUNT**steps))
        phi = jnp.zeros((1, rows, latent)).at[..., 0].set(cost * latent**0.5)
        psi = jnp.zeros((1, rows, latent))
        _, metrics = multistep_backup(
            mrn(phi[:, :, None], psi[:, None], groups=1),
            jnp.zeros((1, rows, rows)),
            jnp.asarray(steps, jnp.float32),
            discount=DISCOUNT,
            diagonal_weight=own,
        )
        return float(metrics["backup/excess"]) + float(action_invariance(mrn(psi, phi, 1))[0])

    @pytest.mark.parametrize("own", [0.0, 0.5])
    def test_one_step_waypoints_do_not_mind_it(self, own):
        assert self.excess(np.ones(6), own) == pytest.approx(0, abs=1e-6)

    def test_goals_of_other_rows_do_not_either_under_any_law_and_own_goals_do(self):
        spread = []
        for own in (0.0, 0.5):
            pairs = batch_law(COIN, uniform_policy(COIN), BackupLaw(diagonal_weight=own))
            steps = np.arange(1, pairs.shape[2] + 1)
            asked = np.einsum("sakwg,k->sag", pairs, DISCOUNT**steps) / pairs.sum(axis=(2, 3))
            spread.append(np.ptp(nats(asked)))
        # One distance would do for every pair, or it would not.
        assert spread[0] < 1e-6
        assert spread[1] > 0.05

    def test_waypoints_that_stop_at_different_goals_do(self):
        """A row's own goal caps its waypoint, so that nearer goals ask for shorter distances."""
        assert self.excess(np.array([1, 2, 3, 5, 8, 13]), 0.5) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("world", worlds(), ids=lambda world: world.name)
def test_the_table_of_critics(world):
    found = {m.critic: m for m in measure(world, Descent())}
    exact = [name for name in found if "alone" in name or name.startswith(("GC", "HIQL", "n-SAC"))]
    assert len(exact) == 8
    for name in exact:
        assert found[name].largest_error < 1e-3, name
    assert found["CRL"].largest_error < 0.02
    assert found["QRL, ε = 0.001"].largest_error < 0.03
    # Between the optimum and the behaviour, which the contrast alone does not care for.
    for name in ("TMD", "TMD, logits −d/√512"):
        steps = found[name].steps
        assert steps is not None
        assert world.optimal_steps < steps < world.behaviour_steps
    # A quasimetric without an offset is no log-ratio.
    assert found["CMD"].largest_error > 0.5
    assert critics_table(world, list(found.values())).count("\n") == len(found) + 1


@pytest.mark.slow
@pytest.mark.parametrize("world", worlds(), ids=lambda world: world.name)
def test_the_table_of_where_mqe_settles(world):
    found = {s.setting: s for s in settle_mqe(world, Descent())}
    own, others = found["Eq. 8, w = 0.5"], found["Eq. 8, w = 0"]
    assert own.between > 0.98
    assert others.between > 0.95
    # Own goals decide where it settles; without them, it is where it began.
    assert own.steps[1] / own.steps[0] < 1.15
    assert others.steps[1] / others.steps[0] > 1.3
    for setting in ("one step, w = 0.5", "one step, w = 0"):
        assert found[setting].between < 0.9
        assert found[setting].steps[1] < world.optimal_steps + 0.5
    assert settled_table(world, list(found.values())).count("\n") == 5


def test_the_tables_of_counterexamples():
    assert counterexamples_table().count("**") == 2 * 8
    assert stitching_table().count("\n") == 3
