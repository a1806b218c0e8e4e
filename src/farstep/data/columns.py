"""One growing array file, with its checksum and moments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from farstep.core.arrays import arrays_of
from farstep.data.manifest import ArrayEntry, Statistics

_BLOCK = 1 << 20


class Column:
    """One `.npy` file that grows by rows; its checksum and moments grow with it."""

    def __init__(
        self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], *, moments: bool
    ) -> None:
        self.dtype, self.shape = dtype, shape
        one = np.dtype((dtype, shape))
        fields = {"": one} if one.fields is None else {n: f[0] for n, f in one.fields.items()}
        self.moments = {key: _moments(field) for key, field in fields.items()} if moments else {}
        self.num_bytes = 0
        self._rows = 0
        self._sha256 = hashlib.sha256()
        self._file: BinaryIO = path.open("wb", buffering=1 << 20)
        self._header_size = self._write_header()

    def write(self, block: np.ndarray) -> None:
        if block.size:
            self._file.write(block.data)
            self._sha256.update(block.data)
            for key, array in arrays_of(block).items() if self.moments else ():
                self.moments[key].update(array)
        self._rows += len(block)
        self.num_bytes += block.nbytes

    def finish(self) -> ArrayEntry:
        self._file.seek(0)
        if self._write_header() != self._header_size:
            raise RuntimeError("NumPy's padding of the header left no room for the final shape")
        self._file.close()
        return ArrayEntry((self._rows, *self.shape), self.dtype.name, self._sha256.hexdigest())

    def abandon(self) -> None:
        # Closing flushes, which fails again on a full disk; the file is about to be removed.
        with suppress(OSError):
            self._file.close()

    def _write_header(self) -> int:
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (self._rows, *self.shape),
            },
        )
        return self._file.tell()


def _moments(field: np.dtype[Any]) -> Moments | Histogram:
    """Empty statistics over the last axis of a field of this type and shape."""
    kind = Histogram if field.base == np.uint8 else Moments
    return kind(field.shape[-1] if field.shape else 1)


class Moments:
    """Running mean, variance and range over the last axis (Chan, Golub and LeVeque 1983)."""

    def __init__(self, size: int) -> None:
        self._count = 0
        self._mean = np.zeros(size)
        self._squares = np.zeros(size)
        self._min = np.full(size, np.inf)
        self._max = np.full(size, -np.inf)

    def update(self, block: np.ndarray) -> None:
        rows = block.reshape(-1, self._mean.size)
        step = max(1, _BLOCK // self._mean.size)
        for start in range(0, len(rows), step):
            self._update(rows[start : start + step].astype(np.float64))

    def _update(self, rows: np.ndarray) -> None:
        mean = rows.mean(axis=0)
        total = self._count + len(rows)
        shift = mean - self._mean
        self._squares += np.square(rows - mean).sum(axis=0)
        self._squares += np.square(shift) * (self._count * len(rows) / total)
        self._mean += shift * (len(rows) / total)
        self._count = total
        np.minimum(self._min, rows.min(axis=0), out=self._min)
        np.maximum(self._max, rows.max(axis=0), out=self._max)

    def statistics(self) -> Statistics:
        std = np.sqrt(self._squares / self._count)
        return Statistics(
            *(tuple(map(float, values)) for values in (self._mean, std, self._min, self._max))
        )


class Histogram:
    """Counts of each byte in each channel: exact moments of pixels, at less cost."""

    def __init__(self, size: int) -> None:
        self._counts = np.zeros((size, 256), np.int64)

    def update(self, block: np.ndarray) -> None:
        pixels = block.reshape(-1, len(self._counts))
        for counts, channel in zip(self._counts, pixels.T, strict=True):
            for start in range(0, len(channel), _BLOCK):
                counts += np.bincount(channel[start : start + _BLOCK], minlength=256)

    def statistics(self) -> Statistics:
        values = np.arange(256.0)
        total = self._counts.sum(axis=1)
        mean = self._counts @ values / total
        std = np.sqrt((self._counts * np.square(values - mean[:, None])).sum(axis=1) / total)
        present = [np.flatnonzero(counts) for counts in self._counts]
        return Statistics(
            mean=tuple(map(float, mean)),
            std=tuple(map(float, std)),
            min=tuple(float(values[0]) for values in present),
            max=tuple(float(values[-1]) for values in present),
        )


class Rounding:
    """The rounding error of float32 by column: a clock in seconds since 1970 loses its minutes."""

    _ROUNDING = 0.01
    """Largest rounding error to ignore, as a share of a column's change within an episode."""

    _NOISE = 1e-9
    """Largest change to ignore, as a share of a column's magnitude: a simulator's own rounding."""

    def __init__(self, size: int) -> None:
        self._error = np.zeros(size)
        self._change = np.zeros(size)
        self._low, self._high = np.full(size, np.inf), np.full(size, -np.inf)
        self._begin()

    def _begin(self) -> None:
        self._episode_low = np.full(self._error.size, np.inf)
        self._episode_high = -self._episode_low

    def update(self, rows: np.ndarray, stored: np.ndarray) -> None:
        np.maximum(self._error, np.abs(rows - stored).max(axis=0), out=self._error)
        np.minimum(self._episode_low, rows.min(axis=0), out=self._episode_low)
        np.maximum(self._episode_high, rows.max(axis=0), out=self._episode_high)

    def end_episode(self) -> None:
        np.maximum(self._change, self._episode_high - self._episode_low, out=self._change)
        np.minimum(self._low, self._episode_low, out=self._low)
        np.maximum(self._high, self._episode_high, out=self._high)
        self._begin()

    def lossy(self) -> Iterator[tuple[int, float, float, float, float]]:
        """Columns that lose what matters: number, least, greatest, change, rounding error."""
        # A column that is constant in each episode, such as a task's number, may still be rounded.
        change = np.where(self._change > 0, self._change, self._high - self._low)
        magnitude = np.maximum(np.abs(self._low), np.abs(self._high))
        lossy = (self._error > self._ROUNDING * change) & (change > self._NOISE * magnitude)
        for column in np.flatnonzero(lossy).tolist():
            low, high = float(self._low[column]), float(self._high[column])
            yield column, low, high, float(change[column]), float(self._error[column])
