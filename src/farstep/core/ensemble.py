"""Ensembles as one module whose parameters carry a leading member axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jaxtyping import Array

from farstep.core.rng import PRNGKey

Module = TypeVar("Module")


def make_ensemble(make: Callable[[PRNGKey], Module], size: int, key: PRNGKey) -> Module:
    """`size` independent modules, every parameter stacked along a new leading axis."""
    return jax.vmap(make)(jax.random.split(key, size))


def apply_ensemble(members: Any, *inputs: Array) -> Array:
    """Each member on the same inputs: outputs gain the leading member axis."""
    return jax.vmap(lambda member: member(*inputs))(members)
