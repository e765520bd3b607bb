"""The largest learning rate that a network can be trained with, and the largest worth it.

Short runs in three steps. From the top of the range down, by factors of sqrt(10), until one
trains; between that LR and the next above, in two rounds on the log axis, with all seeds; then
successive halving (Jamieson & Talwalkar 2016) of the LRs from that edge down. They are judged on
held-out training samples, never on the test split.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import nn

from lrsc import errors, results
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset
from lrsc.errors import TimeLimit, is_number, plain, shown
from lrsc.reach.short_runs import LEAST_STEPS, ShortRuns
from lrsc.training import arguments

RANGES = {"sgd": (1e-4, 10.0)}  # LRs that are looked at, by optimizer
RANGE = (1e-6, 0.3)  # of the others, which scale their updates
USUAL = 1e-3  # torch's own default for SGD and Adam
LADDER, AT_ONCE = 10**0.5, 4  # factor between the first LRs, and how many are tried together
BETWEEN, ROUNDS = 3, 2  # LRs inside the edge's bracket, in each round
STEP, CANDIDATES = 1.6, 5  # factor between the LRs that are compared, and their number
EDGE = 0.35  # share of the budget for the edge, which takes about so many runs a seed:
EDGE_RUNS = 9
SLOWER = 1.1  # a useful LR's loss is at most by this factor above that of the fastest of its score
TOLD = 50  # updates of the short runs below which the edge is in doubt
RISE = 1.05  # a loss that ends above the first by this factor has risen


@dataclasses.dataclass(frozen=True)
class LargestLR:
    """What `largest_lr` found; `print` summarises it.

    stable: the largest LR at which all seeds trained; useful: the largest one whose score is within
    the tolerance of the best and which trains as fast; usual: the LR it was compared with.
    dataset: the short runs along `trial`; its attributes hold the arguments and the outcome.
    """

    stable: float
    useful: float
    usual: float
    dataset: xr.Dataset

    def plot(self):
        """Scores of the short runs against the LR, and those that failed: a matplotlib Figure."""
        from lrsc import plots

        return plots.largest_lr(self.dataset)

    def score(self, lr: float) -> float:
        """Mean over seeds in the last group that compared LRs; NaN if this one was not there."""
        found = self.dataset
        last = (found["stage"] == "compare") & (found["group"] == found["group"].max())
        return float(found["score"].where(last & (found["lr"] == lr)).mean())

    def __str__(self) -> str:
        about = self.dataset.attrs
        said = {lr: f"score {100 * self.score(lr):.1f} %" for lr in (self.useful, self.usual)}
        said = {lr: words.replace("score nan %", "not compared") for lr, words in said.items()}
        return "\n".join([
            f"largest stable LR  {self.stable:<9.3g} {about['edge']}",
            f"largest useful LR  {self.useful:<9.3g} {said[self.useful]}",
            f"usual LR           {self.usual:<9.3g} {said[self.usual]}",
            f"score: {about['criterion']}",
            f"useful: within {100 * about['tolerance']:.1f} points of the best",
            f"{self.dataset.sizes['trial']} short runs, {about['updates']:,} updates, budget "
            f"{about['budget']}, {about['seconds']:.0f} s",
            *filter(None, [about["note"]]),
        ])  # fmt: skip


def largest_lr(
    model: str | Callable[[], nn.Module],
    dataset: BiasedDataset,
    config: TrainConfig | None = None,
    *,
    budget: int | str | None = None,
    lrs: tuple[float, float] | None = None,
    seeds: Iterable[int] = (0, 1),
    tolerance: float = 0.02,
    usual: float = USUAL,
    store: str | Path | None = None,
    device: torch.device | str | None = None,
    engine: str = "auto",
    progress: bool = True,
) -> LargestLR:
    """Find the largest stable and the largest useful LR of a network, from its training data.

    model: a factory of networks, or a name as in `fit`. config: all training settings but the LR
    (with a schedule, its peak). budget: number of updates for all short runs together, or a time
    such as "10 min"; default: the updates of 20 epochs. lrs: the range to search, by default 1e-4
    to 10 for SGD and 1e-6 to 0.3 for other optimizers. seeds: training seeds; an LR is stable only
    if all of them train. tolerance: how far the score of a larger LR may fall below the best, as a
    fraction; at least one standard error of the best score is allowed. usual: an LR to compare
    with. store: netCDF file that keeps the short runs; the same call resumes from it. device,
    engine, progress: as in `fit`.

    A run is unstable if it diverges, if its loss ends above its start, or if it predicts no better
    than the largest class where a smaller LR does. The score is measured on the validation split
    or, without one, on a fifth of the training samples: the accuracy of the worst group where bias
    labels are known (groups of class and bias value if each has 10 samples, else aligned and
    conflicting samples), otherwise the accuracy. Test samples are never used.

    Raises ValueError if no LR in the range is stable, saying what was seen; if the budget does not
    suffice for runs of 10 updates; if the store belongs to another call; and as `fit` does.
    """
    if isinstance(model, nn.Module):
        raise ValueError("many networks are trained: give a factory, as in lambda: MyModel()")
    arguments.factory(model, dataset, {})
    config = TrainConfig() if config is None else config
    if not isinstance(config, TrainConfig):
        raise ValueError(f"config must be a TrainConfig, found {shown(config)}")
    if not is_number(tolerance) or not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be a share in [0, 1), found {shown(tolerance)}")
    low, high = _range(lrs, config)
    usual = dataclasses.replace(config, lr=usual).lr
    own = arguments.some("seeds", seeds, 0)
    place = None if store is None else errors.path("store", store)
    runs = ShortRuns(model, dataset, config, budget, place, device, engine, progress)
    note = ""
    try:
        _compare(runs, _edge(runs, low, high, own), low, usual, own)
    except TimeLimit:
        note = "the time was over before all LRs were compared"
    finally:
        runs.display.close()
    return _answer(runs, low, high, usual, float(plain(tolerance)), note)


def _range(given: tuple[float, float] | None, config: TrainConfig) -> tuple[float, float]:
    if given is None:
        return RANGES.get(config.optimizer, RANGE)
    ends = [plain(lr) for lr in given] if isinstance(given, tuple | list) else []
    if len(ends) != 2 or not all(is_number(lr) for lr in ends) or not 0 < ends[0] < ends[1]:
        raise ValueError(f"lrs must be the lowest and the highest LR, found {shown(given)}")
    return float(ends[0]), float(ends[1])


def _edge(runs: ShortRuns, low: float, high: float, seeds: list[int]) -> float:
    """The largest LR with which all seeds train."""
    if math.isnan(runs.left):
        runs.train("pace", [(low, seeds[0])], LEAST_STEPS)
    steps = int(EDGE * runs.left / (EDGE_RUNS * len(seeds)))
    if steps < LEAST_STEPS:
        least = math.ceil(LEAST_STEPS * EDGE_RUNS * len(seeds) / EDGE)
        raise ValueError(
            f"the budget holds short runs of {steps} updates: give {least:,} updates or more, as "
            "much time, or fewer seeds"
        )
    ladder = [*(high / LADDER**k for k in range(_between(low, high))), low]
    for some in (ladder[i : i + AT_ONCE] for i in range(0, len(ladder), AT_ONCE)):
        runs.train("edge", [(lr, seeds[0]) for lr in some], steps)
        if any(runs.learned(row) and row["lr"] not in failed(runs) for row in runs.rows):
            break
    for _ in range(ROUNDS):
        below, above = _bracket(runs, low)
        inside = np.geomspace(below, above, BETWEEN + 2)[1:-1].tolist() if above > below else []
        runs.train("edge", _untried(runs, [below, *inside], seeds), steps)
    while todo := _untried(runs, [_bracket(runs, low)[0]], seeds):
        runs.train("edge", todo, steps)
    return _bracket(runs, low)[0]


def _between(low: float, high: float) -> int:
    """Factors of the ladder between two LRs, the last of them may be a part."""
    return math.ceil(math.log(high / low) / math.log(LADDER) - 1e-9)


def _untried(runs: ShortRuns, lrs: list[float], seeds: list[int]) -> list[tuple[float, int]]:
    tried = {(row["lr"], row["seed"]) for row in runs.rows if row["stage"] == "edge"}
    return [pair for lr in lrs for seed in seeds if (pair := (lr, seed)) not in tried]


def failed(runs: ShortRuns) -> dict[float, str]:
    """LRs with which a seed did not train, from the smallest, and what was seen."""
    learned = [row["lr"] for row in runs.rows if runs.learned(row)]
    found: dict[float, str] = {}
    for row in sorted(runs.rows, key=lambda row: row["lr"]):
        why = ""
        if row["status"] == "diverged":
            why = "diverged"
        elif row["last_loss"] > RISE * row["first_loss"]:
            why = f"loss rose from {row['first_loss']:.3g} to {row['last_loss']:.3g}"
        elif not runs.learned(row) and row["lr"] > min(learned, default=math.inf):
            why = f"accuracy of {100 * row['train_accuracy']:.1f} % is no better than chance"
        if why:
            found.setdefault(row["lr"], f"{why} (seed {row['seed']}, {row['steps']} updates)")
    return found


def _bracket(runs: ShortRuns, low: float) -> tuple[float, float]:
    """The largest LR below all that failed, and the smallest of those; twice it, if none did."""
    bad = failed(runs)
    above = min(bad, default=math.inf)
    good = [row["lr"] for row in runs.rows if row["stage"] != "pace" and row["lr"] < above]
    if good:
        return max(good), above if bad else max(good)
    if above / LADDER < low:
        if not any(math.isfinite(row["first_loss"]) for row in runs.rows):
            raise ValueError(
                "the loss is not finite at the first mini-batch, whatever the LR: look at the "
                "data's values, mean and std, and at the network's first outputs"
            )
        raise ValueError(
            f"no LR is stable: at {above:.3g}, the lowest that was tried, {bad[above]}; give lower "
            "ones, as in lrs=(1e-8, 1e-4), or look at the data and the labels"
        )
    return above / LADDER, above


def _compare(runs: ShortRuns, edge: float, low: float, usual: float, seeds: list[int]) -> None:
    """Successive halving from the edge down; LRs that fail in these longer runs lower it."""
    lrs = [lr for k in range(CANDIDATES) if (lr := edge / STEP**k) >= low or k == 0]
    steps = int(runs.left / 2 / (len(lrs) * len(seeds)))
    if not steps >= LEAST_STEPS:
        return
    runs.train("compare", list(itertools.product(lrs, seeds)), steps)
    stable, _ = _bracket(runs, low)
    scores = {lr: one for lr, one in _scores(runs).items() if lr <= stable}
    if not scores:
        return _compare(runs, stable, low, usual, seeds)
    best, tolerance = max(scores.values()), max(s.error for s in scores.values())
    near = [lr for lr, one in scores.items() if one.score >= best.score - tolerance]
    # of LRs that the score does not tell apart: the one that trains fastest, and the largest
    fastest = min(near, key=lambda lr: scores[lr].loss)
    chosen = dict.fromkeys([fastest, max(near), *sorted(scores, key=scores.__getitem__)[::-1]])
    last = dict.fromkeys([*list(chosen)[:2], usual])
    steps = int(runs.left / (len(last) * len(seeds)))
    if steps >= LEAST_STEPS:
        runs.train("compare", list(itertools.product(last, seeds)), steps)


class Score(NamedTuple):
    """Of an LR, means over seeds: the score, its standard error, the loss at the end."""

    score: float
    error: float
    loss: float


def _scores(runs: ShortRuns) -> dict[float, Score]:
    """Of the last group that compared LRs, by LR; NaN where a seed diverged."""
    rows = [row for row in runs.rows if row["stage"] == "compare"]
    rows = [row for row in rows if row["group"] == rows[-1]["group"]]
    names = ("score", "score_error", "loss")
    # a run that converged ended early: its loss is of fewer updates, with nothing left to gain
    rows = [row | {"loss": row["last_loss"] * (row["status"] != "converged")} for row in rows]
    found: dict[float, Score] = {}
    for lr in {row["lr"] for row in rows}:
        values = [[row[name] for name in names] for row in rows if row["lr"] == lr]
        score, error, loss = np.mean(values, 0).tolist()
        found[lr] = Score(score, error / math.sqrt(len(values)), loss)
    return found


def _short(runs: ShortRuns) -> list[str]:
    """What is said of short runs that are too short to tell much."""
    steps = max(row["steps"] for row in runs.rows if row["stage"] == "edge")
    enough = steps >= TOLD or any(row["status"] == "converged" for row in runs.rows)
    return [] if enough else [
        f"the edge was looked for by runs of {steps} updates, in which a good LR may look like one "
        "that does not train: give a larger budget"
    ]  # fmt: skip


def _answer(
    runs: ShortRuns, low: float, high: float, usual: float, tolerance: float, note: str
) -> LargestLR:
    stable, above = _bracket(runs, low)
    bad, useful = failed(runs), stable
    edge = "the top of the range: give higher lrs" if stable == high else ""
    if above > stable:
        edge = f"at {above:.3g}: {bad[above]}"
    scores = {lr: one for lr, one in _scores(runs).items() if lr <= stable and lr not in bad}
    others = {lr: one for lr, one in scores.items() if lr != usual} or scores
    if others:
        best = max(others.values())
        tolerance = max(tolerance, best.error)
        if usual in scores and (more := scores[usual].score - best.score) > tolerance:
            note = note or f"the usual LR scores higher than all others, by {100 * more:.1f} points"
        near = min(one.loss for one in others.values() if one.score >= best.score - tolerance)
        useful = max(
            lr for lr, one in others.items()
            if one.score >= best.score - tolerance and one.loss <= SLOWER * near
        )  # fmt: skip
    else:
        note = note or "the budget was used before LRs were compared: useful is the largest stable"
    notes = [note, *_short(runs)]
    found = runs.dataset()
    found.attrs |= {
        "stable": stable, "useful": useful, "usual": usual, "edge": edge, "tolerance": tolerance,
        "note": "; ".join(filter(None, notes)),
    }  # fmt: skip
    if runs.store is not None:
        results.save(found, runs.store)
    return LargestLR(stable, useful, usual, found)
