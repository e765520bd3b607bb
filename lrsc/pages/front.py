"""What the front page shows: five lines and the finding in a figure, from stored results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import plots, results
from lrsc.claims import evidence, learning_rates
from lrsc.pages import answers, by_figure
from lrsc.pages.display import html_table, say, say_unread, show, show_html


def finding(root: str | Path | None = None) -> list[xr.Dataset]:
    """The rows of claims C1 to C3 that show what the LR does, one per training set size.

    A row counts if at least two LRs have a value of every main measure; quick runs never count.
    """
    opened = evidence.Open(root)
    return [
        ds for name in learning_rates.GRID for key in evidence.keys(name)
        for ds in by_figure.sizes(opened, name, key)
        if all(m in ds and _two_ends(ds, m) for m in plots.MAIN)
    ]  # fmt: skip


def show_answers(rows: Sequence[xr.Dataset]) -> None:
    """Display a verdict, and what reproduces, what does not, why, what is open, at what scale.

    rows: from `finding`; without any, displays how to make some.
    """
    say_unread()
    if not rows:
        commands = " or ".join(f"`lrsc sweep {n} --profile desk`" for n in learning_rates.GRID)
        return say(
            "**No evidence here yet.** No data set and network has been measured at two learning "
            f"rates or more. Measure one with {commands}."
        )
    found = {head: text.strip() for head, text in answers.answers(rows).items()}
    say(f"**{found.pop('In short')}**")
    say("\n".join(f"- **{head}:** {text}" for head, text in found.items() if text))


def show_finding(rows: Sequence[xr.Dataset]) -> None:
    """Display the figure with its caption, and what each row was measured with."""
    if not rows:
        return
    show(plots.finding(rows), caption=f"{changes(rows)} {_caption(rows)}")
    heads = ["Data set", "Network", "Training samples", "Learning rates", "Profile", "Seeds",
             "Runs", "Statistics of batch normalisation"]  # fmt: skip
    table = html_table(heads, [_cells(row) for row in rows])
    show_html(f"<details><summary>What each line was measured with</summary>{table}</details>")


def show_install() -> None:
    """Display how to install, with the source's address if `_config.yml` has one."""
    import yaml

    config = results.shipped_path("").parents[2] / "_config.yml"
    known = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {}
    address = (known.get("repository") or {}).get("url")
    what = f'"lrsc @ git+{address}"' if address else "."
    where = f". Source: <{address}>" if address else " in the folder of the source"
    say(f"Install it with `pip install {what}`{where}.")


def changes(rows: Sequence[xr.Dataset]) -> str:
    """In how many lines each main measure is higher at the largest LR than at the smallest."""
    parts = []
    for name in plots.MAIN:
        both = [(ends[0][1], ends[1][1]) for row in rows if (ends := plots.ends(row, name))]
        mean = float(np.mean([high - low for low, high in both]))
        by = f"{100 * mean:+.1f} points" if plots.is_percent(name) else f"{mean:+.3f}"
        label = plots.STYLES[name][0].lower()
        up = sum(high > low for low, high in both)
        parts.append(f"{label} in {up} of {len(both)} lines ({by.replace('-', '−')} on average)")
    return f"Higher at the largest learning rate than at the smallest: {', '.join(parts)}."


def _two_ends(row: xr.Dataset, name: str) -> bool:
    ends = plots.ends(row, name)
    return ends is not None and ends[0][0] < ends[1][0]


def _values(rows: Sequence[xr.Dataset], name: str) -> list[str]:
    """What the runs of all rows have of a coordinate, each once, in order."""
    return list(dict.fromkeys(str(v) for row in rows for v in row[name].values if str(v)))


def _caption(rows: Sequence[xr.Dataset]) -> str:
    files = [f"[{name}](../{name})" for name in _values(rows, "file")]
    sources = ", ".join(plots.source(name) for name in _values(rows, "source_id"))
    return (
        "A line is a network on a data set at one size of the training set (k: thousands). It goes "
        "from the mean over seeds at the smallest learning rate to that at the largest, without "
        "runs that diverged. Grey: range in the paper's table S1, over all its learning rates and "
        f"training samples. {_above_one(rows)}Source {sources}; device "
        f"{', '.join(_values(rows, 'device'))}."
        + (f" Result files: {', '.join(files)}." if files else "")
    )


def _above_one(rows: Sequence[xr.Dataset]) -> str:
    above = any((row["prunability"] > 1).any() for row in rows)
    return "Prunability above 1: pruned networks are more accurate than before. " * above


def _cells(row: xr.Dataset) -> list[str]:
    lrs, diverged = np.unique(row["lr"].values), int((row["status"] == "diverged").sum())
    runs = f"{row.sizes['run']}" + (f", of which {diverged} diverged" if diverged else "")
    return [
        *plots.names_of(row),
        plots.samples_of(row),
        f"{len(lrs)}, from {lrs[0]:g} to {lrs[-1]:g}",
        ", ".join(_values([row], "profile")),
        ", ".join(map(str, np.unique(row["seed"].values))),
        runs,
        ", ".join(_values([row], "statistics") if "statistics" in row.coords else []) or "–",
    ]
