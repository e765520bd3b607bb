"""Curves of measures over the learning rate, and of accuracy over the share pruned."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc import errors
from lrsc.plots import words
from lrsc.plots.frame import (
    SMALL,
    TEXT,
    legend_above,
    lr_axis,
    new_figure,
    say_empty,
    title_over,
)

LEAST_LRS = 3  # from which a curve can be normalised
COLUMNS = 3  # more rows of results than this stand one below the other
_WIDE = {1: 70, 2: 34, 3: 18}  # columns of a figure -> characters that a title has room for
_NORMALISED = ""  # stands for the panel of normalised curves among the names of variables
_LEAST_SPAN = 0.05  # of an axis, so that noise does not fill a panel
_ORDER_MARKERS = "osD^v"
_PAPER: Any = {"fc": "none", "ec": "0.8", "hatch": "///", "lw": 0.8}  # unlike a band of seeds
Runs = xr.Dataset | Iterable[xr.Dataset]


def curves(ds: Runs, variables: Sequence[str] = words.MAIN):
    """Mean over seeds of each variable against LR, with its spread and every single run.

    ``ds``: an experiment in long form, or several. Rows of one data set, network and size are drawn
    apart: up to three side by side, with their panels below one another; more below one another,
    with panels side by side and one LR axis. Bands are one standard deviation over seeds; a run
    without a value, such as a diverged one, is a cross on the lower edge; a collapsed one is a
    ring; a hatched range is table S1's. Up to three rows, if all have three LRs or more, also get a
    panel each of normalised curves, of the main variables if there are any: each curve is scaled to
    span 0 to 1; one that changes by less than seeds do is dashed, in the middle. Accuracies are in
    percent. Raises ValueError if ``ds`` holds no run or lacks a variable. Source: in the manner of
    figures 3, 4, 5, 15 and 16.
    """
    rows = words.rows_of(ds)
    for row in rows:
        words.check(row, variables)
    stacked = len(rows) > COLUMNS
    scaled = not stacked and all(len(np.unique(row["lr"].values)) >= LEAST_LRS for row in rows)
    names = [*([_NORMALISED] if scaled else []), *variables]
    main = [name for name in variables if name in words.MAIN] or list(variables)
    cells = [[(row, name) for name in names] for row in rows]
    if len(rows) == 1:
        wide = len(names) if len(names) < 4 else 2 if len(names) == 4 else 3
        cells = [cells[0][i : i + wide] for i in range(0, len(names), wide)]
    elif not stacked:
        cells = [list(column) for column in zip(*cells, strict=True)]
    wide = len(cells[0])
    handles = _handles(rows, variables, main, scaled, stacked)
    height = 0.98 if stacked else 1.15 if len(rows) > 1 else 1.45 if len(cells) > 1 else 1.9
    more = 0.18 * max(0, len(handles) - 4) / 2 / len(cells)  # for the legend
    figure, panels = new_figure(len(cells), height + more, wide)
    panels = panels.reshape(len(cells), wide)
    for i, line in enumerate(cells):
        for axes, (row, name) in zip(panels[i], line, strict=False):
            if name == _NORMALISED:
                _draw_normalised(axes, row, main)
            else:
                _draw_plain(axes, row, name)
            lowest = panels[i + 1 :].size == 0 or axes not in panels[i, : len(cells[i + 1])]
            lr_axis(axes, row, lowest, 0.13 * wide)
        for axes in panels[i, len(line) :]:
            axes.set_axis_off()
        _set_titles(panels[i], line, rows, i == 0)
    if stacked:
        _share_lrs(panels, rows)
    labels = [words.axis_name(row) for row in rows]
    if len(set(labels)) == 1:
        figure.supxlabel(f"{labels[0]} (log axis)", fontsize=SMALL)
    else:
        for axes, label in zip(panels[-1], labels, strict=False):
            axes.set_xlabel(textwrap.fill(label, _WIDE.get(wide, 20)), fontsize=SMALL)
    legend_above(figure, handles=handles, ncols=2)
    figure.set_label(_text(rows, variables, scaled))
    return figure


def _draw_normalised(axes, row: xr.Dataset, variables: Sequence[str]) -> None:
    for name in variables:
        _, colour, marker = words.style(row, name)
        lrs, mean, sd = words.by_lr(row, name)
        flat = words.is_flat(row, name)
        low, span = (np.nanmin(mean), np.nanmax(mean) - np.nanmin(mean)) if not flat else (0, 1)
        curve, band = (np.full(len(lrs), 0.5), 0 * sd) if flat else ((mean - low) / span, sd / span)
        curve = np.where(np.isfinite(mean), curve, np.nan)
        axes.plot(lrs, curve, "--" if flat else "-", color=colour, marker=marker, ms=5, lw=1.6)
        axes.fill_between(lrs, curve - band, curve + band, color=colour, alpha=0.15, lw=0)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylim(-0.25, 1.25)
    _mark_failed(axes, row, variables)


def _draw_plain(axes, row: xr.Dataset, name: str) -> None:
    (_, colour, marker), scale = words.style(row, name), 100 if words.is_percent(name) else 1
    lrs, mean, sd = words.by_lr(row, name)
    mean, sd, values = scale * mean, scale * sd, scale * row[name].values
    if name in (paper := words.paper_range(row)):
        axes.axhspan(*(scale * end for end in paper[name]), zorder=0, **_PAPER)
    axes.fill_between(lrs, mean - sd, mean + sd, color=colour, alpha=0.18, lw=0)
    axes.plot(lrs, mean, color=colour, lw=1.6, marker=marker, ms=5)
    axes.plot(row["lr"].values, values, ".", color=colour, ms=4, alpha=0.7)
    collapsed = row["status"].values == "collapsed"
    axes.plot(row["lr"].values[collapsed], values[collapsed], "o", ms=10, mfc="none", mec="black")
    axes.margins(y=0.15)
    if not np.isfinite(values).any():
        say_empty(axes)
    low, high = axes.get_ylim()
    more = max(0.0, scale * _LEAST_SPAN - (high - low)) / 2
    axes.set_ylim(low - more, high + more)
    _mark_failed(axes, row, (name,))


def _set_titles(panels, line, rows: list[xr.Dataset], first: bool) -> None:
    """Of one row of results the variables; of several their names above, or before, these."""
    wide = len(panels)
    dataset = str(rows[0]["dataset"].values[0])
    same = dataset if len({str(row["dataset"].values[0]) for row in rows}) == 1 else ""
    for k, (axes, (row, name)) in enumerate(zip(panels, line, strict=False)):
        about = words.heading(name, row) if name else "Normalised to 0..1"
        width = _WIDE.get(wide, 18)
        if len(rows) > COLUMNS:
            if k == 0:
                title_over(axes, words.row_name(row, same))
            continue
        if len(rows) > 1:
            title = "" if k else about
            if first:
                title = textwrap.fill(words.row_name(row, same), width) + f"\n{title}"
        else:
            title = textwrap.fill(about, width)
        axes.set_title(title, fontsize=SMALL, loc="left")


def _share_lrs(panels, rows: list[xr.Dataset]) -> None:
    """One axis of LRs for all panels, with a label a decade."""
    lrs = np.concatenate([row["lr"].values for row in rows])
    ticks = 10.0 ** np.arange(np.floor(np.log10(lrs.min())), np.ceil(np.log10(lrs.max())) + 1)
    for axes in panels.flat:
        axes.set_xlim(lrs.min() / 1.5, lrs.max() * 1.5)
        shown = [t for t in ticks if lrs.min() / 1.5 <= t <= lrs.max() * 1.5]
        axes.set_xticks(shown, [f"{t:g}" if i % 2 == 0 else "" for i, t in enumerate(shown)])


def _handles(rows, variables: Sequence[str], main, scaled: bool, stacked: bool) -> list:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    grey: Any = {"color": "0.35"}
    handles: list[Any] = []
    for name in variables if stacked else main if scaled else ():
        _, colour, marker = words.style(rows[0], name)
        label = textwrap.fill(words.heading(name, rows[0]), 32)
        handles.append(Line2D([], [], color=colour, marker=marker, ms=5, label=label))
    handles.append(Line2D([], [], lw=1.6, label="mean over seeds", **grey))
    if any(words.by_lr(row, name)[2].any() for row in rows for name in variables):
        handles.append(Patch(alpha=0.3, lw=0, label="± 1 standard deviation", **grey))
    handles.append(Line2D([], [], ls="", marker=".", label="one run", **grey))
    if any(name in words.paper_range(row) for row in rows for name in variables):
        handles.append(Patch(label="paper's range (table S1)", **_PAPER))
    if scaled and any(words.is_flat(row, name) for row in rows for name in main):
        handles.append(Line2D([], [], ls="--", label="flat: within the spread of seeds", **grey))
    status = np.concatenate([row["status"].values for row in rows])
    if (status == "collapsed").any():
        handles.append(Line2D([], [], ls="", marker="o", mfc="none", mec="black", ms=9,
                              label="collapsed"))  # fmt: skip
    failed = np.concatenate([_without_value(row, variables) for row in rows])
    if failed.any():
        why = "diverged" if (status[failed] == "diverged").all() else "no value"
        label = f"{why} ({failed.sum()} of {len(failed)} runs)"
        handles.append(Line2D([], [], ls="", marker="x", color="black", label=label))
    return handles


def _text(rows: list[xr.Dataset], variables: Sequence[str], scaled: bool) -> str:
    axis = " or ".join(dict.fromkeys(words.axis_name(row) for row in rows))
    flat = [
        f"{words.style(row, name)[0]} of {words.row_name(row)} changes by less than seeds do."
        for row in rows for name in variables
        if len(np.unique(row["lr"].values)) >= LEAST_LRS and words.is_flat(row, name)
    ]  # fmt: skip
    said = [
        f"{words.row_name(row)}: " + " ".join(words.trend(row, name) for name in variables)
        for row in rows
    ]
    return (
        f"Line plots over the {axis} (log axis), in plain units, with a dot for every run"
        f"{', and of curves scaled to 0..1' if scaled else ''}. " + " ".join([*said, *flat])
    )


def _without_value(ds: xr.Dataset, variables: Sequence[str]) -> np.ndarray:
    return ~np.isfinite(np.stack([ds[name].values for name in variables])).all(axis=0)


def _mark_failed(axes, ds: xr.Dataset, variables: Sequence[str]) -> None:
    """A cross on the lower edge for each run without a value, side by side at an LR."""
    failed = ds["lr"].values[_without_value(ds, variables)]
    for lr in np.unique(failed):
        count = int((failed == lr).sum())
        steps = (np.arange(count) - (count - 1) / 2) * 0.03
        lrs = ds["lr"].values
        spread = lr * np.exp(steps * max(np.log(lrs.max() / lrs.min()), np.log(4.0)))
        axes.plot(
            spread, np.zeros(count), "x", color="black", ms=6, mew=1.6, clip_on=False, zorder=5,
            transform=axes.get_xaxis_transform(), label="_failed",
        )  # fmt: skip


def pruning_curves(ds: Runs):
    """Unbiased accuracy (%) against the share of pruned parameters kappa, one line per LR.

    There is a row of panels for each row of ``ds`` (see `curves`), with pruning by columns and by
    magnitude side by side. Lines are means over seeds, bands one standard deviation; kappa = 0 is
    the unpruned network. Source: figures 21 and 22.
    """
    rows = words.rows_of(ds)
    methods = [m for m in ("column", "magnitude") if any(f"accuracy_pruned_{m}" in r for r in rows)]
    if not methods:
        raise errors.unknown("variable", "accuracy_pruned_column", list(map(str, rows[0])))
    figure, panels = new_figure(len(rows), 1.9 if len(rows) == 1 else 1.2, len(methods))
    panels, said = panels.reshape(len(rows), len(methods)), []
    for line, row in zip(panels, rows, strict=True):
        for axes, method in zip(line, methods, strict=True):
            said.append(_draw_pruning(axes, row, method))
            axes.tick_params(labelbottom=line is panels[-1] or rows[-1] is row)
        if len(rows) > 1:
            title_over(line[0], words.row_name(row))
        line[-1].legend(
            title="LR", loc="upper left", bbox_to_anchor=(1, 1.1), frameon=False, fontsize=SMALL,
            title_fontsize=SMALL, labelspacing=0.1, handlelength=1, borderpad=0.1,
        )  # fmt: skip
    for axes, method in zip(panels[-1], methods, strict=True):
        axes.set_xlabel(f"κ, {method} pruning", fontsize=TEXT)
    figure.supylabel("unbiased accuracy (%)", fontsize=TEXT)
    figure.set_label(
        "Line plots of unbiased accuracy against the share of parameters removed, one line for "
        "each learning rate. " + " ".join(said)
    )
    return figure


def _draw_pruning(axes, row: xr.Dataset, method: str) -> str:
    """One panel; what it shows at either end of the LRs, in words."""
    from matplotlib import colormaps

    after = row.get(f"accuracy_pruned_{method}", row["unbiased_accuracy"] * np.nan * row["kappa"])
    kappas = np.concatenate([[0.0], row["kappa"].values])
    lines = 100 * np.column_stack([row["unbiased_accuracy"].values, after.values])
    drawn = np.isfinite(lines).all(axis=1)
    lrs = np.unique(row["lr"].values)
    labelled = lrs[:: -(-len(lrs) // 6)]
    said = [f"{words.row_name(row)}, {method} pruning:"]
    for lr, colour in zip(lrs, colormaps["plasma"](np.linspace(0, 0.78, len(lrs))), strict=True):
        here = lines[(row["lr"].values == lr) & drawn]
        mean, sd = words.mean_and_sd(here) if len(here) else (kappas * np.nan, kappas * 0)
        label = f"{lr:.3g}" if lr in labelled else "_"
        axes.plot(kappas, mean, color=colour, marker=".", lw=1.5, label=label)
        axes.fill_between(kappas, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
        if len(here) and lr in (lrs[0], lrs[-1]):
            half = int(np.argmin(abs(kappas - 0.5)))
            said.append(f"at learning rate {lr:g} {mean[0]:.1f} % unpruned and {mean[half]:.1f} % "
                        f"with a share of {kappas[half]:g} removed;")  # fmt: skip
    axes.set_xticks(np.arange(0, 1, 0.2))
    axes.set_xlim(-0.03, kappas[-1] + 0.03)
    if not drawn.any():
        say_empty(axes)
    said.append(f"{(~drawn).sum()} of {len(drawn)} runs have no curve.")
    return " ".join(said)


def orders(ds: Runs, name: str):
    """(q, kappa)-compressibility against LR: one panel per order q, one line per kept share kappa.

    ``ds``: as in `curves`, with a row of panels for each row; ``name``: a variable with the
    dimensions run, q and kept. Lines are means over seeds, bands one standard deviation. Raises
    ValueError as `curves` does. Source: figure 26.
    """
    from matplotlib import colormaps

    rows = words.rows_of(ds)
    for row in rows:
        words.check(row, (name,))
    qs, shares = rows[0]["q"].values, rows[0]["kept"].values
    figure, panels = new_figure(len(rows), 2.0 if len(rows) == 1 else 0.98, len(qs))
    panels, said = panels.reshape(len(rows), len(qs)), []
    colours = colormaps["viridis"](np.linspace(0, 0.8, len(shares)))
    for line, row in zip(panels, rows, strict=True):
        for axes, q in zip(line, qs, strict=True):
            for share, colour, marker in zip(shares, colours, _ORDER_MARKERS, strict=False):
                lrs, mean, sd = words.by_lr(row.sel(q=q, kept=share), name)
                axes.plot(lrs, mean, color=colour, marker=marker, ms=5, label=f"κ = {share:g}")
                axes.fill_between(lrs, mean - sd, mean + sd, color=colour, alpha=0.18, lw=0)
                known = mean[np.isfinite(mean)]
                if len(known):
                    said.append(
                        f"{words.row_name(row)}, q = {q:g}, kappa = {share:g}: {known[0]:.3f} at "
                        f"the lowest, {known[-1]:.3f} at the highest learning rate."
                    )
            if not np.isfinite(row[name].sel(q=q).values).any():
                say_empty(axes)
            lr_axis(axes, row, row is rows[-1], 0.2)
        title_over(line[0], words.row_name(row))
    for axes, q in zip(panels[-1], qs, strict=True):
        axes.set_xlabel(f"learning rate (log axis), q = {q:g}", fontsize=SMALL)
    if len(rows) > 1:
        _share_lrs(panels, rows)
    legend_above(figure, panels[0, 0], ncols=4, columnspacing=1.0, handletextpad=0.4)
    figure.supylabel("compressibility", fontsize=TEXT)
    figure.set_label(
        f"Line plots over the learning rate (log axis): {name.replace('_', ' ')}, one line for "
        "each share of entries kept. " + " ".join(said)
    )
    return figure
