"""The distances in float64 NumPy, written from their definitions, one pair at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np


def mrn_reference(x: np.ndarray, y: np.ndarray, groups: int) -> float:
    difference = x.astype(np.float64) - y.astype(np.float64)
    total = 0.0
    for group in np.split(difference, groups):
        asymmetric, symmetric = np.split(group, 2)
        total += max(0.0, asymmetric.max()) + math.sqrt((symmetric**2).sum())
    return total / groups / math.sqrt(len(x))


def iqe_reference(x: np.ndarray, y: np.ndarray, raw_alpha: float, groups: int) -> float:
    lengths = [
        _union_length(left, right)
        for left, right in zip(
            np.split(x.astype(np.float64), groups),
            np.split(y.astype(np.float64), groups),
            strict=True,
        )
    ]
    alpha = 1 / (1 + math.exp(-raw_alpha))
    return alpha * float(np.mean(lengths)) + (1 - alpha) * max(lengths)


def _union_length(left: np.ndarray, right: np.ndarray) -> float:
    """Between two neighbouring ends lies a stretch that some interval covers, or none."""
    ends = np.sort(np.concatenate([left, right]))
    return sum(
        stop - start
        for start, stop in itertools.pairwise(ends)
        if ((left <= start) & (stop <= right)).any()
    )


def all_pairs(distance, x: np.ndarray, y: np.ndarray, *args) -> np.ndarray:
    """`(rows, latent), (columns, latent) -> (rows, columns)`."""
    return np.array([[distance(a, b, *args) for b in y] for a in x])
