"""The paper's claims as tests on results: a trend over LRs in each row, combined over rows."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import experiments, statistics

LEVEL = 0.05  # of the sign test over rows, after Holm's correction; fixed before any result
LRS = 3  # values of the LR that a row needs

_GRID = ("synthetic", "semi_synthetic", "naturalistic")
_OTHERS = ("step", "adam", "longer", "psgd_kron_wsd", "adamw_cosine")


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim that variables rise (sign 1) or fall (-1) with the LR in rows of experiments."""

    text: str
    variables: tuple[str, ...] = ()  # none: this version has no test of the claim
    experiments: tuple[str, ...] = ()
    sign: int = 1
    rows: tuple[str, ...] = ("lr",)  # names of the rows that are looked at


CLAIMS = {
    "C1": Claim("unbiased accuracy rises with the LR", ("unbiased_accuracy",), _GRID),
    "C2": Claim("prunability rises with the LR", ("prunability",), _GRID),
    "C3": Claim("activations become compressible", ("activation_compressibility",), _GRID),
    "C4": Claim("class selectivity and separation rise", ("csi", "class_separation"), _GRID),
    "C5": Claim("a large LR gains at least as much as other hyperparameters"),
    "C6": Claim("L2 on top of a high LR gains more"),
    "C7": Claim("accuracy goes with the largest loss ratio"),
    "C8": Claim("the gain grows with the network"),
    "C9": Claim("attributions concentrate", ("attribution_entropy",),
                ("standard_classification",), -1),
    "C10": Claim("accuracy and prunability rise before sparsity does"),
    "C11": Claim("the effect is set early"),
    "C12": Claim("it holds under other optimisers and schedules",
                 ("unbiased_accuracy", "prunability", "activation_compressibility"),
                 ("optimizers_schedules",), 1, _OTHERS),
    "C13": Claim("losses of the two groups are closer at a low LR"),
    "C14": Claim("soups separate robustness from compressibility"),
    "C15": Claim("class selectivity agrees with attribution shares"),
    "C16": Claim("training longer changes little"),
    "C17": Claim("class-dominant neurons persist"),
    "C18": Claim("a high LR helps standard accuracy", ("unbiased_accuracy",),
                 ("standard_classification",)),
}  # fmt: skip


def verdicts(root: str | Path | None = None) -> list[dict]:
    """All claims: id, text, verdict, effect with its interval, p after Holm, rows, what it needs.

    effect: mean over rows of the difference between the largest and the smallest LR, in the
    claim's direction (of several variables the mean of the differences); low, high: bootstrap over
    rows. The primary test is a sign test over rows of the trend, of which each row has its
    permutation p. Quick runs and stand-ins never count.
    """
    used = dict.fromkeys(e for claim in CLAIMS.values() for e in claim.experiments)
    read = {name: experiments.sources(name, root) for name in used}
    found = {name: _rows(claim, read) for name, claim in CLAIMS.items()}
    up = {k: statistics.sign_test_p([r["trend"] for r in rows]) for k, rows in found.items()}
    down = {k: statistics.sign_test_p([-r["trend"] for r in rows]) for k, rows in found.items()}
    up, down = statistics.holm(up), statistics.holm(down)
    return [_verdict(name, found[name], up[name], down[name]) for name in CLAIMS]


def _verdict(name: str, rows: list[dict], up: float, down: float) -> dict:
    claim = CLAIMS[name]
    effects = [r["effect"] for r in rows]
    low, high = statistics.interval(effects)
    verdict = "inconclusive" if rows else "not measured"
    if up < LEVEL:
        verdict = "supported"
    elif down < LEVEL:
        verdict = "contradicted"
    sweeps = " or ".join(f"lrsc sweep {e} --profile desk" for e in claim.experiments)
    return {
        "id": name, "text": claim.text, "verdict": verdict,
        "effect": float(np.mean(effects)) if rows else None,
        "low": None if math.isnan(low) else low, "high": None if math.isnan(high) else high,
        "p": None if math.isnan(up) else up, "rows": rows,
        "needs": sweeps or "a test that this version does not have",
    }  # fmt: skip


def _rows(claim: Claim, read: dict[str, list[xr.Dataset]]) -> list[dict]:
    """Trend and effect of each row with runs enough, from the largest profile measured."""
    rows = []
    for name in claim.experiments:
        keys = dict.fromkeys((r.dataset, r.model, r.hyperparameter)
                             for r in experiments.EXPERIMENTS[name])  # fmt: skip
        for key in keys:
            if key[2] not in claim.rows:
                continue
            for profile in ("paper", "desk"):
                try:
                    found = experiments.open_experiment(name, profile, None, *key, read=read[name])
                except ValueError:  # nothing is measured of it
                    continue
                if (row := _row(found, claim)) is not None:
                    rows.append({"dataset": key[0], "model": key[1], "profile": profile} | row)
                    break
    return rows


def _row(found: xr.Dataset, claim: Claim) -> dict | None:
    """Mean trend and effect of a claim's variables in one row, None where there is too little."""
    grids = [claim.sign * _grid(found, v) for v in claim.variables if v in found]
    if len(grids) < len(claim.variables) or any(g.shape[1] < LRS for g in grids):
        return None
    means = [np.nanmean(g, axis=0) for g in grids]
    return {
        "trend": float(np.mean([statistics.trend(g) for g in grids])),
        "effect": float(np.mean([m[-1] - m[0] for m in means])),
        # all variables have to rise: the largest p is that of the weakest
        "p": max(statistics.permutation_p(g) for g in grids),
        "diverged": int((found["status"] == "diverged").sum()),
    }


def _grid(found: xr.Dataset, variable: str) -> np.ndarray:
    """Seeds x LRs in ascending order; diverged runs are NaN, LRs without any run left out."""
    good = found["status"].values != "diverged"
    lr, seed, values = (found[n].values for n in ("lr", "seed", variable))
    good &= np.isfinite(values)
    lrs, seeds = np.unique(lr[good]), np.unique(seed[good])
    grid = np.full((len(seeds), len(lrs)), np.nan)
    at = np.searchsorted(seeds, seed[good]), np.searchsorted(lrs, lr[good])
    grid[at] = values[good]
    return grid
