"""From rows of evidence to an effect with its interval, and p values for and against a claim."""

import math
from collections.abc import Sequence

import numpy as np

from lrsc import significance


def over_rows(rows: list[dict]) -> dict:
    """By a sign test over rows, of which each has its `trend` and `effect`.

    The effect is the mean over rows, its interval a bootstrap over them. Few rows cannot carry a
    verdict: five in one direction are the fewest with p < 0.05, before any correction.
    """
    effects = [r["effect"] for r in rows]
    low, high = significance.interval(effects)
    return {
        "rows": rows, "effect": float(np.mean(effects)) if rows else math.nan,
        "low": low, "high": high,
        "up": significance.sign_test_p([r["trend"] for r in rows]),
        "down": significance.sign_test_p([-r["trend"] for r in rows]),
    }  # fmt: skip


def over_seeds(rows: list[dict]) -> dict:
    """By Student's t over seeds: rows are given, seeds are drawn.

    rows: each with its `effects`, one of each seed. See `significance.mean_over_seeds`.
    """
    mean, low, high, up, down = significance.mean_over_seeds([r["effects"] for r in rows])
    kept = [{k: v for k, v in r.items() if k != "effects"} for r in rows]
    for row, full in zip(kept, rows, strict=True):
        row["effect"] = float(np.mean(full["effects"]))
    return {"rows": kept, "effect": mean, "low": low, "high": high, "up": up, "down": down}


def every(parts: Sequence[dict], expected: int) -> dict:
    """That all parts of a claim hold: as likely as the least likely, against it as Bonferroni says.

    Effect and interval are those of the part with the smallest effect. With fewer parts than
    expected nothing is supported, since those that are not measured may not hold.
    """
    parts = [part for part in parts if math.isfinite(part["effect"])]
    if not parts:
        return over_rows([])
    weakest = min(parts, key=lambda part: part["effect"])
    up = max(part["up"] for part in parts)
    down = min(1.0, len(parts) * min(part["down"] for part in parts))
    rows = [row for part in parts for row in part["rows"]]
    return weakest | {"rows": rows, "up": 1.0 if len(parts) < expected else up, "down": down}
