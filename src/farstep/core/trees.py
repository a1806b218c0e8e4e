"""Pytrees in other forms: as named arrays for files, and flattened for calls of programs."""

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
class FlatTree:
    """A pytree that is flattened once, for many calls of compiled programs.

    Each call flattens its arguments. For networks that can take longer than a small batch.
    """

    leaves: tuple[Any, ...]
    structure: Any

    @classmethod
    def flatten(cls, tree: Any) -> FlatTree:
        """The leaves and the structure of `tree`."""
        leaves, structure = jax.tree.flatten(tree)
        return cls(tuple(leaves), structure)

    @property
    def tree(self) -> Any:
        """The tree again."""
        return jax.tree.unflatten(self.structure, self.leaves)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as the tree, since JAX's structures cannot be."""
        return FlatTree.flatten, (self.tree,)


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
