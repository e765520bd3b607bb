"""Claims that compare training settings with one another, run by run of the same seed."""

import functools
import math

import numpy as np
import pandas as pd
import xarray as xr

from lrsc import significance
from lrsc.claims.decisions import decide, every
from lrsc.claims.evidence import PROFILES, Open, grid, in_largest, keys, label, of_seeds, together
from lrsc.experiments import paper
from lrsc.studies.soups import gains, stored

COMPRESSIBLE = ("prunability", "activation_compressibility")
JOINT = ("unbiased_accuracy", "prunability", "csi")  # table S2's measures
OTHERS = tuple(n for n, _ in paper.INTERVENTIONS.values() if n not in ("lr", "high_lr_l2"))
SWITCH_AT = 1000  # iterations that count as early: in the plans of both profiles
# changes that count as little: the limits within which a row of the tables counts as met
MARGINS = {"unbiased_accuracy": 0.03, "prunability": 0.1, "activation_compressibility": 0.1}


def against_others(opened: Open) -> dict:
    """C5: the joint gain of a large LR is at least that of each other intervention at its best.

    Joint: the mean of accuracy, prunability and CSI, as they are; the low LR from which all gain
    is the same. Best: the value with the largest mean over seeds. Each other
    intervention is a part of the claim, which holds if all of them do.
    """
    parts = [decide(_best_against(opened, "lr", other)) for other in OTHERS]
    return every(parts, len(OTHERS))


def with_l2(opened: Open) -> dict:
    """C6: L2 on top of a high LR, at its best, has more joint gain than the LR at its best."""
    return decide(_best_against(opened, "high_lr_l2", "lr"))


def switched(opened: Open) -> dict:
    """C11: accuracy after an early switch from the high to the low LR keeps most of the gain.

    Effect: accuracy of runs switched at SWITCH_AT iterations less the mean of those at the low and
    at the high LR throughout, by seed. Needs a gain that can be kept: p is the larger of its own
    and that of the high LR's gain over the low.
    """
    for profile in PROFILES:
        key = ("cifar10", "resnet18", "lr")
        rows = [(*key[:2], name) for name in ("lr", "switch")]
        found = together(opened, "optimizers_schedules", profile, rows)
        throughout, after = map(_accuracy, found)
        if throughout.shape[1] < 2 or SWITCH_AT not in after:
            continue
        low, high = throughout.iloc[:, 0], throughout.iloc[:, -1]
        effects = (after[SWITCH_AT] - (low + high) / 2).dropna().tolist()
        kept = decide([label(key, profile) | {"groups": [effects]}])
        gain = significance.summed([(high - low).dropna().tolist()])
        if math.isfinite(kept["low"]):
            return kept | {p: max(kept[p], gain.above) for p in ("up", "down")}
    return decide([])


def longer(opened: Open) -> dict:
    """C16: training on to a far smaller loss changes less than the MARGINS.

    Effect: what is left of the margin, as a share, by the measure that changes most (mean over LRs
    of the difference between runs of one LR and seed); 1: nothing changes, 0 and less: as much as
    the margin and more. Two one-sided t tests a measure; all measures have to stay within.
    """
    for profile in PROFILES:
        key = ("colored_mnist", "resnet18", "longer")
        found, usual = together(opened, "optimizers_schedules", profile, [key, (*key[:2], "lr")])
        if found is None or usual is None or any(m not in found or m not in usual for m in MARGINS):
            continue
        parts = [_within(found, usual, m, label(key, profile) | {"name": m}) for m in MARGINS]
        decided = every(parts, len(MARGINS))
        if decided["rows"]:
            return decided
    return decide([])


def soups(opened: Open) -> dict:
    """C14: a soup gains more in robustness than in compressibility over its networks.

    Effect: its unbiased accuracy less the mean of its networks', less the same of compressibility
    (the mean of prunability and that of activations), by seed; a row is a data set and model. That
    the soup has the one without the other is our reading of separate (decided).
    """
    found = []
    for one in stored(opened.root).values():
        if isinstance(one, str):  # a file that cannot be used, which the section says
            continue
        dataset, model, profile = (
            str(one[n].values[0]) for n in ("dataset", "model", "profile")
        )  # fmt: skip
        compressible = np.mean([gains(one, name) for name in COMPRESSIBLE], axis=0)
        if row := of_seeds(gains(one, "unbiased_accuracy") - compressible):
            found.append(label((dataset, model, "lr"), profile) | row)
    return decide(found)


def _within(found: xr.Dataset, usual: xr.Dataset, measure: str, row: dict) -> dict:
    """Two one-sided tests that a measure's change is smaller than its margin."""
    a, b = (grid(ds, ds[measure].values / MARGINS[measure], "value") for ds in (found, usual))
    strata = [changes.dropna().tolist() for _, changes in (a - b).items()]
    strata = [changes for changes in strata if len(changes) > 1]
    change, plus, minus = (
        significance.summed([[d + s for d in changes] for changes in strata], len(strata) or 1)
        for s in (0, 1, -1)
    )
    low, high = change.low, change.high
    closest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return decide([row | {
        "effect": 1 - abs(change.effect), "low": 1 - max(abs(low), abs(high)), "high": 1 - closest,
        "up": max(plus.above, minus.below), "down": min(1.0, 2 * min(plus.below, minus.above)),
        "seeds": min(map(len, strata), default=0),
    }])  # fmt: skip


def _best_against(opened: Open, one: str, other: str) -> list[dict]:
    """Rows (data sets) with the differences by seed of two interventions' joint measure."""

    def look(dataset: str, model: str, profile: str) -> dict | None:
        rows = [(dataset, model, name) for name in (one, other)]
        tables = [_joint(found) for found in together(opened, "hyperparameters", profile, rows)]
        if any(table.shape[1] < 2 for table in tables):
            return None
        best, others = (table[table.mean().idxmax()] for table in tables)
        return of_seeds(best - others, name=f"{one} against {other}")

    return [
        row for dataset, model, _ in keys("hyperparameters")
        for row in in_largest((dataset, model, one), functools.partial(look, dataset, model))
    ]  # fmt: skip


def _joint(found: xr.Dataset | None) -> pd.DataFrame:
    """JOINT, mean, by seed and value; values of one seed alone are left out."""
    if found is None or any(m not in found for m in JOINT):
        return pd.DataFrame()
    table = grid(found, np.mean([found[m].values for m in JOINT], axis=0), "value")
    return table.loc[:, table.count() > 1]


def _accuracy(found: xr.Dataset | None) -> pd.DataFrame:
    if found is None:
        return pd.DataFrame()
    return grid(found, "unbiased_accuracy", "value")
