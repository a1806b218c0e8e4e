"""How long an edge of the graph may be, from held-out episodes and the landmarks themselves.

A learned distance errs towards short: two states on either side of a wall look near to a smooth
network, and every edge that crosses a wall is a path that does not exist. The longer edges may be,
the more of these there are. So the reach is the shortest that still works:

- it *resolves* progress: it exceeds what the quickest held-out episodes cover between choices of a
  subgoal, so that a subgoal is not behind the agent before the next is chosen;
- it *joins* the landmarks: shorter edges would leave the graph in pieces;
- it is *trusted*: where the distance no longer grows with the steps that held-out episodes really
  took, it says nothing, and no edge may be as long.

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
from farstep.planning.graph import LandmarkGraph
from farstep.planning.metric import LearnedMetric

PAIRS = 1024
"""Held-out pairs of states for each gap."""

QUANTILES = (0.05, 0.5, 0.95)
"""Of the learned distance at a gap; the last is the envelope."""

FLAT = 0.5
"""The envelope is flat where it grows slower than this share of its mean slope up to there."""

WIDEST = 4.0
"""Longest reach considered, as a multiple of the one that resolves progress."""

JOINED = 0.99
"""Share of the pairs of landmarks joined at the widest reach that the chosen one must join."""

MARGIN = 1.25
"""Over the shortest reach that joins the landmarks: its last bridge is a single edge, and a body
that stops a little short of that landmark could not use it."""


@dataclass(frozen=True, eq=False)
class Envelope:
    """Learned distance against the steps really taken between states of held-out episodes.

    Attributes:
        gaps: steps between the two states.
        steps: learned distance at each gap, at the quantiles `QUANTILES`.
    """

    gaps: Int[np.ndarray, " gaps"]
    steps: Float[np.ndarray, "gaps quantiles"]

    @property
    def trusted(self) -> float:
        """The learned distance up to which the envelope grows with the gap."""
        upper = np.maximum.accumulate(self.steps[:, -1])
        mean = upper[1:] / self.gaps[1:]
        flat = np.diff(upper) / np.diff(self.gaps) < FLAT * mean
        last = int(np.argmax(flat)) if flat.any() else len(upper) - 1
        return float(upper[last])

    def covered(self, gap: float) -> float:
        """How far the most direct episodes get in `gap` steps, by the learned distance."""
        return float(np.interp(gap, self.gaps, np.maximum.accumulate(self.steps[:, -1])))


@dataclass(frozen=True, eq=False)
class Calibration:
    """A choice of the reach and its reasons, all in learned environment steps.

    Attributes:
        reach: the choice.
        resolved: least reach that exceeds the progress between choices of a subgoal.
        joined: shortest reach that joins the landmarks.
        trusted: distance beyond which held-out episodes do not bear the metric out.
        envelope: the curve behind `resolved` and `trusted`.
    """

    reach: float
    resolved: float
    joined: float
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
        starts, ends = table.observations[rows], table.observations[rows + gap]
        quantiles.append(np.quantile(metric.between(starts, ends), QUANTILES))
    return Envelope(gaps, np.stack(quantiles))


def calibrate(
    metric: LearnedMetric,
    held_out: Table,
    landmarks: np.ndarray,
    *,
    replan_every: int,
    seed: int = 0,
) -> tuple[LandmarkGraph, Calibration]:
    """The graph over `landmarks` with the reach chosen as the module describes.

    Args:
        metric: the distance.
        held_out: episodes that the distance was not learned from.
        landmarks: observations, (L, …).
        replan_every: steps between choices of a subgoal.
        seed: of the choice of held-out pairs.

    Raises:
        FarstepError: learned distances are not finite, or no reach leaves an edge.
    """
    curve = envelope(metric, held_out, seed)
    if not np.isfinite(curve.steps).all():
        raise FarstepError("learned distances are not finite: the training has diverged")
    # Two periods, so that a subgoal chosen now is still ahead when the next is chosen.
    resolved = curve.covered(2 * replan_every)
    trusted = max(curve.trusted, resolved)
    widest = LandmarkGraph.build(metric, landmarks, min(trusted, WIDEST * resolved))
    joined = _shortest_joining(widest)
    reach = min(max(resolved, MARGIN * joined), widest.reach)
    return widest.shortened(reach), Calibration(reach, resolved, joined, trusted, curve)


def _shortest_joining(widest: LandmarkGraph) -> float:
    """By bisection, the shortest reach that joins nearly all pairs that `widest` joins."""
    needed = JOINED * joined_share(widest)
    low, high = 0.0, widest.reach
    while high - low > 0.01 * widest.reach:
        middle = (low + high) / 2
        low, high = (low, middle) if joined_share(widest, middle) >= needed else (middle, high)
    return high


def joined_share(graph: LandmarkGraph, reach: float | None = None) -> float:
    """Share of ordered pairs of landmarks that edges up to `reach` lead between, both ways."""
    sizes = np.bincount(graph.components_within(graph.reach if reach is None else reach))
    return float(np.square(sizes, dtype=float).sum() / sizes.sum() ** 2)
