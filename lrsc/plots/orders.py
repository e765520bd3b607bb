"""Compressibility for several orders q of the norm and shares kappa of entries kept."""

import numpy as np
import xarray as xr

from lrsc.plots.frame import TEXT, legend_above, lr_axis, new_figure, say_empty
from lrsc.plots.words import check, pair

MARKERS = "osD^v"


def orders(ds: xr.Dataset, name: str):
    """A (q, kappa)-compressibility against LR: a panel an order q, a line a share kept kappa.

    ``ds``: long form of one data set and model, ``name``: a variable with the dimensions run, q
    and kept. Lines are means over seeds, bands one standard deviation. Raises ValueError as
    `normalised_curves`. Source: figure 26.
    """
    check(ds, (name,))
    from matplotlib import colormaps

    qs, shares = ds["q"].values, ds["kept"].values
    figure, panels = new_figure(len(qs), 2.1)
    lrs = np.unique(ds["lr"].values)
    colours = colormaps["viridis"](np.linspace(0, 0.8, len(shares)))
    said = []
    for axes, q in zip(panels, qs, strict=True):
        for share, colour, marker in zip(shares, colours, MARKERS, strict=False):
            values = ds[name].sel(q=q, kept=share).values
            groups = [values[(ds["lr"].values == lr) & np.isfinite(values)] for lr in lrs]
            mean = np.array([g.mean() if len(g) else np.nan for g in groups])
            sd = np.array([g.std(ddof=1) if len(g) > 1 else 0.0 for g in groups])
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
        f"{len(qs)} stacked line plots over the learning rate (log axis), {pair(ds)}: "
        f"{name.replace('_', ' ')}, one line for each share of entries kept. " + " ".join(said)
    )
    return figure
