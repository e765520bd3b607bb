"""Where claims look: rows of experiments as measured, opened once, quick runs never."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lrsc import experiments

PROFILES = ("paper", "desk")  # the larger counts
CURVES = ("mechanism",)  # experiments whose curves along training are looked at
DATA = ("n_train", "source_id")  # what two rows that are compared share
LRS = 3  # values of the LR that a trend needs

Key = tuple[str, str, str]  # data set, model, hyperparameter


class Open:
    """A function (experiment, profile, key) -> what is measured of that row, or None.

    root: the results folder. A fourth argument names statistics of batch normalisation; runs that
    lack them are left out. Without it, the row's own choice holds (`experiments.open_experiment`).
    If runs cannot be compared, for example from two sources, the largest group counts.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = root
        read = functools.cache(lambda name: experiments.sources(name, root, curves=name in CURVES))

        @functools.cache
        def opened(name: str, profile: str, key: Key, statistics: str | None) -> xr.Dataset | None:
            return most_alike(experiments.measured(
                name, profile, None, *key, read=read(name), statistics=statistics
            ))  # fmt: skip

        self._opened = opened

    def __call__(
        self, name: str, profile: str, key: Key, statistics: str | None = None
    ) -> xr.Dataset | None:
        return self._opened(name, profile, key, statistics)


def most_alike(found: xr.Dataset | None) -> xr.Dataset | None:
    """Of runs that do not compare, as of two sources, the largest group."""
    groups = [] if found is None else experiments.alike(found)
    return max(groups, key=lambda group: group.sizes["run"], default=None)


def keys(name: str, hyperparameters: Sequence[str] = ("lr",)) -> list[Key]:
    """Rows of an experiment that are called so, in its order."""
    return [key for key in experiments.row_keys(name) if key[2] in hyperparameters]


def rows(
    opened: Callable[..., xr.Dataset | None],
    names: Sequence[str],
    look: Callable[[xr.Dataset], dict | None],
    needs: Sequence[str] = (),
    hyperparameters: Sequence[str] = ("lr",),
) -> list[dict]:
    """What `look` sees in each row, in the largest profile in which it sees anything.

    needs: variables without which there is nothing to see.
    """

    def look_at(name: str, profile: str, key: Key) -> dict | None:
        ds = opened(name, profile, key)
        return look(ds) if ds is not None and all(variable in ds for variable in needs) else None

    return [
        row for name in names for key in keys(name, hyperparameters)
        for row in in_largest(key, functools.partial(look_at, name, key=key))
    ]  # fmt: skip


def in_largest(key: Key, look: Callable[[str], dict | None]) -> list[dict]:
    """What `look` sees in the larger profile in which it sees anything, as a row; else nothing."""
    seen = ((profile, look(profile)) for profile in PROFILES)
    rows = [label(key, profile) | row for profile, row in seen if row is not None]
    return rows[:1]


def together(opened: Open, name: str, profile: str, keys: Iterable[Key]) -> list[xr.Dataset | None]:
    """Rows that are compared: all in the same statistics, and of one size and source of the data.

    Statistics of batch normalisation: the paper's, where no run is lost with them, else running
    ones. Of another size or source than the first row that is measured: not measured.
    """
    keys = list(keys)
    modes = (experiments.PAPER_STATISTICS, "running")
    apart = [[opened(name, profile, key, mode) for key in keys] for mode in modes]
    found = max(apart, key=lambda rows: sum(ds.sizes["run"] for ds in rows if ds is not None))
    of = [ds if ds is None else tuple(ds[n].values[0] for n in DATA if n in ds.coords)
          for ds in found]  # fmt: skip
    first = next((each for each in of if each is not None), None)
    return [ds if each == first else None for ds, each in zip(found, of, strict=True)]


def of_seeds(effects: Iterable[float], **about: str) -> dict | None:
    """Evidence of a row by seed, NaN left out; None where fewer than two seeds have an effect."""
    known = [float(effect) for effect in effects if np.isfinite(effect)]
    return {**about, "groups": [known]} if len(known) > 1 else None


def ends(table: pd.DataFrame) -> list[np.ndarray]:
    """Of a `grid`, seed by seed: the largest LR's values, and the smallest LR's, negative."""
    return [table.iloc[:, -1].to_numpy(), -table.iloc[:, 0].to_numpy()]


def label(key: Key, profile: str) -> dict:
    """The beginning of a row of evidence."""
    return {"dataset": key[0], "model": key[1], "profile": profile}


def good(found: xr.Dataset) -> np.ndarray:
    """Which runs did not diverge."""
    return found["status"].values != "diverged"


def grid(found: xr.Dataset, of: str | np.ndarray, by: str = "lr") -> pd.DataFrame:
    """A variable, or a value a run: seeds x LRs, or another setting, in ascending order.

    Diverged runs and unknown values are NaN; seeds and settings with nothing else are left out.
    """
    values = np.asarray(found[of] if isinstance(of, str) else of, float)
    table = pd.DataFrame({"seed": found["seed"].values, by: found[by].values, "has": values})
    known = table[good(found) & np.isfinite(values)]
    return known.groupby(["seed", by])["has"].last().unstack()
