"""Statistics of a few runs on a few datasets, and how far another set of seeds might move them.

What Agarwal et al. (2021, "Deep reinforcement learning at the edge of the statistical precipice")
recommend for comparisons of few runs: aggregates over all runs, interquartile means, performance
profiles, probabilities of improvement, and percentile intervals from resampling runs within each
dataset. A method's scores are *strata*: one array of runs a dataset. Every dataset counts the same,
however many runs it has.

Statistics work on the last axis of each array and keep leading ones, so that one call computes a
statistic of all resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from farstep.core.rng import stream_generator

Strata = Sequence[Float[np.ndarray, "*resamples runs"]]
"""Scores of one method, an array for each dataset."""

RESAMPLES = 2000
"""Enough that the ends of a 95 % interval move by less than its own seeds' noise."""

COVERAGE = 0.95


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


def stratified_interval(
    statistic: Callable[..., np.ndarray],
    *samples: Strata,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % percentile interval of `statistic(*samples)`.

    Runs are drawn with replacement within each dataset, as many as there are, independently for
    each of the samples.

    Args:
        statistic: of one or several methods' strata, over leading axes.
        samples: the strata of each method.
        seed: of the resampling; the same seed gives the same interval.
        resamples: how many times.

    Returns:
        The lower and the upper end, each of the statistic's shape.

    Raises:
        ValueError: a dataset has a single run, of which every resample would be equal.
    """
    if not resampling_says_something(*samples):
        raise ValueError("an interval needs at least two runs in every dataset")
    rng = stream_generator(seed, "bootstrap")
    drawn = [
        [scores[rng.integers(len(scores), size=(resamples, len(scores)))] for scores in strata]
        for strata in samples
    ]
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(statistic(*drawn), [tail, 100 - tail], axis=0)
    return low, high


def resampling_says_something(*samples: Strata) -> bool:
    """Whether every dataset of every sample has at least two runs."""
    return all(len(scores) > 1 for strata in samples for scores in strata)


def pointwise_band(
    curves: Float[np.ndarray, "runs points"], *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]] | None:
    """The 95 % interval of the mean of several runs at each point; None for a single run."""
    if len(curves) < 2:
        return None
    rows = stream_generator(seed, "bootstrap").integers(len(curves), size=(resamples, len(curves)))
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(curves[rows].mean(axis=1), [tail, 100 - tail], axis=0)
    return low, high
