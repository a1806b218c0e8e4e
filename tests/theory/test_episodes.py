"""Episodes as the samplers read them: the laws that the closed forms speak of are those drawn."""

from __future__ import annotations

import jax
import numpy as np

from farstep.core.laws import Ahead, Geometric, mixture
from farstep.core.types import GOALS, BatchSpec, Sample
from theory.backup import BackupLaw, batch_law
from theory.episodes import one_hot_spaces, one_hot_table, roll_out
from theory.exact import future_goals
from theory.mdp import random_mdp, random_policy


def test_goals_and_waypoints_drawn_from_episodes_follow_the_closed_forms():
    rng = np.random.default_rng(2)
    mdp = random_mdp(rng, 4, 2, outcomes=2)
    behaviour = random_policy(rng, mdp)
    discount, lambda_, one_step = 0.7, 0.8, 0.3
    # Episodes so long against 1/(1 − γ) that their ends do not show.
    table = one_hot_table(roll_out(mdp, behaviour, rng, episodes=100, steps=1000), mdp)
    assert one_hot_spaces(mdp).observation.shape == table.observations.shape[1:]
    spec = BatchSpec(
        200_000,
        {
            "goal/value": Sample(Geometric(discount), GOALS),
            "waypoint": Sample(
                mixture((one_step, Ahead(1)), (1 - one_step, Geometric(lambda_))), cap="goal/value"
            ),
        },
    )
    batch = table.sample(spec, jax.random.key(0))
    state, action, goal, waypoint = (
        np.asarray(each).argmax(axis=1)
        for each in (
            batch.observations,
            batch.actions,
            batch["goal/value"].goals,
            batch["waypoint"].observations,
        )
    )
    pairs = np.zeros((4, 2, 4))
    np.add.at(pairs, (state, action, goal), 1)
    drawn = pairs / pairs.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(drawn, future_goals(mdp, behaviour, discount), atol=0.015)

    values = rng.uniform(size=(4, 4))
    np.fill_diagonal(values, 1)
    steps = np.asarray(batch["waypoint"].offsets)
    # Own goals alone, then goals of other rows: what the backup averages.
    for own in (True, False):
        law = BackupLaw(discount, lambda_, one_step, diagonal_weight=float(own))
        pairs = batch_law(mdp, behaviour, law)
        discounts = discount ** np.arange(1, pairs.shape[2] + 1)
        asked = np.einsum("sakwg,k,wg->sag", pairs, discounts, values) / pairs.sum(axis=(2, 3))
        goals = goal if own else np.roll(goal, 1)
        sums, counts = np.zeros((2, 4, 2, 4))
        np.add.at(sums, (state, action, goals), discount**steps * values[waypoint, goals])
        np.add.at(counts, (state, action, goals), 1)
        often = counts > 1000
        assert often.sum() > 20
        np.testing.assert_allclose((sums / np.maximum(counts, 1))[often], asked[often], atol=0.03)
