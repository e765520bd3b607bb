"""Results of an experiment in long form, for figures and claims; and its file in the book."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from lrsc import measures, models, results
from lrsc.config import STATISTICS, RunConfig
from lrsc.errors import check_names
from lrsc.experiments.found import all_runs, select_runs, sources, unusable
from lrsc.experiments.rows import EXPERIMENTS
from lrsc.experiments.select import (
    PROFILES,
    is_planned,
    planned_runs,
    profile_of,
    recorded,
    recording,
    row_keys,
    rows_of,
)
from lrsc.metrics.robustness import LEAST_MARGIN

# of batch normalisation, in which the paper's numbers are read: nearest to S1 in `choices`
PAPER_STATISTICS = "recalibrated"
COLLAPSE = 0.10  # accuracy below the best LR's of its row at which a larger LR has collapsed


def open_experiment(
    name: str,
    profile: str | Sequence[str] | None = None,
    root: str | Path | None = None,
    dataset: str | None = None,
    model: str | None = None,
    hyperparameter: str | None = None,
    read: list[xr.Dataset] | None = None,
    statistics: str | None = None,
) -> xr.Dataset:
    """Results of an experiment, shipped and local, in long form (dimension `run`).

    Coordinates `hyperparameter` and `value` say to which row a run belongs, and where in it; a run
    of several rows appears in each of them. profile None: for each row the largest profile of which
    anything is measured (with curves, if the row records some). Several profiles: all of them that
    have such curves; `alike` separates their runs. Runs that are not done yet are absent;
    `collapsed` is decided here, by comparison with the row's other values. read:
    what `sources` returned, to open many rows at the cost of one.

    statistics: those of batch normalisation in which networks were evaluated: 'running', 'batch' or
    'recalibrated'; runs that were not measured so are left out. None: for each row those in which
    the paper's numbers are read (PAPER_STATISTICS) if all its runs were measured so, else
    'running'. The coordinate `statistics` says which, and is empty for networks without batch
    normalisation. Raises ValueError if nothing is measured.
    """
    check_names("experiment", [name], EXPERIMENTS)
    if statistics is not None:
        check_names("statistics", [statistics], STATISTICS)
    runs = sources(name, root) if read is None else read
    asked = (dataset, model, hyperparameter)
    profiles = (profile,) if isinstance(profile, str) else tuple(profile or ())
    keys = [
        key for key in row_keys(name)
        if all(a in (None, k) for a, k in zip(asked, key, strict=True))
    ]  # fmt: skip
    found = (_measured_row(runs, name, key, profiles, statistics) for key in keys)
    chosen = [row for row in found if row is not None]
    if not chosen:
        where = f" in profile {' or '.join(map(repr, profiles))}" if profiles else ""
        raise ValueError(
            f"nothing is measured yet of experiment {name!r}{where}"
            + "".join(f", {v!r}" for v in asked if v)
            + f". Measure it with: lrsc sweep {name}"
            + (f" --profile {profiles[-1]}" if profiles else "")
        )
    return _finish(results.concat(chosen), name)


def _measured_row(
    runs: list[xr.Dataset],
    name: str,
    key: tuple[str, str, str],
    profiles: tuple[str, ...],
    statistics: str | None,
) -> xr.Dataset | None:
    """What is measured of a row: see `open_experiment`."""
    selected = (
        select_runs(runs, planned_runs(name, p, *key), p) for p in profiles or reversed(PROFILES)
    )
    kept = (in_statistics(s, statistics) for s in selected if s is not None)
    found = [s for s in kept if s.sizes["run"]]
    # curves that the row is about count for more than the size of the profile
    found = [s for s in found if _has_curves(s, name, key)] or found
    if not found:
        return None
    # two profiles of a data set that has one size share runs
    every = results.once(results.concat(found if len(profiles) > 1 else found[:1]))
    return _labelled(every, name, key)


def measured(
    name: str, profile: str | Sequence[str] | None = None, *more: Any, **row: Any
) -> xr.Dataset | None:
    """What `open_experiment` gives with the same arguments; None where nothing is measured."""
    try:
        return open_experiment(name, profile, *more, **row)
    except ValueError:
        return None


def open_runs(
    runs: Iterable[RunConfig], root: str | Path | None = None, name: str = ""
) -> xr.Dataset:
    """Results of these runs, local or shipped, in long form, as far as they are done.

    name: an experiment; each run then appears under every row to which it belongs, as in
    `open_experiment`. Raises ValueError if none is done.
    """
    runs = list(runs)
    probes = {probe for config in runs for probe in recording(config)}
    found = select_runs(all_runs(root, probes, runs), runs, profile_of(runs[0]))
    if found is None:
        raise ValueError("none of these runs is done: pass them to lrsc.sweep.run first")
    found = in_statistics(found)
    return _finish(_in_rows(found, name) if name else found, name)


def in_statistics(found: xr.Dataset, statistics: str | None = None) -> xr.Dataset:
    """Runs of one row with their measures in one of the statistics: see `open_experiment`."""
    normalised = np.isin(found["model"].values, models.NORMALISED)
    accuracy = found["unbiased_accuracy"]
    if "statistics" in accuracy.dims:  # a user's own networks, of which that says it
        others = accuracy.drop_sel(statistics="running", errors="ignore")
        normalised |= others.notnull().any("statistics").values

    def has(name: str) -> np.ndarray:
        if name == "running" or "statistics" not in accuracy.dims:
            return np.full(len(normalised), name == "running") | ~normalised
        known = np.isfinite(accuracy.sel(statistics=name).values)
        return known | ~normalised | (found["status"].values == "diverged")

    if statistics is None:
        statistics = PAPER_STATISTICS if has(PAPER_STATISTICS).all() else "running"
    kept = has(statistics)
    if not kept.all():
        found, normalised = found.isel(run=kept), normalised[kept]
    if "statistics" in found.dims:
        other = found.sel(statistics=statistics, drop=True)
        if statistics != "running" and not normalised.all():
            apart = [n for n, v in found.data_vars.items() if "statistics" in v.dims]
            running = found[apart].sel(statistics="running", drop=True)
            other = other.assign(other[apart].where(xr.DataArray(normalised, dims="run"), running))
        found = other
    label = np.where(normalised, statistics, "").astype(object)
    return found.assign_coords(statistics=("run", label))


def _in_rows(found: xr.Dataset, name: str) -> xr.Dataset:
    """Runs under the name and value of each row of an experiment that they are of."""
    # seeds make no difference to what row a run is of
    alike: dict[RunConfig, list[int]] = {}
    for i, text in enumerate(found["config"].values):
        alike.setdefault(dataclasses.replace(results.parsed(text), seed=0), []).append(i)
    parts = []
    for key in row_keys(name):
        rows = rows_of(name, key)
        of_key = sorted(
            i for c, runs in alike.items() if any(is_planned(c, row) for row in rows) for i in runs
        )
        if of_key:
            parts.append(_labelled(found.isel(run=of_key), name, key))
    return results.concat(parts) if parts else found


def export(
    name: str,
    root: str | Path | None = None,
    output: str | Path | None = None,
    ship: bool = False,
) -> Path:
    """Write measures (not raw material) of all local and shipped runs except quick ones to a file.

    It goes to the results folder, or where `results.write_derived` says. Raises ValueError if no
    run is done, and if the file that ships cannot be used, since its runs would be lost.
    """
    check_names("experiment", [name], EXPERIMENTS)
    if why := unusable(name).get(name):
        raise ValueError(f"{why}: move it away first, so that what it holds is not lost")
    runs = sources(name, root)
    # quick runs are never evidence
    chosen = (select_runs(runs, planned_runs(name, p), p) for p in PROFILES[1:])
    kept = [found.drop_vars(["profile", "origin", "file"]) for found in chosen if found is not None]
    if not kept:
        raise ValueError(f"no desk or paper run of {name!r} is done: nothing to export")
    together = results.once(results.concat(kept))
    # curves that other experiments recorded of the same runs stand in their files
    others = {p for other in EXPERIMENTS for p in recorded(other)} - set(recorded(name))
    prefixes = tuple(f"curve_{probe}_" for probe in others)
    steps = {f"{probe}_step" for probe in others}
    together = together.drop_vars([
        str(n) for n in together.data_vars
        if str(n) in steps or str(n).startswith(prefixes)
    ])  # fmt: skip
    together.attrs = {"experiment": name, "made_by": f"lrsc results export {name}"}
    return results.write_derived(together, name, root=root, output=output, ship=ship)


def _has_curves(found: xr.Dataset, name: str, key: tuple[str, str, str]) -> bool:
    """Whether any run holds the curves of all probes that its row records."""
    steps = [f"{probe}_step" for row in rows_of(name, key) for probe in row.record]
    return all(s in found and bool(np.isfinite(found[s].values).any()) for s in steps)


def _labelled(found: xr.Dataset, name: str, key: tuple[str, str, str]) -> xr.Dataset:
    """The runs with the name of their row and the value of its knob."""
    knob = rows_of(name, key)[0].knob
    configs = [results.parsed(text) for text in found["config"].values]
    values = np.array([results.value_of(config, knob) for config in configs])
    return results.all_with(found, hyperparameter=key[2]).assign_coords(value=("run", values))


def _finish(found: xr.Dataset, name: str) -> xr.Dataset:
    by = ["dataset", "model", "hyperparameter", "data", "model_options", "value", "seed"]
    order = pd.DataFrame({name: found[name].values for name in by}).sort_values(by).index
    found = _corrected(found.isel(run=order.to_numpy()))
    found = found.assign_coords(status=("run", _with_collapsed(found)))
    profiles = dict.fromkeys(found["profile"].values.tolist())
    origins = dict.fromkeys(found["origin"].values.tolist())
    files = collections.Counter(file for file in found["file"].values.tolist() if file)
    found.attrs = {
        "experiment": name,
        "profile": ", ".join(profiles),
        "origin": ", ".join(origins),
        "file": files.most_common(1)[0][0] if files else "",
    }
    return found


def _corrected(found: xr.Dataset) -> xr.Dataset:
    """With chance-corrected prunability, from the accuracies that are stored of all runs."""
    for method, name in measures.PRUNABILITY.items():
        if not {"chance", name, f"accuracy_pruned_{method}"} <= set(found.data_vars):
            continue
        chance, share = found["chance"].variable, found[name].variable
        after = found[f"accuracy_pruned_{method}"].variable.mean("kappa")
        margin = after / share - chance  # prunability is mean after / before
        about = measures.VARIABLES[f"{name}_corrected"]
        value = ((after - chance) / margin).where(margin >= LEAST_MARGIN)
        value.attrs = {"units": about.units, "long_name": about.long_name}
        found[f"{name}_corrected"] = value
    return found


def _with_collapsed(found: xr.Dataset) -> np.ndarray:
    """Statuses; a run is collapsed if it is far under its row's best value, at a larger one."""
    status = found["status"].values.astype(object)
    row = ["dataset", "model", "hyperparameter", "data", "model_options", "source_id", "precision"]
    table = pd.DataFrame({n: found[n].values for n in (*row, "value", "unbiased_accuracy")})
    for _, runs in table.groupby(row):
        means = runs.groupby("value")["unbiased_accuracy"].mean().dropna()
        if means.empty:
            continue
        best = means.idxmax()
        low = (runs["value"] > best) & (runs["unbiased_accuracy"] < means[best] - COLLAPSE)
        at = runs.index[low]
        status[at] = np.where(status[at] == "diverged", "diverged", "collapsed")
    return status
