"""What happens along training, at the lowest and at the highest learning rate."""

import numpy as np
import xarray as xr

from lrsc.plots.frame import TEXT, legend_above, new_figure
from lrsc.plots.words import REGIONS, check, pair

MARKERS = {"core": "o", "spurious": "s", "noise": "^"}


def attribution_shares(ds: xr.Dataset):
    """Shares of attribution on the input's regions along training: a panel for either end of LR.

    ``ds``: long form of one data set and model with the curves of the probe `attribution`, NaN
    after a run's end. Lines are means over seeds, bands one standard deviation. A run that ended
    before the others of its LR keeps its last value: its network no longer changes. Diverged runs
    are left out. Raises ValueError as `normalised_curves`, and if no run has such curves. Source:
    figure 3 (right).
    """
    names = {region: f"curve_attribution_{region}" for region in REGIONS}
    names = {region: name for region, name in names.items() if name in ds} or names
    check(ds, ("attribution_step", *names.values()))
    first = ds[next(iter(names.values()))]
    has = np.isfinite(first.values).any(axis=1) & (ds["status"].values != "diverged")
    if not has.any():
        raise ValueError("no run has curves of attribution: record them in a sweep")
    lrs = np.unique(ds["lr"].values[has])
    ends = {"lowest": lrs[0], "highest": lrs[-1]} if len(lrs) > 1 else {"only": lrs[0]}
    figure, panels = new_figure(len(ends), 2.1)
    said = []
    for axes, (which, lr) in zip(panels, ends.items(), strict=True):
        runs = ds.isel(run=has & (ds["lr"].values == lr))
        for region, name in names.items():
            steps, values = on_one_grid(runs["attribution_step"].values, runs[name].values)
            _line(axes, region, steps, values)
            text = f"{region} {values[:, -1].mean():.2f}"
            said.append(f"At the end of learning rate {lr:g}: {text}.")
        axes.set_title(f"{which} learning rate: {lr:g}", fontsize=TEXT, loc="left")
        axes.set_ylim(0, 1)
    panels[-1].set_xlabel("training step", fontsize=TEXT)
    figure.supylabel("share of attribution", fontsize=TEXT)
    legend_above(figure, panels[0], ncols=3)
    figure.set_label(
        f"{len(ends)} stacked line plots over training steps, {pair(ds)}: shares of attribution on "
        f"the regions {', '.join(names)} of the input. " + " ".join(said)
    )
    return figure


def _line(axes, region: str, steps: np.ndarray, values: np.ndarray) -> None:
    mean = values.mean(axis=0)
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros_like(mean)
    colour = REGIONS[region]
    axes.plot(
        steps, mean, color=colour, marker=MARKERS[region], markevery=max(1, len(steps) // 8),
        lw=1.6, label=f"{region} bits",
    )  # fmt: skip
    axes.fill_between(steps, mean - sd, mean + sd, color=colour, alpha=0.18, lw=0)


def on_one_grid(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps at which any run was seen, and each run's values there (runs x steps).

    Between two calls a run's values are interpolated; after its end it keeps its last one, since
    its network no longer changes.
    """
    known = np.isfinite(steps) & np.isfinite(values)
    grid = np.unique(steps[known])
    rows = [np.interp(grid, s[k], v[k]) for s, v, k in zip(steps, values, known, strict=True)]
    return grid, np.array(rows)
