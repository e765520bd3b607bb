"""What the front page shows: the finding in a figure and three sentences, from stored results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import experiments, plots
from lrsc.claims import evidence, learning_rates
from lrsc.config import STATISTICS
from lrsc.pages.display import say, say_unread, show, show_cells


def finding(root: str | Path | None = None) -> list[xr.Dataset]:
    """The rows that show what the LR does: those of claims C1 to C3, in the largest profile each.

    A row counts with at least three LRs that have a value of every main measure; quick runs never.
    """

    def look(found: xr.Dataset) -> dict | None:
        known = all(
            name in found and evidence.grid(found, name).shape[1] >= evidence.LRS
            for name in plots.MAIN
        )
        return {"runs": found} if known else None

    opened = evidence.Open(root)
    return [row["runs"] for row in evidence.rows(opened, learning_rates.GRID, look)]


def show_finding(rows: Sequence[xr.Dataset]) -> None:
    """Display three sentences, the figure with its caption, and what each row was measured with."""
    say_unread()
    if not rows:
        commands = " or ".join(f"`lrsc sweep {n} --profile desk`" for n in learning_rates.GRID)
        return say(
            "**No evidence here yet.** No data set and network has been measured at three learning "
            f"rates or more. Measure one with {commands}."
        )
    say("\n".join(f"- {text}" for text in sentences(rows)))
    show(plots.finding(rows), caption=_caption(rows))
    heads = ["Data set", "Network", "Learning rates", "Profile", "Training samples", "Seeds",
             "Runs", "Statistics of batch normalisation"]  # fmt: skip
    show_cells(heads, [_cells(row) for row in rows])


def show_statistics() -> None:
    """Display a sentence on what prunability depends on beside the LR, from the runs of `choices`.

    Of the ResNet18s on Colored MNIST that were measured in all statistics, at the largest LR.
    """
    row, of = ("colored_mnist", "resnet18", "settings"), {}
    for mode in STATISTICS:
        found = experiments.measured("choices", "paper", None, *row, statistics=mode)
        if found is None:
            return
        of[mode] = found
    shared = set.intersection(*(set(f["run_id"].values.tolist()) for f in of.values()))
    of = {m: f.isel(run=np.isin(f["run_id"].values, list(shared))) for m, f in of.items()}
    runs = of["running"]
    lr = float(runs["lr"].values.max())
    value = {
        mode: " and ".join(f"{v:.2f}" for v in f["prunability"].values[f["lr"].values == lr])
        for mode, f in of.items()
    }
    say(
        "- **What prunability depends on beside the learning rate:** the statistics that batch "
        "normalisation uses on the pruned network. ResNet18s on Colored MNIST, "
        f"{int(runs['n_train'].values[0]):,} training images, LR {lr:g}: {value['running']} with "
        f"the means kept in training, {value['batch']} with those of each batch, "
        f"{value['recalibrated']} with means estimated anew after pruning. "
        "[What our choices change](choices.ipynb) has more."
    )


def sentences(rows: Sequence[xr.Dataset]) -> list[str]:
    """How many rows rise from the smallest LR to the largest, by how much, and which fall."""
    rises, falls = [], []
    for name in plots.MAIN:
        both = [plots.ends(row, name) for row in rows]
        changes = [high[1] - low[1] for low, high in (b for b in both if b is not None)]
        mean = f"{np.mean(changes):+.3f}"
        if plots.is_percent(name):
            mean = f"{100 * np.mean(changes):+.1f} percentage points"
        label = plots.STYLES[name][0].lower()
        rises.append(
            f"{label} rises in {sum(c > 0 for c in changes)} of {len(rows)} networks measured "
            f"({mean.replace('-', '−')} on average)"
        )
        pairs = zip(rows, changes, strict=True)
        which = [" with ".join(plots.names_of(row)) for row, change in pairs if change <= 0]
        falls += [f"{label} does not rise for {', '.join(which)}"] if which else []
    accuracy, *others = rises
    none = "in no row does any of the three fall or stay as it is"
    return [
        f"**Robustness:** from the smallest to the largest learning rate {accuracy}.",
        f"**Compressibility:** {', and '.join(others)}.",
        f"**Where it is not so:** {'; '.join(falls) or none}.",
    ]


def _values(rows: Sequence[xr.Dataset], name: str) -> list[str]:
    """What the runs of all rows have of a coordinate, each once, in order."""
    return list(dict.fromkeys(str(v) for row in rows for v in row[name].values if str(v)))


def _caption(rows: Sequence[xr.Dataset]) -> str:
    files = [f"[{name}](../{name})" for name in _values(rows, "file")]
    sources = ", ".join(plots.source(name) for name in _values(rows, "source_id"))
    return (
        "A line is a network on a data set, as in the table below. It leads from the mean over "
        "seeds at the row's smallest learning rate to that at its largest; runs that diverged are "
        "left out. "
        f"Source {sources}; device {', '.join(_values(rows, 'device'))}."
        + (f" Result files: {', '.join(files)}." if files else "")
        + " Tests of whether this supports the paper's claims: [Scorecard](scorecard.ipynb)."
    )


def _cells(row: xr.Dataset) -> list[str]:
    lrs, diverged = np.unique(row["lr"].values), int((row["status"] == "diverged").sum())
    runs = f"{row.sizes['run']}" + (f", of which {diverged} diverged" if diverged else "")
    return [
        *plots.names_of(row),
        f"{len(lrs)}, from {lrs[0]:g} to {lrs[-1]:g}",
        ", ".join(_values([row], "profile")),
        ", ".join(f"{n:,}" for n in np.unique(row["n_train"].values)),
        ", ".join(map(str, np.unique(row["seed"].values))),
        runs,
        ", ".join(_values([row], "statistics") if "statistics" in row.coords else []) or "–",
    ]
