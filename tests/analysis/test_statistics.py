"""Statistics against hand-computed cases, scipy's, and what must hold for any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.stats import trim_mean

from farstep.analysis.statistics import (
    improvement_interval,
    interquartile_mean,
    mean,
    mean_interval,
    performance_profile,
    probability_of_improvement,
    resampled_interval,
    standard_error,
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


def test_of_one_dataset_the_mean_has_students_interval():
    scores = np.random.default_rng(0).uniform(0.4, 0.6, 4)
    found = mean_interval([scores])
    assert found is not None
    expected = stats.ttest_1samp(scores, 0).confidence_interval()
    np.testing.assert_allclose(found, expected)


def test_of_two_datasets_it_has_welchs():
    """The mean of x and 1 − y is half their difference, and a half."""
    x, y = (np.random.default_rng(n).normal(0.5, 0.01 * n, 2 + n) for n in (1, 3))
    found = mean_interval([x, 1 - y])
    assert found is not None
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    np.testing.assert_allclose(found, (np.array(expected) + 1) / 2)


def test_a_curve_has_the_interval_of_each_of_its_points():
    curves = np.random.default_rng(0).uniform(0, 1, (6, 3))
    band = mean_interval([curves.T])
    assert band is not None
    for point in range(3):
        assert mean_interval([curves[:, point]]) == (band[0][point], band[1][point])


@pytest.mark.parametrize("runs", [3, 5, 10])
@pytest.mark.parametrize("datasets", [1, 3])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(runs, datasets):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.4, 0.6, datasets)
    scores = truth[:, None] + rng.normal(0, 0.05, (4000, datasets, runs))
    found = mean_interval(list(np.moveaxis(scores, 1, 0)))
    assert found is not None
    held = np.mean((found[0] <= truth.mean()) & (truth.mean() <= found[1]))
    assert 0.94 <= held <= 0.98


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_resampled_intervals_hold_the_truth_nearly_as_often_as_they_say(runs):
    """Of ten datasets; drawing as many runs as there are, 80 % would be held of three."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.2, 0.8, 10)
    exact = interquartile_mean(list(truth[:, None] + rng.normal(0, 0.05, (10, 100_000))))
    held = 0
    for trial in range(300):
        strata = list(truth[:, None] + rng.normal(0, 0.05, (10, runs)))
        found = resampled_interval(interquartile_mean, strata, seed=trial, resamples=300)
        assert found is not None
        held += found[0] <= exact <= found[1]
    assert 0.89 <= held / 300 <= 0.98


@pytest.mark.parametrize("runs", [5, 10])
@pytest.mark.parametrize("gap", [0.0, 1.0, 2.0])
def test_intervals_of_improvement_hold_the_truth_about_as_often_as_they_say(runs, gap):
    rng = np.random.default_rng(0)
    truth = float(stats.norm.cdf(gap / np.sqrt(2)))
    held = 0
    for _ in range(500):
        found = improvement_interval([rng.normal(gap, 1, runs)], [rng.normal(0, 1, runs)])
        assert found is not None
        held += found[0] <= truth <= found[1]
    assert 0.92 <= held / 500 <= 0.985


def test_who_always_wins_may_not_always_win():
    found = improvement_interval([np.arange(5) + 5], [np.arange(5)])
    assert found is not None
    low, high = found
    assert high == 1
    assert 0.5 < low < 0.95
    assert improvement_interval([np.arange(5)], [np.arange(5) + 5]) == pytest.approx((0, 1 - low))


def test_too_few_runs_or_datasets_have_no_interval():
    assert mean_interval(strata([0.1, 0.2], [0.3])) is None
    assert improvement_interval([np.arange(5)], [np.arange(4)]) is None
    few, single = [np.arange(3)] * 4, [np.arange(3)] * 4 + [np.arange(1)]
    assert resampled_interval(interquartile_mean, few) is None
    assert resampled_interval(interquartile_mean, single) is None


def test_resampling_is_seeded_and_stays_within_a_dataset():
    scores = [np.random.default_rng(n).uniform(0, 1, 4) for n in range(5)]
    first = resampled_interval(interquartile_mean, scores, seed=3, resamples=50)
    assert first == resampled_interval(interquartile_mean, scores, seed=3, resamples=50)
    assert first != resampled_interval(interquartile_mean, scores, seed=4, resamples=50)
    # Datasets that differ add no uncertainty: within each, all runs agree.
    equal = [np.full(3, value) for value in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert resampled_interval(interquartile_mean, equal) == (0.5, 0.5)
