"""Standardised observations, and actions scaled to [−1, 1].

The statistics stay beside the networks that were trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from farstep.core.arrays import part
from farstep.core.goals import GoalRule
from farstep.core.types import Space, Spaces
from farstep.data.table import Table

CONSTANT = 1e-6
"""Of a column's greatest magnitude, the deviation below which it is constant: float32 holds no
more than a few steps within it."""

MOST_DEVIATIONS = 10.0
"""Standardised observations are clipped to this on both sides, so that a column that hardly varied
in the data cannot drown all others later."""

_OUTLIER = 20.0
"""Deviations that the bounds of an action may lie apart before a few outliers are suspected."""


def _nothing() -> np.ndarray:
    return np.zeros(0, np.float32)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Normalization:
    """`(x − mean) / std` per dimension of vectors, and actions from their bounds to [−1, 1].

    Images pass through untouched, with empty statistics: their encoder scales them. Of an
    observation of several arrays, D counts the dimensions of its vectors, one after the other.

    Attributes:
        mean: (D,), or (0,) for images.
        std: (D,) positive, or (0,) for images.
        action_low: (A,) what −1 stands for, or (0,) where actions are not scaled.
        action_high: (A,) what 1 stands for, or (0,).
    """

    mean: np.ndarray
    std: np.ndarray
    action_low: np.ndarray = field(default_factory=_nothing)
    action_high: np.ndarray = field(default_factory=_nothing)

    @classmethod
    def identity(cls, spaces: Spaces) -> Normalization:
        """Leaves vectors and actions as they are."""
        vectors = _vectors(spaces)
        size = sum(space.shape[-1] for space in vectors.values())
        return cls(np.zeros(size, np.float32), np.ones(size, np.float32))

    @classmethod
    def from_table(cls, table: Table, *, observations: bool = True) -> Normalization:
        """By the table's manifest; columns that are constant are only centred.

        Args:
            observations: standardise vectors; actions are scaled in any case if the manifest has
                bounds for them.
        """
        mean, std = cls.identity(table.spaces).mean, cls.identity(table.spaces).std
        if observations and mean.size:
            mean, std, low, high = _statistics(table)
            magnitude = np.maximum(np.abs(low), np.abs(high))
            mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
            std = np.where(std <= CONSTANT * magnitude, np.float32(1), std)
        low, high = table.manifest.action_bounds or ((), ())
        return cls(mean, std, np.asarray(low, np.float32), np.asarray(high, np.float32))

    @cached_property
    def is_identity(self) -> bool:
        """Whether observations pass through unchanged."""
        return not self.mean.any() and bool((self.std == 1).all())

    def apply(self, observations: np.ndarray) -> Any:
        """Raw observations (…, D) to what the networks see; of several arrays a dict.

        They may be stacked frames (…, frames · D).
        """
        names = observations.dtype.names
        if names is None:
            return self._standard(observations, slice(None))
        wide = sum(observations.dtype[n].shape[0] for n in names if _is_vector(observations, n))
        frames = wide // max(self.mean.size, 1)
        seen, end = {}, 0
        for name in names:
            seen[name] = np.ascontiguousarray(observations[name])
            if _is_vector(observations, name):
                begin, end = end, end + seen[name].shape[-1] // frames
                seen[name] = self._standard(seen[name], slice(begin, end))
        return seen

    def _standard(self, vectors: np.ndarray, part: slice) -> np.ndarray:
        if self.is_identity:
            return vectors
        frames = vectors.shape[-1] // self.mean[part].size
        mean, std = np.tile(self.mean[part], frames), np.tile(self.std[part], frames)
        standard = (vectors - mean) / std
        return np.clip(standard, -MOST_DEVIATIONS, MOST_DEVIATIONS, out=standard)

    def apply_goals(self, goals: np.ndarray, rule: GoalRule) -> Any:
        """Raw goals (…, G) to what the networks see: columns as those of observations.

        A function's goals pass untouched, and so does an array that is the goal by its key.
        """
        if rule.whole:
            return self.apply(goals)
        if not rule.columns or self.is_identity:
            return goals
        columns = list(rule.columns)
        return Normalization(self.mean[columns], self.std[columns]).apply(goals)

    def scale_actions(self, actions: np.ndarray) -> np.ndarray:
        """Actions (…, A) in the user's units to [−1, 1]."""
        if not self.action_low.size:
            return actions
        half = self._half_range
        return (actions - self._middle) / np.where(half > 0, half, np.float32(1))

    def unscale_actions(self, actions: np.ndarray) -> np.ndarray:
        """Actions (…, A) in [−1, 1] to the user's units."""
        return actions * self._half_range + self._middle if self.action_low.size else actions

    @property
    def _middle(self) -> np.ndarray:
        return (self.action_low + self.action_high) / 2

    @property
    def _half_range(self) -> np.ndarray:
        return (self.action_high - self.action_low) / 2


def _is_vector(rows: np.ndarray, name: str) -> bool:
    return len(rows.dtype[name].shape) == 1


def _vectors(spaces: Spaces) -> dict[str, Space]:
    """The vectors of an observation by name, or the one vector under an empty name."""
    arrays = spaces.observation.arrays
    return {name: space for name, space in arrays.items() if space.kind == "vector"}


def _statistics(table: Table) -> list[np.ndarray]:
    """Mean, deviation, least and greatest of all dimensions of an observation's vectors."""
    each = [table.manifest.statistics[part("observations", key)] for key in _vectors(table.spaces)]
    return [
        np.concatenate([getattr(one, name) for one in each])
        for name in ("mean", "std", "min", "max")
    ]


def report(table: Table, normalization: Normalization) -> list[str]:
    """Notes on the normalisation for the user, a line each."""
    lines = []
    if normalization.mean.size:
        lines += _observation_lines(table, normalization)
    if normalization.action_low.size:
        lines += _action_lines(table, normalization)
    return lines


def _observation_lines(table: Table, normalization: Normalization) -> list[str]:
    mean, std, low, high = _statistics(table)
    constant = std <= CONSTANT * np.maximum(np.abs(low), np.abs(high))
    varying = std[~constant]
    if not varying.size:
        return ["Observations never change: there is nothing to learn from."]
    spread = f"deviations from {varying.min():.3g} to {varying.max():.3g}"
    if normalization.is_identity:
        if varying.max() < 1000 * varying.min() and np.maximum(-low, high).max() < 1000:
            return []
        return [
            f"Observations are large or uneven, with {spread}, up to"
            f" {np.maximum(-low, high).max():.3g}: --normalize standardises them."
        ]
    lines = [f"Observations are standardised: {len(std)} columns, {spread}."]
    if constant.any():
        lines.append(f"Constant, so only centred: columns {_listed(np.flatnonzero(constant))}.")
    most = np.maximum(mean - low, high - mean) / np.where(constant, np.inf, std)
    far = np.flatnonzero(most > MOST_DEVIATIONS)
    if far.size:
        lines.append(
            f"Clipped at {MOST_DEVIATIONS:g} deviations: columns {_listed(far)}, which reach"
            f" {most.max():,.0f}. A sensor's spike or a column that hardly varies is usual there."
        )
    return lines


def _action_lines(table: Table, normalization: Normalization) -> list[str]:
    low, high = normalization.action_low, normalization.action_high
    lines = [
        f"Actions are scaled to [-1, 1] from their bounds in the data, {low.min():.4g} to"
        f" {high.max():.4g}; the policy acts in the data's units."
    ]
    std = np.asarray(table.manifest.statistics["actions"].std)
    wide = np.flatnonzero(high - low > _OUTLIER * std)
    if wide.size:
        lines.append(
            f"A few outliers set the bounds of action dimensions {_listed(wide)}: clip them in the"
            " data, and import again."
        )
    return lines


def _listed(columns: np.ndarray) -> str:
    some = ", ".join(map(str, columns[:8].tolist()))
    return some + (f" and {columns.size - 8} more" if columns.size > 8 else "")
