"""The frame of a figure: its size, panels, the axis of learning rates."""

import numpy as np
import xarray as xr

WIDTH = 5.5  # inches: the text column of a page; text of 10 points is then 9 pixels on a phone
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


def new_panels(count: int, height: float, most: int = 2):
    """A figure of so many panels, of which at most ``most`` stand side by side."""
    columns = min(most, count)
    figure, panels = new_figure(-(-count // columns), height, columns)
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def lr_axis(axes, ds: xr.Dataset, ticked: bool = True, room: float = 0.13) -> None:
    """Log axis with a tick at each LR, labels only as dense as they are legible.

    room: what a label of five characters takes of the width of the panel.
    """
    lrs = np.unique(ds["lr"].values)
    axes.set_xscale("log")
    span = max(np.log(lrs[-1] / lrs[0]), np.log(4.0))
    centre = np.sqrt(lrs[0] * lrs[-1])
    axes.set_xlim(centre * np.exp(-0.54 * span), centre * np.exp(0.54 * span))
    labels = {lr: f"{lr:.3g}" if lr < 1000 else f"{lr:,.0f}" for lr in lrs.tolist()}
    shown = [lrs[-1]]
    for lr in lrs[-2::-1]:  # from the top, where the effects are
        length = (len(labels[shown[-1]]) + len(labels[lr])) / 2
        if np.log(shown[-1] / lr) > room * span * max(1.0, length / 5):
            shown.append(lr)
    axes.set_xticks(lrs, [labels[lr] if lr in shown else "" for lr in lrs])
    axes.set_xticks([], minor=True)
    axes.tick_params(labelbottom=ticked)


def legend_above(figure, axes=None, handles=None, ncols: int = 1, **spacing: float) -> None:
    """The figure's legend above its panels: of all of them, of one's lines, or of given handles."""
    if axes is not None:
        handles = axes.get_legend_handles_labels()[0]
    chosen = {} if handles is None else {"handles": handles}
    figure.legend(
        loc="outside upper left", ncols=ncols, fontsize=SMALL, frameon=False, borderaxespad=0.2,
        **chosen, **spacing,
    )  # fmt: skip


def title_over(axes, text: str) -> None:
    """A title that may be wider than its panel, over others that have none."""
    axes.set_title(" ", fontsize=SMALL)  # keeps its height free
    wide = axes.annotate(text, (0, 1), xytext=(0, 5), xycoords="axes fraction", fontsize=SMALL,
                         textcoords="offset points")  # fmt: skip
    wide.set_in_layout(False)


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
