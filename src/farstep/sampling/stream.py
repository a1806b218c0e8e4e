"""Batches from a table that stays in its memory-mapped files.

The indices are drawn on the device by the very function that samples a table in device memory,
from the same keys; only the rows that they name are read, by background threads, some updates
ahead of the update that needs them. So both ways give the same batches.

    device     draw ──┐                     ┌── update … update      (one dispatch)
    threads           └─ read ── transfer ──┘
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, Shaped

from farstep.core.frames import stacked
from farstep.core.goals import WHOLE, GoalRule
from farstep.core.laws import Drawn
from farstep.core.rng import PRNGKey, stream_key
from farstep.core.types import Arrays, Batch, BatchSpec, Column
from farstep.data.normalize import Normalization
from farstep.data.table import Table, keyed
from farstep.sampling.batches import assemble, draw
from farstep.sampling.episodes import Episodes

CHUNK_BYTES = 1 << 26
"""Size of a chunk, which costs one call of the reader and one transfer."""

CHUNK_UPDATES = 1024
"""Most updates of one chunk, where rows are so small that `CHUNK_BYTES` would hold more."""

ALIGNMENT = 64
"""Alignment of XLA's arrays in main memory, in bytes."""

READERS = 2
"""Threads that read, each a chunk of its own: one waits for the disk while the other copies. Their
chunks and the one in use are all that is held."""


@dataclass(frozen=True, eq=False)
class HostTable:
    """A table whose rows stay on disk; its episodes' ends lie in device memory.

    Attributes:
        observations: (N, *observation shape), memory-mapped, as they stand in the data.
        actions: (N, A) or (N,), memory-mapped.
        episodes: ends of the episodes.
        normalization: applied to what was read.
        goals: (N, …) where goals are not observations and not made of them, memory-mapped.
        rule: rule by which goals are made.
        frames: observations seen as one.
    """

    observations: np.ndarray
    actions: np.ndarray
    episodes: Episodes
    normalization: Normalization
    goals: np.ndarray | None = None
    rule: GoalRule = WHOLE
    frames: int = 1

    @classmethod
    def from_table(
        cls,
        table: Table,
        normalization: Normalization,
        rule: GoalRule = WHOLE,
        frames: int = 1,
    ) -> HostTable:
        """The table as it lies on disk; reads no step."""
        # A mapping of its own, since `expect` tells the kernel how this one is read.
        observations = np.load(table.path / "observations.npy", mmap_mode="r", allow_pickle=False)
        episodes = Episodes.from_ends(table.episode_ends)
        goals = None if rule.key is None else keyed(table, rule)
        return cls(observations, table.actions, episodes, normalization, goals, rule, frames)

    def read(
        self, column: Column, rows: Int[np.ndarray, "*stack"], steps: Int[np.ndarray, "*stack"]
    ) -> Any:
        """A column at `rows`, normalised; a dict where observations are several arrays.

        Args:
            steps: of each row, how many lie before it in its episode.
        """
        if column == "actions":
            return self.normalization.scale_actions(rows_at(self.actions, rows))
        if column == "goals" and not self.rule.whole:
            return self.normalization.apply_goals(self._goals(rows), self.rule)
        if self.frames == 1:
            return self.normalization.apply(rows_at(self.observations, rows))
        backs = (np.minimum(back, steps) for back in reversed(range(self.frames)))
        frames = [rows_at(self.observations, rows - back) for back in backs]
        return self.normalization.apply(stacked(frames))

    def _goals(self, rows: Int[np.ndarray, "*stack"]) -> Shaped[np.ndarray, "*stack *goal"]:
        if self.goals is not None:
            found = rows_at(self.goals, rows)
            return found if found.dtype == np.uint8 else np.asarray(found, np.float32)
        goals = self.rule.goals(rows_at(self.observations, rows.ravel()))
        return goals.reshape(*rows.shape, *goals.shape[1:])

    def expect(self, steps: Int[np.ndarray, " n"]) -> None:
        """Have the observations at `steps` read from the disk, without waiting for them.

        Left alone, the kernel reads one after another as each is touched, each with its neighbours
        in the file; told beforehand, it reads what is asked for, all at once.
        """
        mapping = self.observations.base
        if not isinstance(mapping, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
            return
        assert isinstance(self.observations, np.memmap)
        start = self.observations.offset % mmap.ALLOCATIONGRANULARITY
        row = self.observations[:1].nbytes
        firsts = start + row * np.sort(steps)
        pages = firsts // mmap.PAGESIZE * mmap.PAGESIZE
        # Of small rows that begin in one page, the last reaches farthest.
        farthest = np.append(pages[1:] != pages[:-1], True)
        lengths = firsts + row - pages
        advice = zip(pages[farthest].tolist(), lengths[farthest].tolist(), strict=True)
        with suppress(OSError):  # A file system need not take advice.
            mapping.madvise(mmap.MADV_RANDOM)
            for page, length in advice:
                mapping.madvise(mmap.MADV_WILLNEED, page, length)


def rows_at(array: np.ndarray, steps: Int[np.ndarray, "*stack"]) -> np.ndarray:
    """`array[steps]`, in memory that a device on the CPU takes as it is."""
    rows = aligned_empty((*steps.shape, *array.shape[1:]), array.dtype)
    # Every step is within bounds, and to check it would take a second copy.
    return np.take(array, steps, axis=0, out=rows, mode="clip")


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """`np.empty` at an address that XLA requires of its own arrays, so that it need not copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)


class Chunk(eqx.Module):
    """The batches of a number of updates, read and in device memory.

    Attributes:
        drawn: their steps, (*seeds, updates, B).
        columns: arrays read there, (*seeds, updates, B, …), by sample and column.
    """

    drawn: dict[str, Drawn]
    columns: dict[str, dict[str, Arrays]]

    def sample(self, spec: BatchSpec, key: PRNGKey, index: Int[Array, ""]) -> Batch:
        """One seed's batch number `index`; `key` is the one that its rows were drawn by."""
        drawn, columns = jax.tree.map(lambda leaf: leaf[index], (self.drawn, self.columns))
        return assemble(spec, drawn, columns, key)


class Reader:
    """Reads the batches of any updates of a run, or of several seeds' runs.

    Args:
        table: table of the rows.
        spec: contents of a batch.
        roots: root key of the run, or of each seed.
        stream: the random stream that batches are drawn from.
    """

    def __init__(
        self, table: HostTable, spec: BatchSpec, roots: Key[Array, "*seeds"], stream: str
    ) -> None:
        self._table = table
        self._roots = roots
        self._reads = spec.reads(whole=table.rule.whole)
        self._starts = table.episodes.starts()

        def draws(
            root: PRNGKey, episodes: Episodes, updates: Int[Array, " updates"]
        ) -> dict[str, Drawn]:
            # Draw by draw: each is computed as in a program that draws one batch an update.
            return jax.lax.map(
                lambda update: draw(spec, episodes, stream_key(root, stream, update)), updates
            )

        self._draws = jax.jit(jax.vmap(draws, (0, None, None)) if roots.ndim else draws)
        drawn = jax.eval_shape(self._draws, roots, table.episodes, jnp.zeros(1, jnp.int32))
        self._update_bytes = sum(
            math.prod(one.offsets.shape) * table.observations[:1].nbytes * table.frames
            for name, one in drawn.items()
            if self._reads[name] != ("actions",)
        )

    @property
    def chunk_updates(self) -> int:
        """How many updates to read at once."""
        return min(CHUNK_UPDATES, max(1, CHUNK_BYTES // self._update_bytes))

    def read(self, first: int, updates: int) -> Chunk:
        """The batches of `updates` updates from number `first` on."""
        drawn = self._draws(
            self._roots, self._table.episodes, first + jnp.arange(updates, dtype=jnp.int32)
        )
        rows = {
            name: self._starts[np.asarray(one.steps.episode)] + np.asarray(one.steps.step)
            for name, one in drawn.items()
        }
        self._table.expect(
            np.concatenate(
                [rows[name].ravel() for name, reads in self._reads.items() if reads != ("actions",)]
            )
        )
        steps = {name: np.asarray(one.steps.step) for name, one in drawn.items()}
        columns = {
            name: {column: self._table.read(column, rows[name], steps[name]) for column in reads}
            for name, reads in self._reads.items()
        }
        return Chunk(drawn, jax.device_put(columns))


class Prefetcher:
    """The chunks of consecutive updates, read ahead; a context manager.

    Args:
        reader: reads them.
        updates: the updates to come.
    """

    def __init__(self, reader: Reader, updates: range) -> None:
        self._reader = reader
        self._updates = max(1, min(reader.chunk_updates, len(updates)))
        # All chunks have one length, and so one program: the last may reach beyond the end.
        self._firsts = iter(range(updates.start, updates.stop, self._updates))
        self._pending: deque[Future[Chunk]] = deque()
        self._chunk: Chunk | None = None
        self._used = 0
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="farstep-reader")

    def __enter__(self) -> Prefetcher:
        for _ in range(READERS):
            self._read_ahead()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, most: int) -> tuple[Chunk, int, int]:
        """Batches of the next updates, at most `most`.

        Returns:
            A chunk, how many of its batches to skip, and how many follow for the taking.

        Raises:
            Exception: what reading them raised.
        """
        if self._chunk is None or self._used == self._updates:
            self._chunk, self._used = self._pending.popleft().result(), 0
            self._read_ahead()
        skip = self._used
        count = min(most, self._updates - skip)
        self._used += count
        return self._chunk, skip, count

    def _read_ahead(self) -> None:
        first = next(self._firsts, None)
        if first is not None:
            self._pending.append(self._pool.submit(self._reader.read, first, self._updates))
