"""Claims on single networks: losses and neurons along training, and where attribution lies."""

import warnings

import numpy as np
import torch
import xarray as xr

from lrsc import metrics, results, statistics
from lrsc.claims.decisions import over_rows, over_seeds
from lrsc.claims.evidence import CURVES, LRS, Open, good, grid, rows


def closeness(opened: Open) -> dict:
    """C13: the losses of the two groups are closer at the lowest LR than at the highest.

    Close: mean over the recorded moments of the smaller of the mean losses of bias-aligned and
    bias-conflicting samples / the larger. Effect of a row: its difference between the two LRs, by
    seed. The rows of the experiment are those of the claim: tested over seeds.
    """

    def look(found: xr.Dataset) -> dict | None:
        names = [f"curve_dynamics_{group}_loss" for group in ("ba", "bc")]
        if any(name not in found for name in names):
            return None
        losses = np.stack([found[name].values.astype(float) for name in names])
        with np.errstate(invalid="ignore"):
            quotient = losses.min(0) / losses.max(0)
        table = grid(found.assign(closeness=("run", _mean(quotient))), "closeness")
        effects = table[:, 0] - table[:, -1] if table.shape[1] > 1 else np.array([])
        effects = effects[np.isfinite(effects)]
        return {"effects": effects.tolist()} if len(effects) > 1 else None

    return over_seeds(rows(opened, CURVES, look))


def dominance(opened: Open) -> dict:
    """C17: at the highest LR class-dominant neurons persist and bias-dominant ones do not.

    Effect of a row: the share of neurons that are class-dominant at a moment and at the end, less
    the same of bias-dominant ones, means over the moments between the first and the last, by seed.
    Tested over seeds.
    """

    def look(found: xr.Dataset) -> dict | None:
        if any(f"curve_dynamics_{name}" not in found for name in ("csi", "bsi")):
            return None
        recorded = good(found) & np.isfinite(found["dynamics_step"].values).any(1)
        recorded &= np.isfinite(found["curve_dynamics_bsi"].values).any((1, 2))
        if not recorded.any():
            return None
        chosen = recorded & (found["lr"].values == found["lr"].values[recorded].max())
        kept = [_kept(found.isel(run=int(i))) for i in np.flatnonzero(chosen)]
        effects = [k for k in kept if np.isfinite(k)]
        return {"effects": effects} if len(effects) > 1 else None

    return over_seeds(rows(opened, CURVES, look))


def attribution(opened: Open) -> dict:
    """C15: on Double MNIST, CSI rises from LR to LR as the attribution on the core region does.

    Effect: Kendall's rank correlation of the two over the LRs of a seed, mean over seeds and
    networks; interval: bootstrap over seeds. p: permuting the shares among LRs within each seed.
    """
    taus: list[float] = []
    tables: list[np.ndarray] = []

    def look(found: xr.Dataset) -> dict | None:
        names = ("csi", "attribution_core")
        if any(name not in found for name in names):
            return None
        both = np.isfinite(found["csi"].values) & np.isfinite(found["attribution_core"].values)
        csi, core = (grid(found.isel(run=both), name) for name in names)
        if csi.shape[1] < LRS:
            return None
        # the shares in the order of CSI: what permutes is as in a trend
        table = np.take_along_axis(core, np.argsort(csi, axis=1), axis=1)
        each = [t for row in table if np.isfinite(t := statistics.trend(row[None]))]
        taus.extend(each)
        tables.append(table)
        return {"trend": float(np.mean(each)), "effect": float(np.mean(each))} if each else None

    found = over_rows(rows(opened, ("attribution",), look))
    if found["rows"]:
        seeds = np.full((sum(map(len, tables)), max(t.shape[1] for t in tables)), np.nan)
        first = 0
        for t in tables:
            seeds[first : (first := first + len(t)), : t.shape[1]] = t
        low, high = statistics.interval(taus)
        found |= {
            "low": low, "high": high,
            "up": statistics.permutation_p(seeds), "down": statistics.permutation_p(-seeds),
        }  # fmt: skip
    return found


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
