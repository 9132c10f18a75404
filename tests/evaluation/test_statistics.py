"""Intervals and tests: against SciPy, brute definitions, and figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from d2export.evaluation.statistics import (
    Interval,
    mcnemar,
    mean_interval,
    paired,
    standard_error,
    student_quantile,
    wilson,
)

Z = 1.959963984540054
scores = st.lists(st.floats(0, 1), min_size=2, max_size=20)
bits = st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=20)


@pytest.mark.parametrize("freedom", [*range(1, 12), 99, 100, 2001])
def test_quantiles_of_student(freedom):
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)


def test_wilson_by_hand():
    # 8 of 10: centre (0.8 + z²/20) / (1 + z²/10), and so on.
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-7)
    assert wilson(0, 10) == pytest.approx((0, Z**2 / (10 + Z**2)))
    assert wilson(10, 10) == pytest.approx((10 / (10 + Z**2), 1))


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_shares_that_a_score_test_admits(trials, data):
    successes = data.draw(st.integers(0, trials))
    found = wilson(successes, trials)
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low <= successes / trials <= found.high


@given(scores)
def test_standard_error_of_independent_scores(values):
    expected = np.std(values, ddof=1) / math.sqrt(len(values))
    assert standard_error(values) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcd")), min_size=2, max_size=20))
def test_standard_error_over_pictures_is_its_definition(samples):
    values, pictures = zip(*samples, strict=True)
    names = set(pictures)
    if len(names) == 1:
        assert standard_error(values, pictures) == math.inf
        return
    mean = sum(values) / len(values)
    sums = [sum(v - mean for v, p in samples if p == name) for name in names]
    factor = len(names) / (len(names) - 1)
    expected = math.sqrt(factor * sum(s * s for s in sums)) / len(values)
    assert standard_error(values, pictures) == pytest.approx(expected, abs=1e-12)


@given(scores, st.integers(2, 5))
def test_scores_said_twice_tell_no_more(values, times):
    pictures = [number for number in range(len(values)) for _ in range(times)]
    repeated = [value for value in values for _ in range(times)]
    assert standard_error(repeated, pictures) == pytest.approx(standard_error(values), abs=1e-12)


@given(bits)
def test_right_and_wrong_have_wilsons_interval(values):
    assert mean_interval(values) == wilson(sum(values), len(values))


@given(bits, st.integers(2, 4))
def test_pictures_that_are_all_right_or_all_wrong_count_once(values, times):
    """Wilson's interval of one sample a picture, its variance and quantile those of a sample."""
    pictures = [number for number in range(len(values)) for _ in range(times)]
    found = mean_interval([value for value in values for _ in range(times)], pictures)
    count, mean = len(values), sum(values) / len(values)
    effective = count if mean in (0, 1) else count - 1
    assert found == pytest.approx(wilson(mean * effective, effective, student_quantile(count - 1)))


def test_pictures_that_are_all_half_right_count_as_independent_samples():
    """Their mean has no error at all; the interval is not narrower than that of the samples."""
    pictures = [number // 2 for number in range(16)]
    found = mean_interval([0.0, 1.0] * 8, pictures)
    assert found == pytest.approx(wilson(8, 16, student_quantile(7)))


def test_scores_in_between_have_students_interval():
    values = [0.2, 0.4, 0.9]  # mean 0.5, s² = 0.13
    reach = 4.302652730 * math.sqrt(0.13 / 3)
    assert mean_interval(values) == pytest.approx((max(0, 0.5 - reach), min(1, 0.5 + reach)))
    values = values * 100
    reach = stats.t.ppf(0.975, 299) * math.sqrt(26 / 299 / 300)
    assert mean_interval(values) == pytest.approx((0.5 - reach, 0.5 + reach))


def test_equal_scores_leave_room_for_what_was_not_drawn():
    unseen = 1 - 0.025 ** (1 / 20)  # Clopper and Pearson: 0 of 20
    assert unseen == pytest.approx(stats.binomtest(0, 20).proportion_ci().high)
    low, high = mean_interval([0.6] * 20)
    assert (low, high) == pytest.approx((0.6 * (1 - unseen), 0.6 + 0.4 * unseen))
    assert mean_interval([0.0] * 20) == wilson(0, 20)


def test_pictures_that_score_alike_leave_as_much_room():
    unseen = 1 - 0.025 ** (1 / 20)
    pictures = [number // 2 for number in range(40)]
    low, high = mean_interval([0.25, 0.75] * 20, pictures)
    assert (low, high) == pytest.approx((0.5 - unseen / 2, 0.5 + unseen / 2))
    lost = paired([0.0, 0.0] * 20, [1.0, 1.0] * 20, pictures)
    assert lost.interval == pytest.approx((-1, -1 + 2 * unseen))
    both = paired([0.0, 1.0] * 20, [1.0, 0.0] * 20, pictures)
    assert both.interval == pytest.approx((-unseen, unseen))
    assert (both.better, both.worse, both.p_value) == (20, 20, 1)


def test_one_picture_tells_nothing_about_others():
    assert mean_interval([0.3, 0.4, 0.5], "aaa") == (0, 1)
    assert mean_interval([1.0], None) == (0, 1)
    assert paired([1.0, 1.0], [0.0, 1.0], "aa").interval == (-1, 1)


def test_a_difference_by_hand():
    """Differences 1, 0, 0, -0.5, 0.5: mean 0.2, s² = 0.325, t(4) = 2.776445."""
    found = paired([1, 0.5, 0, 0, 0.75], [0, 0.5, 0, 0.5, 0.25])
    reach = 2.776445105 * math.sqrt(0.325 / 5)
    assert found.difference == pytest.approx(0.2)
    assert found.interval == pytest.approx((0.2 - reach, 0.2 + reach))
    assert (found.better, found.worse, found.p_value) == (2, 1, None)
    assert paired([0, 1, 1], [0, 0.5, 0]).p_value is None
    assert paired([0, 0.5, 1], [0, 1, 0]).p_value is None


def test_a_difference_over_pictures_by_hand():
    """Sums less the mean of 1/2: 1 in the first picture, 0, -1; t(2) = 4.302653."""
    found = paired([1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], "aabbcc")
    reach = 4.302652730 * math.sqrt(3 / 2 * (1 + 0 + 1)) / 6
    assert found.difference == 0.5
    assert found.interval == pytest.approx((max(-1, 0.5 - reach), min(1, 0.5 + reach)))
    assert (found.better, found.worse, found.p_value) == (3, 0, 0.25)


@given(st.data(), st.integers(2, 15))
def test_a_difference_is_a_t_test_of_pairs(data, count):
    column = st.lists(st.floats(0, 1), min_size=count, max_size=count)
    a, b = data.draw(column), data.draw(column)
    if np.std(np.subtract(a, b)) < 1e-6:
        return
    found = paired(a, b)
    expected = stats.ttest_rel(a, b).confidence_interval()
    assert found.interval == pytest.approx((max(-1, expected.low), min(1, expected.high)))


def test_no_difference_is_not_certain_to_be_none():
    unseen = 1 - 0.025 ** (1 / 100)
    found = paired([0.0, 1.0] * 50, [0.0, 1.0] * 50)
    assert found.interval == pytest.approx((-unseen, unseen))
    assert (found.difference, found.p_value) == (0, 1)


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1), (1, 0, 1), (0, 5, 2 / 32), (3, 3, 1), (10, 3, 2 * (1 + 13 + 78 + 286) / 2**13)],
)
def test_mcnemar_by_hand(better, worse, p):
    assert mcnemar(better, worse) == pytest.approx(p)
    assert mcnemar(worse, better) == mcnemar(better, worse)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_sign_test(better, worse):
    tosses = better + worse
    expected = stats.binomtest(better, tosses).pvalue if tosses else 1
    assert mcnemar(better, worse) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_very_many():
    assert mcnemar(20_000, 0) == 0
    assert mcnemar(10_000, 10_200) == pytest.approx(stats.binomtest(10_000, 20_200).pvalue)


@pytest.mark.parametrize("kind", ["binary", "between"])
def test_intervals_hold_the_truth_as_often_as_they_say(kind):
    """500 evaluations of 40 pictures with 6 samples each that are alike; a plain interval fails."""
    random = np.random.default_rng(0)
    share = random.beta(2, 1, (500, 40, 1))  # how easy a picture is: 2/3 on average
    if kind == "binary":
        drawn = (random.random((500, 40, 6)) < share).astype(float)
    else:
        drawn = np.clip(share + random.uniform(-0.1, 0.1, (500, 40, 6)), 0, 1)
    pictures = [number // 6 for number in range(240)]
    truth = 2 / 3 if kind == "binary" else drawn.mean()

    def covered(names: list[int] | None) -> float:
        intervals = [mean_interval(values.ravel(), names) for values in drawn]
        return float(np.mean([low <= truth <= high for low, high in intervals]))

    assert 0.93 <= covered(pictures) <= 0.97
    assert covered(None) < 0.85


def test_differences_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    easy = random.beta(2, 1, (500, 40, 1))
    full, pruned = ((random.random((500, 40, 6)) < p).astype(float) for p in (easy, easy * 0.8))
    pictures = [number // 6 for number in range(240)]
    intervals = [
        paired(a.ravel(), b.ravel(), pictures).interval for a, b in zip(pruned, full, strict=True)
    ]
    truth = -0.2 * 2 / 3
    assert 0.93 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.97


def test_students_interval_agrees_with_a_bootstrap_of_pictures():
    """What was chosen against: 4,000 resamples of 150 pictures, seeded."""
    random = np.random.default_rng(3)
    values = np.clip(random.beta(2, 2, (150, 1)) + random.normal(0, 0.1, (150, 4)), 0, 1)
    means = values.mean(1)[random.integers(0, 150, (4000, 150))].mean(1)
    found = mean_interval(values.ravel(), [number // 4 for number in range(600)])
    assert found == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.004)


@pytest.mark.parametrize("wrong", [[], [0.5, 1.1], [-0.1], [math.nan], [[0.5]]])
def test_what_is_no_score_is_refused(wrong):
    with pytest.raises(ValueError, match="scores from 0 to 1"):
        mean_interval(wrong)


def test_lists_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="2 scores of 3 pictures"):
        mean_interval([0.0, 1.0], "abc")
    with pytest.raises(ValueError, match="2 scores against 1"):
        paired([0.0, 1.0], [0.0])


def test_an_interval_has_two_ends():
    assert wilson(5, 10) == Interval(*wilson(5, 10))
    assert wilson(5, 10).low + wilson(5, 10).high == pytest.approx(1)
