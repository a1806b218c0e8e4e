"""The multistep backup of MQE as a clipped LINEX regression (arXiv 2511.07730, Eq. 10-12)."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from farstep.core.types import Loss


def multistep_backup(
    distances: Float[Array, "members batch batch"],
    targets: Float[Array, "members batch batch"],
    steps: Float[Array, " batch"],
    *,
    discount: float,
    clip: float = 5.0,
    diagonal_weight: float = 0.5,
    chunk: int = 1,
) -> Loss:
    """Pull D_ij = d(φ(s_i,a_i), ψ(g_j)) towards T_ij = d(ψ(w_i), ψ(g_j)) plus the k_i steps to w_i.

    With δ = D − T, an entry costs γ^k·exp(δ) − D up to δ = `clip` and δ beyond. Its gradient in D,
    exp(δ + k·log γ) − 1, vanishes where D = T − k·log γ. (Eq. 10 prints exp(d − d') − d', whose
    gradient in d never vanishes; this is the form that the paper's argument needs.)

    Args:
        distances: D in nats.
        targets: T in nats; no gradient flows into it from here, so pass it stopped.
        steps: k, environment steps from s_i to its waypoint.
        discount: γ.
        clip: t, the residual in nats after which the cost is linear.
        diagonal_weight: w, the share of the row's own goal against all pairs.
        chunk: h, actions in each a_i. A waypoint nearer than that is the row's own goal, and tells
            nothing of other goals, which the rest of the chunk may lead away from.

    Returns:
        The loss, and its excess over the value at the stationary point: zero exactly when the
        backup is satisfied, so that a curve can be read without knowing the constant.
    """
    log_discount = math.log(discount) * steps[:, None]
    residuals = distances - targets
    costs = jnp.where(
        residuals <= clip,
        jnp.exp(jnp.minimum(residuals, clip) + log_discount) - distances,
        residuals,
    )
    counted = None
    if chunk > 1:
        counted = (steps >= chunk)[:, None] | jnp.eye(len(steps), dtype=bool)
    loss = _weighted_mean(costs, diagonal_weight, counted)

    satisfied = jnp.minimum(-log_discount, clip)
    least = jnp.exp(satisfied + log_discount) - satisfied - targets
    floor = _weighted_mean(least, diagonal_weight, counted)
    return loss, {
        "backup/loss": loss,
        "backup/excess": loss - floor,
        "backup/clipped": jnp.mean(residuals > clip),
        "backup/distance": jnp.mean(distances),
        "backup/distance_own": jnp.mean(jnp.diagonal(distances, axis1=-2, axis2=-1)),
    }


def _weighted_mean(
    costs: Float[Array, "members batch batch"],
    diagonal_weight: float,
    counted: Bool[Array, "batch batch"] | None,
) -> Float[Array, ""]:
    own = jnp.mean(jnp.diagonal(costs, axis1=-2, axis2=-1))
    where = None if counted is None else counted[None]
    return (1 - diagonal_weight) * jnp.mean(costs, where=where) + diagonal_weight * own


def at_goals(
    targets: Float[Array, "members batch batch"], reached: Bool[Array, " batch"]
) -> Float[Array, "members batch batch"]:
    """The backup's targets T_ij, with T_ii = 0 in rows whose waypoint is their own goal's state.

    Where goals are no states, d(ψ(s), ψ_g(g)) = 0 at the state that g was made of holds only if
    this says so; without it nothing would anchor ψ_g.
    """
    own = jnp.eye(targets.shape[-1], dtype=bool) & reached[:, None]
    return jnp.where(own, 0, targets)
