"""Interventions compared: what each gains in accuracy and in another measure at once."""

import textwrap
from collections.abc import Sequence

import numpy as np
import xarray as xr

from lrsc.plots import words
from lrsc.plots.frame import SMALL, legend_above, new_figure, say_empty, title_over

AGAINST = ("prunability", "activation_compressibility", "csi")


def tradeoff(ds: xr.Dataset, against: Sequence[str] = AGAINST, y: str = "unbiased_accuracy"):
    """A measure against others: a panel each, one line per intervention, its end values labelled.

    ``ds``: long form of one data set and model with the coordinates `hyperparameter` and `value`.
    Points are means over seeds, bars one standard deviation; values without a run that has both
    measures are left out. Accuracies are in percent. Raises ValueError as `curves` does. Source:
    figures 6 and 20.
    """
    words.check(ds, (*against, y), one_row=False)
    figure, panels = new_figure(1, 2.0, len(against))
    said = [text for x, axes in zip(against, panels, strict=True) for text in _draw(axes, ds, x, y)]
    title_over(panels[0], words.row_name(ds))
    for axes, x in zip(panels, against, strict=True):
        axes.set_xlabel(textwrap.fill(words.heading(x, ds), 22), fontsize=SMALL)
    panels[0].set_ylabel(words.heading(y, ds), fontsize=SMALL)
    legend_above(figure, panels[0], ncols=2, columnspacing=1.0)
    drawn = " and ".join(words.style(ds, name)[0].lower() for name in against)
    figure.set_label(
        f"Scatter plots of {words.style(ds, y)[0].lower()} against {drawn}, {words.pair(ds)}, a "
        f"line an intervention. {' '.join(said) or 'No value.'}"
    )
    return figure


def _draw(axes, ds: xr.Dataset, x: str, y: str) -> list[str]:
    """One panel; what it shows, in words."""
    said: list[str] = []
    ends: list[tuple] = []
    for name in words.interventions_of(ds):
        row = ds.isel(run=ds["hyperparameter"].values == name)
        values, mean, sd = _by_value(row, (x, y))
        if not len(values):
            continue
        label, _, colour, marker = words.hyperparameter(name)
        span = f"{values[0]:.3g}" + (f" to {values[-1]:.3g}" if len(values) > 1 else "")
        axes.errorbar(
            mean[0], mean[1], xerr=sd[0], yerr=sd[1], color=colour, marker=marker, ms=6, lw=1.5,
            elinewidth=0.7, label=f"{label}: {span}",
        )  # fmt: skip
        strong, weak = len(values) - 1, 0
        for i, place in {strong: len(ends), weak: 2 * len(ends) + 100}.items():
            ends.append((place, *mean[:, i], f"{values[i]:.3g}", colour))
        gains = ", ".join(_text(n, m) for n, m in ((y, mean[1]), (x, mean[0])))
        said.append(f"{label} from {values[0]:g} to {values[-1]:g}: {gains}.")
    axes.margins(0.15)
    _label_ends(axes, ends)
    if not said:
        say_empty(axes)
    return said


def _by_value(row: xr.Dataset, names) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values that have both measures; means and deviations over seeds (measure x value)."""
    measures = np.array([row[n].values * (100 if words.is_percent(n) else 1) for n in names])
    known = np.isfinite(measures).all(axis=0)
    values = np.unique(row["value"].values[known])
    groups = [measures[:, known & (row["value"].values == v)] for v in values]
    both = np.array([words.mean_and_sd(group.T) for group in groups]).reshape(-1, 2, 2)
    return values, *both.transpose(1, 2, 0)


def _label_ends(axes, ends) -> None:
    """The value beside each end of a line, where it would not cover another one's."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    taken: list[tuple[float, float]] = []
    for _, x, y, text, colour in sorted(ends):  # strong ends first
        at = (x - left) / (right - left), (y - low) / (high - low)
        if any(abs(at[0] - a) < 0.3 and abs(at[1] - b) < 0.12 for a, b in taken):
            continue
        taken.append(at)
        side = "left" if at[0] < 0.6 else "right"
        axes.annotate(
            text, (x, y), xytext=(7 if side == "left" else -7, 5), textcoords="offset points",
            ha=side, color=colour, fontsize=SMALL,
        )  # fmt: skip


def _text(name: str, mean: np.ndarray) -> str:
    unit = " %" if words.is_percent(name) else ""
    return f"{name.replace('_', ' ')} {mean[0]:.3g} to {mean[-1]:.3g}{unit}"
