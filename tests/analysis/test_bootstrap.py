"""Statistics against hand-computed cases, scipy's, and what must hold for any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap, trim_mean

from farstep.analysis.bootstrap import (
    interquartile_mean,
    mean,
    performance_profile,
    pointwise_band,
    probability_of_improvement,
    standard_error,
    stratified_interval,
)

RATES = st.integers(0, 20).map(lambda count: count / 20)
STRATA = st.lists(st.integers(1, 6).flatmap(lambda n: arrays(float, n, elements=RATES)), min_size=1)


def strata(*datasets: list[float]) -> list[np.ndarray]:
    return [np.array(scores, float) for scores in datasets]


def test_every_dataset_counts_the_same():
    assert mean(strata([0.0, 0.2, 0.4, 0.6], [1.0])) == pytest.approx((0.3 + 1.0) / 2)
    # Half of the weight is the second dataset's: of the middle half, it has the upper half.
    assert interquartile_mean(strata([0.0, 0.2, 0.4, 0.6], [1.0])) == pytest.approx(
        (0.4 + 0.6 + 2 * 1.0) / 4
    )


def test_interquartile_mean_by_hand():
    assert interquartile_mean(strata([8, 1, 7, 2, 6, 3, 5, 4])) == pytest.approx(4.5)
    # A quarter of three runs is three quarters of a run, from either end.
    assert interquartile_mean(strata([0.9, 0.0, 0.6])) == pytest.approx(
        (0.25 * 0.0 + 0.6 + 0.25 * 0.9) / 1.5
    )
    assert interquartile_mean(strata([0.7])) == pytest.approx(0.7)


@given(st.integers(1, 5).flatmap(lambda k: arrays(float, 4 * k, elements=RATES)))
def test_interquartile_mean_is_the_trimmed_mean_where_quarters_are_whole(scores):
    assert interquartile_mean([scores]) == pytest.approx(trim_mean(scores, 0.25))


def test_standard_error_by_hand():
    assert standard_error(np.array([0.1, 0.3])) == pytest.approx(0.1)
    assert standard_error(np.array([0.1, 0.2, 0.6])) == pytest.approx(np.sqrt(0.07 / 3))
    assert standard_error(np.array([0.3])) is None


def test_probability_of_improvement_by_hand():
    # 1 against 1 is a tie, against 3 lost; 2 against 1 won, against 3 lost.
    assert probability_of_improvement(strata([1, 2]), strata([1, 3])) == pytest.approx(1.5 / 4)
    both = strata([1, 2], [5, 5, 5]), strata([1, 3], [0])
    assert probability_of_improvement(*both) == pytest.approx((1.5 / 4 + 1) / 2)
    with pytest.raises(ValueError, match="argument 2"):
        probability_of_improvement(strata([1]), strata([1], [2]))


def test_performance_profile_by_hand():
    thresholds = np.array([0.0, 0.3, 0.5, 1.0])
    profile = performance_profile(strata([0.0, 0.5], [1.0, 0.5, 0.4, 0.2]), thresholds)
    assert profile == pytest.approx([(0.5 + 1) / 2, (0.5 + 0.75) / 2, 0.25 / 2, 0])


@given(STRATA, STRATA)
def test_what_must_hold_for_any_scores(ours, theirs):
    theirs = (theirs * len(ours))[: len(ours)]
    forth = probability_of_improvement(ours, theirs)
    assert forth + probability_of_improvement(theirs, ours) == pytest.approx(1)
    assert probability_of_improvement(ours, ours) == pytest.approx(0.5)
    everything = np.concatenate(ours)
    for statistic in (mean, interquartile_mean):
        assert everything.min() - 1e-9 <= statistic(ours) <= everything.max() + 1e-9
        shuffled = [scores[::-1] for scores in ours]
        assert statistic(shuffled) == pytest.approx(statistic(ours))
        assert statistic([2 * scores + 1 for scores in ours]) == pytest.approx(
            2 * statistic(ours) + 1
        )
    profile = performance_profile(ours, np.linspace(0, 1, 21))
    assert (np.diff(profile) <= 1e-12).all()
    assert profile[-1] == 0


@given(STRATA, st.integers(0, 3))
def test_one_call_computes_what_many_calls_do(ours, seed):
    """Statistics of stacked resamples are those of each resample."""
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(scores, (5, len(scores))) for scores in ours]
    other = [rng.choice(scores, (5, len(scores))) for scores in ours]
    thresholds = np.array([0.2, 0.7])
    for statistic, samples in (
        (mean, (drawn,)),
        (interquartile_mean, (drawn,)),
        (lambda one: performance_profile(one, thresholds), (drawn,)),
        (probability_of_improvement, (drawn, other)),
    ):
        stacked = statistic(*samples)
        single = [
            statistic(*([scores[row] for scores in sample] for sample in samples))
            for row in range(5)
        ]
        np.testing.assert_allclose(stacked, single)


def test_the_interval_is_seeded():
    scores = strata([0.1, 0.5, 0.3, 0.4], [0.9, 0.2, 0.7])
    first = stratified_interval(mean, scores, seed=3, resamples=50)
    assert first == stratified_interval(mean, scores, seed=3, resamples=50)
    assert first != stratified_interval(mean, scores, seed=4, resamples=50)


def test_runs_stay_in_their_dataset():
    """Datasets that differ add no uncertainty: within each, all runs agree."""
    low, high = stratified_interval(mean, strata([0.0, 0.0], [1.0, 1.0, 1.0]))
    assert (low, high) == (0.5, 0.5)


def test_of_two_runs_the_interval_reaches_both():
    assert stratified_interval(mean, strata([0.2, 0.6])) == (0.2, 0.6)
    low, high = stratified_interval(
        probability_of_improvement, strata([0.2, 0.6]), strata([0.4, 0.4])
    )
    assert (low, high) == (0.0, 1.0)


def test_the_interval_is_scipys_percentile_interval():
    scores = np.random.default_rng(0).normal(0.5, 0.1, 12)
    ours = stratified_interval(mean, [scores], resamples=20_000)
    theirs = bootstrap(
        (scores,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_a_band_is_the_interval_of_the_mean_at_each_point():
    curves = np.random.default_rng(0).uniform(0, 1, (6, 3))
    band = pointwise_band(curves, seed=5, resamples=500)
    assert band is not None
    for point in range(3):
        expected = stratified_interval(mean, [curves[:, point]], seed=5, resamples=500)
        assert (band[0][point], band[1][point]) == pytest.approx(expected)
    assert pointwise_band(curves[:1]) is None


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    """Percentile intervals of ten runs are known to be a little short of 95 %."""
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        low, high = stratified_interval(
            mean, [rng.uniform(0, 1, 10), rng.uniform(0, 0.5, 10)], seed=trial, resamples=400
        )
        hits += low <= 0.375 <= high
    assert 0.87 <= hits / 300 <= 0.98


def test_a_single_run_has_no_interval():
    with pytest.raises(ValueError, match="at least two runs"):
        stratified_interval(mean, strata([0.1, 0.2], [0.3]))
