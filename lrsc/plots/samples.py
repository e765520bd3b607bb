"""Samples of a data set, as pictures or as rows of bits."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrsc.plots.frame import SMALL, TEXT, WIDTH, bare, picture
from lrsc.plots.words import REGIONS


def examples(dataset, n: int = 10):
    """Training samples of a biased data set: bias-aligned above, bias-conflicting below.

    ``dataset``: a BiasedDataset; ``n``: how many of each kind. Images are shown as they are; a
    vector is one row of cells, dark where positive (a bit of +1), tinted by region. Without bias
    labels there is one kind only.
    """
    split = dataset.train
    y = split.y.cpu().numpy()
    if split.bias is None:
        marks = [str(c) for c in y]
        kinds = {"samples: no bias labels": np.ones(len(y), bool)}
    else:
        bias = split.bias.cpu().numpy()
        marks = [f"{c} / {b}" for c, b in zip(y, bias, strict=True)]
        kinds = {"bias-aligned: bias b equals class y": y == bias}
        kinds["bias-conflicting: b differs from y"] = y != bias
    said = "class" if split.bias is None else "class / bias"
    chosen = {}  # heading -> indices
    for kind, mask in kinds.items():
        index = _spread_over_classes(mask, y, n)
        chosen[f"{kind} ({said})" if len(index) else f"{kind}: no sample"] = index
    if split.x.ndim not in (2, 4):
        raise ValueError(
            f"samples must be vectors (N x d) or images (N x C x H x W), found {split.x.ndim} axes"
        )
    draw = _image_rows if split.x.ndim == 4 else _bit_rows
    figure = draw(split, marks, chosen, n)
    figure.set_label(
        f"Samples of {dataset.name} (source {dataset.source_id}). "
        + " ".join(
            f"{kind.split(':')[0].capitalize()}: {said.replace(' ', '')} "
            + ", ".join(marks[i].replace(" ", "") for i in index)
            + "."
            for kind, index in chosen.items()
        )
    )
    return figure


def _spread_over_classes(mask: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    """Up to ``n`` indices in ``mask``: the first of each class, then the second of each, ..."""
    index = np.flatnonzero(mask)
    order = np.argsort(y[index], kind="stable")
    labels = y[index][order]
    nth = np.arange(len(labels)) - np.searchsorted(labels, labels)
    return index[order][np.lexsort((labels, nth))[:n]]


def _image_rows(split, marks: Sequence[str], chosen: dict, n: int):
    from matplotlib.figure import Figure

    height, width = split.x.shape[-2:]
    cell = WIDTH / n * height / width
    rows = len(chosen)
    figure = Figure(figsize=(WIDTH, rows * (cell + 0.5)), layout="constrained", dpi=100)
    blocks: Any = figure.subfigures(rows, 1, squeeze=False)[:, 0]
    for block, (heading, index) in zip(blocks, chosen.items(), strict=True):
        block.suptitle(heading, fontsize=TEXT, ha="left", x=0.01)
        panels = block.subplots(1, n, squeeze=False)[0]
        for axes in panels:
            bare(axes)
        for axes, i in zip(panels, index, strict=False):
            axes.imshow(picture(split.x[i].cpu().numpy()))
            axes.set_xlabel(marks[i], fontsize=SMALL, labelpad=2)
    return figure


def _bit_rows(split, marks: Sequence[str], chosen: dict, n: int):
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    x = split.x.cpu().numpy()
    bits = x.shape[1]
    region = np.full(bits, "noise", dtype=object)
    for name in ("core", "spurious"):
        mask = getattr(split, f"{name}_mask")
        if mask is not None:
            region[np.broadcast_to(mask.cpu().numpy(), x.shape)[0]] = name
    base = np.array([to_rgb(REGIONS[name]) for name in region])
    figure = Figure(figsize=(WIDTH, len(chosen) * (0.17 * n + 0.5)), layout="constrained", dpi=100)
    panels = figure.subplots(len(chosen), 1, squeeze=False)[:, 0]
    for axes, (heading, index) in zip(panels, chosen.items(), strict=True):
        axes.set_title(heading, fontsize=TEXT, loc="left")
        axes.set_axis_off()
        if not len(index):
            continue
        tints = np.where(x[index][..., None] > 0, base, 1 - 0.18 * (1 - base))
        axes.imshow(tints, aspect="auto", interpolation="none")
        axes.vlines(np.arange(0.5, bits - 1), -0.5, len(index) - 0.5, color="white", lw=20 / bits)
        axes.hlines(np.arange(0.5, len(index) - 1), -0.5, bits - 0.5, color="white", lw=1.5)
        for row, i in enumerate(index):
            axes.text(-1, row, marks[i], ha="right", va="center", fontsize=SMALL)
    counts = {name: int((region == name).sum()) for name in REGIONS}
    handles = [
        Patch(color=colour, label=f"{name} ({counts[name]})")
        for name, colour in REGIONS.items()
        if counts[name]
    ]
    binary = bool((abs(x) == 1).all())
    title = "dark cell: bit +1, light cell: bit −1" if binary else "dark cell: positive value"
    figure.legend(
        handles=handles, loc="outside lower center", title=title, fontsize=SMALL,
        title_fontsize=SMALL, ncols=3, frameon=False, handlelength=1.0, columnspacing=1.2,
    )  # fmt: skip
    return figure
