"""How far a distance is from being a quasimetric, measured on a matrix of all its pairs."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class AxiomViolations(NamedTuple):
    """The worst violation of each axiom, in units of the distance; 0 where it holds."""

    non_negativity: Float[Array, ""]
    identity: Float[Array, ""]
    triangle: Float[Array, ""]


def axiom_violations(distances: Float[Array, "*ensemble points points"]) -> AxiomViolations:
    """The worst violations among one set of points, from `distances[i, j] = d(x_i, x_j)`.

    Works on any learned distance: evaluate it on all pairs of the points first.
    """
    return AxiomViolations(
        negativity(distances), self_distance(distances), triangle_excess(distances)
    )


def negativity(distances: Float[Array, "*shape"]) -> Float[Array, ""]:
    """How far below zero the distances go: violates d(x, y) ≥ 0."""
    return jax.nn.relu(-distances).max()


def self_distance(distances: Float[Array, "*ensemble points points"]) -> Float[Array, ""]:
    """The largest distance, by magnitude, from a point to itself: violates d(x, x) = 0."""
    return jnp.abs(jnp.diagonal(distances, axis1=-2, axis2=-1)).max()


def triangle_excess(distances: Float[Array, "*ensemble points points"]) -> Float[Array, ""]:
    """How much a detour saves at most: violates d(x, z) ≤ d(x, y) + d(y, z)."""

    def relax(y: Array, shortest: Array) -> Array:
        detour = distances[..., :, y, None] + distances[..., y, None, :]
        return jnp.minimum(shortest, detour)

    # One detour point at a time: all at once would be an array of points³.
    shortest = jax.lax.fori_loop(0, distances.shape[-1], relax, distances)
    return (distances - shortest).max()
