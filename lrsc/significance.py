"""Tests over a few seeds: Welch, permutations within seed, sign test, Holm, bootstrap."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

EXACT = 20_000  # arrangements up to which all are looked at
SAMPLES = 9_999  # random ones otherwise
SEEDS = 3  # at each end of a difference, for a p value


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference of two means; what cannot be known is NaN.

    low, high: its 95 % interval; p: two-sided; smallest: half the width of the interval, which is
    the smallest difference that would have been significant with these seeds and their spread.
    """

    effect: float
    low: float
    high: float
    p: float
    smallest: float


Values = Sequence[float] | np.ndarray


def difference(low: Values, high: Values) -> Difference:
    """The mean of `high` less that of `low` (values of independent seeds, NaN left out), by Welch.

    The interval needs two seeds at each end, p SEEDS; neither is known where the values agree at
    both ends. An end whose values agree counts with the variance of the other (`mean_over_seeds`).
    """
    ends = [v[np.isfinite(v)] for v in (np.asarray(high, float), -np.asarray(low, float))]
    fewest = min(map(len, ends))
    if not fewest:
        return Difference(*(math.nan,) * 5)
    effect = float(sum(end.mean() for end in ends))
    if fewest < 2:
        return Difference(effect, *(math.nan,) * 4)
    _, start, end, above, below = mean_over_seeds(ends)
    known = fewest >= SEEDS and math.isfinite(start)
    p = 2 * min(above, below) if known else math.nan
    return Difference(effect, 2 * start, 2 * end, p, end - start)


def trend(values: np.ndarray) -> float:
    """How far values (S seeds x L settings, ascending) rise with the setting: -1 falling to 1.

    Mean over seeds of Kendall's tau-a between a seed's values and the order of the settings; NaN
    (a diverged run) is left out. NaN where no seed has two values.
    """
    each = [float(_tau(row[np.isfinite(row)])) for row in np.asarray(values, float)]
    return float(np.mean(found)) if (found := [t for t in each if np.isfinite(t)]) else math.nan


def permutation_p(values: np.ndarray) -> float:
    """One-sided p of `trend`: share of arrangements within seeds whose trend is at least as large.

    Every seed's values are permuted among the settings it has. All arrangements where there are at
    most EXACT of them; else SAMPLES random ones from a fixed seed, and the one observed, counted.
    NaN where there is no trend to speak of (no seed with two values).
    """
    rows = [r[np.isfinite(r)] for r in np.asarray(values, float)]
    rows = [r for r in rows if len(r) > 1]
    if not rows:
        return math.nan
    observed = float(sum(_tau(r) for r in rows)) - 1e-12
    if math.prod(math.factorial(len(r)) for r in rows) <= EXACT:
        sums = np.array([0.0])
        for r in rows:
            sums = np.add.outer(sums, _tau(np.array(list(itertools.permutations(r))))).ravel()
        return float(np.mean(sums >= observed))
    rng = np.random.default_rng(0)
    drawn = sum(_tau(rng.permuted(np.tile(r, (SAMPLES, 1)), axis=1)) for r in rows)
    return float((1 + np.sum(np.asarray(drawn) >= observed)) / (SAMPLES + 1))


def sign_test_p(effects: Sequence[float]) -> float:
    """One-sided exact sign test that effects are positive; zeros and NaN are left out, NaN if none.

    Probability of at least as many positive ones among as many fair coins.
    """
    from scipy import stats  # type: ignore[import-untyped]

    signs = [e > 0 for e in effects if np.isfinite(e) and e != 0]
    if not signs:
        return math.nan
    return float(stats.binomtest(sum(signs), len(signs), alternative="greater").pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values by name, adjusted for their number (Holm 1979); NaN is not counted and stays."""
    known = sorted((value, name) for name, value in p.items() if np.isfinite(value))
    adjusted, largest = dict(p), 0.0
    for i, (value, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - i) * value))
        adjusted[name] = largest
    return adjusted


def interval(effects: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Bootstrap percentile interval of the mean of effects, NaN left out; fixed seed."""
    found = np.array([e for e in effects if np.isfinite(e)])
    if not len(found):
        return math.nan, math.nan
    chosen = np.random.default_rng(0).integers(len(found), size=(SAMPLES, len(found)))
    low, high = np.quantile(found[chosen].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_over_seeds(
    rows: Sequence[Sequence[float]], level: float = 0.95
) -> tuple[float, float, float, float, float]:
    """Mean over rows of their means, its t interval, and p of its being above and below zero.

    rows: values of independent runs each; rows with fewer than two are left out. Rows count as
    given and runs as drawn: the variance is that within rows, its degrees of freedom after Welch
    and Satterthwaite. Runs that agree to twelve digits say nothing about the spread of seeds: their
    row counts with the mean variance of the others, and without at least as many of these there is
    no evidence: the interval is NaN, and both p are 1. All NaN without any row. (mean, low, high,
    p above, p below), one-sided p.
    """
    from scipy import stats

    known = [np.asarray(row, float) for row in rows if len(row) > 1]
    if not known:
        return (math.nan,) * 5
    mean = float(np.mean([row.mean() for row in known]))
    spread = [row for row in known if not np.allclose(row, row[0], rtol=1e-12, atol=1e-12)]
    if not spread or len(known) > 2 * len(spread):
        return mean, math.nan, math.nan, 1.0, 1.0
    shared = sum(1 / len(r) for r in known) - sum(1 / len(r) for r in spread)
    parts = np.array([r.var(ddof=1) * (1 / len(r) + shared / len(spread)) for r in spread])
    error = math.sqrt(parts.sum()) / len(known)
    of_each = np.array([len(row) - 1 for row in spread])
    freedom = parts.sum() ** 2 / (parts**2 / of_each).sum()
    reach = error * float(stats.t.ppf((1 + level) / 2, freedom))
    above = float(stats.t.sf(mean / error, freedom))
    return mean, mean - reach, mean + reach, above, 1 - above


def _tau(rows: np.ndarray) -> np.ndarray:
    """Kendall's tau-a of the last axis and its order; NaN for fewer than two values."""
    n = rows.shape[-1]
    if n < 2:
        return np.full(rows.shape[:-1], math.nan)
    first, second = np.triu_indices(n, 1)
    return np.sign(rows[..., second] - rows[..., first]).mean(-1)
