"""Success of each method as a curve over some quantity, with its interval over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from farstep.analysis.comparison import Cell
from farstep.analysis.statistics import mean_interval


@dataclass(frozen=True)
class Curve:
    """A method's success.

    Attributes:
        method: its name.
        x: ascending, each once.
        success: mean over seeds, in [0, 1].
        band: pointwise 95 % t interval over seeds; None for a single seed.
    """

    method: str
    x: Float[np.ndarray, " points"]
    success: Float[np.ndarray, " points"]
    band: tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]] | None

    @classmethod
    def from_runs(
        cls,
        method: str,
        x: Float[np.ndarray, " points"],
        runs: Float[np.ndarray, "runs points"],
    ) -> Curve:
        """The curve of several runs."""
        return cls(method, x, runs.mean(axis=0), mean_interval([runs.T]))


def learning_curve(cell: Cell) -> Curve:
    """Success by updates, at the evaluations that all runs of the cell have."""
    shared = sorted(set.intersection(*(set(score.curve) for score in cell.scores)))
    runs = [[score.curve[updates] for updates in shared] for score in cell.scores]
    return Curve.from_runs(cell.method, np.array(shared, float), np.array(runs))


def draw_success(axes: Axes, curve: Curve, colour: ColorType, label: str) -> None:
    """A curve of success rates in %, and its band where there is one."""
    axes.plot(curve.x, 100 * curve.success, "o-", color=colour, ms=3, label=label)
    if curve.band is not None:
        low, high = (100 * end for end in curve.band)
        axes.fill_between(curve.x, low, high, color=colour, alpha=0.15, linewidth=0)


def finish_success(axes: Axes, title: str, x: str) -> None:
    """Labels, limits and legend of axes with success curves over `x`."""
    axes.set(xlabel=x, ylabel="success %", ylim=(-3, 103))
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
