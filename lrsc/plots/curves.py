"""Curves of measures over the learning rate, and of accuracy over the share pruned."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc import errors
from lrsc.plots import words
from lrsc.plots.frame import SMALL, TEXT, legend_above, lr_axis, new_figure, say_empty

AS_WIDE = 50  # characters of a title that a panel has room for
_ORDER_MARKERS = "osD^v"


def normalised_curves(ds: xr.Dataset, variables: Sequence[str] = words.MAIN):
    """Mean over seeds of each variable against LR, scaled so that its curve spans 0 to 1.

    ``ds``: a long-form experiment of one data set and model. The band is one standard deviation
    over seeds, scaled with the constants of the curve; the legend prints the unscaled ends of the
    curve. A flat curve is drawn at 0.5. Raises ValueError if ``ds`` holds no run, several data
    sets or models, or lacks a variable. Source: the manner of figures 3, 4, 5, 15 and 16.
    """
    words.check(ds, variables)
    figure, (axes,) = new_figure(1, 3.3)
    for name in variables:
        label, colour, marker = words.style(ds, name)
        lrs, mean, sd = words.by_lr(ds, name)
        if not np.isfinite(mean).any():
            axes.plot([], [], color=colour, marker=marker, label=f"{label}: no value")
            continue
        low, high = np.nanmin(mean), np.nanmax(mean)
        curve = (mean - low) / (high - low) if high > low else mean - low + 0.5
        band = sd / (high - low) if high > low else np.zeros_like(sd)
        ends = words.number(name, high)
        if high > low:
            ends = f"{words.number(name, low).removesuffix(' %')} to {ends}"
        text = textwrap.fill(f"{label}: {ends}", AS_WIDE)
        axes.plot(lrs, curve, color=colour, marker=marker, label=text)
        axes.fill_between(lrs, curve - band, curve + band, color=colour, alpha=0.18, lw=0)
    axes.set_ylabel("min-max normalised", fontsize=TEXT)
    axes.set_yticks([0, 0.5, 1])
    if len(np.unique(ds["lr"].values)) == 1:
        axes.set_ylim(0, 1)
        axes.text(0.5, 0.85, f"one {words.axis_name(ds)}: no curve to scale", ha="center",
                  fontsize=SMALL, transform=axes.transAxes)  # fmt: skip
    lr_axis(axes, ds)
    _mark_failed(axes, ds, variables)
    legend_above(figure)
    figure.set_label(
        f"Line plot over the {words.axis_name(ds)} (log axis), {words.pair(ds)}; "
        "every curve is scaled to 0..1. " + " ".join(words.trend(ds, name) for name in variables)
    )
    return figure


def plain_curves(
    ds: xr.Dataset,
    variables: Sequence[str] = words.MAIN,
    reference: Mapping[str, tuple[float, float]] | None = None,
):
    """The same variables in their own units, one panel each: mean, spread and every single run.

    The band is one standard deviation over seeds; each dot is a run; a run without a value, such
    as a diverged one, is a cross on the lower edge at its LR; a collapsed one is a ring.
    ``reference``: variable -> (low, high) as fractions, drawn as a grey range. Accuracies are
    drawn in percent, as their axes say. Raises ValueError as ``normalised_curves``.
    """
    words.check(ds, variables)
    figure, panels = new_figure(len(variables), 1.75)
    collapsed = ds["status"].values == "collapsed"
    for axes, name in zip(panels, variables, strict=True):
        colour, scale = words.style(ds, name)[1], 100 if words.is_percent(name) else 1
        lrs, mean, sd = words.by_lr(ds, name)
        mean, sd, values = scale * mean, scale * sd, scale * ds[name].values
        if reference and name in reference:
            low, high = reference[name]
            axes.axhspan(scale * low, scale * high, color="0.9", zorder=0, label="paper, table S1")
        axes.fill_between(lrs, mean - sd, mean + sd, color=colour, alpha=0.18, lw=0)
        axes.plot(lrs, mean, "_-", color=colour, lw=1.6, ms=12)
        axes.plot(ds["lr"].values, values, ".", color=colour, ms=6, alpha=0.8)
        axes.plot(
            ds["lr"].values[collapsed], values[collapsed], "o", ms=10, mfc="none", mec="black"
        )
        title = textwrap.fill(words.heading(name, ds), AS_WIDE)
        axes.set_title(title, fontsize=TEXT, loc="left")
        axes.margins(y=0.15)
        if not np.isfinite(values).any():
            say_empty(axes)
        lr_axis(axes, ds, labelled=axes is panels[-1])
        _mark_failed(axes, ds, (name,))
    _plain_legend(figure, ds, variables, bool(reference))
    figure.set_label(
        f"{len(variables)} stacked line plots over the {words.axis_name(ds)} (log axis), "
        f"{words.pair(ds)}, in plain units, with a dot for every run. "
        + " ".join(words.trend(ds, name) for name in variables)
    )
    return figure


def pruning_curves(ds: xr.Dataset, method: str = "column"):
    """Unbiased accuracy (%) against the share of pruned parameters kappa, one line an LR.

    Lines are means over seeds, bands one standard deviation; kappa = 0 is the unpruned network.
    ``method``: ``column`` or ``magnitude``. Source: figures 21 and 22.
    """
    name = f"accuracy_pruned_{method}"
    found = [str(v).removeprefix("accuracy_pruned_") for v in ds.data_vars if "pruned_" in str(v)]
    if name not in ds.data_vars:
        raise errors.unknown("pruning method", method, found)
    words.check(ds, (name,))
    from matplotlib import colormaps

    figure, (axes,) = new_figure(1, 3.6)
    kappas = np.concatenate([[0.0], ds["kappa"].values])
    curves = 100 * np.column_stack([ds["unbiased_accuracy"].values, ds[name].values])
    lrs = np.unique(ds["lr"].values)
    colours = colormaps["plasma"](np.linspace(0, 0.78, len(lrs)))
    drawn = np.isfinite(curves).all(axis=1)
    for lr, colour in zip(lrs, colours, strict=True):
        rows = curves[(ds["lr"].values == lr) & drawn]
        if not len(rows):
            continue
        mean, sd = words.mean_and_sd(rows)
        axes.plot(kappas, mean, color=colour, marker=".", lw=1.6)
        axes.fill_between(kappas, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
    axes.set_ylabel("unbiased accuracy (%)", fontsize=TEXT)
    axes.set_xticks(np.arange(0, 1, 0.2))
    axes.set_xlim(-0.03, kappas[-1] + 0.03)
    label = rf"share of parameters pruned ($\kappa$), {method} pruning"
    if not drawn.all():
        label += f"\n{(~drawn).sum()} of {len(drawn)} runs have no curve (no value or diverged)"
    axes.set_xlabel(label, fontsize=TEXT)
    if not drawn.any():
        say_empty(axes)
    _colour_key(figure, axes, lrs, colours)
    figure.set_label(
        f"Line plot of unbiased accuracy against the share of parameters removed by {method} "
        f"pruning, {words.pair(ds)}, one line for each learning rate "
        f"({', '.join(f'{lr:g}' for lr in lrs)}). "
        + _pruning_text(ds["lr"].values[drawn], kappas, curves[drawn])
    )
    return figure


def orders(ds: xr.Dataset, name: str):
    """A (q, kappa)-compressibility against LR: a panel an order q, a line a share kept kappa.

    ``ds``: long form of one data set and model, ``name``: a variable with the dimensions run, q
    and kept. Lines are means over seeds, bands one standard deviation. Raises ValueError as
    `normalised_curves`. Source: figure 26.
    """
    words.check(ds, (name,))
    from matplotlib import colormaps

    qs, shares = ds["q"].values, ds["kept"].values
    figure, panels = new_figure(len(qs), 2.1)
    colours = colormaps["viridis"](np.linspace(0, 0.8, len(shares)))
    said = []
    for axes, q in zip(panels, qs, strict=True):
        for share, colour, marker in zip(shares, colours, _ORDER_MARKERS, strict=False):
            lrs, mean, sd = words.by_lr(ds.sel(q=q, kept=share), name)
            axes.plot(lrs, mean, color=colour, marker=marker, label=rf"$\kappa$ = {share:g}")
            axes.fill_between(lrs, mean - sd, mean + sd, color=colour, alpha=0.18, lw=0)
            known = mean[np.isfinite(mean)]
            if len(known):
                said.append(f"q = {q:g}, kappa = {share:g}: {known[0]:.3f} at the lowest, "
                            f"{known[-1]:.3f} at the highest learning rate.")  # fmt: skip
        axes.set_title(f"q = {q:g}", fontsize=TEXT, loc="left")
        if not np.isfinite(ds[name].sel(q=q).values).any():
            say_empty(axes)
        lr_axis(axes, ds, labelled=axes is panels[-1])
    legend_above(figure, panels[0], ncols=4, columnspacing=1.0, handletextpad=0.4)
    figure.supylabel("compressibility", fontsize=TEXT)
    figure.set_label(
        f"{len(qs)} stacked line plots over the learning rate (log axis), {words.pair(ds)}: "
        f"{name.replace('_', ' ')}, one line for each share of entries kept. " + " ".join(said)
    )
    return figure


def _without_value(ds: xr.Dataset, variables: Sequence[str]) -> np.ndarray:
    return ~np.isfinite(np.stack([ds[name].values for name in variables])).all(axis=0)


def _mark_failed(axes, ds: xr.Dataset, variables: Sequence[str]) -> None:
    """A cross on the lower edge for each run without a value, side by side at an LR."""
    failed = ds["lr"].values[_without_value(ds, variables)]
    for lr in np.unique(failed):
        count = int((failed == lr).sum())
        steps = (np.arange(count) - (count - 1) / 2) * 0.03
        left, right = np.log(axes.get_xlim())
        spread = lr * np.exp(steps * (right - left))
        axes.plot(
            spread, np.zeros(count), "x", color="black", ms=7, mew=1.8, clip_on=False, zorder=5,
            transform=axes.get_xaxis_transform(), label="_failed",
        )  # fmt: skip
    if len(failed) and len(variables) > 1:
        axes.plot([], [], "x", color="black", label=_failed_label(ds, variables))


def _failed_label(ds: xr.Dataset, variables: Sequence[str]) -> str:
    failed = _without_value(ds, variables)
    diverged = bool((ds["status"].values[failed] == "diverged").all())
    count = f"{int(failed.sum())} of {len(failed)} runs"
    return f"diverged ({count})" if diverged else f"no value ({count})"


def _plain_legend(figure, ds: xr.Dataset, variables: Sequence[str], reference: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    grey: Any = {"color": "0.35"}
    handles: list[Any] = [
        Line2D([], [], lw=1.6, label="mean over seeds", **grey),
        Line2D([], [], ls="", marker=".", label="one run", **grey),
    ]
    if any(words.by_lr(ds, name)[2].any() for name in variables):
        handles.insert(1, Patch(alpha=0.3, lw=0, label="± 1 standard deviation", **grey))
    if reference:
        handles.append(Patch(color="0.9", label="paper's range (table S1)"))
    ring: Any = {"mfc": "none", "mec": "black", "ms": 9}
    if (ds["status"].values == "collapsed").any():
        handles.append(Line2D([], [], ls="", marker="o", label="collapsed", **ring))
    if _without_value(ds, variables).any():
        label = _failed_label(ds, variables)
        handles.append(Line2D([], [], ls="", marker="x", color="black", label=label))
    legend_above(figure, handles=handles, ncols=2, columnspacing=1.0)


def _colour_key(figure, axes, lrs: np.ndarray, colours: np.ndarray) -> None:
    """One block of colour an LR above the axes, labelled in its middle."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    edges = np.arange(len(lrs) + 1)
    mappable = ScalarMappable(BoundaryNorm(edges, len(lrs)), ListedColormap(colours))
    bar = figure.colorbar(mappable, ax=axes, location="top", aspect=30, pad=0.03)
    step = -(-len(lrs) // 8)
    shown = [f"{lr:.3g}" if i % step == 0 else "" for i, lr in enumerate(lrs)]
    bar.set_ticks(edges[:-1] + 0.5, labels=shown)
    bar.ax.tick_params(labelsize=SMALL, length=0)
    bar.set_label("learning rate", fontsize=TEXT)


def _pruning_text(lr: np.ndarray, kappas: np.ndarray, curves: np.ndarray) -> str:
    if not len(lr):
        return "No run has a curve."
    middle = int(np.argmin(abs(kappas - 0.5)))
    ends = sorted({lr.min(), lr.max()})
    return " ".join(
        f"At learning rate {each:g} accuracy is {curves[lr == each, 0].mean():.1f} % unpruned and "
        f"{curves[lr == each, middle].mean():.1f} % with a share of {kappas[middle]:g} removed."
        for each in ends
    )
