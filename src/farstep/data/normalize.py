"""Standardised observations; the statistics stay beside the networks trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from farstep.core.types import Spaces
from farstep.data.table import Table

SMALLEST_STD = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Normalization:
    """`(x − mean) / std` per observation dimension.

    Pixels pass through untouched, with empty statistics: their encoder scales them.

    Attributes:
        mean: (D,), or (0,) for pixels.
        std: (D,) positive, or (0,) for pixels.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def identity(cls, spaces: Spaces) -> Normalization:
        """Leaves vectors as they are."""
        space = spaces.observation
        size = 0 if space.kind == "image" else space.shape[-1]
        return cls(np.zeros(size, np.float32), np.ones(size, np.float32))

    @classmethod
    def of(cls, table: Table) -> Normalization:
        """By the statistics in the table's manifest; constant dimensions are only centred."""
        spaces = table.spaces
        if spaces.observation.kind == "image":
            return cls.identity(spaces)
        statistics = table.manifest.statistics["observations"]
        std = np.asarray(statistics.std, np.float32)
        return cls(
            np.asarray(statistics.mean, np.float32),
            np.where(std < SMALLEST_STD, np.float32(1), std),
        )

    @property
    def is_identity(self) -> bool:
        """Whether observations pass through unchanged."""
        return not self.mean.any() and bool((self.std == 1).all())

    def apply(self, observations: np.ndarray) -> np.ndarray:
        """Raw observations (…, D) to what the networks see."""
        if self.mean.size == 0:
            return observations
        return (observations - self.mean) / self.std

    def invert(self, observations: np.ndarray) -> np.ndarray:
        """What the networks see back to raw observations."""
        if self.mean.size == 0:
            return observations
        return observations * self.std + self.mean
