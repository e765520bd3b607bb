"""From rows of evidence to an effect with its interval, and p values for and against a claim."""

import math
from collections.abc import Sequence

import numpy as np

from lrsc import significance

# Rows that all rise have p = 2 ** -ROWS by their signs: fewer than nine could not carry a verdict
# whatever they were, once corrected for some twenty tests.
ROWS = 9


def decide(rows: Sequence[dict]) -> dict:
    """The rule by which the rows of a claim, and the seeds within them, become a verdict's p.

    **From ROWS rows on, rows decide:** a sign test over their `trend`. Effect: the mean over rows;
    interval: a bootstrap over rows.

    **With fewer, seeds decide within each row, and all rows have to agree:** p is the largest of
    the rows' own one-sided p, for the claim as well as against it. A row is tested over its seeds
    by Welch's or Student's t (`significance.summed`), with `significance.SEEDS` in each group or
    more; a row with fewer leaves the claim undecided. Effect: the mean over rows; interval: of that
    mean, from the spread of seeds within these rows, or, where a row has one seed, as above.

    rows: each with `groups` of seeds, whose means add up to the effect, and `each`, such groups of
    every part that has to hold, where there are several; or with `effect`. What a row has of
    `trend`, `low`, `high`, `up` and `down` (one-sided p for and against) counts instead.

    Beside effect, low, high, up and down: n_rows, and reach, how far from zero the effect may be.
    By the larger bound of the interval; with few rows, of that row's interval where it is largest.
    """
    found = [_tested(row) for row in rows]
    effects = [row["effect"] for row in found]
    low, high, up, down, reach = (math.nan,) * 5
    if len(found) >= ROWS:
        low, high = significance.interval(effects)
        trends = np.array([row["trend"] for row in found])
        up, down = (significance.sign_test_p(of) for of in (trends, -trends))
        reach = max(abs(low), abs(high))
    elif found:
        up, down = (max(row[p] for row in found) for p in ("up", "down"))
        reach = float(np.max(np.abs([[row["low"], row["high"]] for row in found])))
        low, high = found[0]["low"], found[0]["high"]
        if len(found) > 1:
            groups = [group for row in rows for group in row.get("groups", [[]])]
            together = significance.summed(groups, len(rows))
            low, high = together.low, together.high
            if math.isnan(low):
                low, high = significance.interval(effects)
    return {
        "rows": found, "effect": float(np.mean(effects)) if found else math.nan,
        "low": low, "high": high, "up": up, "down": down, "reach": reach, "n_rows": len(found),
    }  # fmt: skip


def every(parts: Sequence[dict], expected: int) -> dict:
    """That all parts of a claim hold: as likely as the least likely, against it as Bonferroni says.

    Effect and interval are those of the part with the smallest effect; of a data set and network
    that several parts look at, n_rows counts one. With fewer parts than expected nothing is
    supported, since those that are not measured may not hold.
    """
    parts = [part for part in parts if math.isfinite(part["effect"])]
    if not parts:
        return decide([])
    weakest = min(parts, key=lambda part: part["effect"])
    up = max(part["up"] for part in parts)
    down = min(1.0, len(parts) * min(part["down"] for part in parts))
    rows = [row for part in parts for row in part["rows"]]
    return weakest | {
        "rows": rows, "up": 1.0 if len(parts) < expected else up, "down": down,
        "n_rows": len({(row.get("dataset"), row.get("model")) for row in rows}),
    }  # fmt: skip


def _tested(row: dict) -> dict:
    """A row with effect, interval, p for and against, and its seeds."""
    groups = row.get("groups", [[]])
    own = significance.summed(groups)
    each = [significance.summed(part) for part in row.get("each", [groups])]
    found = {
        "effect": own.effect, "low": own.low, "high": own.high,
        "up": max(part.above for part in each), "down": max(part.below for part in each),
        "seeds": min(int(np.isfinite(group).sum()) for group in groups),
    } | {k: v for k, v in row.items() if k not in ("groups", "each")}  # fmt: skip
    if found["seeds"] < significance.SEEDS:
        found |= {"up": 1.0, "down": 1.0}
    return {"trend": found["effect"]} | found
