"""Products in a narrower type, with weights kept in full."""

from __future__ import annotations

from typing import Any, Literal

import jax
from jaxtyping import Array

Precision = Literal["float32", "bfloat16"]


def kernels_in(networks: Any, precision: Precision) -> Any:
    """The networks with every layer's kernel rounded to `precision`.

    A layer computes its product in its kernel's type, forward and backward, and adds its bias in
    the bias's own. A gradient taken through this function reaches the kernels in full, so that
    small updates are not rounded away (mixed precision, Micikevicius et al. 2018).
    """

    def rounded(path: tuple[Any, ...], leaf: Array) -> Array:
        return leaf.astype(precision) if _is_kernel(path) else leaf

    return jax.tree_util.tree_map_with_path(rounded, networks)


def _is_kernel(path: tuple[Any, ...]) -> bool:
    return bool(path) and getattr(path[-1], "name", None) == "kernel"
