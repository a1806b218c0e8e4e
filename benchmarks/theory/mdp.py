"""Markov decision processes as explicit arrays, drawn at random or written out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from farstep.core.errors import FarstepError

Policy = Float[np.ndarray, "*_goals states actions"]
"""π(a | s), (S, A), or one policy for each goal, π(a | s, g), (G, S, A)."""


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """A controlled Markov process without rewards: goals are its states.

    Attributes:
        transitions: P(s' | s, a), (S, A, S) in float64; each row sums to 1.
    """

    transitions: Float[np.ndarray, "states actions next_states"]

    def __post_init__(self) -> None:
        shape = self.transitions.shape
        if len(shape) != 3 or shape[0] != shape[2]:
            raise FarstepError(f"transitions are (states, actions, states), not {shape}.")
        if np.any(self.transitions < 0) or not np.allclose(self.transitions.sum(-1), 1, atol=1e-9):
            raise FarstepError("Each row of transitions must be ≥ 0 and sum to 1.")

    @property
    def states(self) -> int:
        """S."""
        return self.transitions.shape[0]

    @property
    def actions(self) -> int:
        """A."""
        return self.transitions.shape[1]

    @property
    def deterministic(self) -> bool:
        """Whether every action has one outcome."""
        return bool(np.all(np.count_nonzero(self.transitions, axis=-1) == 1))

    def under(self, policy: Policy) -> Float[np.ndarray, "*goals states states"]:
        """The chain that a policy makes: P_π(s' | s), one for each goal where π has goals."""
        return np.einsum("...sa,sat->...st", policy, self.transitions)


Outcome = int | Mapping[int, float]
"""The next state, or the probability of each."""


def explicit_mdp(outcomes: Sequence[Sequence[Outcome]]) -> TabularMDP:
    """From `outcomes[s][a]`, the next state or the probabilities of the next states.

    A state that lists fewer actions than another repeats its last one, so that every state has
    equally many.
    """
    states, actions = len(outcomes), max(map(len, outcomes))
    transitions = np.zeros((states, actions, states))
    for state, choices in enumerate(outcomes):
        for action in range(actions):
            outcome = choices[min(action, len(choices) - 1)]
            chances = {outcome: 1.0} if isinstance(outcome, int) else outcome
            for successor, chance in chances.items():
                transitions[state, action, successor] = chance
    return TabularMDP(transitions)


def random_mdp(
    rng: np.random.Generator, states: int, actions: int, *, outcomes: int = 1
) -> TabularMDP:
    """Every action leads to `outcomes` random states; deterministic where that is 1.

    The chances of the outcomes are uniform on the simplex. Nothing makes the states connected:
    traps and unreachable goals occur.
    """
    transitions = np.zeros((states, actions, states))
    for state in range(states):
        for action in range(actions):
            successors = rng.choice(states, size=outcomes, replace=False)
            transitions[state, action, successors] = rng.dirichlet(np.ones(outcomes))
    return TabularMDP(transitions)


def random_policy(
    rng: np.random.Generator, mdp: TabularMDP, *, concentration: float = 1.0
) -> Float[np.ndarray, "states actions"]:
    """A policy with full support: π(· | s) ~ Dirichlet, mixed with a hundredth of the uniform."""
    drawn = rng.dirichlet(np.full(mdp.actions, concentration), size=mdp.states)
    return 0.99 * drawn + 0.01 / mdp.actions


def uniform_policy(mdp: TabularMDP) -> Float[np.ndarray, "states actions"]:
    """Every action alike."""
    return np.full((mdp.states, mdp.actions), 1 / mdp.actions)
