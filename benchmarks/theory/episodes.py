"""Episodes of a tabular process as a table that the samplers and agents read: one-hot states."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from farstep.core.types import Actions, Space, Spaces
from farstep.sampling.batches import DeviceTable
from farstep.sampling.episodes import Episodes
from theory.mdp import TabularMDP


@dataclass(frozen=True, eq=False)
class Rollouts:
    """M episodes of L stored steps: the states seen and the actions taken, (M, L)."""

    states: Int[np.ndarray, "episodes steps"]
    actions: Int[np.ndarray, "episodes steps"]


def roll_out(
    mdp: TabularMDP,
    policy: Float[np.ndarray, "states actions"],
    rng: np.random.Generator,
    *,
    episodes: int,
    steps: int,
    start: Float[np.ndarray, " states"] | None = None,
) -> Rollouts:
    """Draw episodes of `steps` stored steps; they begin uniformly, or by the law `start`."""
    first = np.full(mdp.states, 1 / mdp.states) if start is None else start
    states = np.empty((episodes, steps), np.int64)
    actions = np.empty((episodes, steps), np.int64)
    state = rng.choice(mdp.states, size=episodes, p=first)
    for step in range(steps):
        action = _draw(policy[state], rng)
        states[:, step], actions[:, step] = state, action
        state = _draw(mdp.transitions[state, action], rng)
    return Rollouts(states, actions)


def one_hot_table(rollouts: Rollouts, mdp: TabularMDP) -> DeviceTable:
    """The episodes with states and actions as one-hot vectors, ready to be sampled."""
    episodes, steps = rollouts.states.shape
    return DeviceTable(
        jnp.asarray(np.eye(mdp.states, dtype=np.float32)[rollouts.states.ravel()]),
        jnp.asarray(np.eye(mdp.actions, dtype=np.float32)[rollouts.actions.ravel()]),
        Episodes.from_ends(steps * np.arange(1, episodes + 1) - 1),
    )


def one_hot_spaces(mdp: TabularMDP) -> Spaces:
    """The spaces of `one_hot_table`."""
    return Spaces.from_observation(Space((mdp.states,)), Actions(mdp.actions))


def _draw(
    chances: Float[np.ndarray, "rows choices"], rng: np.random.Generator
) -> Int[np.ndarray, " rows"]:
    """One choice a row, by inverting the cumulative distribution."""
    below = chances.cumsum(axis=1) <= rng.random(len(chances))[:, None]
    return below.sum(axis=1).clip(max=chances.shape[1] - 1)
