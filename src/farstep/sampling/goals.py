"""Index laws for goals: which step of the table is a row's goal.

Indices run over the flat table; every law is capped by the end of the row's own episode, except
that of random goals.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from farstep.core.types import GoalSpec

Indices = Int[Array, " batch"]


def geometric_offsets(key: Key[Array, ""], discount: float, shape: tuple[int, ...]) -> Indices:
    """K ~ Geom(1 − discount) on {1, 2, …}: P(K > k) = discount^k."""
    if discount == 0:
        return jnp.ones(shape, jnp.int32)
    uniform = jax.random.uniform(key, shape, minval=jnp.finfo(jnp.float32).tiny)
    return 1 + jnp.floor(jnp.log(uniform) / jnp.log(discount)).astype(jnp.int32)


def uniform_future_offsets(key: Key[Array, ""], steps_left: Indices) -> Indices:
    """Offset of index `round(u·min(i+1, end) + (1−u)·end)`.

    Worked out relative to i, because a float32 cannot hold the index of a long table.
    """
    nearest = jnp.minimum(1, steps_left)
    uniform = jax.random.uniform(key, steps_left.shape)
    return nearest + jnp.round(uniform * (steps_left - nearest)).astype(jnp.int32)


def goal_indices(
    key: Key[Array, ""],
    spec: GoalSpec,
    indices: Indices,
    episode_ends: Indices,
    random_indices: Indices,
) -> tuple[Indices, Indices]:
    """Goals of a row by the mixture `spec`.

    Args:
        indices: the rows' own steps i.
        episode_ends: last step of each row's episode.
        random_indices: uniformly drawn valid steps, one a row.

    Returns:
        The goals' indices and their offsets from i; −1 where the goal is a random step, unless
        the random step is i itself.
    """
    law_key, choice_key = jax.random.split(key)
    steps_left = episode_ends - indices
    if spec.law == "geometric":
        drawn = geometric_offsets(law_key, spec.discount, indices.shape)
        future = jnp.minimum(drawn, steps_left)
    else:
        future = uniform_future_offsets(law_key, steps_left)

    if spec.future == 1.0:
        return indices + future, future
    choice = jax.random.uniform(choice_key, indices.shape)
    is_current = choice < spec.current
    is_random = choice >= spec.current + spec.future
    random_offsets = jnp.where(random_indices == indices, 0, -1)
    offsets = jnp.where(is_random, random_offsets, jnp.where(is_current, 0, future))
    return jnp.where(is_random, random_indices, indices + offsets), offsets
