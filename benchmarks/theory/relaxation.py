"""Theorem 1 of MQE (arXiv 2511.07730, Section 4.5) as arrays: fit, relax, extract.

Distances lie between points x, y of S ∪ S×A, in this order: the states, then the pairs (s, a) with
the action running fastest. A matrix holds d(x, y) in nats, and ∞ where no path leads from x to y.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from theory.exact import (
    ActionGoal,
    StateGoal,
    after_action,
    first_hit,
    greedy_policy,
    nats,
)
from theory.mdp import Policy, TabularMDP

Distances = Float[np.ndarray, "points points"]


def assemble(to_goal: StateGoal, after: ActionGoal, *, action_invariance: bool = True) -> Distances:
    """The matrix of d(s, g), d((s, a), g) and, by action invariance, d(s, (s, a)) = 0.

    All else, which no term of Eq. 16 mentions, is ∞: no path leads over it.
    """
    states, actions, _ = after.shape
    distances = np.full((states + states * actions,) * 2, np.inf)
    distances[:states, :states] = to_goal
    distances[states:, :states] = after.reshape(-1, states)
    if action_invariance:
        pairs = np.arange(states * actions)
        distances[pairs // actions, states + pairs] = 0
    np.fill_diagonal(distances, 0)
    return distances


def behaviour_distances(
    mdp: TabularMDP, behaviour: Policy, discount: float, *, action_invariance: bool = True
) -> Distances:
    """The fit of Eq. 16 with one-step waypoints: every distance is the behaviour's own."""
    values = first_hit(mdp, behaviour, discount)
    after = after_action(mdp, values, discount)
    return assemble(nats(values), nats(after), action_invariance=action_invariance)


def relax(distances: Distances) -> Distances:
    """P(d)(x, z) = min_y d(x, y) + d(y, z) (Eq. 17), once."""
    relaxed = distances
    for y in range(len(distances)):
        relaxed = np.minimum(relaxed, distances[:, y, None] + distances[y])
    return relaxed


def relax_fully(distances: Distances) -> Distances:
    """P applied until nothing changes: the shortest paths.

    Each application doubles the number of edges that a path may have, so that log₂ of the number
    of points suffice wherever distances are not negative.
    """
    for _ in range(math.ceil(math.log2(len(distances)))):
        relaxed = relax(distances)
        if np.array_equal(relaxed, distances):
            break
        distances = relaxed
    return distances


def state_distances(distances: Distances, states: int) -> StateGoal:
    """d(s, g)."""
    return distances[:states, :states]


def action_distances(distances: Distances, states: int) -> ActionGoal:
    """d((s, a), g)."""
    return distances[states:, :states].reshape(states, -1, states)


def extract(distances: Distances, states: int) -> Float[np.ndarray, "goals states actions"]:
    """argmin_a d((s, a), g) (Eq. 18)."""
    return greedy_policy(action_distances(distances, states))
