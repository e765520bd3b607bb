"""Figures of attributions: galleries of maps, and measures of maps, low against high LR."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from lrsc.plots.frame import (
    SMALL,
    TEXT,
    WIDTH,
    bare,
    legend_above,
    new_figure,
    new_panels,
    picture,
    say_empty,
)
from lrsc.plots.words import name_of

COLUMNS = 8  # samples side by side


def gallery(found: xr.Dataset, methods: Sequence[str] = ("integrated_gradients",)):
    """Samples that only the high LR gets right, and where the networks of each LR look.

    found: what `contrast.compare` returns. Under each image, for each method, first low, then high
    LR: the mean over networks of absolute maps, each divided by its largest value. The foreground's
    outline is drawn if it was estimated. Source: figures 8, 14 and 31 to 36.
    """
    from matplotlib.figure import Figure

    count = found.sizes.get("shown", 0)
    if not count or "image" not in found:
        figure, (axes,) = new_figure(1, 1.2)
        say_empty(axes, "no sample that only the high LR gets right")
        axes.set_xticks([])
        figure.set_label("Empty figure: the rule finds no sample.")
        return figure
    rows = [("image", ""), *((m, g) for m in methods for g in ("low", "high"))]
    blocks = -(-count // COLUMNS)
    height, width = found["image"].shape[-2:]
    cell = (WIDTH - 1.1) / COLUMNS
    tall = min(cell * height / width, 1.6)
    figure = Figure(
        figsize=(WIDTH, blocks * (len(rows) * (tall + 0.06) + 0.6)), layout="constrained", dpi=100
    )
    panels = figure.subplots(blocks * len(rows), COLUMNS, squeeze=False)
    names = list(found.attrs.get("class_names", []))
    labels = found["label"].values[found["shown"].values]
    for axes in panels.flat:
        bare(axes)
    for i in range(count):
        block, column = divmod(i, COLUMNS)
        for k, (kind, group) in enumerate(rows):
            axes = panels[block * len(rows) + k, column]
            if kind == "image":
                axes.imshow(picture(found["image"].values[i]))
                _outline(axes, found, i)
                text = names[labels[i]] if names else str(labels[i])
                turned = {"rotation": 90, "va": "bottom"} if names else {}
                axes.set_title(str(text), fontsize=SMALL, pad=3, **turned)
            else:
                axes.imshow(found[f"map_{kind}"].sel(group=group).values[i], cmap="magma", vmin=0)
            if column == 0:
                text = _row_name(kind, group, found, len(methods) > 1)
                axes.set_ylabel(text, fontsize=SMALL, rotation=0, ha="right", va="center")
    figure.set_label(
        f"{count} samples of {name_of(found.attrs['dataset'])} that only networks of the high "
        f"learning rate classify rightly (classes {', '.join(str(v) for v in labels)}), with "
        "attribution maps of low- and high-learning-rate networks under each."
    )
    return figure


def paired(found: xr.Dataset, panels: Mapping[str, str]):
    """A measure of the maps at the high LR against the low LR, one dot per sample.

    found: what `contrast.compare` returns; panels: variable -> title with its unit. Dots are means
    over the networks of an LR; below the diagonal the high LR has the smaller value. Source: figure
    10, sample by sample.
    """
    figure, axes_of = new_panels(len(panels), 2.3)
    groups = {
        True: ("only the high LR is right", "#D55E00", "o"),
        False: ("other samples", "#0072B2", "."),
    }
    said = []
    for axes, (name, title) in zip(axes_of, panels.items(), strict=True):
        low, high = (
            found[name].isel(run=found["lr"].values == found.attrs[g]).mean("run").values
            for g in ("low", "high")
        )
        for selected, (text, colour, marker) in groups.items():
            here = found["selected"].values == selected
            axes.plot(low[here], high[here], marker, color=colour, ms=5, alpha=0.6, label=text)
            if here.any() and np.isfinite(low[here] - high[here]).any():
                mean = np.nanmean(high[here] - low[here])
                said.append(f"{title}, {text}: mean difference high minus low {mean:+.3f}.")
        known = np.isfinite(low) & np.isfinite(high)
        if known.any():
            ends = [np.r_[low[known], high[known]].min(), np.r_[low[known], high[known]].max()]
            axes.plot(ends, ends, color="0.5", lw=1.0)
        else:
            say_empty(axes)
        axes.set_title(title, fontsize=SMALL, loc="left")
    figure.supxlabel(f"learning rate {found.attrs['low']:g}", fontsize=TEXT)
    figure.supylabel(f"learning rate {found.attrs['high']:g}", fontsize=TEXT)
    legend_above(figure, axes_of[0], ncols=2)
    figure.set_label(
        f"{len(panels)} scatter plots, the high against the low learning rate, a dot a sample. "
        + " ".join(said)
    )
    return figure


def _row_name(kind: str, group: str, found: xr.Dataset, several: bool) -> str:
    if kind == "image":
        return kind
    short = {"integrated_gradients": "IG", "deeplift": "DeepLIFT"}[kind]
    text = f"LR {found.attrs[group]:g}"
    return f"{short}\n{text}" if several else text


def _outline(axes, found: xr.Dataset, i: int) -> None:
    if "foreground" not in found:
        return
    mask = found["foreground"].values[i].astype(bool)
    if mask.any() and not mask.all():
        axes.contour(mask.astype(float), levels=[0.5], colors="#E69F00", linewidths=1.0)
