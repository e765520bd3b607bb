"""Prunability against how far apart training has moved the norms of filters."""

import numpy as np
import xarray as xr

from lrsc.plots.frame import TEXT, legend_above, new_figure, say_empty
from lrsc.plots.mechanism import ROW_COLOURS
from lrsc.plots.words import name_of, style


def norm_spread(ds: xr.Dataset, initial: float):
    """Column prunability against the spread of the filter norms, a dot a run, sizes by LR.

    ds: long form of one model with `prunability` and `filter_norm_spread`, of any data sets, which
    colour and marker tell. initial: the spread of an untrained network, a vertical line.
    """
    figure, (axes,) = new_figure(1, 3.2)
    x, y, lr = (ds[n].values for n in ("filter_norm_spread", "prunability", "lr"))
    known = np.isfinite(x) & np.isfinite(y)
    said = []
    for k, name in enumerate(dict.fromkeys(ds["dataset"].values[known].tolist())):
        here = known & (ds["dataset"].values == name)
        span = "LR " + " to ".join(f"{v:g}" for v in sorted({lr[here].min(), lr[here].max()}))
        axes.scatter(
            x[here], y[here], s=24 + 160 * lr[here], color=ROW_COLOURS[k], marker="osD^vPX"[k % 7],
            alpha=0.75, lw=0, label=f"{name_of(str(name))}, {span}",
        )  # fmt: skip
        said.append(
            f"{name_of(str(name))}, {here.sum()} runs: spread {x[here].min():.3g} to "
            f"{x[here].max():.3g}, prunability {y[here].min():.3g} to {y[here].max():.3g}."
        )
    if said:
        axes.axvline(initial, color="0.4", lw=1.2, ls="--", label="untrained network")
        axes.set_xscale("log")
        low, high = min(initial, x[known].min()), max(initial, x[known].max())
        ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if low / 1.5 <= t <= high * 1.5]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(low / 1.3, high * 1.3)
        axes.margins(y=0.12)
        legend_above(figure)
    else:
        say_empty(axes)
    axes.set_xlabel("spread of the filter norms (log axis)", fontsize=TEXT)
    axes.set_ylabel(style(ds, "prunability")[0], fontsize=TEXT)
    figure.set_label(
        "Scatter plot of prunability by columns against the spread of the filter norms, a dot a "
        f"run; an untrained network has {initial:.3g}. " + (" ".join(said) or "No value.")
    )
    return figure
