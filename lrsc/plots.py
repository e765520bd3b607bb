"""Figures, one function a kind: each takes results or data and returns a matplotlib Figure.

A Figure made here is not known to pyplot, so it is freed with its last reference and many of them
raise no warning. Its label holds a sentence for those who cannot see it: ``figure.get_label()``.
All figures are 5 inches wide with text of 10 points or more, which is legible on a phone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc import datasets, errors

MAIN = ("unbiased_accuracy", "prunability", "activation_compressibility")

# name -> (label, colour of Okabe and Ito's colour-blind-safe set, marker)
STYLES = {
    "unbiased_accuracy": ("Unbiased accuracy", "#0072B2", "o"),
    "prunability": ("Prunability", "#D55E00", "s"),
    "activation_compressibility": ("Activation compressibility", "#009E73", "^"),
    "csi": ("Class selectivity", "#CC79A7", "D"),
    "class_separation": ("Class separation", "#E69F00", "v"),
    "worst_group_accuracy": ("Worst-group accuracy", "#56B4E9", "P"),
    "adjusted_average": ("Adjusted average accuracy", "#332288", "X"),
    "train_accuracy": ("Training accuracy", "#999933", "h"),
    "prunability_magnitude": ("Prunability (magnitude)", "#882255", "p"),
    "sparsity": ("Sparsity", "#117733", "<"),
    "pq_index": ("PQ-index", "#AA4499", ">"),
    "bsi": ("Bias selectivity", "#555555", "d"),
    "max_loss_ratio": ("Largest loss ratio (mini-batch)", "#44AA99", "*"),
    "max_loss_ratio_fixed": ("Largest loss ratio (fixed sample)", "#661100", "H"),
}
REGIONS = {"core": "#0072B2", "spurious": "#D55E00", "noise": "#666666"}
WIDTH = 5.0  # inches
TEXT, SMALL = 11, 10  # points


def normalised_curves(ds: xr.Dataset, variables: Sequence[str] = MAIN):
    """Mean over seeds of each variable against LR, scaled so that its curve spans 0 to 1.

    ``ds``: a long-form experiment of one data set and model. The band is one standard deviation
    over seeds, scaled with the constants of the curve; the legend prints the unscaled ends of the
    curve. A flat curve is drawn at 0.5. Raises ValueError if ``ds`` holds no run, several data
    sets or models, or lacks a variable. Source: the manner of figures 3, 4, 5, 15 and 16.
    """
    _check(ds, variables)
    figure, (axes,) = _figure(1, 3.3)
    for name in variables:
        label, colour, marker = style(ds, name)
        lrs, mean, sd = by_lr(ds, name)
        if not np.isfinite(mean).any():
            axes.plot([], [], color=colour, marker=marker, label=f"{label}: no value")
            continue
        low, high = np.nanmin(mean), np.nanmax(mean)
        curve = (mean - low) / (high - low) if high > low else mean - low + 0.5
        band = sd / (high - low) if high > low else np.zeros_like(sd)
        axes.plot(lrs, curve, color=colour, marker=marker, label=f"{label}: {_range(name, mean)}")
        axes.fill_between(lrs, curve - band, curve + band, color=colour, alpha=0.18, lw=0)
    axes.set_ylabel("min-max normalised", fontsize=TEXT)
    axes.set_yticks([0, 0.5, 1])
    if len(np.unique(ds["lr"].values)) == 1:
        axes.set_ylim(0, 1)
        axes.text(
            0.5,
            0.85,
            "one learning rate: no curve to scale",
            ha="center",
            fontsize=SMALL,
            transform=axes.transAxes,
        )
    _lr_axis(axes, ds)
    _mark_failed(axes, ds, variables)
    figure.legend(loc="outside upper left", fontsize=SMALL, frameon=False, borderaxespad=0.2)
    figure.set_label(
        f"Line plot over the learning rate (log axis), {_pair(ds)}; every curve is scaled to 0..1. "
        + " ".join(trend(ds, name) for name in variables)
    )
    return figure


def plain_curves(
    ds: xr.Dataset,
    variables: Sequence[str] = MAIN,
    reference: Mapping[str, tuple[float, float]] | None = None,
):
    """The same variables in their own units, one panel each: mean, spread and every single run.

    The band is one standard deviation over seeds; each dot is a run; a run without a value, such
    as a diverged one, is a cross on the lower edge at its LR; a collapsed one is a ring.
    ``reference``: variable -> (low, high) as fractions, drawn as a grey range. Accuracies are
    drawn in percent, as their axes say. Raises ValueError as ``normalised_curves``.
    """
    _check(ds, variables)
    figure, panels = _figure(len(variables), 1.75)
    collapsed = ds["status"].values == "collapsed"
    for axes, name in zip(panels, variables, strict=True):
        label, colour, _ = style(ds, name)
        scale = 100 if is_percent(name) else 1
        lrs, mean, sd = by_lr(ds, name)
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
        axes.set_title(f"{label} (%)" if scale == 100 else label, fontsize=TEXT, loc="left")
        axes.margins(y=0.15)
        if not np.isfinite(values).any():
            _say_empty(axes)
        _lr_axis(axes, ds, labelled=axes is panels[-1])
        _mark_failed(axes, ds, (name,))
    _plain_legend(figure, ds, variables, bool(reference))
    figure.set_label(
        f"{len(variables)} stacked line plots over the learning rate (log axis), {_pair(ds)}, in "
        "plain units, with a dot for every run. " + " ".join(trend(ds, name) for name in variables)
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
    _check(ds, (name,))
    from matplotlib import colormaps

    figure, (axes,) = _figure(1, 3.6)
    kappas = np.concatenate([[0.0], ds["kappa"].values])
    curves = 100 * np.column_stack([ds["unbiased_accuracy"].values, ds[name].values])
    lrs = np.unique(ds["lr"].values)
    colours = colormaps["plasma"](np.linspace(0, 0.78, len(lrs)))
    drawn = np.isfinite(curves).all(axis=1)
    for lr, colour in zip(lrs, colours, strict=True):
        rows = curves[(ds["lr"].values == lr) & drawn]
        if not len(rows):
            continue
        mean, sd = rows.mean(axis=0), rows.std(axis=0, ddof=1) if len(rows) > 1 else 0
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
        _say_empty(axes)
    _colour_key(figure, axes, lrs, colours)
    figure.set_label(
        f"Line plot of unbiased accuracy against the share of parameters removed by {method} "
        f"pruning, {_pair(ds)}, one line for each learning rate "
        f"({', '.join(f'{lr:g}' for lr in lrs)}). "
        + _pruning_text(ds["lr"].values[drawn], kappas, curves[drawn])
    )
    return figure


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
    chosen = {kind: _spread_over_classes(mask, y, n) for kind, mask in kinds.items()}
    if split.x.ndim not in (2, 4):
        raise ValueError(
            f"samples must be vectors (N x d) or images (N x C x H x W), found {split.x.ndim} axes"
        )
    draw = _image_rows if split.x.ndim == 4 else _bit_rows
    figure = draw(split, marks, chosen, n)
    figure.set_label(
        f"Samples of {dataset.name} (source {dataset.source_id}). "
        + " ".join(
            f"{kind.split(':')[0].capitalize()}: class{'/bias' if split.bias is not None else ''} "
            + ", ".join(marks[i].replace(" ", "") for i in index)
            + "."
            for kind, index in chosen.items()
        )
    )
    return figure


def caption(ds: xr.Dataset, command: str | None = None, link: str | None = None) -> str:
    """Markdown caption of a figure made from ``ds``, from the results' own attributes.

    ``command`` makes the results again; ``link`` is the address of the result file as seen from
    the page (default: the file's path, not linked).
    """
    _check(ds, (), one_pair=False)
    coordinate = {name: np.unique(ds[name].values) for name in ("seed", "n_train", "source_id")}
    parts = [
        "source " + ", ".join(source(str(value)) for value in coordinate["source_id"]),
        "training samples " + ", ".join(f"{int(value):,}" for value in coordinate["n_train"]),
        "seeds " + ", ".join(str(int(value)) for value in coordinate["seed"]),
        f"{ds.sizes['run']} runs",
        "profile " + ", ".join(np.unique(ds["profile"].values)),
        "device " + ", ".join(np.unique(ds["device"].values)),
        f"{ds.attrs.get('origin', 'local')} results",
    ]
    for status in ("diverged", "collapsed", "cap"):
        count = int((ds["status"].values == status).sum())
        if count:
            parts.append(f"{count} {'stopped at the cap' if status == 'cap' else status}")
    text = "; ".join(parts) + "."
    text = text[0].upper() + text[1:]
    file = str(ds.attrs.get("file", ""))
    if file:
        text += f" Result file: [{file}]({link})." if link else f" Result file: `{file}`."
    return text + (f" Made again by `{command}`." if command else "")


def source(source_id: str) -> str:
    """A source_id for readers: a stand-in is called one."""
    stand_in = " (embedded stand-in, not the paper's data)"
    return f"`{source_id}`" + (stand_in if datasets.is_stand_in(source_id) else "")


def style(ds: xr.Dataset, name: str) -> tuple[str, str, str]:
    """Label, colour and marker of a variable; one without its own takes its ``long_name``."""
    label = str(ds[name].attrs.get("long_name", name.replace("_", " "))) if name in ds else name
    return STYLES.get(name, (label, "#000000", "o"))


def is_percent(name: str) -> bool:
    """Whether a variable, stored as a fraction, is shown in percent: accuracies are."""
    return "accuracy" in name or name == "adjusted_average"


def by_lr(ds: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """LRs, and at each the mean and standard deviation over the runs that have a value.

    Without a value the mean is NaN; with fewer than two the deviation is 0.
    """
    values, lr = ds[name].values, ds["lr"].values
    lrs = np.unique(lr)
    groups = [values[(lr == each) & np.isfinite(values)] for each in lrs]
    mean = np.array([group.mean() if len(group) else np.nan for group in groups])
    sd = np.array([group.std(ddof=1) if len(group) > 1 else 0.0 for group in groups])
    return lrs, mean, sd


def trend(ds: xr.Dataset, name: str) -> str:
    """One sentence: the mean of a variable at the lowest and at the highest LR that has one."""
    label = style(ds, name)[0]
    lrs, mean, _ = by_lr(ds, name)
    known = np.flatnonzero(np.isfinite(mean))
    if not len(known):
        return f"{label}: no run has a value."
    first, last = known[0], known[-1]
    text = f"{label}: {number(name, mean[first])} at learning rate {lrs[first]:g}"
    if last > first:
        text += f", {number(name, mean[last])} at {lrs[last]:g}"
    return text + "."


def number(name: str, value: float) -> str:
    """A value as the reader sees it: ``61.2 %`` for an accuracy, ``0.612`` otherwise."""
    return f"{100 * value:.1f} %" if is_percent(name) else f"{value:.3f}"


def _range(name: str, mean: np.ndarray) -> str:
    low, high = np.nanmin(mean), np.nanmax(mean)
    if high == low:
        return number(name, low)
    return f"{number(name, low).removesuffix(' %')} to {number(name, high)}"


def _pair(ds: xr.Dataset) -> str:
    return f"data set {ds['dataset'].values[0]}, model {ds['model'].values[0]}"


def _check(ds: xr.Dataset, variables: Sequence[str], one_pair: bool = True) -> None:
    if ds.sizes.get("run", 0) == 0:
        raise ValueError(
            "ds holds no run (dimension 'run' is empty or missing): open an experiment that has "
            "been measured, or select less narrowly"
        )
    for name in variables:
        if name not in ds.data_vars:
            raise errors.unknown("variable", name, [str(v) for v in ds.data_vars])
    found = sorted(set(zip(ds["dataset"].values, ds["model"].values, strict=True)))
    if one_pair and len(found) > 1:
        names = ", ".join(f"{dataset} with {model}" for dataset, model in found)
        raise ValueError(
            f"ds holds several data sets or models ({names}), a figure shows one: select it, as in "
            f"ds.isel(run=(ds.dataset.values == {str(found[0][0])!r}) "
            f"& (ds.model.values == {str(found[0][1])!r}))"
        )


def throughput(rows: Sequence[Mapping[str, Any]]):
    """Training steps a second against the number of runs side by side, a panel a model.

    ``rows``: as benchmarks/replicas.py prints them; those of engine 'sequential' are the loop that
    trains one run after the other, drawn as a line across. ``floor_arithmetic`` and
    ``floor_bytes``: what no training can exceed. Raises ValueError for no measured rows.
    """
    rows = [row for row in rows if row["steps_per_second"] is not None]
    if not rows:
        raise ValueError("no measured rows: run benchmarks/replicas.py first")
    cases = list(dict.fromkeys((row["dataset"], row["model"]) for row in rows))
    figure, panels = _figure(len(cases), 2.3)
    said = []
    for axes, case in zip(panels, cases, strict=True):
        of_case = [row for row in rows if (row["dataset"], row["model"]) == case]
        loop = [row["steps_per_second"] for row in of_case if row["engine"] == "sequential"]
        side = sorted(
            (row["replicas"], row["steps_per_second"])
            for row in of_case
            if row["engine"] != "sequential"
        )
        counts, rates = [n for n, _ in side], [rate for _, rate in side]
        floors = {
            "bound by arithmetic": (of_case[0]["floor_arithmetic"], "--"),
            "bound by bytes": (of_case[0]["floor_bytes"], ":"),
        }
        axes.plot(counts, rates, "o-", color="#0072B2", label="side by side")
        if loop:
            axes.axhline(loop[0], color="#D55E00", lw=1.6, label="one after the other")
        for label, (value, dashes) in floors.items():
            axes.axhline(value, color="0.35", ls=dashes, lw=1.2, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlim(0.8, 80)
        axes.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
        axes.minorticks_off()
        shown = [*rates, *loop, *(value for value, _ in floors.values())]
        axes.set_ylim(min(shown) / 1.6, max(shown) * 1.6)
        title = ", ".join(map(name_of, case))
        axes.set_title(title, fontsize=TEXT, loc="left")
        axes.set_ylabel("steps / s", fontsize=TEXT)
        said.append(f"{title}: {rates[0]:.3g} at {counts[0]}, "
                    f"{rates[-1]:.3g} at {counts[-1]} runs.")  # fmt: skip
    panels[-1].set_xlabel("runs side by side", fontsize=TEXT)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=2, fontsize=SMALL, frameon=False,
        borderaxespad=0.2,
    )  # fmt: skip
    figure.set_label(
        f"{len(cases)} stacked line plots, log axes: training steps a second against the number of "
        "runs side by side, with the rate of one run after the other and two upper bounds. "
        + " ".join(said)
    )
    return figure


NAMES = {
    "parity": "Parity", "moon_star": "Moon-Star", "colored_mnist": "Colored MNIST",
    "double_mnist": "Double MNIST", "mnist_cifar": "MNIST-CIFAR", "celeba": "CelebA",
    "corrupted_cifar10": "Corrupted CIFAR-10", "waterbirds": "Waterbirds", "fcn": "FCN",
    "cnn": "CNN", "resnet18": "ResNet18", "resnet50": "ResNet50",
    "wide_resnet101_2": "Wide ResNet-101-2", "swin_t": "Swin-T", "cpu": "CPU", "cuda": "GPU",
}  # fmt: skip


def name_of(name: str) -> str:
    """A data set or model as it is called in text."""
    return NAMES.get(name, name)


def _figure(rows: int, height: float):
    """A figure of stacked panels, each ``height`` inches high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height * rows + 0.9), layout="constrained", dpi=100)
    panels = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for axes in panels:
        axes.grid(color="0.9", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=SMALL)
    return figure, panels


def _lr_axis(axes, ds: xr.Dataset, labelled: bool = True) -> None:
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
        axes.set_xlabel("learning rate (log axis)", fontsize=TEXT)
    else:
        axes.tick_params(labelbottom=False)


def _say_empty(axes, text: str = "no run has a value") -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", fontsize=TEXT)
    axes.set_yticks([])


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
            spread,
            np.full(count, 0.0),
            "x",
            color="black",
            ms=7,
            mew=1.8,
            clip_on=False,
            zorder=5,
            transform=axes.get_xaxis_transform(),
            label="_failed",
        )
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
    if any(by_lr(ds, name)[2].any() for name in variables):
        handles.insert(1, Patch(alpha=0.3, lw=0, label="± 1 standard deviation", **grey))
    if reference:
        handles.append(Patch(color="0.9", label="paper's range (table S1)"))
    ring: Any = {"mfc": "none", "mec": "black", "ms": 9}
    if (ds["status"].values == "collapsed").any():
        handles.append(Line2D([], [], ls="", marker="o", label="collapsed", **ring))
    if _without_value(ds, variables).any():
        label = _failed_label(ds, variables)
        handles.append(Line2D([], [], ls="", marker="x", color="black", label=label))
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=2,
        fontsize=SMALL,
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.0,
    )


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
    for block, (kind, index) in zip(blocks, chosen.items(), strict=True):
        heading = _heading(split, kind, index)
        block.suptitle(heading, fontsize=TEXT, ha="left", x=0.01)
        panels = block.subplots(1, n, squeeze=False)[0]
        for axes in panels:
            axes.spines[:].set_visible(False)
            axes.set_xticks([])
            axes.set_yticks([])
        for axes, i in zip(panels, index, strict=False):
            axes.imshow(_picture(split.x[i]))
            axes.set_xlabel(marks[i], fontsize=SMALL, labelpad=2)
    return figure


def _heading(split, kind: str, index) -> str:
    if not len(index):
        return f"{kind}: no sample"
    return f"{kind} (class)" if split.bias is None else f"{kind} (class / bias)"


def _picture(x) -> np.ndarray:
    """C x H x W, bytes or floats of any range, as an array that imshow takes."""
    picture = np.moveaxis(x.cpu().numpy(), 0, -1)
    if picture.dtype != np.uint8:
        low, high = min(picture.min(), 0.0), max(picture.max(), 1.0)
        picture = (picture - low) / (high - low)
    return picture.repeat(3, axis=-1) if picture.shape[-1] == 1 else picture


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
    for axes, (kind, index) in zip(panels, chosen.items(), strict=True):
        axes.set_title(_heading(split, kind, index), fontsize=TEXT, loc="left")
        axes.set_axis_off()
        if not len(index):
            continue
        tints = np.where(x[index][..., None] > 0, base, 1 - 0.18 * (1 - base))
        axes.imshow(tints, aspect="auto", interpolation="none")
        axes.vlines(np.arange(0.5, bits - 1), -0.5, len(index) - 0.5, color="white", lw=20 / bits)
        axes.hlines(np.arange(0.5, len(index) - 1), -0.5, bits - 0.5, color="white", lw=1.5)
        for row, i in enumerate(index):
            labels: Any = {"ha": "right", "va": "center", "fontsize": SMALL}
            axes.text(-1, row, marks[i], **labels)
    counts = {name: int((region == name).sum()) for name in REGIONS}
    handles = [
        Patch(color=colour, label=f"{name} ({counts[name]})")
        for name, colour in REGIONS.items()
        if counts[name]
    ]
    legend: Any = {"ncols": 3, "frameon": False, "handlelength": 1.0, "columnspacing": 1.2}
    binary = bool((abs(x) == 1).all())
    title = "dark cell: bit +1, light cell: bit −1" if binary else "dark cell: positive value"
    figure.legend(
        handles=handles, loc="outside lower center", title=title, fontsize=SMALL, **legend
    ).get_title().set_fontsize(SMALL)
    return figure
