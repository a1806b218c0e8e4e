"""Randomness as a function of (root key, stream name, step).

No key is carried from step to step and no global generator is touched, so a resumed run draws
exactly what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import zlib

import jax
import numpy as np
from jaxtyping import Array, Int, Integer, Key

from farstep.core import seeds
from farstep.core.seeds import check_seed

PRNGKey = Key[Array, ""]
"""A single key of `jax.random`."""


def root_key(seed: int | Integer[Array, ""]) -> PRNGKey:
    """The root of every random stream of one run.

    Raises:
        FarstepError: the seed is not in [0, 2³²). A traced one has been checked by its caller.
    """
    return jax.random.key(np.uint32(check_seed(seed)) if isinstance(seed, int) else seed)


def stream_key(root: PRNGKey, stream: str, step: int | Int[Array, ""]) -> PRNGKey:
    """The key of `stream`, such as "batch" or "actor", at `step`."""
    return jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(stream.encode())), step)


def stream_generator(seed: int, stream: str, *indices: int) -> np.random.Generator:
    """A NumPy generator for a host-side `stream`, told apart by `indices` (task, episode …)."""
    return seeds.stream(check_seed(seed), stream, *indices)
