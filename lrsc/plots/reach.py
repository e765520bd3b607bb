"""Figures of one's own network: scores of short runs against the LR."""

import numpy as np
import xarray as xr

from lrsc.plots.frame import SMALL, TEXT, legend_above, lr_axis, new_figure


def largest_lr(ds: xr.Dataset):
    """Training accuracy and score of the short runs of `lrsc.largest_lr` against the LR.

    Those that compared LRs are filled; of others the score is left out, since they are shorter.
    Lines: the largest stable LR, the largest useful one and the usual one.
    """
    figure, panels = new_figure(2, 2.3)
    compared = ds["stage"].values == "compare"
    last = compared & (ds["group"] == ds["group"].where(compared).max()).values
    for axes, name, label in zip(
        panels, ("train_accuracy", "score"), ("training accuracy (%)", "score (%)"), strict=True
    ):
        for rows, words, style in (
            (~compared, "short runs that look for the edge", {"mfc": "none", "color": "0.55"}),
            (compared & ~last, "runs that compare LRs, first round", {"color": "C0", "alpha": 0.5}),
            (last, "the same, last round (the longest)", {"color": "C0"}),
        ):
            if name == "train_accuracy" or words[0] != "s":
                values = 100 * ds[name].values[rows]
                axes.plot(ds["lr"].values[rows], values, "o", ms=6, label=words, **style)
        lost = ds["train_accuracy"].isnull().values
        axes.plot(
            ds["lr"].values[lost], np.zeros(lost.sum()), "x", color="C3", ms=7, label="diverged",
            clip_on=False,
        )  # fmt: skip
        for key, words, line in (
            ("stable", "largest stable LR", ":"), ("useful", "largest useful LR", "-"),
            ("usual", "usual LR", "--"),
        ):  # fmt: skip
            axes.axvline(ds.attrs[key], color="0.25", ls=line, lw=1.3, label=words)
        lr_axis(axes, _marks(ds), labelled=axes is panels[-1])
        axes.set_ylabel(label, fontsize=TEXT)
        axes.set_ylim(-4, 104)
    panels[1].text(
        0, -0.42, f"score: {ds.attrs['criterion']}", transform=panels[1].transAxes, fontsize=SMALL,
        wrap=True, va="top",
    )  # fmt: skip
    legend_above(figure, panels[0], ncols=2)
    figure.set_label(
        f"Short runs against the learning rate: largest stable {ds.attrs['stable']:.3g}, largest "
        f"useful {ds.attrs['useful']:.3g}, usual {ds.attrs['usual']:.3g}."
    )
    return figure


def _marks(ds: xr.Dataset) -> xr.Dataset:
    """The powers of ten around the LRs, which the axis shows."""
    low, high = np.log10([ds["lr"].values.min(), ds["lr"].values.max()])
    marks = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)
    return xr.Dataset(coords={"lr": ("run", marks)})
