"""Figures of the mechanism: loss ratios, curves along training, dominance, updates, theory."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc.plots.frame import SMALL, TEXT, legend_above, new_figure, new_panels, say_empty
from lrsc.plots.words import (
    REGIONS,
    check,
    is_percent,
    mean_and_sd,
    number,
    pair,
    row_name,
    rows_of,
    style,
)

# colours of Okabe and Ito's set, one a row of an experiment
ROW_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#999933",
    "#882255", "#555555",
)  # fmt: skip
LOW_HIGH = ("#0072B2", "#D55E00")
_REGION_MARKERS = {"core": "o", "spurious": "s", "noise": "^"}
GROUPS = {"ba": ("bias-aligned", "--"), "bc": ("bias-conflicting", "-")}


def against_loss_ratio(rows: Iterable[xr.Dataset], variable: str = "max_loss_ratio_fixed"):
    """Unbiased accuracy (%) against the largest loss ratio of training, one dot per run.

    rows: long-form results; each data set, network and size has a panel of its own. The lighter a
    dot, the larger the LR. Source: figures 12 and 17.
    """
    rows, said = rows_of(rows), []
    figure, panels = new_panels(len(rows), 1.3)
    for axes, row in zip(panels, rows, strict=True):
        check(row, (variable, "unbiased_accuracy"))
        x, y = row[variable].values, 100 * row["unbiased_accuracy"].values
        lr = np.log(row["lr"].values)
        most = lr.min() + max(1.3 * np.ptp(lr), 1.0)  # without the lightest colours
        axes.scatter(x, y, c=lr, cmap="plasma", vmax=most, s=26, alpha=0.8, lw=0)
        axes.margins(0.1)
        axes.set_title(textwrap.fill(row_name(row), 28), fontsize=SMALL, loc="left")
        said.append(f"{row_name(row)}: {int((np.isfinite(x) & np.isfinite(y)).sum())} runs.")
    figure.supxlabel(style(rows[0], variable)[0].lower(), fontsize=TEXT)
    figure.supylabel("unbiased accuracy (%)", fontsize=TEXT)
    figure.set_label(
        "Scatter plots of unbiased accuracy against the largest share of the loss that "
        "bias-conflicting samples had in training. " + " ".join(said)
    )
    return figure


def along_training(ds: xr.Dataset, lrs: Sequence[float], panels: Mapping[str, Sequence[str]]):
    """Training at a low and a high LR over time: one panel per quantity, means over seeds.

    ds: one data set and model with curves of the `dynamics` probe. panels: title of a panel ->
    curves in it, as in {"loss (nat)": ("ba_loss", "bc_loss")}; bias-aligned curves are dashed.
    Accuracies are drawn in percent. The band is one standard deviation over seeds, on log axes down
    to a tenth of the mean. Source: figures 9 and 13.
    """
    from matplotlib.lines import Line2D

    check(ds, ())
    figure, axes_of = new_panels(len(panels), 1.4)
    said = []
    for i, (axes, (title, names)) in enumerate(zip(axes_of, panels.items(), strict=True)):
        log = title.startswith(("loss (nat)", "mean loss"))
        for lr, colour in zip(lrs, LOW_HIGH, strict=False):
            for name in names:
                steps, mean, sd = _mean_curve(ds, "dynamics", name, lr)
                if not len(steps):
                    continue
                scale = 100 if is_percent(name) else 1
                dashes = GROUPS.get(name.partition("_")[0], ("", "-"))[1]
                axes.plot(steps, scale * mean, dashes, color=colour, lw=1.6)
                low, high = scale * (mean - sd), scale * (mean + sd)
                if log:  # where nothing is below zero: not further than a tenth of the mean
                    low = np.maximum(low, 0.1 * scale * mean)
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
                said.append(
                    f"{name.replace('_', ' ')} at learning rate {lr:g}: "
                    f"{_value(name, mean[0])} at first, {_value(name, mean[-1])} at the end."
                )
        axes.set_title(textwrap.fill(title, 28), fontsize=SMALL, loc="left")
        axes.set_xscale("symlog", linthresh=100)
        last = float(np.nanmax(ds["dynamics_step"].values))
        ticks = [t for t in (0, 100, 1000, 10_000, 100_000) if t <= last]
        axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
        axes.set_xticks([], minor=True)
        if log:
            axes.set_yscale("log")
        if not axes.lines:
            say_empty(axes, "not recorded")
        axes.tick_params(labelbottom=i + 2 >= len(panels))
    figure.supxlabel("iteration (log axis from 100 on)", fontsize=TEXT)
    handles = [Line2D([], [], color=c, label=f"learning rate {lr:g}")
               for lr, c in zip(lrs, LOW_HIGH, strict=False)]  # fmt: skip
    if any(name.startswith(("ba_", "bc_")) for names in panels.values() for name in names):
        handles += [Line2D([], [], color="0.35", ls=d, label=text) for text, d in GROUPS.values()]
    legend_above(figure, handles=handles, ncols=2)
    figure.set_label(
        f"{len(panels)} line plots along training, {pair(ds)}, at learning rate "
        f"{' and '.join(f'{lr:g}' for lr in lrs)}. " + " ".join(said)
    )
    return figure


def _mean_curve(
    ds: xr.Dataset, probe: str, name: str, lr: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Iterations, and mean and standard deviation over the runs of an LR of a recorded curve.

    Between two calls of the probe a run's values are interpolated; after its end it keeps its last
    one, since its network no longer changes. Empty where nothing is recorded.
    """
    if (curve := f"curve_{probe}_{name}") not in ds:
        return np.empty(0), np.empty(0), np.empty(0)
    at_lr = ds["lr"].values == lr
    steps, values = (ds[n].values[at_lr] for n in (f"{probe}_step", curve))
    known = np.isfinite(steps) & np.isfinite(values)
    grid = np.unique(steps[known])
    runs = [
        np.interp(grid, s[k], v[k]) for s, v, k in zip(steps, values, known, strict=True) if k.any()
    ]
    return grid, *mean_and_sd(np.array(runs))


def attribution_shares(ds: xr.Dataset):
    """Shares of attribution on the input's regions along training: a panel for either end of LR.

    ``ds``: long form of one data set and model with the curves of the probe `attribution`, NaN
    after a run's end. Lines are means over seeds, bands one standard deviation. A run that ended
    before the others of its LR keeps its last value: its network no longer changes. Diverged runs
    are left out. Raises ValueError as `curves` does, and if no run has such curves. Source:
    figure 3 (right).
    """
    names = {region: f"curve_attribution_{region}" for region in REGIONS}
    names = {region: name for region, name in names.items() if name in ds} or names
    check(ds, ("attribution_step", *names.values()))
    first = ds[next(iter(names.values()))]
    has = np.isfinite(first.values).any(axis=1) & (ds["status"].values != "diverged")
    if not has.any():
        raise ValueError("no run has curves of attribution: record them in a sweep")
    ds = ds.isel(run=has)
    lrs = np.unique(ds["lr"].values)
    ends = {"lowest": lrs[0], "highest": lrs[-1]} if len(lrs) > 1 else {"only": lrs[0]}
    figure, panels = new_figure(1, 2.1, len(ends))
    said = []
    for axes, (which, lr) in zip(panels, ends.items(), strict=True):
        for region in names:
            steps, mean, sd = _mean_curve(ds, "attribution", region, lr)
            marks = {"marker": _REGION_MARKERS[region], "markevery": max(1, len(steps) // 8)}
            colour = REGIONS[region]
            axes.plot(steps, mean, color=colour, lw=1.6, label=f"{region} bits", **marks)
            axes.fill_between(steps, mean - sd, mean + sd, color=colour, alpha=0.18, lw=0)
            said.append(f"At the end of learning rate {lr:g}: {region} {mean[-1]:.2f}.")
        axes.set_title(f"{which} learning rate: {lr:g}", fontsize=SMALL, loc="left")
        axes.set_ylim(0, 1)
    figure.supxlabel("training step", fontsize=TEXT)
    figure.supylabel("share of attribution", fontsize=TEXT)
    legend_above(figure, panels[0], ncols=3)
    figure.set_label(
        f"{len(ends)} line plots over training steps, {pair(ds)}: shares of attribution on "
        f"the regions {', '.join(names)} of the input. " + " ".join(said)
    )
    return figure


def dominance(ds: xr.Dataset, lrs: Sequence[float]):
    """Which neurons keep their dominance, at a low and a high LR, along training.

    ds: as for `along_training`, with the shares `class_kept`, `bias_kept` and `class_dominant` as
    curves of the `dynamics` probe. Lines are means over seeds, bands one standard deviation.
    Source: figure 18 (top).
    """
    figure, panels = new_figure(1, 2.0, len(lrs))
    lines = {
        "class_kept": ("class-dominant neurons that stay so", "#0072B2", "-"),
        "bias_kept": ("bias-dominant neurons that stay so", "#D55E00", "-"),
        "class_dominant": ("class-dominant among all neurons", "0.35", ":"),
    }
    said = []
    for axes, lr in zip(panels, lrs, strict=True):
        found = {}
        for name, (text, colour, dashes) in lines.items():
            step, mean, sd = _mean_curve(ds, "dynamics", name, lr)
            axes.plot(step, 100 * mean, dashes, color=colour, lw=1.7, label=text)
            axes.fill_between(step, 100 * (mean - sd), 100 * (mean + sd), color=colour, alpha=0.15,
                              lw=0)  # fmt: skip
            found[name] = 100 * mean
        axes.set_title(f"learning rate {lr:g} (share in %)", fontsize=SMALL, loc="left")
        axes.set_ylim(-3, 103)
        middle = len(step) // 2
        said.append(
            f"At learning rate {lr:g}, {found['class_dominant'][-1]:.0f} % of the neurons are "
            f"class-dominant at the end; of those at iteration {step[middle]:.0f}, "
            f"{found['class_kept'][middle]:.0f} % of the class-dominant and "
            f"{found['bias_kept'][middle]:.0f} % of the bias-dominant ones stay so."
        )
    figure.supxlabel("iteration", fontsize=TEXT)
    legend_above(figure, panels[0])
    figure.set_label(f"Line plots along training, {pair(ds)}. " + " ".join(said))
    return figure


def update_response(responses: Mapping[str, Sequence[Mapping[str, Any]]], every: int):
    """Neurons' spurious share around their largest updates, beside all other moments.

    responses: title -> what `metrics.update_response` returns, one per seed; every: iterations
    between two calls. Lines are means over events and seeds, bands one standard deviation over
    seeds. Source: figure 18 (bottom).
    """
    figure, panels = new_panels(len(responses), 1.8)
    said = []
    for axes, (title, of_seeds) in zip(panels, responses.items(), strict=True):
        lag = np.asarray(of_seeds[0]["lag"]) * every
        events = sum(int(found["events"]) for found in of_seeds)
        for name, text, colour in (
            ("large", "around a neuron's largest updates", "#D55E00"),
            ("other", "around all other moments", "#0072B2"),
        ):
            mean, sd = mean_and_sd(100 * np.array([found[name] for found in of_seeds]))
            axes.plot(lag, mean, ".-", color=colour, lw=1.6, label=text)
            axes.fill_between(lag, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
        axes.axvline(0, color="0.6", lw=1.0)
        axes.axhline(0, color="0.6", lw=1.0)
        text = f"{title}, {events:,} updates"
        axes.set_title(textwrap.fill(text, 34), fontsize=SMALL, loc="left")
        after = 100 * np.mean([found["large"][-1] for found in of_seeds])
        said.append(f"{title}: {after:+.2f} points {lag[-1]} iterations after the update.")
    figure.supxlabel("iterations from the update", fontsize=TEXT)
    figure.supylabel("change (points)", fontsize=TEXT)
    legend_above(figure, panels[0])
    figure.set_label(
        "Line plots of the share of neurons' attribution on the spurious region, relative to the "
        "moment of an update. " + " ".join(said)
    )
    return figure


def propositions(alphas, losses: Mapping[str, Any], gradients: Mapping[str, Any]):
    """Propositions 1 and 2, computed: losses and their ratio, gradient norms and their ratio.

    losses, gradients: what `theory.loss_rates` and `theory.gradient_ratios` return.
    """
    figure, panels = new_figure(1, 2.6, 3)
    alphas = np.asarray(alphas)
    for axes, drawn, title in (
        (panels[0], {"loss_ratio": ("BC share of the loss", "#0072B2")}, "loss ratio"),
        (panels[1], {"bc_loss": ("bias-conflicting", "#D55E00"),
                     "ba_loss": ("bias-aligned", "#0072B2")}, "mean loss (nat)"),
        (panels[2], {"spurious": ("spurious part", "#D55E00"), "core": ("core part", "#0072B2"),
                     "ratio": ("spurious / core", "#009E73")}, "gradient norm"),
    ):  # fmt: skip
        source = gradients if title == "gradient norm" else losses
        for name, (text, colour) in drawn.items():
            axes.plot(alphas, np.asarray(source[name]), ".-", color=colour, lw=1.6, label=text)
        axes.set_xscale("log")
        axes.set_title(title, fontsize=SMALL, loc="left")
        axes.legend(fontsize=SMALL, frameon=False, loc="lower left", bbox_to_anchor=(-0.2, 1.1),
                    borderpad=0, handlelength=1)  # fmt: skip
        if title != "loss ratio":
            axes.set_yscale("log")
    panels[1].set_ylim(bottom=1e-8)
    figure.supxlabel(r"factor $\alpha$ on the spurious logits", fontsize=TEXT)
    figure.set_label(
        "Three line plots over the factor on the spurious logits, log axes. The bias-conflicting "
        f"share of the loss goes from {float(losses['loss_ratio'][0]):.2f} to "
        f"{float(losses['loss_ratio'][-1]):.4f}; the conflicting loss grows, the aligned one "
        f"falls; the gradient norm of the spurious part over that of the core goes from "
        f"{float(gradients['ratio'][0]):.2f} to {float(gradients['ratio'][-1]):.0f}."
    )
    return figure


def _value(name: str, value: float) -> str:
    return number(name, value) if is_percent(name) else f"{value:.3g}"
