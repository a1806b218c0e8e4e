"""Slowly moving copies of networks: targets that a loss regresses onto, averages that act."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

from farstep.core.types import Scalar

Network = TypeVar("Network")


def copy_of(network: Network) -> Network:
    """Equal parameters in memory of their own: the target network before the first update."""
    return jax.tree.map(jnp.copy, network)


def polyak(target: Network, network: Network, rate: Scalar) -> Network:
    """`(1 − τ)·target + τ·network`, parameter by parameter."""
    return jax.tree.map(lambda slow, fast: (1 - rate) * slow + rate * fast, target, network)
