"""Pytrees in other forms: named arrays for files, and packed for calls of compiled programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from farstep.core.errors import FarstepError


@partial(jax.tree_util.register_dataclass, data_fields=["leaves"], meta_fields=["structure"])
@dataclass(frozen=True)
class Packed:
    """A pytree taken apart once, for programs that are called with it again and again.

    Each call flattens its arguments, and for networks that can take longer than a small batch.

    Attributes:
        leaves: its arrays.
        structure: what puts them together.
    """

    leaves: tuple[Any, ...]
    structure: Any

    @classmethod
    def of(cls, tree: Any) -> Packed:
        """`tree`, taken apart."""
        leaves, structure = jax.tree.flatten(tree)
        return cls(tuple(leaves), structure)

    @property
    def tree(self) -> Any:
        """What was packed."""
        return jax.tree.unflatten(self.structure, self.leaves)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and sent to other processes as the tree: JAX's structures cannot be."""
        return Packed.of, (self.tree,)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by their path, such as `critic.state.layers.0.kernel`."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def from_named(skeleton: Any, named: Mapping[str, Any], *, where: str) -> Any:
    """The tree shaped like `skeleton` (arrays or `ShapeDtypeStruct`s) with leaves from `named`.

    Args:
        where: the file that `named` came from, for messages.

    Raises:
        FarstepError: a leaf is missing, unexpected, or of another shape or dtype; it is named.
    """
    expected = named_leaves(skeleton)
    for problem, names in (
        ("lacks", expected.keys() - named.keys()),
        ("holds unexpected", named.keys() - expected.keys()),
    ):
        if names:
            raise FarstepError(f"{where} {problem} {', '.join(sorted(names))}.")
    for name, leaf in expected.items():
        found = named[name]
        if found.shape != leaf.shape or np.dtype(found.dtype) != np.dtype(leaf.dtype):
            raise FarstepError(
                f"{where}: {name} is {found.dtype}{list(found.shape)}, "
                f"but {leaf.dtype}{list(leaf.shape)} is expected."
            )
    return jax.tree_util.tree_unflatten(
        jax.tree_util.tree_structure(skeleton), [named[name] for name in expected]
    )
