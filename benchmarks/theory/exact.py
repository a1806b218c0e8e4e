"""Exact goal-reaching quantities, by linear solves and policy iteration in float64.

With H the first time t ≥ 0 at which s_t = g, the value of a policy for a goal is E[γ^H], the
discounted chance of getting there: (S, G), entry [s, g]. Its distance in nats is −log of that
(the successor distance of Myers et al. 2024), and c = −log γ nats are one certain step.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.sparse.csgraph import shortest_path

from theory.mdp import Policy, TabularMDP

StateGoal = Float[np.ndarray, "states goals"]
ActionGoal = Float[np.ndarray, "states actions goals"]


def first_hit(mdp: TabularMDP, policy: Policy, discount: float) -> StateGoal:
    """E_π[γ^H] from each state to each goal; 1 at the goal itself.

    Args:
        policy: (S, A), or (G, S, A) with the policy for goal g at index g.
    """
    goals = np.arange(mdp.states)
    chains = np.array(np.broadcast_to(mdp.under(policy), (mdp.states,) * 3))
    # The goal ends the episode: its own row says nothing but that it is reached.
    chains[goals, goals] = 0
    systems = np.eye(mdp.states) - discount * chains
    solved = np.linalg.solve(systems, np.eye(mdp.states)[..., None])[..., 0].clip(0, 1)
    # Rounding leaves a trace where there is no way at all, and that would be a finite distance.
    return np.where(_reachable(chains)[goals, :, goals], solved, 0).T


def after_action(mdp: TabularMDP, values: StateGoal, discount: float) -> ActionGoal:
    """γ E[value(s', g) | s, a]: one step, then `values`. At s = g, the value of coming back."""
    return discount * np.einsum("sat,tg->sag", mdp.transitions, values)


def occupancy(mdp: TabularMDP, policy: Policy, discount: float) -> StateGoal:
    """Σ_t γ^t P_π(s_t = g | s_0 = s), t ≥ 0: every visit counts (MQE, Eq. 2).

    It is `first_hit` times the occupancy of g from g.
    """
    chains = np.broadcast_to(mdp.under(policy), (mdp.states,) * 3)
    systems = np.eye(mdp.states) - discount * chains
    return np.linalg.solve(systems, np.eye(mdp.states)[..., None])[..., 0].T


def n_step_first_hit(
    mdp: TabularMDP, behaviour: Policy, policy: Policy, discount: float, steps: int
) -> ActionGoal:
    """E[γ^H] after an action, when the behaviour goes on up to step n, the policy acts once there,
    the behaviour goes on for another n, and so on: what n-step backups without correction estimate.

    Args:
        policy: (G, S, A), for each goal.
    """
    states = np.arange(mdp.states)
    values = np.zeros((mdp.states, mdp.actions, mdp.states))
    for _ in range(math.ceil(math.log(1e-16) / math.log(discount) / steps)):
        reached = np.einsum("gsa,sag->sg", policy, values)
        for remaining in range(steps):
            reached[states, states] = 1
            values = after_action(mdp, reached, discount)
            if remaining < steps - 1:
                reached = np.einsum("sa,sag->sg", behaviour, values)
    return values


def optimal_first_hit(mdp: TabularMDP, discount: float) -> StateGoal:
    """max_π E_π[γ^H] from each state to each goal, by policy iteration."""
    values = first_hit(mdp, np.full((mdp.states, mdp.actions), 1 / mdp.actions), discount)
    while True:
        policy = greedy_policy(-after_action(mdp, values, discount))
        improved = first_hit(mdp, policy, discount)
        # Stops at rounding, where equal policies would take turns for ever.
        if np.all(improved <= values + 1e-15):
            return np.maximum(improved, values)
        values = np.maximum(improved, values)


def expectile_first_hit(
    mdp: TabularMDP,
    behaviour: Policy,
    discount: float,
    expectile: float,
    *,
    over: Literal["actions", "outcomes"],
) -> StateGoal:
    """The κ-expectile, where `first_hit` has the mean: what implicit Q- and V-learning estimate.

    With U = 1 + (1 − γ)V, so that U = γ^d where V = −(1 − γ^d)/(1 − γ): U(s, g) is the expectile of
    γU(s', g), taken over the behaviour's actions (of the mean over s', as Q knows it), or over its
    actions and their outcomes alike, as V alone must. κ = 0.5 is `first_hit`; as κ → 1, the first
    tends to `optimal_first_hit` and the second to γ to the power of `shortest_steps`.
    """
    states = np.arange(mdp.states)
    if over == "actions":
        chances = behaviour[:, None]
    else:
        chances = (behaviour[..., None] * mdp.transitions).reshape(mdp.states, 1, -1)
    values = np.eye(mdp.states)
    for _ in range(math.ceil(math.log(1e-13) / math.log(discount))):
        if over == "actions":
            options = after_action(mdp, values, discount).transpose(0, 2, 1)
        else:
            one_outcome = discount * np.tile(values.T, mdp.actions)
            options = np.broadcast_to(one_outcome, (mdp.states, *one_outcome.shape))
        updated = _expectile(options, np.broadcast_to(chances, options.shape), expectile)
        updated[states, states] = 1
        values = updated
    return values


def _expectile(
    options: Float[np.ndarray, "*batch options"],
    chances: Float[np.ndarray, "*batch options"],
    expectile: float,
) -> Float[np.ndarray, "*batch"]:
    """Where the weighted deviations above and below balance; exact, by trying each cut."""
    order = np.argsort(options, axis=-1)
    options = np.take_along_axis(options, order, -1)
    chances = np.take_along_axis(chances, order, -1)
    # Below the cut an option weighs 1 − κ, above it κ.
    below = np.tri(options.shape[-1], dtype=bool)
    weights = np.where(below, 1 - expectile, expectile) * chances[..., None, :]
    centres = (weights * options[..., None, :]).sum(-1) / weights.sum(-1)
    # The cut is right where its centre lies between the options on either side.
    above = np.concatenate([options[..., 1:], np.full((*options.shape[:-1], 1), np.inf)], axis=-1)
    right = (centres >= options - 1e-15) & (centres <= above + 1e-15)
    return np.take_along_axis(centres, right.argmax(-1)[..., None], -1)[..., 0]


def greedy_policy(costs: ActionGoal) -> Float[np.ndarray, "goals states actions"]:
    """For each goal the policy that takes the action of least cost; the first where they tie."""
    best = np.argmin(costs, axis=1)
    return np.eye(costs.shape[1])[best.T]


def shortest_steps(mdp: TabularMDP) -> StateGoal:
    """Steps on the shortest path over transitions of any probability; ∞ where there is none.

    The optimal number of steps where transitions are deterministic; elsewhere what the luckiest
    run needs.
    """
    return shortest_path(mdp.transitions.max(axis=1) > 0, unweighted=True)


def future_goals(mdp: TabularMDP, behaviour: Policy, discount: float) -> ActionGoal:
    """P(s_K = g | s, a), K ~ Geom(1 − γ) on {1, 2, …}: the law of geometric goals.

    It is (1 − γ)/γ · `after_action` of `first_hit`, times the occupancy of g from g.
    """
    futures = np.linalg.inv(np.eye(mdp.states) - discount * mdp.under(behaviour))
    return (1 - discount) * np.einsum("sat,tg->sag", mdp.transitions, futures).clip(0)


def stationary_states(mdp: TabularMDP, behaviour: Policy) -> Float[np.ndarray, " states"]:
    """The law of states in one endless episode of a policy, which must have a single such law."""
    system = np.vstack([mdp.under(behaviour).T - np.eye(mdp.states), np.ones(mdp.states)])
    right = np.append(np.zeros(mdp.states), 1.0)
    return np.linalg.lstsq(system, right, rcond=None)[0].clip(0)


def _reachable(chains: Float[np.ndarray, "*goals states states"]) -> np.ndarray:
    """Whether there is a path of any length from s to s'."""
    reached = (chains > 0) | np.eye(chains.shape[-1], dtype=bool)
    for _ in range(max(1, chains.shape[-1] - 1).bit_length()):
        reached = reached @ reached
    return reached


def nats(values: np.ndarray) -> np.ndarray:
    """−log, with ∞ for what is never reached."""
    with np.errstate(divide="ignore"):
        return -np.log(values)
