"""Small processes in which Theorem 1 of MQE fails once one of its assumptions is dropped.

Each has a start, a goal and a behaviour. Three values of E[γ^H] from start to goal are compared:
under the behaviour, under the policy extracted without the assumption, and under the policy
extracted with it. The theorem promises that the extracted policy is no worse than the behaviour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from theory.backup import BackupLaw, backup_fixed_point
from theory.exact import (
    after_action,
    first_hit,
    greedy_policy,
    nats,
    optimal_first_hit,
    shortest_steps,
)
from theory.mdp import Policy, TabularMDP, explicit_mdp
from theory.relaxation import (
    assemble,
    behaviour_distances,
    extract,
    relax_fully,
    state_distances,
)

DISCOUNT = 0.9
STEP = -math.log(DISCOUNT)


@dataclass(frozen=True)
class Counterexample:
    """What dropping one assumption costs.

    Attributes:
        dropped: the assumption.
        behaviour: V^β_g(s), the value that must not be undercut.
        without: V^π_g(s) of the policy extracted without the assumption.
        kept: V^π_g(s) of the policy extracted with it.
    """

    dropped: str
    behaviour: float
    without: float
    kept: float


def all_counterexamples() -> list[Counterexample]:
    """In the order of the theorem's steps: fit, relax, and what the data must be."""
    return [
        states_without_a_fit(),
        averaged_distances(),
        waypoints_beyond_the_goal(),
        own_goals_only(),
        unmentioned_distances(),
        every_transition_is_a_step(),
        missing_support(),
        two_behaviours(),
    ]


def states_without_a_fit() -> Counterexample:
    """Eq. 16 alone leaves d(s, g) free: a trap may lie next to the goal.

    From 0, action 0 leads over 1 to the goal 2, action 1 into the trap 3. With d(3, 2) = 0, every
    term of Eq. 16 is at its least: each d((s, a), g) is a step more than d of its next state.
    """
    mdp = explicit_mdp([[1, 3], [2], [2], [3]])
    behaviour = _mostly(mdp, {0: (0.5, 0.5)})
    to_goal = nats(first_hit(mdp, behaviour, DISCOUNT))
    to_goal[3, 2] = 0
    after = nats(after_action(mdp, np.exp(-to_goal), DISCOUNT))
    policy = extract(relax_fully(assemble(to_goal, after)), mdp.states)
    return _compare("d(s, g) is fitted too", mdp, behaviour, policy, goal=2)


def averaged_distances() -> Counterexample:
    """A regression onto the mean distance, not onto the mean of e^{−d}, fears every failure.

    From 0, action 0 reaches the goal 1 at once four times in five and is lost otherwise; action 1
    takes the long way, 2-3-4-5-6, which never fails.
    """
    mdp = explicit_mdp([[{1: 0.8, 7: 0.2}, 2], [1], [3], [4], [5], [6], [1], [7]])
    behaviour = _mostly(mdp, {0: (0.9, 0.1)})
    distances = nats(first_hit(mdp, behaviour, DISCOUNT))
    chances = mdp.transitions[..., None]
    mean = (chances * np.where(chances > 0, distances, 0)).sum(axis=2)
    return _compare("e^{−d} is averaged, not d", mdp, behaviour, greedy_policy(STEP + mean), goal=1)


def waypoints_beyond_the_goal(law: BackupLaw | None = None) -> Counterexample:
    """Waypoints of Eq. 8, drawn without regard to the goal of another row, may lie beyond it.

    From 0, action 0 reaches the goal 1 at once with probability 0.6 and is lost otherwise; action 1
    reaches it over 2, always in two steps. The goal itself leads to the trap 3.

    Args:
        law: waypoints; Eq. 8 with the published λ = 0.95, p = 0.2 by default.
    """
    mdp = explicit_mdp([[{1: 0.6, 3: 0.4}, 2], [3], [1], [3]])
    behaviour = _mostly(mdp, {0: (0.1, 0.9)})
    values, after = backup_fixed_point(mdp, behaviour, law or BackupLaw(DISCOUNT))
    policy = extract(relax_fully(assemble(nats(values), nats(after))), mdp.states)
    return _compare("no waypoint lies beyond the goal", mdp, behaviour, policy, goal=1)


def own_goals_only() -> Counterexample:
    """A row's own goal was reached by definition: failures never enter its fit.

    From 0, action 0 reaches the goal 1 with probability 0.1 and else the trap 2; action 1 takes two
    steps over 3. The goal, too, leads to the trap.
    """
    mdp = explicit_mdp([[{1: 0.1, 2: 0.9}, 3], [2], [2], [1]])
    behaviour = _mostly(mdp, {0: (0.1, 0.9)})
    law = BackupLaw(DISCOUNT, diagonal_weight=1.0)
    values, after = backup_fixed_point(mdp, behaviour, law)
    policy = extract(relax_fully(assemble(nats(values), nats(after))), mdp.states)
    return _compare("goals are independent of the row", mdp, behaviour, policy, goal=1)


def unmentioned_distances() -> Counterexample:
    """Distances to a pair (s, a) other than from s occur in no term; zero among them is a bridge.

    The process of `states_without_a_fit`, fitted as it should be, but with a bridge of length 0
    from the pair that leads into the trap to the pair next to the goal.
    """
    mdp = explicit_mdp([[1, 3], [2], [2], [3]])
    behaviour = _mostly(mdp, {0: (0.5, 0.5)})
    distances = behaviour_distances(mdp, behaviour, DISCOUNT)
    into_the_trap, next_to_the_goal = mdp.states + 1, mdp.states + 2
    distances[into_the_trap, next_to_the_goal] = 0
    policy = extract(relax_fully(distances), mdp.states)
    return _compare("no path leads over what was not fitted", mdp, behaviour, policy, goal=2)


def every_transition_is_a_step() -> Counterexample:
    """Relaxing over observed transitions, each a step long, takes the luckiest outcome for sure.

    From 0, action 0 reaches the goal 1 with probability 0.1 and else the trap 3; action 1 takes two
    steps over 2.
    """
    mdp = explicit_mdp([[{1: 0.1, 3: 0.9}, 2], [1], [1], [3]])
    behaviour = _mostly(mdp, {0: (0.1, 0.9)})
    steps = shortest_steps(mdp)
    reached = np.where(mdp.transitions[..., None] > 0, steps, np.inf)
    policy = greedy_policy(STEP * (1 + reached.min(axis=2)))
    return _compare("d((s, a), s') knows the chance of s'", mdp, behaviour, policy, goal=1)


def missing_support() -> Counterexample:
    """An action that was never logged has no fit, and any distance, 0 among them.

    From 0, action 0 reaches the goal 1; action 1, never taken, the trap 2.
    """
    mdp = explicit_mdp([[1, 2], [1], [2]])
    behaviour = _mostly(mdp, {0: (1.0, 0.0)})
    distances = behaviour_distances(mdp, behaviour, DISCOUNT)
    distances[mdp.states + 1, 1] = 0
    policy = extract(relax_fully(distances), mdp.states)
    # Kept: the action may be taken, now and then.
    supported = _mostly(mdp, {0: (0.99, 0.01)})
    kept = extract(relax_fully(behaviour_distances(mdp, supported, DISCOUNT)), mdp.states)
    return _compare("every pair (s, a) is in the data", mdp, behaviour, policy, goal=1, kept=kept)


def two_behaviours() -> Counterexample:
    """Data of two policies is not data of their average: one that is lost at 1 and 2 spoils them.

    From 0, action 0 leads to 1 or 2, by a coin, where action 0 reaches the goal 5 and action 1 the
    trap 6; action 1 takes three steps over 3 and 4. Episodes from 0 all but always end at the goal
    over 1 or 2; but nine in ten of the visits there belong to episodes that start there and fail.
    """
    mdp = explicit_mdp([[{1: 0.5, 2: 0.5}, 3], [5, 6], [5, 6], [4], [5], [5], [6]])
    skilled = _mostly(mdp, {0: (0.98, 0.02), 1: (0.98, 0.02), 2: (0.98, 0.02)})
    pooled = _mostly(mdp, {0: (0.98, 0.02), 1: (0.1, 0.9), 2: (0.1, 0.9)})
    policy = extract(relax_fully(behaviour_distances(mdp, pooled, DISCOUNT)), mdp.states)
    kept = extract(relax_fully(behaviour_distances(mdp, skilled, DISCOUNT)), mdp.states)
    return _compare("the behaviour is one Markov policy", mdp, skilled, policy, goal=5, kept=kept)


def negative_distance() -> float:
    """d((g, a), g) by Eq. 5 taken at its word, for an action that stays at g: below zero.

    Eq. 1 counts the visit at t = 0, so that Q_g(g, a) exceeds V_g(g) for every action that returns
    sooner than the behaviour does. Relaxing such a distance has no fixed point. Eq. 7, which every
    loss uses, means the return instead, and gives −log γ here.
    """
    mdp = explicit_mdp([[0, 1], [0]])
    behaviour = _mostly(mdp, {0: (0.5, 0.5)})
    futures = np.linalg.inv(np.eye(2) - DISCOUNT * mdp.under(behaviour))
    staying = 1 + DISCOUNT * futures[0, 0]
    return float(-np.log(staying / futures[0, 0]))


@dataclass(frozen=True)
class Stitching:
    """What the relaxation adds to one step of policy improvement, in one (s, g).

    Attributes:
        behaviour: V^β_g(s).
        unrelaxed: V^π_g(s), greedy on the fit itself; the relaxation without action invariance
            changes nothing.
        relaxed: V^π_g(s), greedy on the relaxed fit.
        promised: e^{−d̃(s, g)}, which `relaxed` is never below.
        optimal: V*_g(s).
    """

    behaviour: float
    unrelaxed: float
    relaxed: float
    promised: float
    optimal: float


def stitching_without_chance() -> Stitching:
    """Relaxing finds the shortest path where one step of improvement does not.

    From 0, action 0 leads over 1 and 2 to the goal 5, action 1 over 3, 4 and 6. The behaviour
    mostly turns back at 1 and 2, and so the longer way looks shorter.
    """
    mdp = explicit_mdp([[1, 3], [2, 0], [5, 0], [4], [6], [5], [5]])
    behaviour = _mostly(mdp, {0: (0.5, 0.5), 1: (0.1, 0.9), 2: (0.1, 0.9)})
    return _stitch(mdp, behaviour, goal=5)


def stitching_by_chance() -> Stitching:
    """Where outcomes are random the relaxed policy is improved, but need not be optimal.

    From 0, action 0 leads to 1 or 2 by a coin and thence to the goal 5, action 1 over 3, 4 and 6. A
    path goes over 1 or over 2, so that its promise is half of what both together are worth.
    """
    mdp = explicit_mdp([[{1: 0.5, 2: 0.5}, 3], [5, 0], [5, 0], [4], [6], [5], [5]])
    behaviour = _mostly(mdp, {0: (0.5, 0.5), 1: (0.1, 0.9), 2: (0.1, 0.9)})
    return _stitch(mdp, behaviour, goal=5)


def _stitch(mdp: TabularMDP, behaviour: Policy, *, goal: int) -> Stitching:
    fit = behaviour_distances(mdp, behaviour, DISCOUNT)
    relaxed = relax_fully(fit)

    def value(policy: Policy) -> float:
        return float(first_hit(mdp, policy, DISCOUNT)[0, goal])

    return Stitching(
        value(behaviour),
        value(extract(fit, mdp.states)),
        value(extract(relaxed, mdp.states)),
        float(np.exp(-state_distances(relaxed, mdp.states)[0, goal])),
        float(optimal_first_hit(mdp, DISCOUNT)[0, goal]),
    )


def _mostly(mdp: TabularMDP, chances: dict[int, tuple[float, ...]]) -> np.ndarray:
    """The uniform policy, but `chances` at the states where the choice matters."""
    policy = np.full((mdp.states, mdp.actions), 1 / mdp.actions)
    for state, chance in chances.items():
        policy[state] = chance
    return policy


def _compare(
    dropped: str,
    mdp: TabularMDP,
    behaviour: Policy,
    policy: Policy,
    *,
    goal: int,
    kept: Policy | None = None,
) -> Counterexample:
    if kept is None:
        kept = extract(relax_fully(behaviour_distances(mdp, behaviour, DISCOUNT)), mdp.states)
    values = [first_hit(mdp, each, DISCOUNT)[0, goal] for each in (behaviour, policy, kept)]
    return Counterexample(dropped, *map(float, values))
