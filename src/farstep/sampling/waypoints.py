"""Waypoint laws of MQE (arXiv 2511.07730, Eq. 8, and the alternatives of Table 1b)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from farstep.core.types import WaypointSpec
from farstep.sampling.goals import geometric_offsets

FIXED_HORIZON = 50


def waypoint_offsets(
    key: Key[Array, ""], spec: WaypointSpec, goal_offsets: Int[Array, " batch"]
) -> Int[Array, " batch"]:
    """Steps from each row to its waypoint, at most the offset k_g ≥ 1 of its goal."""
    law_key, choice_key = jax.random.split(key)
    shape = goal_offsets.shape
    match spec.law:
        case "mixture":
            multistep = geometric_offsets(law_key, spec.lambda_, shape)
            one_step = jax.random.uniform(choice_key, shape) < spec.one_step
            drawn = jnp.where(one_step, 1, multistep)
        case "geometric":
            drawn = geometric_offsets(law_key, spec.lambda_, shape)
        case "uniform":
            drawn = jax.random.randint(law_key, shape, 1, goal_offsets + 1)
        case "uniform-50":
            drawn = jax.random.randint(law_key, shape, 1, FIXED_HORIZON + 1)
        case "constant-50":
            drawn = jnp.full(shape, FIXED_HORIZON, jnp.int32)
        case "constant-1":
            drawn = jnp.ones(shape, jnp.int32)
    return jnp.minimum(drawn, goal_offsets)
