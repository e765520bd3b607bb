"""Where claims look: rows of experiments as measured, opened once, quick runs never."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import experiments

PROFILES = ("paper", "desk")  # the larger counts
CURVES = ("mechanism",)  # experiments whose curves along training are looked at
LRS = 3  # values of the LR that a trend needs

Key = tuple[str, str, str]  # data set, model, hyperparameter
Open = Callable[..., xr.Dataset | None]


def opener(root: str | Path | None = None) -> Open:
    """A function (experiment, profile, key) -> what is measured of that row, None for nothing.

    With statistics of batch normalisation as a fourth, without the runs that lack them; without,
    the row's own choice (`experiments.open_experiment`).
    """
    read = functools.cache(lambda name: experiments.sources(name, root, curves=name in CURVES))

    @functools.cache
    def opened(
        name: str, profile: str, key: Key, statistics: str | None = None
    ) -> xr.Dataset | None:
        return experiments.measured(
            name, profile, None, *key, read=read(name), statistics=statistics
        )

    return opened


def keys(name: str, hyperparameters: Sequence[str] = ("lr",)) -> list[Key]:
    """Rows of an experiment that are called so, in its order."""
    return [key for key in experiments.row_keys(name) if key[2] in hyperparameters]


def rows(
    opened: Open,
    names: Sequence[str],
    look: Callable[[xr.Dataset], dict | None],
    needs: Sequence[str] = (),
    hyperparameters: Sequence[str] = ("lr",),
) -> list[dict]:
    """What `look` sees in each row, in the largest profile in which it sees anything.

    needs: variables without which there is nothing to see.
    """
    found = []
    for name in names:
        for key in keys(name, hyperparameters):
            for profile in PROFILES:
                ds = opened(name, profile, key)
                if ds is None or any(variable not in ds for variable in needs):
                    continue
                if (row := look(ds)) is not None:
                    found.append(label(key, profile) | row)
                    break
    return found


def of_seeds(effects: Iterable[float], **about: str) -> dict | None:
    """Evidence of a row by seed, NaN left out; None where fewer than two seeds have an effect."""
    known = [float(effect) for effect in effects if np.isfinite(effect)]
    return {**about, "effects": known} if len(known) > 1 else None


def label(key: Key, profile: str) -> dict:
    """The beginning of a row of evidence."""
    return {"dataset": key[0], "model": key[1], "profile": profile}


def good(found: xr.Dataset) -> np.ndarray:
    """Which runs did not diverge."""
    return found["status"].values != "diverged"


def grid(found: xr.Dataset, variable: str) -> np.ndarray:
    """Seeds x LRs in ascending order; diverged runs are NaN, LRs without any run left out."""
    lr, seed, values = (found[n].values for n in ("lr", "seed", variable))
    known = good(found) & np.isfinite(values)
    lrs, seeds = np.unique(lr[known]), np.unique(seed[known])
    table = np.full((len(seeds), len(lrs)), np.nan)
    at = np.searchsorted(seeds, seed[known]), np.searchsorted(lrs, lr[known])
    table[at] = values[known]
    return table


def by_value_and_seed(found: xr.Dataset, values: np.ndarray) -> dict[float, dict[int, float]]:
    """Value of the knob -> seed -> what a run has; diverged runs and NaN are left out."""
    table: dict[float, dict[int, float]] = {}
    known = good(found) & np.isfinite(values)
    for i in np.flatnonzero(known):
        at = float(f"{float(found['value'].values[i]):.4g}")
        table.setdefault(at, {})[int(found["seed"].values[i])] = float(values[i])
    return table


def paired(a: dict[int, float], b: dict[int, float]) -> list[float]:
    """a - b of each seed that both have."""
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
