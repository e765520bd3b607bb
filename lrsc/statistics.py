"""Tests for trends over a few seeds: permutations within seed, sign test, Holm, bootstrap."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

EXACT = 20_000  # arrangements up to which all are looked at
SAMPLES = 9_999  # random ones otherwise


def trend(values: np.ndarray) -> float:
    """How far values (S seeds x L settings, ascending) rise with the setting: -1 falling to 1.

    Mean over seeds of Kendall's tau-a between a seed's values and the order of the settings; NaN
    (a diverged run) is left out. NaN where no seed has two values.
    """
    each = [_tau(row[np.isfinite(row)]) for row in np.asarray(values, float)]
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
    observed = sum(map(_tau, rows)) - 1e-12
    if math.prod(math.factorial(len(r)) for r in rows) <= EXACT:
        each = [[_tau(np.array(p)) for p in itertools.permutations(r)] for r in rows]
        sums = np.array([0.0])
        for taus in each:
            sums = np.add.outer(sums, taus).ravel()
        return float(np.mean(sums >= observed))
    rng = np.random.default_rng(0)
    drawn = [sum(_tau(rng.permutation(r)) for r in rows) for _ in range(SAMPLES)]
    return float((1 + np.sum(np.array(drawn) >= observed)) / (SAMPLES + 1))


def sign_test_p(effects: Sequence[float]) -> float:
    """One-sided exact sign test that effects are positive; zeros and NaN are left out, NaN if none.

    Probability of at least as many positive ones among as many fair coins.
    """
    signs = [e > 0 for e in effects if np.isfinite(e) and e != 0]
    n, k = len(signs), sum(signs)
    return sum(math.comb(n, i) for i in range(k, n + 1)) / 2**n if n else math.nan


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


def _tau(row: np.ndarray) -> float:
    n = len(row)
    if n < 2:
        return math.nan
    above = np.sign(row[None, :] - row[:, None])[np.triu_indices(n, 1)]
    return float(above.mean())
