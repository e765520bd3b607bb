"""Claims on single networks: losses and neurons along training, and where attribution lies."""

import warnings
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from lrsc import metrics, results, significance
from lrsc.claims.decisions import decide, every
from lrsc.claims.evidence import CURVES, LRS, Open, good, grid, of_seeds, rows
from lrsc.results.derived import no_evidence
from lrsc.studies import contrast

BACKGROUND = "integrated_gradients_background"


def closeness(opened: Open) -> dict:
    """C13: the losses of the two groups are closer at the lowest LR than at the highest.

    Close: mean over the recorded moments of the smaller of the mean losses of bias-aligned and
    bias-conflicting samples / the larger. Effect of a row: its difference between the two LRs, by
    seed.
    """

    names = [f"curve_dynamics_{group}_loss" for group in ("ba", "bc")]

    def look(found: xr.Dataset) -> dict | None:
        losses = np.stack([found[name].values.astype(float) for name in names])
        with np.errstate(invalid="ignore"):
            quotient = losses.min(0) / losses.max(0)
        table = grid(found, _mean(quotient)).values
        return of_seeds(table[:, 0] - table[:, -1]) if table.shape[1] > 1 else None

    return decide(rows(opened, CURVES, look, names))


def dominance(opened: Open) -> dict:
    """C17: at the highest LR class-dominant neurons persist and bias-dominant ones do not.

    Effect of a row: the share of neurons that are class-dominant at a moment and at the end, less
    the same of bias-dominant ones, means over the moments between the first and the last, by seed.
    """

    def look(found: xr.Dataset) -> dict | None:
        recorded = good(found) & np.isfinite(found["dynamics_step"].values).any(1)
        recorded &= np.isfinite(found["curve_dynamics_bsi"].values).any((1, 2))
        if not recorded.any():
            return None
        chosen = recorded & (found["lr"].values == found["lr"].values[recorded].max())
        return of_seeds(_kept(found.isel(run=int(i))) for i in np.flatnonzero(chosen))

    names = [f"curve_dynamics_{name}" for name in ("csi", "bsi")]
    return decide(rows(opened, CURVES, look, names))


def attribution(opened: Open) -> dict:
    """C15: on Double MNIST, CSI rises from LR to LR as the attribution on the core region does.

    Effect of a row: Kendall's rank correlation of the two over the LRs of a seed, mean over seeds.
    Its p: by permuting the shares among LRs within each seed.
    """
    names = ("csi", "attribution_core")

    def look(found: xr.Dataset) -> dict | None:
        both = np.isfinite(found["csi"].values) & np.isfinite(found["attribution_core"].values)
        here = found.isel(run=both)
        csi, core = (grid(here, name).values for name in names)
        if csi.shape[1] < LRS:
            return None
        # the shares in the order of CSI: what permutes is as in a trend
        table = np.take_along_axis(core, np.argsort(csi, axis=1), axis=1)
        row = of_seeds(significance.trend(seed[None]) for seed in table)
        return row and row | {
            "up": significance.permutation_p(table),
            "down": significance.permutation_p(-table),
        }

    return decide(rows(opened, ("attribution",), look, names))


def concentration(opened: Open) -> dict:
    """C9: on standard data a high LR lowers the entropy of attributions and their background share.

    Effect of a row: the fall from the low to the high LR as a share of the low LR's value, by seed.
    Entropy: between the smallest and the largest LR of a row's runs. Background share: between the
    LRs of the row's comparison (`lrsc results contrast`), over the test set. Both have to fall,
    and the effect is the smaller of the two.
    """

    def entropy(found: xr.Dataset) -> dict | None:
        if "attribution_entropy" not in found:
            return None
        table = grid(found, "attribution_entropy").values
        return _falls("entropy", table[:, [0, -1]]) if table.shape[1] > 1 else None

    def background(found: xr.Dataset) -> dict | None:
        dataset, model = (str(found[n].values[0]) for n in ("dataset", "model"))
        table = _background(dataset, model, opened.root)
        return None if table is None else _falls("background share", table)

    parts = [decide(rows(opened, ("standard_classification",), look))
             for look in (entropy, background)]  # fmt: skip
    return every(parts, len(parts))


def _falls(name: str, table: np.ndarray) -> dict | None:
    """Falls of each seed from the low to the high LR (the columns), as shares; None for under 2."""
    return of_seeds(1 - table[:, 1] / table[:, 0], name=name)


def _background(dataset: str, model: str, root: str | Path | None) -> np.ndarray | None:
    """Background shares, seeds x low and high LR, of a comparison on real data; None for none."""
    try:
        found = contrast.stored(dataset, model, root)
    except ValueError:  # it cannot be used, which the pages say
        return None
    if found is None or BACKGROUND not in found or no_evidence(found):
        return None
    # runs that diverged are not compared
    fine = results.all_with(found, status="converged")
    table = grid(fine, contrast.over_test_set(found, BACKGROUND)).values
    return table if table.shape[1] == 2 else None


def _kept(run: xr.Dataset) -> float:
    csi, bsi = (torch.from_numpy(results.curve_of(run, "dynamics", n)) for n in ("csi", "bsi"))
    found = metrics.dominance_persistence(csi, bsi)
    kept, lost = (found[name][1:-1].numpy() for name in ("class_kept", "bias_kept"))
    return float(_mean(kept[None])[0] - _mean(lost[None])[0])


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is known; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an empty mean is NaN, as it should be
        return np.nanmean(values, axis=-1)
