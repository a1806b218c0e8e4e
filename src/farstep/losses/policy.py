"""Policy objectives shared by the agents that extract a policy from a value."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.core.types import Metrics


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
