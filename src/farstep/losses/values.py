"""Goal-reaching values: −1 a step until the goal, and what they say about steps."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from farstep.core.types import Loss

SMALLEST = 1e-6
"""Lower bound on 1 + (1 − γ)·V under its logarithm: farther goals are 13.8 nats away."""


def goal_backup(
    next_values: Float[Array, "*members batch"],
    at_goal: Bool[Array, " batch"],
    discount: float,
    steps: int | Int[Array, " batch"] = 1,
) -> Float[Array, "*members batch"]:
    """`r + γ·mask·V(s', g)`: 0 at the goal, where the episode ends, and −1 + γ·V elsewhere.

    From k steps on it is −(1 − γ^k)/(1 − γ) + γ^k·V.
    """
    kept = discount**steps
    return jnp.where(at_goal, 0.0, kept * next_values - (1 - kept) / (1 - discount))


def over_rows(
    values: Float[Array, "*members batch"], counted: Bool[Array, " batch"] | None
) -> Float[Array, "*members"]:
    """The mean over the rows that are counted; None counts all."""
    if counted is None:
        return jnp.mean(values, axis=-1)
    return jnp.sum(values * counted, axis=-1) / jnp.maximum(jnp.sum(counted), 1)


def expectile_loss(
    advantages: Float[Array, "*#members batch"],
    residuals: Float[Array, "*members batch"],
    expectile: float,
) -> Float[Array, "*members batch"]:
    """`|κ − 1[A < 0]|·residual²` (Kostrikov et al. 2022, Eq. 5), the sign being the advantage's."""
    return jnp.where(advantages >= 0, expectile, 1 - expectile) * jnp.square(residuals)


def implicit_value(
    values: Float[Array, "members batch"],
    target_values: Float[Array, "members batch"],
    target_next_values: Float[Array, "members batch"],
    at_goal: Bool[Array, " batch"],
    *,
    discount: float,
    expectile: float,
) -> Loss:
    """Expectile regression of each V(s, g) onto its target's `r + γ·mask·V̄(s', g)` (HIQL, Eq. 4).

    Whether a row counts as better than expected is decided for all members at once: by the
    least of the backups against the mean of V̄(s, g).

    Args:
        values: V(s, g).
        target_values: V̄(s, g) of the target networks.
        target_next_values: V̄(s', g).
        at_goal: whether the goal is the row's own state.
    """
    backups = goal_backup(target_next_values, at_goal, discount)
    advantages = jnp.min(backups, axis=0) - jnp.mean(target_values, axis=0)
    loss = jnp.sum(jnp.mean(expectile_loss(advantages, backups - values, expectile), axis=-1))
    return loss, {
        "value/loss": loss,
        "value/mean": jnp.mean(values),
        "value/advantage": jnp.mean(advantages),
    }


def value_to_nats(values: Float[Array, "*batch"], discount: float) -> Float[Array, "*batch"]:
    """The d with `V = −(1 − γ^d)/(1 − γ)`, times −log γ: steps to the goal, in nats.

    A value above 0 is at the goal, and one at or below −1/(1 − γ) is 13.8 nats away.
    """
    return -jnp.log(jnp.clip(1 + (1 - discount) * values, SMALLEST, 1.0))
