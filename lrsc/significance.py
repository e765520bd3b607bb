"""Tests over a few seeds: Welch, permutations within seed, sign test, Holm, bootstrap."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

EXACT = 20_000  # arrangements up to which all are looked at
SAMPLES = 9_999  # random ones otherwise
SEEDS = 3  # in each group, for a p value

Values = Sequence[float] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference of means; values that cannot be known are NaN.

    low, high: its 95 % interval; p: two-sided; smallest: half the width of the interval, which is
    the smallest difference that would have been significant with these seeds and their spread.
    """

    effect: float
    low: float
    high: float
    p: float
    smallest: float

    @property
    def above(self) -> float:
        """One-sided p for a difference above zero; 1 where p is not known."""
        if math.isnan(self.p):
            return 1.0
        return self.p / 2 if self.effect > 0 else 1 - self.p / 2

    @property
    def below(self) -> float:
        """One-sided p for a difference below zero; 1 where p is not known."""
        return 1.0 if math.isnan(self.p) else 1 - self.above


def difference(low: Values, high: Values) -> Difference:
    """Mean of `high` minus mean of `low` (values of independent seeds, NaN left out), by Welch.

    The interval needs two seeds at each end, p needs SEEDS; neither is known if the values are
    identical at both ends. If they are identical at one end only, it takes the other's variance.
    """
    return summed([np.asarray(high, float), -np.asarray(low, float)])


def summed(groups: Sequence[Values], parts: int = 1) -> Difference:
    """The sum of the means of groups of independent seeds, divided by `parts`, NaN left out.

    One group of paired differences gives Student's t, two of opposite sign a `difference`, and the
    groups of several rows, with their number as `parts`, the mean over rows. Rows are taken as
    fixed and seeds as random: the variance is that within groups, its degrees of freedom are after
    Welch and Satterthwaite. Seeds that agree to twelve digits say nothing about their spread: their
    group takes the mean variance of the others. If such groups outnumber the others, or if a group
    has one seed, neither interval nor p is known.
    """
    from scipy import stats  # type: ignore[import-untyped]

    known = [v[np.isfinite(v)] for v in (np.asarray(group, float) for group in groups)]
    if not known or not all(map(len, known)):
        return Difference(*(math.nan,) * 5)
    effect = float(sum(group.mean() for group in known)) / parts
    spread = [v for v in known if not np.allclose(v, v[0], rtol=1e-12, atol=1e-12)]
    if min(map(len, known)) < 2 or len(known) > 2 * len(spread):
        return Difference(effect, *(math.nan,) * 4)
    shared = sum(1 / len(v) for v in known) - sum(1 / len(v) for v in spread)
    variances = np.array([v.var(ddof=1) * (1 / len(v) + shared / len(spread)) for v in spread])
    error = math.sqrt(variances.sum()) / parts
    freedom = variances.sum() ** 2 / (variances**2 / [len(v) - 1 for v in spread]).sum()
    reach = error * float(stats.t.ppf(0.975, freedom))
    p = 2 * float(stats.t.sf(abs(effect) / error, freedom))
    tested = min(map(len, known)) >= SEEDS
    return Difference(effect, effect - reach, effect + reach, p if tested else math.nan, reach)


def trend(values: np.ndarray) -> float:
    """How far values (S seeds x L settings, ascending) rise with the setting: from -1 (fall) to 1.

    Mean over seeds of Kendall's tau-a between a seed's values and the order of the settings; NaN
    (a diverged run) is left out. NaN where no seed has two values.
    """
    each = [float(_tau(row[np.isfinite(row)])) for row in np.asarray(values, float)]
    return float(np.mean(found)) if (found := [t for t in each if np.isfinite(t)]) else math.nan


def permutation_p(values: np.ndarray) -> float:
    """One-sided p of `trend`: share of arrangements within seeds whose trend is at least as large.

    Each seed's values are permuted among the settings it has, in all arrangements if there are at
    most EXACT of them, else in SAMPLES random ones from a fixed seed, to which the observed one is
    added. NaN if no seed has two values, so that there is no trend.
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


def sign_test_p(effects: Values) -> float:
    """One-sided exact sign test that effects are positive; zeros and NaN are left out, NaN if none.

    The probability of at least as many heads among as many tosses of a fair coin.
    """
    from scipy import stats

    signs = [e > 0 for e in effects if np.isfinite(e) and e != 0]
    if not signs:
        return math.nan
    return float(stats.binomtest(sum(signs), len(signs), alternative="greater").pvalue)


def holm(p: Mapping[Any, float]) -> dict[Any, float]:
    """p values by name, adjusted for their number (Holm 1979); NaN is not counted and stays NaN."""
    known = sorted((value, name) for name, value in p.items() if np.isfinite(value))
    adjusted, largest = dict(p), 0.0
    for i, (value, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - i) * value))
        adjusted[name] = largest
    return adjusted


def interval(effects: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Bootstrap percentile interval of the mean of effects, NaN left out; fixed seed.

    NaN where it would have no width: for a single effect, and for several equal ones.
    """
    found = np.array([e for e in effects if np.isfinite(e)])
    if not len(found) or np.allclose(found, found[0], rtol=1e-12, atol=1e-12):
        return math.nan, math.nan
    chosen = np.random.default_rng(0).integers(len(found), size=(SAMPLES, len(found)))
    low, high = np.quantile(found[chosen].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _tau(rows: np.ndarray) -> np.ndarray:
    """Kendall's tau-a of the last axis and its order; NaN for fewer than two values."""
    n = rows.shape[-1]
    if n < 2:
        return np.full(rows.shape[:-1], math.nan)
    first, second = np.triu_indices(n, 1)
    return np.sign(rows[..., second] - rows[..., first]).mean(-1)
