"""95 % intervals of success rates: one, the mean of several, and the difference of two policies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


class Interval(NamedTuple):
    """A closed interval of rates in [0, 1], or of their differences in [−1, 1]."""

    low: float
    high: float


def wilson(successes: int, trials: int) -> Interval:
    """The 95 % score interval of a binomial rate (Wilson 1927).

    Unlike the normal approximation it stays inside [0, 1] and is not empty at 0 or all successes,
    which is where success rates of 50 episodes often lie.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"not a binomial count: {successes} of {trials}")
    return _score_interval(successes / trials, trials)


def stratified_wilson(successes: Sequence[int], trials: Sequence[int]) -> Interval:
    """The 95 % interval of the unweighted mean of K independent binomial rates.

    The score interval of the mean p̄ at the effective sample size (Kish 1965)
    `p̄(1-p̄) / Σ p_k(1-p_k) / (K² n_k)`: the number of trials of one binomial that would pin its
    rate down as well. Half a success and half a failure are added to each count for that number
    alone, so that a stratum of successes only is not taken for certain. The strata are fixed, not
    drawn: their spread is not part of the uncertainty.
    """
    if len(successes) != len(trials) or not trials:
        raise ValueError(f"{len(successes)} counts of successes for {len(trials)} of trials")
    counts = list(zip(successes, trials, strict=True))
    if any(not 0 <= count <= total or total < 1 for count, total in counts):
        raise ValueError(f"not binomial counts: {counts}")
    mean = math.fsum(count / total for count, total in counts) / len(counts)
    smoothed = [(count + 0.5) / (total + 1) for count, total in counts]
    centre = math.fsum(smoothed) / len(counts)
    variance = (
        math.fsum(rate * (1 - rate) / total for rate, total in zip(smoothed, trials, strict=True))
        / len(counts) ** 2
    )
    return _score_interval(mean, centre * (1 - centre) / variance)


def paired_interval(differences: Sequence[Int[np.ndarray, " episodes"]]) -> Interval:
    """The 95 % interval of the difference of two policies' mean rates over the same episodes.

    The normal interval of the mean over strata. Half an episode is added to each of the four
    outcomes of a pair for its variance alone (after Agresti and Min 2005), so that policies which
    agree everywhere are not taken for equal.

    Args:
        differences: for each stratum, an episode's success by the one policy (0 or 1) less that by
            the other.
    """
    means = [float(stratum.mean()) for stratum in differences]
    variance = 0.0
    for stratum in differences:
        better, worse = (
            (np.count_nonzero(stratum == sign) + 0.5) / (len(stratum) + 2) for sign in (1, -1)
        )
        variance += (better + worse - (better - worse) ** 2) / len(stratum)
    centre = math.fsum(means) / len(means)
    radius = Z95 * math.sqrt(variance) / len(means)
    return Interval(max(-1.0, centre - radius), min(1.0, centre + radius))


def _score_interval(rate: float, trials: float) -> Interval:
    shrink = 1 + Z95**2 / trials
    centre = (rate + Z95**2 / (2 * trials)) / shrink
    radius = Z95 / shrink * math.sqrt(rate * (1 - rate) / trials + Z95**2 / (4 * trials**2))
    # At the ends the bound is the rate itself, but for the last bits of the two terms.
    low = 0.0 if rate == 0 else max(0.0, min(centre - radius, rate))
    high = 1.0 if rate == 1 else min(1.0, max(centre + radius, rate))
    return Interval(low, high)
