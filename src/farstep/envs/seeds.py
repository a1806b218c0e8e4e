"""Random streams for processes that do not import JAX."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, name: str, *indices: int) -> np.random.Generator:
    """The generator that `farstep.core.rng.stream_generator` gives, without that module's JAX.

    Simulator processes start several times faster for it.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *indices])
