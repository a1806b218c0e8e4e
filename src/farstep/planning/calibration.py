"""How long an edge of the graph may be, from held-out episodes.

A learned distance errs towards short: two states on either side of a wall look near to a smooth
network, and every edge that crosses a wall is a path that does not exist. The longer edges are, the
more of these there are. Two lengths follow:

- the *stride*, up to which an edge costs its length: what the quickest held-out episodes cover
  between two choices of a subgoal, for a shorter one would be passed before the next is chosen;
- the *reach*, beyond which there is no edge: a few strides, and never so long that the distance no
  longer grows with the steps that held-out episodes really took, for there it says nothing.

In between, a pair is an edge only if some logged episode makes the move.

The gap between two states of an episode bounds the true distance from above only, because episodes
wander and wait. What they show is the upper envelope: how far the most direct of them get.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from farstep.core.errors import FarstepError
from farstep.core.rng import stream_generator
from farstep.data.table import Table
from farstep.planning.metric import LearnedMetric

PAIRS = 1024
"""Held-out pairs of states for each gap."""

QUANTILES = (0.05, 0.5, 0.95)
"""Of the learned distance at a gap; the last is the envelope."""

WIDEST = 4.0
"""Strides in the longest reach."""


@dataclass(frozen=True, eq=False)
class Envelope:
    """Learned distance against the steps really taken between states of held-out episodes.

    Attributes:
        gaps: steps between the two states.
        steps: learned distance at each gap, at the quantiles `QUANTILES`.
    """

    gaps: Int[np.ndarray, " gaps"]
    steps: Float[np.ndarray, "gaps quantiles"]

    def trusted(self, gap: int) -> float:
        """The learned distance up to which the envelope grows with the gap, from `gap` on.

        It no longer does where doubling the gap adds less than the doubling before: half the slope.
        """
        doubled = self.gaps[(self.gaps >= gap) & (2 * self.gaps <= self.gaps[-1])]
        for g in doubled:
            half, whole, double = (self.covered(k * g) for k in (0.5, 1, 2))
            if double - whole < whole - half:
                return whole
        return self.covered(self.gaps[-1])

    def covered(self, gap: float) -> float:
        """How far the most direct episodes get in `gap` steps, by the learned distance."""
        return float(np.interp(gap, self.gaps, np.maximum.accumulate(self.steps[:, -1])))


@dataclass(frozen=True, eq=False)
class Calibration:
    """A choice of stride and reach and its reasons, all in learned environment steps.

    Attributes:
        stride: what the quickest held-out episodes cover between two choices of a subgoal.
        reach: the choice.
        trusted: distance beyond which held-out episodes do not bear the metric out.
        envelope: the curve behind `stride` and `trusted`.
    """

    stride: float
    reach: float
    trusted: float
    envelope: Envelope


def envelope(metric: LearnedMetric, table: Table, seed: int = 0) -> Envelope:
    """Learned distances between states of the same episodes, at gaps from one step upwards."""
    longest = int(np.median(table.episode_lengths)) - 1
    gaps = np.unique(np.geomspace(1, longest, num=24).round().astype(int))
    generator = stream_generator(seed, "calibration")
    quantiles = []
    for gap in gaps:
        episodes = np.flatnonzero(table.episode_lengths > gap)
        chosen = generator.choice(episodes, PAIRS)
        room = table.episode_lengths[chosen] - gap
        rows = table.episode_starts[chosen] + generator.integers(room)
        frames = metric.spaces.frames
        starts, ends = table.frames(rows, frames), table.frames(rows + gap, frames)
        quantiles.append(np.quantile(metric.between(starts, ends), QUANTILES))
    return Envelope(gaps, np.stack(quantiles))


def calibrate(
    metric: LearnedMetric, held_out: Table, *, replan_every: int, seed: int = 0
) -> Calibration:
    """Stride and reach, chosen as the module describes.

    Args:
        metric: the distance.
        held_out: episodes that the distance was not learned from.
        replan_every: steps between choices of a subgoal.
        seed: of the choice of held-out pairs.

    Raises:
        FarstepError: learned distances are not finite.
    """
    curve = envelope(metric, held_out, seed)
    if not np.isfinite(curve.steps).all():
        raise FarstepError("learned distances are not finite: the training has diverged")
    stride = curve.covered(replan_every)
    trusted = max(curve.trusted(replan_every), stride)
    return Calibration(stride, min(trusted, WIDEST * stride), trusted, curve)
