"""What the path relaxation, at its fixed point, does to a learned distance.

`P(d)(x, z) = min_y d(x, y) + d(y, z)` (MQE, Section 4.5) does not change an exact quasimetric. A
learned distance errs most where it is longest. The relaxation over edges within reach replaces long
distances by sums of short ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num
from scipy.stats import rankdata

from farstep.planning.graph import LandmarkGraph


@dataclass(frozen=True)
class Agreement:
    """How a distance agrees with the true one over some pairs of states.

    Attributes:
        pairs: how many.
        correlation: Spearman's rank correlation; NaN where either is constant.
        ratio: median of distance over true distance.
        spread: 90 % over 10 % quantile of that ratio; 1 for a distance that is true up to its unit.
    """

    pairs: int
    correlation: float
    ratio: float
    spread: float


@dataclass(frozen=True)
class RangeAgreement:
    """The raw and the relaxed distance over pairs whose true distance is in [low, high)."""

    low: float
    high: float
    raw: Agreement
    relaxed: Agreement


def relaxation_by_range(
    graph: LandmarkGraph,
    goals: Num[np.ndarray, "goals *obs"],
    true: Float[np.ndarray, "goals landmarks"],
    bounds: Sequence[float],
) -> list[RangeAgreement]:
    """Raw and relaxed distance from every landmark to each goal, against the true one.

    Pairs without a path over the graph are left out of both.

    Args:
        graph: landmarks and edges.
        goals: observations.
        true: distance from each landmark to each goal, in any unit.
        bounds: of the ranges of `true`, increasing.
    """
    raw = graph.metric.steps(graph.states.starts, graph.metric.embed_goals(goals)).T
    relaxed = np.stack([graph.route(goal).costs[:-1] for goal in goals])
    usable = np.isfinite(relaxed) & np.isfinite(true)
    rows = []
    for low, high in itertools.pairwise(bounds):
        within = usable & (true >= low) & (true < high) & (true > 0)
        if within.sum() > 1:
            rows.append(
                RangeAgreement(
                    low,
                    high,
                    agreement(raw[within], true[within]),
                    agreement(relaxed[within], true[within]),
                )
            )
    return rows


def agreement(
    distance: Float[np.ndarray, " pairs"], true: Float[np.ndarray, " pairs"]
) -> Agreement:
    """`distance` against `true`, which must be positive."""
    ratio = distance / true
    low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
    constant = np.ptp(distance) == 0 or np.ptp(true) == 0
    ranks = float("nan") if constant else np.corrcoef(rankdata(distance), rankdata(true))[0, 1]
    return Agreement(len(true), float(ranks), float(middle), float(high / max(low, 1e-9)))
