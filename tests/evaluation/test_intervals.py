import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from farstep.evaluation.intervals import paired_interval, stratified_wilson, wilson

counts = st.integers(1, 400).flatmap(
    lambda trials: st.tuples(st.integers(0, trials), st.just(trials))
)


@given(counts)
def test_wilson_is_the_score_interval(count: tuple[int, int]):
    successes, trials = count
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    found = wilson(successes, trials)
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)


@given(counts)
def test_wilson_holds_the_rate_and_mirrors(count: tuple[int, int]):
    successes, trials = count
    found, mirrored = wilson(successes, trials), wilson(trials - successes, trials)
    assert 0 <= found.low <= successes / trials <= found.high <= 1
    assert found.low < found.high
    assert found.low == pytest.approx(1 - mirrored.high)


@given(counts)
def test_one_stratum_is_wilson(count: tuple[int, int]):
    successes, trials = count
    assert stratified_wilson([successes], [trials]) == pytest.approx(wilson(successes, trials))


@given(st.lists(counts, min_size=1, max_size=8), st.randoms())
def test_the_mean_lies_inside_and_order_does_not_matter(strata: list, random):
    found = stratified_wilson(*zip(*strata, strict=True))
    mean = sum(s / n for s, n in strata) / len(strata)
    assert 0 <= found.low <= mean + 1e-12
    assert mean - 1e-12 <= found.high <= 1
    shuffled = random.sample(strata, len(strata))
    assert stratified_wilson(*zip(*shuffled, strict=True)) == pytest.approx(found)


@pytest.mark.parametrize(
    "rates", [(0.5,) * 5, (0.9, 0.8, 0.2, 0.05, 0.6), (0.98,) * 5, (1, 1, 1, 1, 0.9)]
)
def test_stratified_interval_covers_the_truth_about_95_times_in_100(rates):
    generator = np.random.default_rng(3)
    runs = generator.binomial(50, rates, size=(2000, len(rates)))
    truth = sum(rates) / len(rates)
    covered = np.mean(
        [
            interval.low <= truth <= interval.high
            for interval in (stratified_wilson(run.tolist(), [50] * len(rates)) for run in runs)
        ]
    )
    assert 0.93 < covered < 0.985


def test_known_value():
    # 1.96² / (n + 1.96²) is the upper bound at no success.
    assert wilson(0, 50).high == pytest.approx(3.8415 / (50 + 3.8415), abs=1e-5)
    assert not math.isnan(wilson(0, 1).high)


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 5), (0, 0)])
def test_what_is_no_count_is_refused(successes, trials):
    with pytest.raises(ValueError, match="not a binomial count"):
        wilson(successes, trials)


def test_strata_must_match():
    with pytest.raises(ValueError, match="2 counts of successes for 1"):
        stratified_wilson([1, 2], [3])
    with pytest.raises(ValueError, match="not binomial counts"):
        stratified_wilson([1, 2], [3, 1])


def test_tasks_that_differ_say_more_than_one_rate_of_their_mean():
    alike = stratified_wilson([25, 25], [50, 50])
    apart = stratified_wilson([50, 0], [50, 50])
    assert alike == pytest.approx(wilson(50, 100))
    assert apart.high - apart.low < (alike.high - alike.low) / 3


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ([0.3, 0.1, 0, 0.02, 0.2], [0.1, 0.1, 0, 0.02, 0]),
        ([0.02] * 5, [0.02] * 5),
        ([0.9] * 5, [0.02] * 5),
        ([0.1], [0.05]),
    ],
)
def test_paired_interval_holds_the_true_difference_about_95_times_in_100(better, worse):
    generator = np.random.default_rng(3)
    truth = np.mean(np.subtract(better, worse))
    held = 0
    for _ in range(1000):
        differences = [
            generator.choice([1, -1, 0], 50, p=[gain, loss, 1 - gain - loss])
            for gain, loss in zip(better, worse, strict=True)
        ]
        low, high = paired_interval(differences)
        held += low <= truth <= high
    assert 0.93 < held / 1000 < 0.995


def test_pairing_makes_the_interval_shorter_and_equal_episodes_do_not_make_it_empty():
    wins = np.arange(50) < 25
    low, high = paired_interval([wins.astype(int) - (np.arange(50) < 24)])
    assert (low + high) / 2 == pytest.approx(0.02)
    alone = wilson(25, 50)
    assert high - low < 0.5 * (alone.high - alone.low)
    low, high = paired_interval([np.zeros(50, int)])
    assert -0.06 < low < 0 < high < 0.06
    assert paired_interval([np.ones(10, int)]).high == 1
