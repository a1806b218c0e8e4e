"""MRN, the metric residual network: a maximum of differences plus a Euclidean norm, by groups."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def mrn(
    x: Float[Array, "*#batch latent"], y: Float[Array, "*#batch latent"], groups: int = 8
) -> Float[Array, "*batch"]:
    """The distance from each `x` to its `y`, `(*batch,)`; leading axes broadcast.

    The latent axis is cut into `groups` equal groups, each half asymmetric, half symmetric:

        d(x, y) = 1/√D · mean over groups of [ max(0, max_m x_m − y_m) + ‖x − y‖₂ ]

    Types narrower than float32 are computed and returned in float32. The gradient is finite
    everywhere and zero at `x = y`. Raises `ValueError` where the latent axes differ or do not
    divide into groups of even size, or the leading axes do not broadcast.

    Source: Liu et al. 2023 (MRN); the halves and the scale as in MQE (Eq. 4 and its release).
    """
    check_broadcast(x.shape, y.shape)
    check_groups(x.shape[-1], groups)
    dtype = distance_dtype(x, y)
    difference = x.astype(dtype) - y.astype(dtype)
    halves = difference.reshape(*difference.shape[:-1], groups, 2, -1)
    asymmetric = jax.nn.relu(halves[..., 0, :].max(axis=-1))
    symmetric = safe_sqrt(jnp.square(halves[..., 1, :]).sum(axis=-1))
    return (asymmetric + symmetric).mean(axis=-1) / math.sqrt(x.shape[-1])


@jax.custom_jvp
def safe_sqrt(squared: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The square root, with gradient zero (not infinite) at zero."""
    return jnp.sqrt(squared)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = safe_sqrt(*primals)
    zero = root == 0
    return root, jnp.where(zero, 0, 0.5 / jnp.where(zero, 1, root)) * tangents[0]


def distance_dtype(x: Array, y: Array) -> jnp.dtype:
    """The type distances are computed in: that of the inputs, and at least float32."""
    return jnp.promote_types(jnp.result_type(x, y), jnp.float32)


def check_broadcast(x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless the shapes share their latent axis and broadcast before it."""
    if not x_shape or not y_shape or x_shape[-1] != y_shape[-1]:
        raise ValueError(f"x and y need one latent size as their last axis: {x_shape}, {y_shape}.")
    try:
        jnp.broadcast_shapes(x_shape, y_shape)
    except ValueError:
        raise ValueError(
            f"The leading axes of x and y do not broadcast: {x_shape}, {y_shape}."
        ) from None


def check_groups(latent: int, groups: int) -> None:
    """Raise `ValueError` unless `latent` splits into `groups` groups of two equal halves."""
    if groups < 1 or latent < 1 or latent % (2 * groups):
        raise ValueError(
            f"A latent size of {latent} does not divide into {groups} groups of even size; "
            f"choose a multiple of {2 * max(groups, 1)}."
        )
