"""Policy objectives shared by the agents that extract a policy from a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from farstep.core.types import Batch, Metrics

PolicyLoss = Literal["ddpg-bc", "awr"]
"""How a policy is extracted: up the critic's gradient, or by advantage-weighted cloning."""

PolicyGoals = Literal["cross", "paired"]
"""Goals of a policy's q term: those of other rows of the batch, or each row's own."""


def behaviour_cloning(
    log_probs: Float[Array, " batch"],
) -> tuple[Float[Array, ""], Metrics]:
    """`−mean log π(a|s,g)`: the whole of GCBC, and the anchor of DDPG+BC."""
    loss = -jnp.mean(log_probs)
    return loss, {"actor/bc_loss": loss}


def ddpg_bc(
    q_values: Float[Array, " batch"], log_probs: Float[Array, " batch"], *, alpha: float
) -> tuple[Float[Array, ""], Metrics]:
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


def policy_improvement(
    actor: Callable[[Array, Array], Any],
    q: Callable[[Array, Array], Float[Array, " batch"]],
    batch: Batch,
    *,
    alpha: float,
    goals: PolicyGoals,
) -> tuple[Float[Array, ""], Metrics]:
    """DDPG+BC of a policy on a critic: raise q of its own actions, stay near the logged ones.

    Cloning is always towards the row's own goal, which the logged action led to.

    Args:
        actor: from observations and goals to a distribution.
        q: from actions and goals to each row's value; its critic's parameters must be fixed.
        goals: what the q term aims at.
    """
    own = batch["goal/policy"].goals
    behaviour = actor(batch.observations, own)
    if goals == "paired":
        q_goals, policy = own, behaviour
    else:
        q_goals = of_other_rows(own)
        policy = actor(batch.observations, q_goals)
    log_probs = behaviour.log_prob(batch.actions)
    loss, metrics = ddpg_bc(q(policy.mode, q_goals), log_probs, alpha=alpha)
    metrics["actor/mse"] = jnp.mean(jnp.square(behaviour.mean - batch.actions))
    return loss, metrics


def of_other_rows(array: Real[Array, "batch *each"]) -> Real[Array, "batch *each"]:
    """Each row's neighbour's: rows are independent draws, so it is any other row's."""
    return jnp.roll(array, 1, axis=0)


def advantage_weighted(
    log_probs: Float[Array, " batch"],
    advantages: Float[Array, " batch"],
    *,
    inverse_temperature: float,
    ceiling: float = 100.0,
) -> tuple[Float[Array, ""], Metrics]:
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
