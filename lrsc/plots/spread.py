"""What pruning leaves of a network: by criterion, and by how far apart the filters' norms are."""

import itertools
from collections.abc import Sequence

import numpy as np
import xarray as xr

from lrsc import experiments
from lrsc.plots.frame import SMALL, TEXT, legend_above, new_figure, say_empty
from lrsc.plots.mechanism import ROW_COLOURS
from lrsc.plots.words import hyperparameter, interventions_of, names_of, style
from lrsc.pruning import Cost


def norm_spread(ds: xr.Dataset, initial: float):
    """Column prunability against the spread of the filter norms, one dot per run, sized by LR.

    ds: long form of one model with `prunability` and `filter_norm_spread`; colour and marker show
    which runs compare. initial: the spread of an untrained network, a vertical line.
    """
    figure, (axes,) = new_figure(1, 3.2)
    names = ("filter_norm_spread", "prunability", "lr")
    x, y, _ = (ds[n].values for n in names)
    known = np.isfinite(x) & np.isfinite(y)
    said = []
    for k, group in enumerate(experiments.alike(ds.isel(run=known))):
        x_here, y_here, lr_here = (group[n].values for n in names)
        others = (hyperparameter(name)[0] for name in interventions_of(group) if name != "lr")
        name = ", ".join(filter(None, (names_of(group)[0], group.attrs["apart"], *others)))
        span = "LR " + " to ".join(f"{v:g}" for v in sorted({lr_here.min(), lr_here.max()}))
        axes.scatter(
            x_here, y_here, s=24 + 160 * lr_here, color=ROW_COLOURS[k % len(ROW_COLOURS)],
            marker="osD^vPX"[k % 7], alpha=0.75, lw=0, label=f"{name}, {span}",
        )  # fmt: skip
        said.append(
            f"{name}, {len(x_here)} runs: spread {x_here.min():.3g} to {x_here.max():.3g}, "
            f"prunability {y_here.min():.3g} to {y_here.max():.3g}."
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


def pruning_criteria(ratio: xr.DataArray, paper: tuple[float, float]):
    """What pruning leaves of the accuracy, by criterion (rows) and statistics (columns).

    ratio: accuracy after / before, with dimensions criterion, statistics, init, lr and kappa; NaN
    for what was not tried. paper: table S1's range of the mean over kappa, a grey band. Every panel
    has a line for each initialisation and LR.
    """
    criteria, modes = (ratio[n].values.tolist() for n in ("criterion", "statistics"))
    figure, panels = new_figure(len(criteria), 1.25, len(modes))
    kappa, said = ratio["kappa"].values, []
    for axes, (criterion, mode) in zip(panels, itertools.product(criteria, modes), strict=True):
        axes.axhspan(*paper, color="0.85", lw=0, label="S1's range of the mean")
        for k, init in enumerate(ratio["init"].values):
            for j, lr in enumerate(ratio["lr"].values):
                line = ratio.sel(criterion=criterion, statistics=mode, init=init, lr=lr).values
                if np.isfinite(line).any():
                    axes.plot(kappa, line, color=ROW_COLOURS[j], ls=("-", "--")[k % 2], lw=1.5,
                              label=f"LR {lr:g}, {init}")  # fmt: skip
                    said.append(f"{criterion}, {mode}, LR {lr:g}, {init}: {line[1:].mean():.2f}.")
        axes.set_ylim(0, 1.1)
        axes.set_xlim(0, 0.9)
        axes.set_xticks([0, 0.5])
        axes.set_yticks([0, 1])
        if criterion == criteria[0]:
            axes.set_title(mode, fontsize=TEXT)
        if criterion != criteria[-1]:
            axes.tick_params(labelbottom=False)
        if mode == modes[0]:
            axes.text(0.02, 0.04, str(1 + criteria.index(criterion)), fontsize=TEXT,
                      transform=axes.transAxes)  # fmt: skip
        else:
            axes.tick_params(labelleft=False)
    legend_above(figure, panels[0], ncols=2)
    figure.supxlabel("share pruned, κ", fontsize=SMALL)
    figure.supylabel("accuracy after / before", fontsize=SMALL)
    figure.set_label(
        "Small multiples of accuracy after over before pruning against the share pruned; a row a "
        "criterion, a column a kind of statistics. Means: " + " ".join(said)
    )
    return figure


def accuracy_against_cost(rows: Sequence[tuple[str, float, float, Cost]]):
    """Accuracy of shrunk networks against their size and their time, one line per label.

    rows: label, share pruned, accuracy (a fraction) and `pruning.Cost` of each network.
    """
    figure, panels = new_figure(1, 2.4, 2)
    said = []
    for axes, (what, of) in zip(panels, {
        "megabytes on disk": lambda cost: cost.bytes / 1e6,
        "milliseconds a batch": lambda cost: cost.seconds * 1e3,
    }.items(), strict=True):  # fmt: skip
        for k, label in enumerate(dict.fromkeys(label for label, *_ in rows)):
            of_label = [(of(cost), 100 * accuracy) for name, _, accuracy, cost in rows
                        if name == label]  # fmt: skip
            axes.plot(*zip(*of_label, strict=True), color=ROW_COLOURS[k], marker="os^D"[k % 4],
                      ms=5, label=label)  # fmt: skip
            shown = ", ".join(f"{y:.0f} % at {x:.3g}" for x, y in of_label)
            said.append(f"{label}, {what}: {shown}.")
        axes.set_xlabel(what, fontsize=TEXT)
        axes.set_ylabel("Accuracy (%)", fontsize=TEXT)
    legend_above(figure, panels[0], ncols=2)
    figure.set_label("Accuracy against size and time of pruned networks. " + " ".join(said))
    return figure
