"""What the multistep backup of MQE is stationary at, in closed form, for one endless episode.

The backup fits e^{−d((s, a), g)} to the mean of γ^k' e^{−d(w, g)} over what a batch pairs with
(s, a, g): with the goals of other rows, which know nothing of the waypoint w, and, with weight w_d
(`diagonal_weight`), with the row's own goal, which lies ahead on the same episode and caps k'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from farstep.tabular.exact import (
    ActionGoal,
    StateGoal,
    after_action,
    future_goals,
    stationary_states,
)
from farstep.tabular.mdp import Policy, TabularMDP

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


def backup_operator(
    mdp: TabularMDP, behaviour: Policy, law: BackupLaw
) -> Callable[[StateGoal], ActionGoal]:
    """From e^{−d(w, g)} to the e^{−d((s, a), g)} that the backup asks for."""
    gamma, lambda_, own = law.discount, law.lambda_, law.diagonal_weight
    identity, chain = np.eye(mdp.states), mdp.under(behaviour)

    # Goals of other rows: k' = 1, or min(Geom(1 − λ), Geom(1 − γ)) = Geom(1 − λγ).
    reach = lambda_ * gamma
    multistep = (1 - reach) * np.linalg.inv(identity - reach * gamma * chain)
    others = after_action(
        mdp, law.one_step * identity + (1 - law.one_step) * multistep, gamma
    ).clip(0)
    if own == 0:
        return lambda values: np.einsum("saw,wg->sag", others, values)

    # The own goal, K ~ Geom(1 − γ) steps ahead: waypoints before it, or capped by it.
    now_or_later = (1 - gamma) * np.linalg.inv(identity - gamma * chain)
    later = chain @ now_or_later
    one_step = after_action(mdp, identity, gamma)
    before = after_action(mdp, np.linalg.inv(identity - lambda_ * gamma**2 * chain), gamma)
    chances = future_goals(mdp, behaviour, gamma)
    rows = stationary_states(mdp, behaviour)[:, None] * behaviour
    marginal = (1 - own) * np.einsum("sa,sag->g", rows, chances)
    weight = marginal + own * chances

    def values_after(values: StateGoal) -> ActionGoal:
        capped = (1 - lambda_) * gamma * values * later + (1 - gamma) * identity
        ahead = law.one_step * np.einsum("saw,wg->sag", one_step, values * now_or_later)
        ahead += (1 - law.one_step) * np.einsum("saw,wg->sag", before, capped)
        total = marginal * np.einsum("saw,wg->sag", others, values) + own * ahead
        # A goal that no batch pairs with (s, a) has no fit: it is as if never reached.
        return np.divide(total, weight, out=np.zeros_like(weight), where=weight > 1e-12)

    return values_after


def backup_fixed_point(
    mdp: TabularMDP, behaviour: Policy, law: BackupLaw, *, link: Link = "behaviour"
) -> tuple[StateGoal, ActionGoal]:
    """e^{−d(s, g)} and e^{−d((s, a), g)} where the backup is satisfied.

    The backup says nothing of d(s, g); `link` does. `behaviour` averages e^{−d((s, a), g)} over
    the logged actions. `best` takes the nearest action: the largest d(s, g) that the triangle
    inequality allows once d(s, (s, a)) = 0.
    """
    operator = backup_operator(mdp, behaviour, law)
    goals = np.arange(mdp.states)
    values = np.eye(mdp.states)
    # It contracts at rate γ or faster, down to rounding.
    for _ in range(math.ceil(math.log(1e-16) / math.log(law.discount))):
        after = operator(values)
        if link == "behaviour":
            linked = np.einsum("sa,sag->sg", behaviour, after)
        else:
            linked = after.max(axis=1)
        linked[goals, goals] = 1
        if np.array_equal(linked, values):
            break
        values = linked
    return values, operator(values)
