"""Where runs of an experiment stand: results of this machine, and those that ship with the book."""

import dataclasses
import functools
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import datasets, measures, results
from lrsc.config import RunConfig
from lrsc.experiments.rows import EXPERIMENTS
from lrsc.experiments.select import PROFILES, planned_runs, recorded
from lrsc.results import consolidated

_log = logging.getLogger(__name__)


def sources(name: str, root: str | Path | None = None, curves: bool = True) -> list[xr.Dataset]:
    """Where runs may be found: the experiment's own file, this machine, other experiments' files.

    curves=False: this machine's runs without curves along training, which take long to read.
    """
    wanted = [c for profile in PROFILES for c in planned_runs(name, profile)] if curves else []
    local = local_runs(root, recorded(name), wanted)
    others = (shipped(other) for other in EXPERIMENTS if other != name)
    return [each for each in (shipped(name), *local, *others) if each is not None]


def shipped(name: str) -> xr.Dataset | None:
    """An experiment's runs that ship with the book; None where its file is absent or unusable."""
    found = _read(name)
    return None if isinstance(found, str) else found


def unusable(*names: str) -> dict[str, str]:
    """Experiments whose shipped file exists but cannot be used, and why; no names: of all."""
    found = {name: _read(name) for name in names or EXPERIMENTS}
    return {name: why for name, why in found.items() if isinstance(why, str)}


def _check_units(found: xr.Dataset) -> None:
    """Raise ValueError for the first measure that is not in the units that all figures expect."""
    for name, about in measures.VARIABLES.items():
        if name not in found:
            continue
        has = found[name].attrs.get("units", about.units)
        if has != about.units:
            raise ValueError(f"{name} in units {has!r}, expected {about.units!r}")
        if about.percent and (found[name].values > 1 + 1e-6).any():
            raise ValueError(f"{name} up to {float(found[name].max()):g}, expected a fraction")


def _read(name: str) -> xr.Dataset | str | None:
    """The shipped file of an experiment, or why it cannot be used."""
    path = results.shipped_path(name)
    return _read_shipped(name, path, path.stat().st_mtime_ns) if path.is_file() else None


@functools.lru_cache(maxsize=64)
def _read_shipped(name: str, path: Path, changed: int) -> xr.Dataset | str | None:
    try:
        found = results.shipped(name, results.COORDINATES)
        if found is None:
            return None
        if found["config"].dims != ("run",):
            raise ValueError("no runs, expected the dimension 'run'")
        _check_configs(found)
        _check_units(found)
    except ValueError as error:
        why = str(error) if path.name in str(error) else f"`book/results/{path.name}` holds {error}"
        _log.info("%s: its runs count as not measured", why)
        return why
    return _with_origin(found, "shipped", f"book/results/{name}.nc")


def local_runs(
    root: str | Path | None, recorded: Iterable[str] = (), wanted: Iterable[RunConfig] = ()
) -> list[xr.Dataset]:
    """This machine's runs; those wanted that hold curves of these probes apart, with the curves."""
    found = consolidated.measures(root)
    if found is None:
        return []
    found = _with_origin(_with_our_units(found), "local")
    recorded, keys = set(recorded), {key_of(config) for config in wanted}
    if recorded and keys:
        held = zip(found["key"].values, found["probes"].values, strict=True)
        chosen = np.array([k in keys and not recorded.isdisjoint(p.split()) for k, p in held])
        if chosen.any():
            curves = consolidated.with_curves(found.isel(run=chosen), recorded, root)
            return [_indexed(curves), found.isel(run=~chosen)]
    return [found]


def all_runs(
    root: str | Path | None, recorded: Iterable[str] = (), wanted: Iterable[RunConfig] = ()
) -> list[xr.Dataset]:
    """This machine's runs, as `local_runs` has them, and those of every experiment that ships."""
    return [*local_runs(root, recorded, wanted), *all_shipped()]


def all_shipped() -> list[xr.Dataset]:
    """The runs of every experiment that ships."""
    return [found for name in EXPERIMENTS if (found := shipped(name)) is not None]


def _check_configs(found: xr.Dataset) -> None:
    for text in found["config"].values:
        try:
            RunConfig.from_json(text)
        except ValueError as error:
            raise ValueError(f"runs of another version: {error}") from error


def _with_our_units(found: xr.Dataset) -> xr.Dataset:
    """Runs without those whose accuracies are no fractions, each with one warning."""
    fine = np.ones(found.sizes["run"], bool)
    for name in (n for n, about in measures.VARIABLES.items() if about.percent and n in found):
        largest = found[name].max(set(found[name].dims) - {"run"}).values
        over = fine & (largest > 1 + 1e-6)
        for run_id, value in zip(found["run_id"].values[over], largest[over], strict=True):
            _warn_once(
                f"run {run_id} is left out: it holds {name} up to {value:g}, expected a fraction"
            )
        fine &= ~over
    return found if fine.all() else found.isel(run=fine)


@functools.cache
def _warn_once(text: str) -> None:
    _log.warning(text)


def _with_origin(found: xr.Dataset, origin: str, file: str = "") -> xr.Dataset:
    return _indexed(results.all_with(found, origin=origin, file=file))


_INDEX = ("key", "held", "stand_in")  # by which `find_places` finds runs


def _indexed(found: xr.Dataset) -> xr.Dataset:
    """With what is asked of each run, how many variables it holds, and whether of a stand-in."""
    stand_in = functools.cache(datasets.is_stand_in)
    columns = {
        "key": np.array([key_of_text(text) for text in found["config"].values], object),
        "held": _held(found),
        "stand_in": np.array([stand_in(source) for source in found["source_id"].values], bool),
    }
    return found.assign_coords({name: ("run", column) for name, column in columns.items()})


def find_places(
    sources: list[xr.Dataset], wanted: list[RunConfig], profile: str
) -> list[tuple[int, int]]:
    """Source and row of the runs among `wanted`, each in the source that holds most of it.

    Of several that hold as much, in the first.
    """
    keys = dict.fromkeys(key_of(config) for config in wanted)
    best: dict[str, tuple[int, int, int]] = {}  # key -> variables held, source, row
    for number, source in enumerate(sources):
        columns = (source[name].values.tolist() for name in (*_INDEX, "source_id"))
        for row, (key, held, stands_in, source_id) in enumerate(zip(*columns, strict=True)):
            if key not in keys or (key in best and held <= best[key][0]):
                continue
            if stands_in == (profile == "quick") or source_id in datasets.SINGLE:
                best[key] = held, number, row
    return [best[key][1:] for key in keys if key in best]


def select_runs(
    sources: list[xr.Dataset], wanted: list[RunConfig], profile: str
) -> xr.Dataset | None:
    """Runs among `wanted` with their profile, from where `find_places` finds them."""
    places = find_places(sources, wanted, profile)
    chosen = [
        source.isel(run=rows).drop_vars([*_INDEX, "probes"], errors="ignore")
        for number, source in enumerate(sources)
        if (rows := [row for n, row in places if n == number])
    ]
    if not chosen:
        return None
    return results.all_with(results.concat(chosen), profile=profile)


def _held(source: xr.Dataset) -> np.ndarray:
    """How many variables have a value, of each run."""
    counts = np.zeros(source.sizes["run"], int)
    for variable in source.data_vars.values():
        if variable.dims[:1] == ("run",):
            apart = variable.sizes.get("statistics", 1)  # each counts for itself
            values = variable.transpose("run", "statistics", ..., missing_dims="ignore").values
            counts += np.isfinite(values.reshape(len(counts), apart, -1)).any(2).sum(1)
    return counts


@functools.lru_cache(maxsize=100_000)
def key_of(config: RunConfig) -> str:
    """What is asked of a run, whatever its source: `select_runs` looks at the source itself."""
    return dataclasses.replace(config, source="auto").to_json()


@functools.lru_cache(maxsize=100_000)
def key_of_text(text: str) -> str:
    """`key_of` of a run's stored configuration."""
    return key_of(results.parsed(text))
