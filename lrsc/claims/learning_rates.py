"""Claims on what happens over LRs: trends, loss ratios, the size of the network, the order."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
import xarray as xr

from lrsc import experiments, metrics, significance
from lrsc.claims.decisions import decide
from lrsc.claims.evidence import LRS, Open, ends, grid, in_largest, of_seeds, rows, together

GRID = ("synthetic", "semi_synthetic", "naturalistic")
OTHERS = ("step", "adam", "longer", "psgd_kron_wsd", "adamw_cosine")
SIZES = ("fcn", "resnet18", "resnet50")
FIRST, LATER = ("unbiased_accuracy", "prunability"), "activation_compressibility"
_CORRECTED = {"prunability": "prunability_corrected"}


def trend(
    opened: Callable[..., xr.Dataset | None],
    variables: Sequence[str],
    names: Sequence[str] = GRID,
    hyperparameters: Sequence[str] = ("lr",),
    statistics: str | None = None,
) -> dict:
    """That variables rise with the LR in rows of experiments.

    Effect of a row: its difference between the largest and the smallest LR; of several variables
    the mean, and each has to rise. Its trend is Kendall's, over all LRs. Where prunability is among
    them, `corrected` is the effect with the chance-corrected one in its place.
    """
    if statistics is not None:
        opened = functools.partial(opened, statistics=statistics)

    def look(found: xr.Dataset) -> dict | None:
        grids = [grid(found, v) for v in variables]
        if any(g.shape[1] < LRS for g in grids):
            return None
        row = {
            "trend": float(np.mean([significance.trend(g) for g in grids])),
            "groups": ends(_mean(grids)),
            "each": [ends(g) for g in grids],
            "diverged": int((found["status"] == "diverged").sum()),
        }
        swapped = [_CORRECTED.get(v, v) for v in variables]
        if swapped != list(variables) and all(v in found for v in swapped):
            both = _mean([grid(found, v) for v in swapped])
            if both.shape[1] > 1:
                row["corrected"] = significance.summed(ends(both)).effect
        return row

    return decide(rows(opened, names, look, variables, hyperparameters))


def loss_ratio(opened: Open, variable: str = "max_loss_ratio") -> dict:
    """C7: accuracy goes with the largest loss ratio over the runs of a row.

    The ratio decides that is largest over mini-batches, as the paper defines it; that on fixed
    samples stands beside it. Effect of a row: Spearman's rank correlation with its bootstrap
    interval over runs. Both may rise with the LR for reasons of their own; a correlation does not
    tell.
    """
    names = (variable, "unbiased_accuracy")

    def look(found: xr.Dataset) -> dict | None:
        x, y = (torch.from_numpy(found[n].values.astype(float)) for n in names)
        value, low, high = metrics.rank_correlation_interval(x, y)
        if not math.isfinite(value):
            return None
        seeds = len(set(found["seed"].values.tolist()))
        return {"effect": value, "low": low, "high": high, "seeds": seeds}

    return decide(rows(opened, GRID, look, names))


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
    return decide(found)


def order(opened: Open) -> dict:
    """C10: accuracy and prunability rise at smaller LRs than the activations' compressibility does.

    Effect of a row, by seed: log10 of the LR at which compressibility has risen by half, less that
    of the later of the other two (interpolated over log LR). Seeds in which one of the three does
    not rise have no such LR and are left out.
    """

    def look(found: xr.Dataset) -> dict | None:
        tables = [grid(found, v) for v in (*FIRST, LATER)]
        seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
        half = np.array([[half_risen(t.loc[seed]) for t in tables] for seed in seeds])
        return of_seeds(half[:, 2] - half[:, :2].max(1)) if seeds else None

    return decide(rows(opened, GRID, look, (*FIRST, LATER)))


def half_risen(values: pd.Series) -> float:
    """log10 of the LR at which a seed's values are halfway from the smallest LR's to the best.

    NaN for fewer than three LRs, and where the trend over LRs is not upward.
    """
    known = values.dropna()
    if len(known) < LRS or not significance.trend(known.to_numpy()[None]) > 0:
        return math.nan
    of, lrs = known.to_numpy(), np.log10(known.index.to_numpy())
    half = (of[0] + of.max()) / 2
    after = int(np.argmax(of >= half))
    if not after:  # it falls from the smallest LR on
        return math.nan
    part = (half - of[after - 1]) / (of[after] - of[after - 1])
    return float(lrs[after - 1] + part * (lrs[after] - lrs[after - 1]))


def _mean(grids: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean of tables of seeds and LRs, of the LRs that all have; NaN where one of them is."""
    return (sum(grids[1:], grids[0]) / len(grids)).dropna(axis=1, how="all")


def _gains(opened: Open, dataset: str, models: Sequence[str], profile: str) -> dict | None:
    """How the gain in accuracy grows from network to network; None for fewer than two."""
    runs = together(opened, "semi_synthetic", profile, [(dataset, m, "lr") for m in models])
    tables = [grid(ds, "unbiased_accuracy") for ds in runs if ds is not None]
    gains = [_gain(table) for table in tables if table.shape[1] >= LRS]
    if len(gains) < 2:
        return None
    rises = significance.trend(np.array([[significance.summed(gain).effect for gain in gains]]))
    groups = [*gains[-1], *(-values for values in gains[0])]
    return {"model": f"{len(gains)} networks", "trend": rises, "groups": groups}


def _gain(table: pd.DataFrame) -> list[np.ndarray]:
    """The best LR's values by seed, and those of the smallest LR with the opposite sign."""
    return [table[table.mean().idxmax()].to_numpy(), -table.iloc[:, 0].to_numpy()]
