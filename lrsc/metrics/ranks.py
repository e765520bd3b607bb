"""Rank correlation, of many pairs of rows at once."""

import torch
from torch import Tensor

from lrsc.metrics.checks import tensor


def rank_correlation(x: Tensor, y: Tensor) -> Tensor:
    """Spearman's rank correlation of each row of x with that of y, in [-1, 1]; ties share ranks.

    x, y: the same shape (..., n); returns float64 of shape (...). NaN where a row is constant or
    holds NaN. Raises ValueError for shapes that differ or fewer than two values. Spearman 1904.
    """
    if tensor("x", x).shape != tensor("y", y).shape or x.dim() == 0 or x.shape[-1] < 2:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}, expected the same (..., n) with "
            "n >= 2: one pair of values each"
        )
    a, b = (_centred_ranks(v) for v in (x, y))
    return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()


def _centred_ranks(values: Tensor) -> Tensor:
    ordered = values.sort(-1).values.contiguous()
    values = values.contiguous()
    first = torch.searchsorted(ordered, values)
    last = torch.searchsorted(ordered, values, right=True)
    ranks = (first + last).double() / 2
    ranks = torch.where(values.isnan().any(-1, keepdim=True), torch.nan, ranks)
    return ranks - ranks.mean(-1, keepdim=True)


def rank_correlation_interval(
    x: Tensor, y: Tensor, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Rank correlation of n pairs, and its bootstrap interval (percentiles over resampled pairs).

    x, y: n values; pairs that hold NaN are left out. Resamples in which a side is constant are left
    out too. NaN for fewer than four pairs. Efron 1979.
    """
    x, y = (tensor(name, v).double().flatten() for name, v in (("x", x), ("y", y)))
    known = x.isfinite() & y.isfinite()
    x, y = x[known], y[known]
    if len(x) < 4:
        return (float("nan"),) * 3
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(x), (resamples, len(x)), generator=generator)
    found = rank_correlation(x[chosen], y[chosen])
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = found[found.isfinite()].quantile(ends).tolist() if found.isfinite().any() else (
        float("nan"), float("nan")
    )  # fmt: skip
    return float(rank_correlation(x, y)), low, high
