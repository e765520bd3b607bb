"""Measures of all local runs in one table, which stays in step with the files of the runs.

The table is kept as `measures.nc` in the results folder, in long form, with size and time of change
of each run's file. Whoever opens results reads the files that it does not know, drops the rows of
those that are gone, and writes it anew once enough has changed. The files of the runs alone count:
a table that is missing, damaged, of another version or not to be written costs time, nothing else.
"""

import functools
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from lrsc import results
from lrsc.results import netcdf

FORM = 2  # of the table: another one is not read
WORTH = 50  # files read anew, from which on writing the table costs less than reading them again
BATCH = 500  # files that are held as single values at a time
_STAMPS = ("size", "changed")
_log = logging.getLogger(__name__)


class Stamp(NamedTuple):
    """What tells one state of a run's file from another: bytes, and nanoseconds of its change."""

    size: int
    changed: int


_last: dict[Path, tuple[dict[str, Stamp], xr.Dataset | None]] = {}
_skip: set[str] = set()  # raw material: dimensions of a variable are the same in all files


def table_path(root: str | Path | None = None) -> Path:
    """Where the table of a results folder stands."""
    return results.results_root(root) / "measures.nc"


def measures(root: str | Path | None = None) -> xr.Dataset | None:
    """Measures of all local runs in long form, ordered by run_id; None if there are none.

    As `results.combine`, with the coordinate `probes`: names of those whose curves a run's file
    holds. Damaged files are set aside with a warning.
    """
    folder = results.results_root(root)
    stamps = _stamps(folder)
    known = _last.get(folder)
    if known is None or known[0] != stamps:
        known = _last[folder] = stamps, _up_to_date(folder, stamps)
    found = known[1]
    return None if found is None else found.drop_vars(_STAMPS)


def with_curves(
    found: xr.Dataset, recorded: Iterable[str], root: str | Path | None = None
) -> xr.Dataset:
    """Local runs in long form with the curves of these probes, read from the runs' files."""
    prefixes = tuple(sorted({f"{probe}_" for probe in recorded}))
    paths = [results.run_path(name, root) for name in found["run_id"].values]
    runs = [_curves(path, _stamp(path), prefixes) for path in paths]
    about = {n: v.attrs for run in reversed(runs) for n, v in run.items()}
    curves = results.stacked([{n: (v.dims, v.values) for n, v in run.items()} for run in runs])
    return found.assign({n: (*curve, about[n]) for n, curve in curves.items()})


def _stamps(folder: Path) -> dict[str, Stamp]:
    """run_id -> stamp of every file of a run, in the order of the names."""
    try:
        with os.scandir(folder / "runs") as entries:
            names = sorted(e.name for e in entries if e.name.endswith(".nc") and e.name[0] != ".")
    except FileNotFoundError:
        return {}
    found = {name[:-3]: _stamp(folder / "runs" / name) for name in names}
    return {name: stamp for name, stamp in found.items() if stamp is not None}


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:  # set aside or removed in this moment
        return None
    return Stamp(found.st_size, found.st_mtime_ns)


def _up_to_date(folder: Path, stamps: dict[str, Stamp]) -> xr.Dataset | None:
    table = _last[folder][1] if folder in _last else None
    fresh = _not_in(table, stamps)
    if len(fresh) >= WORTH:  # another process may have written them down
        kept = _kept(folder)
        if len(_not_in(kept, stamps)) < len(fresh):
            table, fresh = kept, _not_in(kept, stamps)
    if len(fresh) >= 1000:
        _log.info("reading the measures of %d runs", len(fresh))
    read = _read(folder, {name: stamps[name] for name in fresh})
    parts = [] if read is None else [read]
    if table is not None:
        current = stamps.keys() - set(fresh)
        rows = np.flatnonzero([name in current for name in table["run_id"].values])
        if len(rows):
            parts.insert(0, table if len(rows) == table.sizes["run"] else table.isel(run=rows))
    if not parts:
        return None
    found = results.concat(parts)
    found = found.isel(run=np.argsort(found["run_id"].values, kind="stable"))
    if len(fresh) >= WORTH:
        _write(folder, found)
    return found


def _not_in(table: xr.Dataset | None, stamps: dict[str, Stamp]) -> list[str]:
    """Runs whose files the table does not know in their present state."""
    if table is None:
        return list(stamps)
    columns = (table[name].values.tolist() for name in ("run_id", *_STAMPS))
    known = {name: Stamp(*stamp) for name, *stamp in zip(*columns, strict=True)}
    return [name for name, stamp in stamps.items() if known.get(name) != stamp]


def _kept(folder: Path) -> xr.Dataset | None:
    """The table in the folder, None if there is none that this version can use."""
    path = table_path(folder)
    if not path.is_file():
        return None
    try:
        found = results.load(path)
        if found.attrs != _form():
            raise ValueError(f"{path} is of another version")
        return found.assign_coords(results.described(found["config"].values))
    except (ValueError, KeyError, TypeError) as error:
        _log.info("%s; it is made anew", error)
        return None


def _write(folder: Path, found: xr.Dataset) -> None:
    try:
        results.save(found.assign_attrs(_form()), table_path(folder))
    except (OSError, RuntimeError) as error:
        _log.info("%s cannot be written (%s)", table_path(folder), error)


def _form() -> dict[str, str]:
    columns = [*results.FROM_ATTRS, *sorted(results.LABELS)]
    return {"form": f"{FORM} {' '.join(columns)}"}


def _read(folder: Path, stamps: dict[str, Stamp]) -> xr.Dataset | None:
    """The table of these runs, each read from its file; None if none can be read."""
    names = list(stamps)
    batches = (names[first : first + BATCH] for first in range(0, len(names), BATCH))
    read = [_read_batch(folder, {name: stamps[name] for name in batch}) for batch in batches]
    parts = [part for part in read if part is not None]
    return results.concat(parts) if parts else None


def _read_batch(folder: Path, stamps: dict[str, Stamp]) -> xr.Dataset | None:
    found: dict[str, netcdf.Stored] = {}
    for name in stamps:
        stored = _stored(results.run_path(name, folder))
        if stored is not None:
            found[name] = stored
    if not found:
        return None
    about: dict[str, dict] = {}
    kappa = {}
    for name, stored in found.items():
        if fresh := [n for n in stored.variables if n not in about]:
            about |= netcdf.about(results.run_path(name, folder), fresh)
        if "kappa" in stored.variables:
            kappa = {"kappa": (*stored.variables.pop("kappa"), about["kappa"])}
    attrs, _, records = zip(*found.values(), strict=True)
    columns = dict(zip(_STAMPS, np.array([stamps[name] for name in found]).T, strict=True))
    columns["probes"] = np.array([_probes(stored.names) for stored in found.values()], object)
    made = results.long_form(attrs, records, about)
    return made.assign_coords({n: ("run", column) for n, column in columns.items()} | kappa)


def _probes(names: Collection[str]) -> str:
    return " ".join(sorted(name[:-5] for name in names if name.endswith("_step")))


def _is_measure(name: str, dims: tuple[str, ...]) -> bool:
    return set(dims) <= results.LABELS


def _stored(path: Path) -> netcdf.Stored | None:
    """A run's measures, None if its file is damaged, which is then set aside."""
    try:
        found = netcdf.read(path, _is_measure, _skip)
        results.check_run(found.attrs, path)
        return found
    except (OSError, ValueError, KeyError, RuntimeError, TypeError):
        results.load_run(path)  # which says what is wrong with it
        return None


@functools.lru_cache(maxsize=512)
def _curves(path: Path, stamp: Stamp | None, prefixes: tuple[str, ...]) -> dict[str, xr.Variable]:
    """The curves of probes in a run's file as it is now; none if it is gone or damaged by now."""
    run = results.load_run(path)
    return {} if run is None else {
        str(n): v.variable for n, v in run.data_vars.items()
        if not set(v.dims) <= results.LABELS
        and str(n).removeprefix("curve_").startswith(prefixes)
    }  # fmt: skip
