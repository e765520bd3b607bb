"""Tests for trends, against slow independent computations and known answers."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lrsc import significance


def slow_trend(rows):
    each = []
    for row in rows:
        pairs = [(a, b) for i, a in enumerate(row) for b in row[i + 1 :]]
        each.append(sum((b > a) - (b < a) for a, b in pairs) / len(pairs))
    return sum(each) / len(each)


def slow_p(rows):
    observed = slow_trend(rows)
    every = itertools.product(*(itertools.permutations(row) for row in rows))
    found = [slow_trend(arranged) >= observed - 1e-9 for arranged in every]
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", range(5))
def test_the_exact_permutation_test_is_the_slow_one(seed):
    values = np.random.default_rng(seed).integers(0, 5, (2, 4)).astype(float)
    assert significance.trend(values) == pytest.approx(slow_trend(values.tolist()))
    assert significance.permutation_p(values) == pytest.approx(slow_p(values.tolist()))


def test_a_true_trend_none_and_a_reversed_one():
    rising = np.arange(6.0) + np.zeros((3, 1))
    assert significance.trend(rising) == 1 and significance.permutation_p(rising) < 0.001
    assert significance.trend(-rising) == -1 and significance.permutation_p(-rising) == 1
    assert (
        significance.trend(np.ones((3, 4))) == 0
        and significance.permutation_p(np.ones((3, 4))) == 1
    )


def test_many_arrangements_are_sampled_near_the_exact_p(monkeypatch):
    values = np.array([[1.0, 3, 2, 4], [2, 1, 3, 4]])
    exact = significance.permutation_p(values)
    monkeypatch.setattr(significance, "EXACT", 0)
    assert significance.permutation_p(values) == pytest.approx(exact, abs=0.01)


def test_diverged_runs_are_left_out():
    values = np.array([[1.0, 2, np.nan], [1, 2, 3], [np.nan, 1, np.nan]])
    assert significance.trend(values) == 1
    assert significance.permutation_p(values) == pytest.approx(1 / 2 / 6)
    assert math.isnan(significance.permutation_p(np.full((2, 3), np.nan)))


def test_sign_test():
    assert significance.sign_test_p([0.1] * 5) == pytest.approx(1 / 32)
    assert significance.sign_test_p([0.1, 0.2, -0.1, 0, np.nan]) == pytest.approx(4 / 8)
    assert math.isnan(significance.sign_test_p([0.0]))


def test_holm_by_hand():
    found = significance.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": math.nan})
    assert [found[k] for k in "abc"] == pytest.approx([0.03, 0.06, 0.06]) and math.isnan(found["d"])


def test_interval_holds_the_mean_and_has_a_width():
    low, high = significance.interval([0.1, 0.2, 0.3, np.nan])
    assert low < 0.2 < high
    assert np.isnan([significance.interval(e) for e in ([], [0.2], [0.3 - 0.1, 0.2])]).all()


def test_paired_differences_are_students_t():
    values = [0.1, 0.2, 0.4, 0.3]
    found = significance.summed([[*values, math.nan]])
    expected = stats.ttest_1samp(values, 0, alternative="greater")
    assert found.effect == pytest.approx(0.25) and found.above == pytest.approx(expected.pvalue)
    assert found.below == pytest.approx(1 - found.above)
    reach = expected.confidence_interval(0.975)[0]
    assert found.low == pytest.approx(reach) and found.high == pytest.approx(0.5 - reach)


def test_the_mean_over_rows_has_welchs_degrees_of_freedom():
    a, b = [0.1, 0.3, 0.2], [1.0, 1.8, 1.1, 2.0]
    found = significance.summed([a, b], 2)
    welch = stats.ttest_ind(a, [-v for v in b], equal_var=False, alternative="greater")
    assert found.effect == pytest.approx((np.mean(a) + np.mean(b)) / 2)
    assert found.above == pytest.approx(welch.pvalue)
    assert found.low == pytest.approx(welch.confidence_interval(0.975)[0] / 2)


@pytest.mark.parametrize("groups", [
    [[0.2] * 3], [[0.0] * 3], [[0.9 - 0.8, 0.3 - 0.2, 0.1]],
    [[0.2] * 3, [0.1] * 3, [0.3, 0.31, 0.32]], [[0.2, 0.3, 0.4], [0.7]],
])  # fmt: skip
def test_seeds_that_agree_and_single_ones_are_no_evidence(groups):
    found = significance.summed(groups, len(groups))
    assert found.effect == pytest.approx(np.mean([np.mean(group) for group in groups]))
    assert math.isnan(found.low) and math.isnan(found.high) and found.above == found.below == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_difference_of_two_settings_is_welchs(seed):
    rng = np.random.default_rng(seed)
    low, high = rng.normal(0.5, 0.02, 3 + seed), rng.normal(0.53, 0.1, 3)
    found = significance.difference([*low, math.nan], high)
    expected = stats.ttest_ind(high, low, equal_var=False)
    interval = expected.confidence_interval()
    assert found.effect == pytest.approx(high.mean() - low.mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.smallest == pytest.approx((interval.high - interval.low) / 2)
    assert (found.p < 0.05) == (abs(found.effect) > found.smallest)


def test_two_seeds_have_an_interval_and_no_p():
    low, high = [0.1, 0.2], [0.4, 0.5, 0.6]
    found, expected = significance.difference(low, high), stats.ttest_ind(high, low, equal_var=0)
    assert found.low == pytest.approx(expected.confidence_interval().low) and math.isnan(found.p)


@pytest.mark.parametrize(("low", "high", "effect"), [
    ([0.5], [0.6, 0.7], 0.15), ([0.5] * 3, [0.7] * 3, 0.2), ([0.2] * 3, [0.2] * 3, 0),
    ([], [0.1, 0.2, 0.3], math.nan), ([math.nan] * 3, [0.1] * 3, math.nan),
])  # fmt: skip
def test_what_cannot_be_known_of_a_difference_is_nan(low, high, effect):
    found = significance.difference(low, high)
    assert found.effect == pytest.approx(effect, nan_ok=True)
    assert np.isnan([found.low, found.high, found.p, found.smallest]).all()


def test_an_end_without_spread_has_that_of_the_other():
    high = np.array([0.5, 0.6, 0.8])
    found = significance.difference([0.1, 0.1, 0.1], high)
    reach = stats.t.ppf(0.975, 2) * np.sqrt(2 * high.var(ddof=1) / 3)
    assert found.smallest == pytest.approx(reach) and found.p > stats.ttest_1samp(high, 0.1).pvalue
