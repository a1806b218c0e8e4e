"""Learned steps against logged steps, between states of held-out episodes.

The gap between two states of an episode bounds the true distance from above only, because episodes
wander and wait. What they show is the upper envelope: how far the most direct of them get.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from farstep.analysis.figures import begin_figure
from farstep.analysis.tables import Cells
from farstep.core.errors import FarstepError
from farstep.core.rng import stream_generator
from farstep.data.table import Table
from farstep.planning.metric import LearnedMetric
from farstep.planning.prepare import rows_of

PAIRS = 1024
"""Held-out pairs of states for each gap."""

QUANTILES = (0.05, 0.5, 0.95)
"""Quantiles of the learned distance at a gap; the last is the envelope."""


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
        """The learned distance that the most direct episodes cover in `gap` steps."""
        return float(np.interp(gap, self.gaps, np.maximum.accumulate(self.steps[:, -1])))


def envelope(metric: LearnedMetric, table: Table, seed: int = 0) -> Envelope:
    """Learned distances between states of the same episodes, at gaps from one step upwards."""
    longest = int(np.median(table.episode_lengths)) - 1
    gaps = np.unique(np.geomspace(1, longest, num=24).round().astype(int))
    at = rows_of(metric, table)
    generator = stream_generator(seed, "calibration")
    quantiles = []
    for gap in gaps:
        episodes = np.flatnonzero(table.episode_lengths > gap)
        chosen = generator.choice(episodes, PAIRS)
        room = table.episode_lengths[chosen] - gap
        rows = table.episode_starts[chosen] + generator.integers(room)
        steps = metric.between(at(rows)[0], at(rows + gap)[1])
        quantiles.append(np.quantile(steps, QUANTILES))
    return Envelope(gaps, np.stack(quantiles))


@dataclass(frozen=True, eq=False)
class HeldOutCalibration:
    """How a learned distance goes with time in episodes that it has not seen.

    Attributes:
        curve: learned steps at each number of logged steps.
        trusted: learned steps up to which the curve keeps growing with the logged steps.
        apart: median learned steps between states drawn at random.
    """

    curve: Envelope
    trusted: float
    apart: float

    @classmethod
    def measure(cls, metric: LearnedMetric, table: Table, seed: int = 0) -> HeldOutCalibration:
        """Measure a distance on the episodes of a table, best those that it was not learned from.

        Raises:
            FarstepError: learned distances are not finite.
        """
        curve = envelope(metric, table, seed)
        rows = stream_generator(seed, "apart").integers(table.num_steps, size=(2, PAIRS))
        at = rows_of(metric, table)
        apart = np.median(metric.between(at(rows[0])[0], at(rows[1])[1]))
        if not (np.isfinite(curve.steps).all() and np.isfinite(apart)):
            raise FarstepError(
                "learned distances are not finite: the training has diverged. Train again with a "
                "smaller --learning-rate."
            )
        return cls(curve, curve.trusted(1), float(apart))

    @property
    def cells(self) -> Cells:
        """A row per number of logged steps: quantiles of the learned steps."""
        head = ["logged steps", *(f"{100 * q:.0f} %" for q in QUANTILES)]
        rows = zip(self.curve.gaps, self.curve.steps, strict=True)
        return [head, *([str(gap), *(f"{x:.1f}" for x in steps)] for gap, steps in rows)]


def draw_calibration(calibration: HeldOutCalibration, title: str = "") -> Figure:
    """Median and 5–95 % band of the learned steps over the logged ones, on logarithmic axes.

    The dashed diagonal is a distance that equals the logged steps.
    """
    figure, (axes,) = begin_figure(5.6, 4.6)
    gaps, (low, median, high) = calibration.curve.gaps, calibration.curve.steps.T
    # A logarithmic axis has no zero.
    least = max(1e-2, float(high[high > 0].min(initial=1.0)) / 100)
    low, median, high = (np.maximum(steps, least) for steps in (low, median, high))
    axes.fill_between(gaps, low, high, color="C0", alpha=0.2, linewidth=0, label="5–95 %")
    axes.plot(gaps, median, "o-", color="C0", ms=3, label="median")
    axes.plot(gaps, gaps, "--", color="0.5", label="as many as logged")
    axes.axhline(calibration.trusted, color="C1", linewidth=1, label="trusted up to here")
    axes.axhline(calibration.apart, color="C2", linewidth=1, label="states at random, median")
    axes.set(xscale="log", yscale="log", xlabel="logged steps apart", ylabel="learned steps")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
