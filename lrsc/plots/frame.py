"""The frame of a figure: its size, panels, the axis of learning rates."""

import numpy as np
import xarray as xr

from lrsc.plots.words import axis_name

WIDTH = 5.0  # inches
TEXT, SMALL = 11, 10  # points


def new_figure(rows: int, height: float, columns: int = 1):
    """A figure of stacked panels, each ``height`` inches high; in several columns row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height * rows + 0.9), layout="constrained", dpi=100)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.grid(color="0.9", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=SMALL)
    return figure, panels


def lr_axis(axes, ds: xr.Dataset, labelled: bool = True) -> None:
    """Log axis with a tick at each LR, labels only as dense as they are legible."""
    lrs = np.unique(ds["lr"].values)
    axes.set_xscale("log")
    span = max(np.log(lrs[-1] / lrs[0]), np.log(4.0))
    centre = np.sqrt(lrs[0] * lrs[-1])
    axes.set_xlim(centre * np.exp(-0.54 * span), centre * np.exp(0.54 * span))
    shown = [lrs[-1]]
    for lr in lrs[-2::-1]:  # from the top, where the effects are
        far = np.log(shown[-1] / lr) > 0.13 * span
        if far:
            shown.append(lr)
    axes.set_xticks(lrs, [f"{lr:.3g}" if lr in shown else "" for lr in lrs])
    axes.set_xticks([], minor=True)
    if labelled:
        axes.set_xlabel(f"{axis_name(ds)} (log axis)", fontsize=TEXT)
    else:
        axes.tick_params(labelbottom=False)


def legend_above(figure, axes=None, handles=None, ncols: int = 1, **spacing: float) -> None:
    """The figure's legend above its panels: of all of them, of one's lines, or of given handles."""
    if axes is not None:
        handles = axes.get_legend_handles_labels()[0]
    chosen = {} if handles is None else {"handles": handles}
    figure.legend(
        loc="outside upper left", ncols=ncols, fontsize=SMALL, frameon=False, borderaxespad=0.2,
        **chosen, **spacing,
    )  # fmt: skip


def bare(axes) -> None:
    """Without ticks and frame, for a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def picture(x: np.ndarray) -> np.ndarray:
    """C x H x W, bytes or floats of any range, as an array that imshow takes."""
    x = np.moveaxis(x, 0, -1)
    if x.dtype != np.uint8:
        low, high = min(x.min(), 0.0), max(x.max(), 1.0)
        x = (x - low) / (high - low)
    return x.repeat(3, axis=-1) if x.shape[-1] == 1 else x


def say_empty(axes, text: str = "no run has a value") -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", fontsize=TEXT)
    axes.set_yticks([])
