"""Action invariance of MQE: d(ψ(s), φ(s, a)) = 0."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.core.types import Loss


def action_invariance(distances: Float[Array, "members batch"]) -> Loss:
    """`mean (exp(−d(ψ(s), φ(s, a))) − 1)²` (arXiv 2511.07730, Eq. 14).

    Args:
        distances: d(ψ(s_i), φ(s_i, a_j)) in nats. The paper's double sum pairs every state with
            every action of the batch, and its released code with the logged one alone. The state
            stays the same: a sum over φ(s_j, a_j) would draw all states together.
    """
    # Not expm1: its derivative is rounded to 0 at distances where exp(−d) still pulls.
    loss = jnp.mean(jnp.square(jnp.exp(-distances) - 1))
    return loss, {"invariance/loss": loss, "invariance/distance": jnp.mean(distances)}


def goal_anchor(distances: Float[Array, "members batch"]) -> Loss:
    """`mean (exp(−d(ψ(s), ψ_g(g(s)))) − 1)²`: a state lies at the goal that it is.

    Where goals are observations this holds by the quasimetric. Where they have an embedding of
    their own it must be said, in the form of action invariance.
    """
    loss = jnp.mean(jnp.square(jnp.exp(-distances) - 1))
    return loss, {"goal/anchor_loss": loss, "goal/distance_at_goal": jnp.mean(distances)}
