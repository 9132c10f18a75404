"""How sure a score is: intervals of means, and of differences on the same samples.

Samples that share a picture are not independent. The standard error of a mean is therefore taken
over pictures (the sandwich estimator of Liang and Zeger 1986, with the factor G / (G - 1) of G
pictures), and its quantile is Student's with G - 1 degrees of freedom. That is chosen over a
bootstrap: thousands of scores between 0 and 1 have means near enough to normal, and it has no seed
and no noise of its own. All intervals have two sides and 95 %.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
_NOTHING = 1e-12  # a standard error that is only rounding
Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """From `low` to `high`, where the true value lies in 95 % of all evaluations like this one."""

    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Scores against a baseline's on the same samples.

    Attributes:
        difference: the mean score minus the baseline's.
        interval: of the difference.
        better, worse: how many samples scored higher, and lower, than the baseline.
        p_value: of McNemar's exact test; None unless all scores are 0 or 1. It takes samples for
            independent: where they share pictures, it is too small and the interval counts.
    """

    difference: float
    interval: Interval
    better: int
    worse: int
    p_value: float | None


def wilson(successes: float, trials: float, quantile: float | None = None) -> Interval:
    """Wilson's score interval of a proportion.

    Args:
        successes: 0 to `trials`; a fraction where trials are effective ones.
        trials: more than 0.
        quantile: of the normal distribution, 1.96, if not another one's.
    """
    z = _normal_quantile() if quantile is None else quantile
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return Interval(max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def standard_error(scores: Sequence[float], pictures: Sequence[Hashable] | None = None) -> float:
    """The standard error of the mean, robust to samples of one picture being alike.

    Args:
        scores: `[n]`.
        pictures: `[n]`, equal where samples share a picture; None if no two do.

    Returns:
        `sqrt(G / (G - 1) * sum over pictures of (sum of its scores minus the mean)^2) / n`, which
        is the usual `s / sqrt(n)` if no two share a picture; infinite for a single picture.
    """
    values = np.asarray(scores, np.float64)
    return _error_of_mean(values, _groups(pictures, len(values)))


def mean_interval(scores: Sequence[float], pictures: Sequence[Hashable] | None = None) -> Interval:
    """The interval of a mean score.

    Scores that are all 0 or 1 have Wilson's, on as many independent samples as would have the
    standard error found, `n` at most (Kott and Carr 1997); all others have the mean, give or take
    Student's quantile times the standard error, cut to 0 and 1.

    Where pictures score alike there is no error to go by. All 0 or all 1, they count as one sample
    each; at any other mean, pictures may score anything with the probability of an event that
    did not happen to the ones drawn. A single picture tells nothing about others.

    Args:
        scores: `[n]`, 0 to 1.
        pictures: as in `standard_error`.
    """
    values = _scores(scores)
    groups = _groups(pictures, len(values))
    count, drawn, mean = len(values), int(groups.max()) + 1, float(values.mean())
    if drawn == 1:
        return Interval(0.0, 1.0)
    error, quantile = _error_of_mean(values, groups), student_quantile(drawn - 1)
    if not _binary(values):
        if error < _NOTHING:
            unseen = _unseen(drawn)
            return Interval(mean * (1 - unseen), mean + (1 - mean) * unseen)
        reach = quantile * error
        return Interval(max(0.0, mean - reach), min(1.0, mean + reach))
    if drawn == count:
        return wilson(values.sum(), count)
    if mean in (0, 1):
        effective: float = drawn
    else:
        effective = count / max(1.0, error**2 * count / (mean * (1 - mean)))
    return wilson(mean * effective, effective, quantile)


def paired(
    scores: Sequence[float],
    baseline: Sequence[float],
    pictures: Sequence[Hashable] | None = None,
) -> Paired:
    """What the scores gained over a baseline's on the same samples.

    The interval is the mean difference, give or take Student's quantile times its standard error,
    cut to -1 and 1. Where pictures differ alike, such as not at all, others may differ by anything
    with the probability of an event that did not happen to the ones drawn.

    Args:
        scores: `[n]`, 0 to 1.
        baseline: `[n]`, 0 to 1, of the same samples in the same order.
        pictures: as in `standard_error`.
    """
    values, base = _scores(scores), _scores(baseline)
    if len(values) != len(base):
        raise ValueError(f"{len(values)} scores against {len(base)} of the baseline")
    groups = _groups(pictures, len(values))
    change = values - base
    better, worse = int((change > 0).sum()), int((change < 0).sum())
    difference, drawn = float(change.mean()), int(groups.max()) + 1
    centre, error = difference, _error_of_mean(change, groups)
    if drawn == 1:
        reach = math.inf
    elif error < _NOTHING:
        reach = _unseen(drawn)
        centre *= 1 - reach
    else:
        reach = student_quantile(drawn - 1) * error
    return Paired(
        difference,
        Interval(max(-1.0, centre - reach), min(1.0, centre + reach)),
        better,
        worse,
        mcnemar(better, worse) if _binary(values) and _binary(base) else None,
    )


def mcnemar(better: int, worse: int) -> float:
    """The p-value of McNemar's exact test: how likely a fair coin is to fall at least as one-sided.

    Args:
        better, worse: how many samples only the one, and only the other, got right.
    """
    tosses = better + worse
    ways, tail = 1, 0  # of `i` heads; of at most as many heads as there are of the rarer kind
    for i in range(min(better, worse) + 1):
        tail += ways
        ways = ways * (tosses - i) // (i + 1)
    return min(1.0, 2 * tail / (1 << tosses))


@functools.lru_cache
def student_quantile(freedom: int) -> float:
    """Where 95 % of Student's t distribution lie between minus this and this; 12.706 for 1.

    Args:
        freedom: degrees of freedom, at least 1.
    """
    # With t = sqrt(freedom) * tan(angle), P(|T| < t) is a finite series in the angle's cosine:
    # Abramowitz and Stegun 26.7.3 (odd) and 26.7.4 (even).
    odd = freedom % 2
    steps = np.arange(1, (freedom - odd) // 2)
    ratios = 2 * steps / (2 * steps + 1) if odd else (2 * steps - 1) / (2 * steps)

    def within(angle: float) -> float:
        squares = math.cos(angle) ** 2
        series = 1 + float(np.cumprod(ratios * squares).sum())
        if not odd:
            return math.sin(angle) * series
        turn = math.sin(angle) * math.cos(angle) * series if freedom > 1 else 0.0
        return (angle + turn) * 2 / math.pi

    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if within(middle) < CONFIDENCE else (low, middle)
    return math.sqrt(freedom) * math.tan(high)


def _normal_quantile() -> float:
    return NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def _unseen(trials: int) -> float:
    """The upper end of Clopper and Pearson's interval for what happened 0 times in `trials`."""
    return 1 - math.pow((1 - CONFIDENCE) / 2, 1 / trials)


def _error_of_mean(values: Floats, groups: npt.NDArray[np.intp]) -> float:
    drawn = int(groups.max()) + 1
    if drawn == 1:
        return math.inf
    sums = np.bincount(groups, values - values.mean())
    return math.sqrt(drawn / (drawn - 1) * float(sums @ sums)) / len(values)


def _groups(pictures: Sequence[Hashable] | None, count: int) -> npt.NDArray[np.intp]:
    """`[n]`: which picture, counted from 0."""
    if pictures is None:
        return np.arange(count)
    if len(pictures) != count:
        raise ValueError(f"{count} scores of {len(pictures)} pictures")
    numbers = {picture: number for number, picture in enumerate(dict.fromkeys(pictures))}
    return np.array([numbers[picture] for picture in pictures], np.intp)


def _scores(scores: Sequence[float]) -> Floats:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("expected scores from 0 to 1, at least one")
    return values


def _binary(values: Floats) -> bool:
    return bool(((values == 0) | (values == 1)).all())
