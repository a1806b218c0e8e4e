"""Contrastive losses, which match the goals of a batch to its rows."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.core.types import Loss, Metrics

Logits = Float[Array, "members batch batch"]
"""f_ij of row i with the goal of row j; those on the diagonal belong together."""


def products(
    x: Float[Array, "members batch latent"], y: Float[Array, "members batch latent"]
) -> Float[Array, "members batch"]:
    """`xᵀy/√D` of each row with its own."""
    return jnp.sum(x * y, axis=-1) / math.sqrt(x.shape[-1])


def all_products(
    x: Float[Array, "members batch latent"], y: Float[Array, "members batch latent"]
) -> Float[Array, "members batch batch"]:
    """`xᵀy/√D` of each row with every other."""
    return jnp.einsum("eid,ejd->eij", x, y) / math.sqrt(x.shape[-1])


def binary_nce(logits: Logits) -> Loss:
    """Every pair classified by itself (Ma & Collins 2018): `f → log p(g|s,a)/p(g)`.

    The logits of the optimum also hold the odds of a pair, −log(B − 1).
    """
    own = jnp.eye(logits.shape[-1])
    loss = jnp.mean(jax.nn.softplus(logits) - own * logits)
    return loss, _described(logits, loss)


def info_nce(logits: Logits, *, axes: tuple[int, ...]) -> Loss:
    """Cross-entropy of the diagonal, summed over `axes`: −2 picks a row for each goal, −1 a goal
    for each row (van den Oord et al. 2018).
    """
    losses = [
        -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits, axis=axis), axis1=-2, axis2=-1))
        for axis in axes
    ]
    loss = jnp.sum(jnp.stack(losses))
    return loss, _described(logits, loss)


def _described(logits: Logits, loss: Float[Array, ""]) -> Metrics:
    own = jnp.diagonal(logits, axis1=-2, axis2=-1)
    rows = logits.shape[-1]
    return {
        "contrastive/loss": loss,
        "contrastive/own": jnp.mean(own),
        "contrastive/others": (jnp.sum(logits) - jnp.sum(own)) / (len(logits) * rows * (rows - 1)),
        "contrastive/accuracy": jnp.mean(jnp.argmax(logits, axis=-1) == jnp.arange(rows)),
    }
