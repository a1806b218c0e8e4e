"""Statistics of a few runs on a few datasets, and how far another set of seeds might move them.

The statistics are those that Agarwal et al. (2021, "Deep reinforcement learning at the edge of the
statistical precipice") recommend: aggregates over all runs, interquartile means, performance
profiles, probabilities of improvement. A method's scores are *strata*: one array of runs per
dataset. Every dataset counts the same, however many runs it has.

Their intervals are not the percentile bootstrap of that paper where runs are few: over three runs
it holds the true mean in 71 % of all cases. Means have a t interval, and probabilities of
improvement a score interval. Only aggregates over many datasets are resampled, with one draw fewer
than there are runs.

Statistics work on the last axis of each array and keep leading ones, so that one call computes a
statistic of all resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import root_scalar
from scipy.special import stdtrit

from farstep.core.rng import stream_generator
from farstep.evaluation.intervals import Z95

Strata = Sequence[Float[np.ndarray, "*resamples runs"]]
"""Scores of one method, an array for each dataset."""

RESAMPLES = 2000
"""Enough that the ends of a 95 % interval move by less than its own seeds' noise."""

COVERAGE = 0.95

FEWEST_RUNS = 5
"""Runs per method and dataset, from which on a probability of improvement has an interval."""

FEWEST_DATASETS = 5
"""Datasets from which on resampling their runs tells how far a statistic spreads."""


def mean(strata: Strata) -> Float[np.ndarray, "*resamples"]:
    """The mean over datasets of the mean over runs."""
    return np.mean([scores.mean(axis=-1) for scores in strata], axis=0)


def standard_error(scores: Float[np.ndarray, " runs"]) -> float | None:
    """Standard error of the mean of independent runs; None for fewer than two."""
    if len(scores) < 2:
        return None
    return float(np.std(scores, ddof=1)) / math.sqrt(len(scores))


def interquartile_mean(strata: Strata) -> Float[np.ndarray, "*resamples"]:
    """The mean of the middle half of all runs, each weighing one over its dataset's runs.

    The quarter to drop from either end need not be a whole number of runs: a run that lies across
    the boundary counts for the part of its weight inside. With a multiple of four equally weighted
    runs this is the usual 25 % trimmed mean; of three runs it keeps the middle one and a quarter
    of each other.
    """
    scores = np.concatenate(strata, axis=-1)
    weights = np.concatenate([np.full(s.shape[-1], 1 / s.shape[-1]) for s in strata]) / len(strata)
    order = np.argsort(scores, axis=-1, kind="stable")
    ends = np.cumsum(weights[order], axis=-1)
    inside = np.clip(np.minimum(ends, 0.75) - np.maximum(ends - weights[order], 0.25), 0, None)
    return np.sum(np.take_along_axis(scores, order, axis=-1) * inside, axis=-1) / np.sum(
        inside, axis=-1
    )


def performance_profile(
    strata: Strata, thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, "*resamples thresholds"]:
    """The fraction of runs whose score is above each threshold, averaged over datasets."""
    return np.mean(
        [(scores[..., None, :] > thresholds[:, None]).mean(axis=-1) for scores in strata], axis=0
    )


def probability_of_improvement(ours: Strata, theirs: Strata) -> Float[np.ndarray, "*resamples"]:
    """The probability that a run of ours scores higher than one of theirs, averaged over datasets.

    Runs are drawn independently on the same dataset, and a tie counts one half (the Mann-Whitney
    statistic).

    Raises:
        ValueError: the two do not have the same number of datasets.
    """
    wins = []
    for x, y in zip(ours, theirs, strict=True):
        gaps = x[..., :, None] - y[..., None, :]
        wins.append(np.mean((gaps > 0) + 0.5 * (gaps == 0), axis=(-2, -1)))
    return np.mean(wins, axis=0)


def mean_interval(
    strata: Strata,
) -> tuple[Float[np.ndarray, "*points"], Float[np.ndarray, "*points"]] | None:
    """The 95 % t interval of `mean`, with the degrees of freedom of Welch and Satterthwaite.

    Runs are rates, so the interval is cut to [0, 1]. It is empty where all runs of every dataset
    are equal.

    Returns:
        The lower and the upper end; None if a dataset has a single run.
    """
    if not all(scores.shape[-1] > 1 for scores in strata):
        return None
    counts = np.array([scores.shape[-1] for scores in strata])
    variances = np.stack([scores.var(axis=-1, ddof=1) for scores in strata], axis=-1) / counts
    total = variances.sum(axis=-1)
    spread = np.sum(variances**2 / (counts - 1), axis=-1)
    # Without any spread the degrees of freedom do not matter.
    freedom = np.divide(total**2, spread, out=np.ones_like(total), where=spread > 0)
    radius = stdtrit(freedom, (1 + COVERAGE) / 2) * np.sqrt(total) / len(strata)
    centre = mean(strata)
    return np.clip(centre - radius, 0, 1), np.clip(centre + radius, 0, 1)


def improvement_interval(ours: Strata, theirs: Strata) -> tuple[float, float] | None:
    """The 95 % interval of `probability_of_improvement`.

    In each dataset the score interval of Newcombe (2006, method 5), which keeps a width where one
    method wins always; over datasets the squares of its halves add up (Donner and Zou 2012).

    Returns:
        The lower and the upper end; None if one of the two has fewer than `FEWEST_RUNS` runs in a
        dataset, where no interval is worth its name.
    """
    pairs = list(zip(ours, theirs, strict=True))
    if any(len(scores) < FEWEST_RUNS for pair in pairs for scores in pair):
        return None
    wins = [float(probability_of_improvement([x], [y])) for x, y in pairs]
    ends = np.array(
        [_win_interval(win, len(x), len(y)) for win, (x, y) in zip(wins, pairs, strict=True)]
    )
    below, above = np.sqrt(np.sum((ends - np.array(wins)[:, None]) ** 2, axis=0)) / len(wins)
    centre = math.fsum(wins) / len(wins)
    return max(0.0, centre - float(below)), min(1.0, centre + float(above))


def _win_interval(win: float, ours: int, theirs: int) -> tuple[float, float]:
    """Where the observed rate of wins lies 1.96 of its standard deviations from the true one."""
    more = (ours + theirs) / 2 - 1

    def excess(true: float) -> float:
        # Hanley and McNeil (1982), for exponential scores.
        ties = more * ((1 - true) / (2 - true) + true / (1 + true))
        return (win - true) ** 2 - Z95**2 * true * (1 - true) * (1 + ties) / (ours * theirs)

    # At 0 and 1 the deviation vanishes too: there the end sought is the other root.
    inside = min(max(win, 1e-9), 1 - 1e-9)
    low = 0.0 if win == 0 else root_scalar(excess, bracket=(0, inside)).root
    high = 1.0 if win == 1 else root_scalar(excess, bracket=(inside, 1)).root
    return low, high


def resampled_interval(
    statistic: Callable[[Strata], np.ndarray],
    strata: Strata,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[np.ndarray, np.ndarray] | None:
    """The 95 % percentile interval of `statistic(strata)` over resampled runs.

    Runs are drawn with replacement within each dataset, one fewer than there are: as many as there
    are would spread less than the data do, by a factor that three runs put at 1.2 (Rao and Wu
    1988).

    Returns:
        The lower and the upper end, each of the statistic's shape; None if there are fewer than
        `FEWEST_DATASETS` datasets or one of them has a single run.
    """
    if len(strata) < FEWEST_DATASETS or any(len(scores) < 2 for scores in strata):
        return None
    rng = stream_generator(seed, "bootstrap")
    drawn = [
        scores[rng.integers(len(scores), size=(resamples, len(scores) - 1))] for scores in strata
    ]
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(statistic(drawn), [tail, 100 - tail], axis=0)
    return low, high
