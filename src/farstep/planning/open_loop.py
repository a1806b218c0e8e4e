"""Chunks of actions carried out one action at a time."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Int

from farstep.core.errors import FarstepError
from farstep.core.types import size_of


class ChunkPolicy(Protocol):
    """A policy that gives several actions at once."""

    @property
    def action_chunk(self) -> int:
        """How many."""
        ...

    def chunk(
        self,
        observations: np.ndarray,
        goals: np.ndarray,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray:
        """The actions of a batch, (B, h, A)."""
        ...


class OpenLoop:
    """A policy that carries out its chunks: each slot asks for a new one when its own is used up.

    The actions between are taken without a look at the observation (open loop).

    Attributes:
        policy: whose chunks they are.
        execute: how many actions of a chunk are carried out.

    Raises:
        FarstepError: a chunk has no so many actions.
    """

    def __init__(self, policy: ChunkPolicy, execute: int | None = None):
        chunk = policy.action_chunk
        self.policy = policy
        self.execute = chunk if execute is None else execute
        if not 1 <= self.execute <= chunk:
            raise FarstepError(
                f"this policy gives {chunk} actions at once, of which {self.execute} cannot be "
                f"carried out: choose 1 to {chunk}"
            )
        self._chunks: np.ndarray | None = None
        self._used = np.zeros(0, int)
        self._over = np.zeros(0, bool)

    def begin(
        self, slots: Int[np.ndarray, " n"], observations: np.ndarray, goals: np.ndarray
    ) -> None:
        """New episodes start: what is left of the old ones' chunks is dropped."""
        self._grow(int(np.max(slots, initial=-1)) + 1)
        self._used[slots], self._over[slots] = self.execute, False

    def end(self, slots: Int[np.ndarray, " n"]) -> None:
        """Episodes are over: their slots ask for no chunks."""
        self._over[slots] = True

    def act(
        self,
        observations: np.ndarray,
        goals: np.ndarray,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray:
        """The next action of each slot, (B, A); rows are slots."""
        count = size_of(observations)
        self._grow(count)
        due = np.flatnonzero((self._used[:count] >= self.execute) & ~self._over[:count])
        if self._chunks is None or due.size or len(self._chunks) < count:
            # All rows at once, so that an action does not depend on which slots are due.
            chunks = self.policy.chunk(
                observations, goals, temperature=temperature, seed=seed, step=step
            )
            held = chunks[:0] if self._chunks is None else self._chunks
            self._chunks = np.concatenate([held, chunks[len(held) :]])
            self._chunks[due], self._used[due] = chunks[due], 0
        now = np.minimum(self._used[:count], self.execute - 1)
        self._used[:count] += 1
        return self._chunks[np.arange(count), now]

    def _grow(self, slots: int) -> None:
        missing = max(slots - len(self._used), 0)
        self._used = np.append(self._used, np.full(missing, self.execute))
        self._over = np.append(self._over, np.zeros(missing, bool))
