"""The exact fixed point of MQE's multistep backup, for one endless episode.

The backup fits e^{−d((s, a), g)} to the mean of γ^k' e^{−d(w, g)} over the goals that a batch pairs
with (s, a). Goals of other rows are independent of the waypoint w. The row's own goal has the
weight w_d (`diagonal_weight`); it lies ahead on the same episode and caps k'.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from theory.exact import (
    ActionGoal,
    StateGoal,
    future_goals,
    stationary_states,
)
from theory.mdp import Policy, TabularMDP

Link = Literal["behaviour", "best"]


@dataclass(frozen=True)
class BackupLaw:
    """The laws that a batch of MQE is drawn by.

    Attributes:
        discount: γ, of goals and of the distance's unit.
        lambda_: λ of the waypoints' geometric law.
        one_step: p, chance of a one-step waypoint; 1 is the one-step backup of Eq. 7.
        diagonal_weight: share of each row's own goal against all pairs of a large batch.
    """

    discount: float = 0.9
    lambda_: float = 0.95
    one_step: float = 0.2
    diagonal_weight: float = 0.0

    @property
    def reach(self) -> float:
        """λγ: of waypoints at k', the share that would go on, were the goal not known."""
        return self.lambda_ * self.discount


def waypoints_of_other_goals(
    mdp: TabularMDP, behaviour: Policy, law: BackupLaw
) -> Iterator[Float[np.ndarray, "states actions waypoints"]]:
    """P(k', w | s, a) for k' = 1, 2, …: one step, or min(Geom(1 − λ), Geom(1 − γ)) = Geom(1 − λγ).

    The goal of another row has no part in it.
    """
    for steps, visited in _ahead(mdp, behaviour):
        chance = (1 - law.one_step) * (1 - law.reach) * law.reach ** (steps - 1)
        yield (chance + law.one_step * (steps == 1)) * visited


def waypoints_of_own_goals(
    mdp: TabularMDP, behaviour: Policy, law: BackupLaw
) -> Iterator[Float[np.ndarray, "states actions waypoints goals"]]:
    """P(k', w, g | s, a) for k' = 1, 2, …, with g the state Geom(1 − γ) steps ahead."""
    gamma, lambda_, identity = law.discount, law.lambda_, np.eye(mdp.states)
    chain = mdp.under(behaviour)
    now_or_later = (1 - gamma) * np.linalg.inv(identity - gamma * chain).clip(0)
    for steps, visited in _ahead(mdp, behaviour):
        # Not yet capped: the waypoint lies before the goal, or the goal is the waypoint.
        before = (1 - lambda_) * gamma**steps * chain @ now_or_later
        capped = (1 - gamma) * gamma ** (steps - 1) * identity
        goals = (1 - law.one_step) * lambda_ ** (steps - 1) * (before + capped)
        yield visited[..., None] * (goals + law.one_step * (steps == 1) * now_or_later)


def _ahead(
    mdp: TabularMDP, behaviour: Policy
) -> Iterator[tuple[int, Float[np.ndarray, "states actions waypoints"]]]:
    """k and P(s_k | s, a), without end."""
    visited = mdp.transitions
    for steps in itertools.count(1):
        yield steps, visited
        visited = visited @ mdp.under(behaviour)


def horizon(law: BackupLaw, *, beyond: float) -> int:
    """The k' that is exceeded with a chance of no more than `beyond`."""
    if law.one_step == 1 or law.reach == 0:
        return 1
    return math.ceil(math.log(beyond) / math.log(law.reach))


def batch_law(
    mdp: TabularMDP, behaviour: Policy, law: BackupLaw, *, beyond: float = 1e-6
) -> Float[np.ndarray, "states actions steps waypoints goals"]:
    """P(s, a, k', w, g) over the pairs of a large batch, weighted as the backup's loss does."""
    own, rows, goals = law.diagonal_weight, _rows(mdp, behaviour), _goals(mdp, behaviour, law)
    pairs = [
        (1 - own) * other[..., None] * goals + own * ahead
        for other, ahead, _ in zip(
            waypoints_of_other_goals(mdp, behaviour, law),
            waypoints_of_own_goals(mdp, behaviour, law),
            range(horizon(law, beyond=beyond)),
            strict=False,
        )
    ]
    joint = rows[..., None, None, None] * np.stack(pairs, axis=2)
    return joint / joint.sum()


def backup_fixed_point(
    mdp: TabularMDP, behaviour: Policy, law: BackupLaw, *, link: Link = "behaviour"
) -> tuple[StateGoal, ActionGoal]:
    """e^{−d(s, g)} and e^{−d((s, a), g)} where the backup is satisfied.

    The backup says nothing of d(s, g); `link` does. `behaviour` is the same backup of s alone:
    the mean over what the rows of s ask for, whatever their action. `best` takes the nearest
    action: the largest d(s, g) that the triangle inequality allows once d(s, (s, a)) = 0.
    """
    pulls, weights = _pulls(mdp, behaviour, law)
    # What no batch pairs has no fit: it is as if never reached.
    after_weights = np.where(weights > 1e-12, weights, np.inf)
    state_weights = np.einsum("sa,sag->sg", behaviour, weights)
    state_weights = np.where(state_weights > 1e-12, state_weights, np.inf)

    def asked(values: StateGoal) -> ActionGoal:
        return np.einsum("sawg,wg->sag", pulls, values)

    goals = np.arange(mdp.states)
    values = np.eye(mdp.states)
    # It contracts at rate γ or faster, down to rounding.
    for _ in range(math.ceil(math.log(1e-16) / math.log(law.discount))):
        pulled = asked(values)
        if link == "behaviour":
            linked = np.einsum("sa,sag->sg", behaviour, pulled) / state_weights
        else:
            linked = (pulled / after_weights).max(axis=1)
        linked[goals, goals] = 1
        if np.array_equal(linked, values):
            break
        values = linked
    return values, asked(values) / after_weights


def _pulls(
    mdp: TabularMDP, behaviour: Policy, law: BackupLaw
) -> tuple[Float[np.ndarray, "states actions waypoints goals"], ActionGoal]:
    """Σ over k' of γ^k' P(k', w, g | s, a), and P(g | s, a), among the pairs of a batch."""
    own = law.diagonal_weight
    discounts = law.discount ** np.arange(1, horizon(law, beyond=1e-17) + 1)
    others = _discounted(waypoints_of_other_goals(mdp, behaviour, law), discounts)[..., None]
    if own == 0:
        # Goals that no row has are of interest, too: their law cancels.
        return np.broadcast_to(others, (*others.shape[:-1], mdp.states)), np.ones(
            (mdp.states, mdp.actions, mdp.states)
        )
    goals = (1 - own) * _goals(mdp, behaviour, law)
    ahead = _discounted(waypoints_of_own_goals(mdp, behaviour, law), discounts)
    return (
        goals * others + own * ahead,
        goals + own * future_goals(mdp, behaviour, law.discount),
    )


def _discounted(laws: Iterator[np.ndarray], discounts: np.ndarray) -> np.ndarray:
    terms = (factor * chances for factor, chances in zip(discounts, laws, strict=False))
    return functools.reduce(np.add, terms)


def _rows(mdp: TabularMDP, behaviour: Policy) -> Float[np.ndarray, "states actions"]:
    return stationary_states(mdp, behaviour)[:, None] * behaviour


def _goals(mdp: TabularMDP, behaviour: Policy, law: BackupLaw) -> Float[np.ndarray, " goals"]:
    ahead = future_goals(mdp, behaviour, law.discount)
    return np.einsum("sa,sag->g", _rows(mdp, behaviour), ahead)
