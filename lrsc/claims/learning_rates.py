"""Claims on what happens over LRs: trends, loss ratios, the size of the network, the order."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from lrsc import experiments, metrics, significance
from lrsc.claims.decisions import over_rows
from lrsc.claims.evidence import LRS, Open, grid, in_largest, rows, together

GRID = ("synthetic", "semi_synthetic", "naturalistic")
OTHERS = ("step", "adam", "longer", "psgd_kron_wsd", "adamw_cosine")
SIZES = ("fcn", "resnet18", "resnet50")
FIRST, LATER = ("unbiased_accuracy", "prunability"), "activation_compressibility"


def trend(
    opened: Open,
    variables: Sequence[str],
    names: Sequence[str] = GRID,
    hyperparameters: Sequence[str] = ("lr",),
) -> dict:
    """That variables rise with the LR in rows of experiments.

    Effect of a row: its difference between the largest and the smallest LR; of several variables
    the mean. A row has the p of its own trend, by permuting values among LRs within each seed.
    """

    def look(found: xr.Dataset) -> dict | None:
        grids = [grid(found, v) for v in variables]
        if any(g.shape[1] < LRS for g in grids):
            return None
        means = [np.nanmean(g, axis=0) for g in grids]
        return {
            "trend": float(np.mean([significance.trend(g) for g in grids])),
            "effect": float(np.mean([m[-1] - m[0] for m in means])),
            # all variables have to rise: the largest p is that of the weakest
            "p": max(significance.permutation_p(g) for g in grids),
            "diverged": int((found["status"] == "diverged").sum()),
        }

    return over_rows(rows(opened, names, look, variables, hyperparameters))


def loss_ratio(opened: Open) -> dict:
    """C7: accuracy goes with the largest loss ratio on fixed samples, over the runs of a row.

    Effect of a row: Spearman's rank correlation with its bootstrap interval over runs. Both may
    rise with the LR for reasons of their own; a correlation does not tell.
    """

    names = ("max_loss_ratio_fixed", "unbiased_accuracy")

    def look(found: xr.Dataset) -> dict | None:
        x, y = (torch.from_numpy(found[n].values.astype(float)) for n in names)
        value, low, high = metrics.rank_correlation_interval(x, y)
        if not math.isfinite(value):
            return None
        return {"trend": value, "effect": value, "low": low, "high": high}

    return over_rows(rows(opened, GRID, look, names))


def size(opened: Open) -> dict:
    """C8: the gain in accuracy grows from FCN to ResNet18 to ResNet50; a row is a data set.

    Gain: the best LR's mean accuracy less the smallest LR's. Effect: the largest measured network's
    gain less the smallest's. Networks are compared within one profile, in the same statistics of
    batch normalisation, on the same data and as much of them (on two data sets the paper gives the
    FCN other data, which leaves it out).
    """
    found = []
    plans = [r for r in experiments.EXPERIMENTS["semi_synthetic"] if r.model in SIZES]
    for dataset in dict.fromkeys(r.dataset for r in plans):
        usual = next(r.data for r in plans if (r.dataset, r.model) == (dataset, "resnet18"))
        same = [r.model for r in plans if r.dataset == dataset and r.data == usual]
        look = functools.partial(_gains, opened, dataset, [m for m in SIZES if m in same])
        found += in_largest((dataset, "", "lr"), look)
    return over_rows(found)


def order(opened: Open) -> dict:
    """C10: accuracy and prunability rise at smaller LRs than the activations' compressibility does.

    Effect of a row: log10 of the LR at which the mean compressibility has risen by half, less that
    of the later of the other two (interpolated over log LR). Rows in which one of the three does
    not rise have no such LR and are left out.
    """

    def look(found: xr.Dataset) -> dict | None:
        half = [half_risen(found, v) for v in (*FIRST, LATER)]
        if not all(map(math.isfinite, half)):
            return None
        effect = half[2] - max(half[:2])
        return {"trend": effect, "effect": effect}

    return over_rows(rows(opened, GRID, look, (*FIRST, LATER)))


def half_risen(found: xr.Dataset, variable: str) -> float:
    """log10 of the LR at which the mean over seeds is halfway from the smallest LR's to the best.

    NaN for fewer than three LRs, and where the trend over LRs is not upward.
    """
    table = grid(found, variable)
    if table.shape[1] < LRS or not significance.trend(table) > 0:
        return math.nan
    means = np.nanmean(table, axis=0)
    lrs = np.log10(table.columns.values)
    half = (means[0] + means.max()) / 2
    after = int(np.argmax(means >= half))
    if not after:  # it falls from the smallest LR on
        return math.nan
    part = (half - means[after - 1]) / (means[after] - means[after - 1])
    return float(lrs[after - 1] + part * (lrs[after] - lrs[after - 1]))


def _gains(opened: Open, dataset: str, models: Sequence[str], profile: str) -> dict | None:
    """How the gain in accuracy grows from network to network; None for fewer than two."""
    runs = together(opened, "semi_synthetic", profile, [(dataset, m, "lr") for m in models])
    tables = [grid(ds, "unbiased_accuracy") for ds in runs if ds is not None]
    means = [np.nanmean(table, axis=0) for table in tables if table.shape[1] >= LRS]
    gains = [float(mean.max() - mean[0]) for mean in means]
    if len(gains) < 2:
        return None
    rises = significance.trend(np.array([gains]))
    return {"model": f"{len(gains)} networks", "trend": rises, "effect": gains[-1] - gains[0]}
