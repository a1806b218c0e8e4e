"""The plain formulation that the library is measured against.

It is a straightforward implementation of MQE's equations: every difference of a pair in memory,
gradients by autodiff, one jitted update per batch, batches drawn on the host with NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from farstep.agents.mqe import MQE, MQENetworks
from farstep.networks.actors import Actor, Gaussian


def plain_pairwise_mrn(
    x: Float[Array, "*ensemble rows latent"],
    y: Float[Array, "*ensemble columns latent"],
    groups: int = 8,
) -> Float[Array, "*ensemble rows columns"]:
    """`farstep.quasimetrics.pairwise_mrn`, written as its formula and left to autodiff."""
    difference = x[..., :, None, :] - y[..., None, :, :]
    halves = difference.reshape(*difference.shape[:-1], groups, 2, -1)
    asymmetric = jax.nn.relu(halves[..., 0, :].max(axis=-1))
    squared = jnp.square(halves[..., 1, :]).sum(axis=-1)
    symmetric = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    return (asymmetric + symmetric).mean(axis=-1) / math.sqrt(x.shape[-1])


PlainBatch = Mapping[str, Any]
"""`states, actions, goals, waypoints, steps, policy_goals`, each with B rows."""


def plain_loss(agent: MQE, params: MQENetworks, batch: PlainBatch) -> Float[Array, ""]:
    """L_T + L_I + L_π of MQE, equation by equation."""
    critic, fixed = params.critic, jax.lax.stop_gradient(params.critic)
    phi = critic.phi(batch["states"], batch["actions"])
    distances = plain_pairwise_mrn(phi, critic.psi(batch["goals"]), agent.groups)
    targets = jax.lax.stop_gradient(
        plain_pairwise_mrn(critic.psi(batch["waypoints"]), critic.psi(batch["goals"]), agent.groups)
    )
    residuals = distances - targets
    decay = agent.discount ** batch["steps"][:, None]
    costs = jnp.where(
        residuals <= agent.clip,
        decay * jnp.exp(jnp.minimum(residuals, agent.clip)) - distances,
        residuals,
    )
    own = jnp.diagonal(costs, axis1=1, axis2=2)
    w = agent.diagonal_weight
    backup = (1 - w) * costs.mean() + w * own.mean()

    def distance(x: Array, y: Array) -> Array:
        return jax.vmap(lambda a, b: plain_pairwise_mrn(a[:, None], b[:, None], agent.groups))(
            x.swapaxes(0, 1), y.swapaxes(0, 1)
        )[:, :, 0, 0].T

    invariance = jnp.square(jnp.exp(-distance(critic.psi(batch["states"]), phi)) - 1).mean()

    crossed = jnp.roll(batch["policy_goals"], 1, axis=0)
    assert isinstance(params.actor, Actor)
    proposed = params.actor(batch["states"], crossed)
    assert isinstance(proposed, Gaussian)
    actions = jnp.clip(proposed.mean, -1, 1)
    q = -distance(fixed.phi(batch["states"], actions), fixed.psi(crossed)).max(axis=0)
    behaviour = params.actor(batch["states"], batch["policy_goals"])
    cloning = -behaviour.log_prob(batch["actions"]).mean()
    policy = -q.mean() / jax.lax.stop_gradient(jnp.abs(q).mean()) + agent.alpha * cloning
    return backup + invariance + policy


def plain_update(agent: MQE) -> Callable:
    """`(params, optimizer state, batch) → (params, optimizer state)`, one jitted call."""
    optimizer = optax.adam(agent.learning_rate)

    @jax.jit
    def update(params: Any, state: optax.OptState, batch: PlainBatch) -> tuple[Any, optax.OptState]:
        gradients = jax.grad(lambda p: plain_loss(agent, p, batch))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return update


class HostSampler:
    """MQE's batches drawn with NumPy from episodes of one length."""

    def __init__(self, observations: np.ndarray, actions: np.ndarray, length: int, agent: MQE):
        self._observations, self._actions = observations, actions
        self._length, self._agent = length, agent
        self._rng = np.random.default_rng(0)

    def __call__(self) -> PlainBatch:
        rng, size, agent = self._rng, self._agent.batch_size, self._agent
        episodes = rng.integers(len(self._observations) // self._length, size=size)
        left = rng.integers(1, self._length, size=size)
        ends = (episodes + 1) * self._length - 1
        rows = ends - left
        to_goal = np.minimum(rng.geometric(1 - agent.discount, size), left)
        hops = np.where(
            rng.random(size) < agent.waypoint_one_step,
            1,
            rng.geometric(1 - agent.waypoint_lambda, size),
        )
        hops = np.minimum(hops, to_goal)
        share = rng.random(size)
        policy = np.round(share * (rows + 1) + (1 - share) * ends).astype(int)
        return {
            "states": self._observations[rows],
            "actions": self._actions[rows],
            "goals": self._observations[rows + to_goal],
            "waypoints": self._observations[rows + hops],
            "steps": hops.astype(np.float32),
            "policy_goals": self._observations[policy],
        }
