"""Stacked frames: the last observations of an episode as one, the oldest first.

Frames lie side by side on the last axis, which is features for vectors and channels for images.
Before an episode's first step stands its first observation again, as in the law `Window`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from farstep.core.arrays import arrays_of, record


def stacked(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Observations (B, …) of several steps, the oldest first, as one with a wider last axis."""
    if len(frames) == 1:
        return frames[0]
    each = [arrays_of(frame) for frame in frames]
    joined = {key: np.concatenate([one[key] for one in each], axis=-1) for key in each[0]}
    return joined[""] if "" in joined else record(joined, frames[0].ndim)


class LastFrames:
    """The last frames of every slot, which a policy needs to act: a row of a batch each.

    Args:
        frames: number of frames, the present one among them.
    """

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._kept: list[np.ndarray] = []

    def begin(self, slots: Int[np.ndarray, " n"], observations: np.ndarray) -> None:
        """Start episodes in `slots` with these observations (n, …)."""
        size = int(np.max(slots, initial=-1)) + 1
        if not self._kept:
            self._kept = [observations[:0].copy() for _ in range(self._frames - 1)]
        for index, frame in enumerate(self._kept):
            if len(frame) < size:
                more = np.repeat(observations[:1], size - len(frame), axis=0)
                frame = np.concatenate([frame, more])
            frame[slots] = observations
            self._kept[index] = frame

    def push(self, observations: np.ndarray) -> np.ndarray:
        """The stacks of all slots (B, …), whose observations are now these (B, …)."""
        frames = [*self._kept, observations]
        self._kept = [frame.copy() for frame in frames[1:]]
        return stacked(frames)

    def repeated(self, observations: np.ndarray) -> np.ndarray:
        """Stacks that repeat these observations, for an episode's first step or a goal."""
        return stacked([observations] * self._frames)
