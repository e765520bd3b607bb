"""Figures of one's own network: scores of short runs against the LR, and those of an audit."""

import textwrap
from collections.abc import Sequence

import numpy as np
import xarray as xr

from lrsc import experiments
from lrsc.plots.frame import (
    SMALL,
    TEXT,
    WIDTH,
    bare,
    legend_above,
    lr_axis,
    new_figure,
    picture,
)
from lrsc.plots.words import names_of


def largest_lr(ds: xr.Dataset):
    """Training accuracy and score of the short runs of `lrsc.largest_lr` against the LR.

    Runs that compared LRs are filled; the scores of the others, which are shorter, are left out.
    Lines: the largest stable LR, the largest useful one and the usual one.
    """
    figure, panels = new_figure(2, 2.3)
    for axes, name in zip(panels, ("train_accuracy", "score"), strict=True):
        _short_runs(axes, ds, name)
        for key, words, line in (
            ("stable", "largest stable LR", ":"), ("useful", "largest useful LR", "-"),
            ("usual", "usual LR", "--"),
        ):  # fmt: skip
            axes.axvline(ds.attrs[key], color="0.25", ls=line, lw=1.3, label=words)
        lr_axis(axes, _marks(ds), axes is panels[-1])
        axes.set_ylabel(f"{name.replace('train_', 'training ')} (%)", fontsize=TEXT)
        axes.set_ylim(-4, 104)
    panels[-1].set_xlabel("learning rate (log axis)", fontsize=TEXT)
    words = textwrap.fill(f"score: {ds.attrs['criterion']}", 70)
    figure.supxlabel(words, x=0.01, ha="left", fontsize=SMALL)  # for which there is room
    legend_above(figure, panels[0], ncols=2)
    figure.set_label(
        f"Short runs against the learning rate: largest stable {ds.attrs['stable']:.3g}, largest "
        f"useful {ds.attrs['useful']:.3g}, usual {ds.attrs['usual']:.3g}."
    )
    return figure


def _short_runs(axes, ds: xr.Dataset, name: str) -> None:
    """One measure of the short runs; crosses at 0 for those that diverged."""
    compared = ds["stage"].values == "compare"
    last = compared & (ds["group"] == ds["group"].where(compared).max()).values
    lost = ds["train_accuracy"].isnull().values
    for rows, words, style in (
        (~compared, "short runs that look for the edge", {"mfc": "none", "color": "0.55"}),
        (compared & ~last, "runs that compare LRs, first round", {"color": "C0", "alpha": 0.5}),
        (last, "the same, last round (the longest)", {"color": "C0"}),
    ):
        if name == "train_accuracy" or words[0] != "s":
            values = 100 * ds[name].values[rows]
            axes.plot(ds["lr"].values[rows], values, "o", ms=6, label=words, **style)
    if lost.any():  # an empty line that is not clipped has no extent, which ends the layout
        axes.plot(ds["lr"].values[lost], np.zeros(lost.sum()), "x", color="C3", ms=7,
                  label="diverged", clip_on=False)  # fmt: skip


def _marks(ds: xr.Dataset) -> xr.Dataset:
    """The powers of ten around the LRs, which the axis shows."""
    low, high = np.log10([ds["lr"].values.min(), ds["lr"].values.max()])
    marks = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)
    return xr.Dataset(coords={"lr": ("run", marks)})


def audited_pruning(audits: Sequence[xr.Dataset], names: Sequence[str]):
    """Pruning curves of audited networks, with 95 % bands and the chance level."""
    figure, (axes,) = new_figure(1, 3.0)
    for number, (found, name) in enumerate(zip(audits, names, strict=True)):
        if "accuracy_pruned" not in found:
            continue
        for statistics in found["statistics"].values:
            one = found.sel(statistics=statistics)
            words = f"{name}, {statistics}" if found.sizes["statistics"] > 1 else name
            line = "-" if statistics == "recalibrated" or found.sizes["statistics"] == 1 else "--"
            kappa, mean, low, high = (
                100 * one[key] for key in
                ("kappa", "accuracy_pruned", "accuracy_pruned_low", "accuracy_pruned_high")
            )  # fmt: skip
            axes.plot(kappa, mean, line, marker="o", ms=4, color=f"C{number}", label=words)
            axes.fill_between(kappa, low, high, color=f"C{number}", alpha=0.15)
        axes.axhline(100 * float(found["chance"]), color="0.45", ls=":", lw=1.2)
    axes.set_xlabel("filters set to zero (%)", fontsize=TEXT)
    axes.set_ylabel("accuracy (%)", fontsize=TEXT)
    axes.set_ylim(0, 102)
    legend_above(figure, axes)
    figure.set_label("Accuracy against the share of filters set to zero.")
    return figure


def audited_plane(stored: xr.Dataset, audits: Sequence[xr.Dataset], names: Sequence[str]):
    """Audited networks among stored runs: accuracy against prunability, running statistics."""
    figure, (axes,) = new_figure(1, 3.0)
    for number, some in enumerate(experiments.alike(stored)):
        rank = np.unique(some["lr"].values, return_inverse=True)[1]
        name = ", ".join(filter(None, (names_of(some)[1], some.attrs["apart"])))
        axes.scatter(
            some["prunability"], 100 * some["unbiased_accuracy"], s=20 + 30 * rank, alpha=0.5,
            color=f"C{number + len(audits)}", edgecolors="none", label=name,
        )  # fmt: skip
    for number, (found, name) in enumerate(zip(audits, names, strict=True)):
        at = [found.sel(measure=key) for key in ("prunability", "unbiased_accuracy")]
        (x, low, high), (y, bottom, top) = (
            [float(one[key]) for key in ("value", "low", "high")] for one in at
        )
        axes.errorbar(x, 100 * y, [[100 * (y - bottom)], [100 * (top - y)]],
                      [[x - low], [high - x]], fmt="D", ms=8, capsize=3, color=f"C{number}",
                      label=name)  # fmt: skip
    axes.set_xlabel("prunability", fontsize=TEXT)
    axes.set_ylabel("accuracy (%)", fontsize=TEXT)
    legend_above(figure, axes, ncols=2)
    figure.set_label("Accuracy against prunability of audited networks and stored runs.")
    return figure


def audited_samples(found: xr.Dataset):
    """Samples of an audit with their labels, and under each the size of its attribution map."""
    from matplotlib.figure import Figure

    count, names = found.sizes["shown"], list(found.attrs.get("class_names", []))
    columns = min(4, count)
    blocks = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 2.9 * blocks), layout="constrained", dpi=100)
    panels = figure.subplots(2 * blocks, columns, squeeze=False)
    for axes in panels.flat:
        bare(axes)
    for i in range(count):
        block, column = divmod(i, columns)
        top, under = panels[2 * block, column], panels[2 * block + 1, column]
        true, told = int(found["shown_label"][i]), int(found["shown_predicted"][i])
        top.imshow(picture(found["image"].values[i]))
        under.imshow(found["map"].values[i], cmap="magma", vmin=0)
        say = lambda k: names[k] if k < len(names) else str(k)  # noqa: E731
        right = true == told
        top.set_title(
            f"{say(true)}" + ("" if right else f"\ntaken for {say(told)}"), fontsize=SMALL,
            color="0.5" if right else "#e5484d", pad=3,  # legible on white and on black
        )  # fmt: skip
    figure.set_label(f"{count} samples and where the network looks.")
    return figure
