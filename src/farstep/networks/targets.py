"""Target networks: slowly moving copies that a loss regresses onto."""

from __future__ import annotations

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

Network = TypeVar("Network", bound=eqx.Module)


def copy_of(network: Network) -> Network:
    """Equal parameters in memory of their own: the target network before the first update."""
    return jax.tree.map(jnp.copy, network)


def polyak(target: Network, network: Network, rate: float) -> Network:
    """`(1 − τ)·target + τ·network`, parameter by parameter."""
    return jax.tree.map(lambda slow, fast: (1 - rate) * slow + rate * fast, target, network)
