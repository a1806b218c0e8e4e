"""Seeds and generators for processes that do without JAX, whose import takes long."""

from __future__ import annotations

import operator
import zlib
from typing import SupportsIndex

import numpy as np

from farstep.core.errors import FarstepError

SEEDS = 2**32
"""Seeds are below this: a JAX key holds 32 bits of a seed, and larger ones would repeat others."""


def check_seed(seed: SupportsIndex, name: str = "seed") -> int:
    """`seed` as a Python integer.

    Args:
        name: name of the seed in the message.

    Raises:
        FarstepError: it is not in [0, 2³²).
    """
    number = operator.index(seed)
    if not 0 <= number < SEEDS:
        raise FarstepError(f"{name} must be at least 0 and below 2³² = {SEEDS}, not {number}.")
    return number


def stream(seed: int, name: str, *indices: int) -> np.random.Generator:
    """A NumPy generator for the random stream `name`, told apart by `indices`."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *indices])
