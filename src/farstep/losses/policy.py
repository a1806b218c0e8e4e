"""Policy objectives shared by the agents that extract a policy from a value."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.core.rng import PRNGKey
from farstep.core.types import Arrays, Batch, Loss, Scalar
from farstep.networks.policies import Policy

Extractions = Literal["ddpg-bc", "awr", "best-of-n"]
"""How a policy is extracted: up the critic's gradient, by advantage-weighted cloning, or as the
best of some actions of a cloned policy."""

PolicyGoals = Literal["cross", "paired"]
"""Goals of a policy's q term: those of other rows of the batch, or each row's own."""

Rows = TypeVar("Rows", Array, dict[str, Array])


def behaviour_cloning(log_probs: Float[Array, " batch"]) -> Loss:
    """`−mean log π(a|s,g)`: the whole of GCBC, and the anchor of DDPG+BC."""
    loss = -jnp.mean(log_probs)
    return loss, {"actor/bc_loss": loss}


def ddpg_bc(
    q_values: Float[Array, " batch"], log_probs: Float[Array, " batch"], *, alpha: float
) -> Loss:
    """`−mean(q)/sg[mean|q|] − α·mean log π` (Fujimoto & Gu 2021; MQE, Eq. 15).

    Args:
        q_values: q of the policy's own actions, differentiable in them alone.
        log_probs: log π of the logged actions.
        alpha: α, weight of behaviour cloning against a q term of unit scale.
    """
    scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q_values)))
    q_loss = -jnp.mean(q_values) / jnp.maximum(scale, 1e-6)
    bc_loss, metrics = behaviour_cloning(log_probs)
    loss = q_loss + alpha * bc_loss
    return loss, metrics | {"actor/loss": loss, "actor/q": jnp.mean(q_values)}


def other_rows(arrays: Rows) -> Rows:
    """The goals of each row's neighbour, an independent draw."""
    return jax.tree.map(lambda array: jnp.roll(array, 1, axis=0), arrays)


def advantage_weighted(
    log_probs: Float[Array, " batch"],
    advantages: Float[Array, " batch"],
    *,
    inverse_temperature: float,
    ceiling: float = 100.0,
) -> Loss:
    """`−mean min(exp(β·A), ceiling)·log π` (Peng et al. 2019), cloning what did better than V.

    Args:
        log_probs: log π of the logged actions.
        advantages: A, with no gradient wanted.
        inverse_temperature: β; at 0 every action is cloned alike.
    """
    weights = jnp.minimum(jnp.exp(inverse_temperature * jax.lax.stop_gradient(advantages)), ceiling)
    loss = -jnp.mean(weights * log_probs)
    return loss, {
        "actor/loss": loss,
        "actor/bc_loss": -jnp.mean(log_probs),
        "actor/advantage": jnp.mean(advantages),
        "actor/weight": jnp.mean(weights),
    }


Value = Callable[[Array, Any], Float[Array, " batch"]]
"""q of each row, from actions and goals; its networks get no gradient."""


class Extraction(abc.ABC):
    """A way to extract a policy from a critic."""

    @abc.abstractmethod
    def loss(
        self,
        policy: Policy,
        batch: Batch,
        key: PRNGKey,
        q: Value,
        advantages: Callable[[Any], Float[Array, " batch"]],
    ) -> Loss:
        """L_π.

        Args:
            q: q of the batch's rows.
            advantages: advantages of the logged actions towards given goals, without gradient.
        """

    def act(
        self,
        policy: Policy,
        observations: Arrays,
        goals: Arrays,
        key: PRNGKey,
        temperature: Scalar,
        q: Value,
    ) -> Array:
        """The actions taken: the policy's own."""
        return policy.sample(observations, goals, key, temperature)


@dataclass(frozen=True)
class DDPGBC(Extraction):
    """Raise q of the policy's own actions, and stay near the logged ones.

    Cloning is always towards the row's own goal, which the logged action led to.

    Attributes:
        alpha: α, weight of cloning against a q term of unit scale.
        goals: goals of the q term.
    """

    alpha: float
    goals: PolicyGoals

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        key: PRNGKey,
        q: Value,
        advantages: Callable[[Any], Float[Array, " batch"]],
    ) -> Loss:
        clone_key, climb_key = jax.random.split(key)
        own = batch["goal/policy"].goals
        behaviour = policy.behaviour_loss(
            batch.observations, own, batch.actions, clone_key, batch.done
        )
        q_goals = own if self.goals == "paired" else other_rows(own)
        actions = policy.climb(batch.observations, q_goals, climb_key)
        loss, metrics = ddpg_bc(q(actions, q_goals), -behaviour, alpha=self.alpha)
        acted = actions if self.goals == "paired" else policy.mode(batch.observations, own)
        return loss, metrics | {"actor/mse": jnp.mean(jnp.square(acted - batch.actions))}


@dataclass(frozen=True)
class AWR(Extraction):
    """Clone what did better than expected.

    Attributes:
        inverse_temperature: β.
    """

    inverse_temperature: float

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        key: PRNGKey,
        q: Value,
        advantages: Callable[[Any], Float[Array, " batch"]],
    ) -> Loss:
        own = batch["goal/policy"].goals
        behaviour = policy.behaviour_loss(batch.observations, own, batch.actions, key, batch.done)
        return advantage_weighted(
            -behaviour, advantages(own), inverse_temperature=self.inverse_temperature
        )


@dataclass(frozen=True)
class BestOfN(Extraction):
    """Clone, and act by what q likes most of some of the clone's actions (SHARSA's rejection
    sampling, arXiv 2506.04168).

    Attributes:
        candidates: N.
    """

    candidates: int

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        key: PRNGKey,
        q: Value,
        advantages: Callable[[Any], Float[Array, " batch"]],
    ) -> Loss:
        own = batch["goal/policy"].goals
        behaviour = policy.behaviour_loss(batch.observations, own, batch.actions, key, batch.done)
        return behaviour_cloning(-behaviour)

    def act(
        self,
        policy: Policy,
        observations: Arrays,
        goals: Arrays,
        key: PRNGKey,
        temperature: Scalar,
        q: Value,
    ) -> Array:
        """At temperature 0 the candidates are drawn by the same noise at each call."""
        key = jnp.where(jnp.asarray(temperature) > 0, key, jax.random.key(0))
        # Without temperature the candidates still need one, and it is the policy's own.
        scale = jnp.where(jnp.asarray(temperature) > 0, temperature, 1.0)

        def candidate(key: PRNGKey) -> tuple[Array, Array]:
            actions = policy.sample(observations, goals, key, scale)
            return actions, q(actions, goals)

        actions, values = jax.vmap(candidate)(jax.random.split(key, self.candidates))
        best = jnp.argmax(values, axis=0)
        return actions[best, jnp.arange(len(best))]
