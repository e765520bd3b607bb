"""Result files: one netCDF file a run, written atomically, read with its digests compared."""

import contextlib
import functools
import io
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import errors
from lrsc.config import RunConfig
from lrsc.files import write
from lrsc.results import netcdf, units
from lrsc.results.path import results_root, shipped_path

_log = logging.getLogger(__name__)
_WRITING = threading.RLock()


def save(dataset: xr.Dataset, path: str | Path) -> None:
    """Write a Dataset as netCDF with its digests, atomically; larger variables are compressed.

    Variables that `units` knows get their units and long names. float16, which netCDF-4 lacks, is
    written as float32.
    """
    dataset = units.labelled(dataset)
    half = [name for name, variable in dataset.variables.items() if variable.dtype == np.float16]
    dataset = dataset.assign({name: dataset[name].astype(np.float32) for name in half})
    encoding = {
        name: {"zlib": True, "complevel": 4, "shuffle": True, "chunksizes": _chunks(variable)}
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind == "f" and variable.size > 1000
    }
    made = io.BytesIO()  # in memory: HDF5 ends the process where a disk is full
    # on a Dask worker, xarray's own lock would be one of the cluster's, which knows no such file
    store = xr.backends.H5NetCDFStore.open(made, mode="w", lock=_WRITING)
    with contextlib.closing(store):
        dataset.dump_to_store(store, encoding=encoding)
    netcdf.sign(made)
    write(errors.path("path", path), made.getbuffer())


def _chunks(variable: xr.DataArray) -> tuple[int, ...]:
    """All of a variable in one chunk, which compresses best; of a large one the rows of 4 MiB."""
    rows, *others = variable.shape
    return min(rows, max(1, 2**22 * rows // variable.nbytes)), *others


def load(path: str | Path) -> xr.Dataset:
    """Read a result file into memory; ValueError naming the file if it is damaged or foreign.

    It is compared with its digests, if it has any. A file that cannot be opened now (too many open
    files, no permission) raises errors.Unreadable, also a ValueError.
    """
    path = errors.path("path", path)
    if not path.is_file():
        raise ValueError(f"result file {path} does not exist")
    try:
        return netcdf.whole(path)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number is not None:  # the system's word, not HDF5's on the content
            text = f"result file {path} cannot be read: {os.strerror(number)}"
            raise errors.Unreadable(text) from error
        raise ValueError(f"result file {path} is damaged or not a result: {error}") from error


def shipped(name: str, needs: Iterable[str] = ()) -> xr.Dataset | None:
    """A result file that ships with the book, by its name; None if there is none.

    needs: variables and attributes that the file must have. Raises ValueError, naming the file as
    readers of the book know it, if it is damaged or lacks one of them.
    """
    found = with_needs(shipped_path(name), f"book/results/{name}.nc", needs)
    return None if found is None else found.assign_attrs(file=f"book/results/{name}.nc")


def with_needs(path: Path, shown: str, needs: Iterable[str] = ()) -> xr.Dataset | None:
    """A result file, under a name that readers know, with what it must hold: see `shipped`."""
    if not path.is_file():
        return None
    try:
        found = load(path)
    except ValueError as error:
        _log.info("%s", error)  # a warning would stand on the page, with the machine's path
        raise ValueError(f"`{shown}` is damaged or not a result") from error
    missing = [n for n in needs if n not in found.variables and n not in found.attrs]
    if missing:
        raise ValueError(
            f"`{shown}` is of another kind or version: it lacks {', '.join(map(repr, missing))}"
        )
    return found


def load_run(path: Path) -> xr.Dataset | None:
    """A run's result, or None if there is none; a damaged file is set aside with a warning.

    A run whose configuration is from another version stays in place and counts as none. Raises
    errors.Unreadable for a file that cannot be opened now: it may well be intact.
    """
    if not path.is_file():
        return None
    try:
        found = load(path)
        check_run(found.attrs, path)
        return found
    except OtherVersion as error:
        _log.warning("run %s is left out: %s", path.stem, error)
        return None
    except errors.Unreadable:
        if not path.is_file():  # another process has set it aside
            return None
        raise
    except ValueError as error:
        aside = path.with_name(path.name + ".damaged")
        place = f"set aside as {aside.name}"
        try:
            os.replace(path, aside)
        except FileNotFoundError:  # another process did it
            pass
        except OSError as refusal:  # a folder that is only read
            place = f"it stays where it is ({refusal.strerror})"
        _log.warning("%s; %s, the run counts as not done", error, place)
        return None


class OtherVersion(ValueError):
    """A run's file is whole, but its configuration is of another version."""


def check_run(attrs: Mapping, path: Path) -> None:
    """Raise ValueError unless the attributes of a file are those of the run it is named after."""
    if attrs.get("run_id") != path.stem:
        raise ValueError(f"{path} holds run {attrs.get('run_id')!r}")
    if not isinstance(attrs.get("config"), str):
        raise ValueError(f"{path} holds no configuration")
    try:
        parsed(attrs["config"])
    except ValueError as error:
        raise OtherVersion(str(error)) from error


@functools.lru_cache(maxsize=100_000)
def parsed(config: str) -> RunConfig:
    """`RunConfig.from_json`, computed once for each text: long forms hold thousands."""
    return RunConfig.from_json(config)


def local_runs(root: str | Path | None = None) -> list[xr.Dataset]:
    """All results under the results folder, ordered by file name."""
    paths = sorted((results_root(root) / "runs").glob("*.nc"))
    return [found for path in paths if (found := load_run(path)) is not None]
