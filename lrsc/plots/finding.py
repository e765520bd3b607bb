"""The figure of the front page: what the largest LR changes, in all measured rows at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc.experiments import reference
from lrsc.plots.frame import SMALL, legend_above, new_figure
from lrsc.plots.words import (
    MAIN,
    by_lr,
    check,
    ends,
    is_percent,
    names_of,
    number,
    samples_of,
    style,
)

HIGH = 0.42  # inches of a row
RISES, FALLS, PAPER = "#0072B2", "#D55E00", "0.85"
_TITLES = {"activation_compressibility": "Activation\ncompressibility"}  # as narrow as a panel


def finding(rows: Sequence[xr.Dataset], variables: Sequence[str] = MAIN):
    """Means at the smallest and largest LR, joined by a line: a panel per measure, a line per row.

    rows: long-form results, each of one data set, model and number of training samples. Small dots
    are runs at these two LRs, ticks means at the LRs between; a line without a second end has a
    value at one LR only; grey bars are the paper's ranges (table S1). Accuracies are in percent.
    Raises ValueError for no rows, and as ``curves`` does.
    """
    if not rows:
        raise ValueError("rows is empty: give the results of at least one data set and model")
    for row in rows:
        check(row, variables)
    figure, panels = new_figure(1, HIGH * len(rows) + 1.0, len(variables))
    for axes, name in zip(panels, variables, strict=True):
        for place, row in enumerate(rows):
            _draw(axes, row, name, -place)
        title = _TITLES.get(name, style(rows[0], name)[0].replace(" ", "\n"))
        title += " (%)" if is_percent(name) else ""
        axes.set_title(title, fontsize=SMALL, loc="right" if axes is panels[-1] else "left")
        axes.set(ylim=(0.6 - len(rows), 0.6), yticks=-np.arange(len(rows)), yticklabels=[])
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=2, steps=[1, 4, 5, 10])
    labels = ["\n".join(names_of(row)) + f", {_thousands(row)}" for row in rows]
    panels[0].set_yticks(-np.arange(len(rows)), labels, fontsize=SMALL)
    _legend(figure)
    figure.set_label(
        f"{len(variables)} panels side by side, with {len(rows)} lines, each from its "
        "mean at the smallest learning rate to that at the largest. "
        + " ".join(_said(row, variables) for row in rows)
    )
    return figure


def _draw(axes, row: xr.Dataset, name: str, place: int) -> None:
    scale = 100 if is_percent(name) else 1
    paper = reference(*(str(row[n].values[0]) for n in ("dataset", "model"))) or {}
    if name in paper:
        axes.plot(scale * np.array(paper[name]), [place, place], color=PAPER, lw=9,
                  solid_capstyle="butt", zorder=1)  # fmt: skip
    if (found := ends(row, name)) is None:
        return
    (low, first), (high, last) = found
    colour, head = (RISES, ">") if last >= first else (FALLS, "<")
    lrs, mean, _ = by_lr(row, name)
    between = scale * mean[(lrs > low) & (lrs < high)]
    axes.plot(between, np.full(len(between), place), "|", color="0.4", ms=7, zorder=3)
    at_ends = np.isin(row["lr"].values, (low, high))
    runs = scale * row[name].values[at_ends]
    axes.plot(runs, np.full(len(runs), place), ".", color=colour, ms=5, alpha=0.6)
    axes.plot([scale * first, scale * last], [place, place], color=colour, lw=2)
    axes.plot(scale * first, place, "o", mfc="white", mec=colour, mew=1.5, ms=6.5)
    if high > low:
        axes.plot(scale * last, place, head, color=colour, ms=8)


def _thousands(row: xr.Dataset) -> str:
    return ", ".join(f"{n / 1000:g}k" for n in np.unique(row["n_train"].values))


def _legend(figure) -> None:
    from matplotlib.lines import Line2D

    point: Any = {"ls": "", "color": "0.35"}
    handles = [
        Line2D([], [], marker="o", mfc="white", ms=6.5, label="smallest learning rate", **point),
        Line2D([], [], marker=">", ms=8, label="largest learning rate", **point),
        Line2D([], [], ls="", marker="|", color="0.4", ms=7, label="those between"),
        Line2D([], [], marker=">", color=RISES, ms=8, label="rises"),
        Line2D([], [], marker="<", color=FALLS, ms=8, label="falls"),
        Line2D([], [], marker=".", alpha=0.6, label="one run", **point),
        Line2D([], [], color=PAPER, lw=9, solid_capstyle="butt", label="the paper's range"),
    ]
    legend_above(figure, handles=handles, ncols=2, columnspacing=1.0)


def _said(row: xr.Dataset, variables: Sequence[str]) -> str:
    parts = []
    for name in variables:
        label = style(row, name)[0].lower()
        if (found := ends(row, name)) is None:
            parts.append(f"{label} without a value")
        else:
            (_, first), (_, last) = found
            parts.append(f"{label} {number(name, first)} to {number(name, last)}")
    return f"{', '.join(names_of(row))}, {samples_of(row)} samples: {', '.join(parts)}."
