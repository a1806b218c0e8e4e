"""Products in a narrower type, with weights kept in full."""

from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array

Precision = Literal["float32", "bfloat16"]


class Product(eqx.Module):
    """A layer that multiplies by a kernel, in the kernel's type."""

    kernel: eqx.AbstractVar[Array]


def kernels_in(networks: Any, precision: Precision) -> Any:
    """The networks with the kernel of every `Product` rounded to `precision`.

    A layer computes its product in its kernel's type, forward and backward, and adds its bias in
    the bias's own. A gradient taken through this function reaches the kernels in full, so that
    small updates are not rounded away (mixed precision, Micikevicius et al. 2018).
    """

    def rounded(node: Any) -> Any:
        if not _is_product(node):
            return node
        return eqx.tree_at(lambda layer: layer.kernel, node, node.kernel.astype(precision))

    return jax.tree.map(rounded, networks, is_leaf=_is_product)


def _is_product(node: Any) -> bool:
    return isinstance(node, Product)
