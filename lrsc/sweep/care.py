"""Care for a results folder: bring runs from others, verify all of it, remove what is left over.

The values in the file of a run are never changed, and the file is never moved or removed here.
"""

import contextlib
import itertools
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from lrsc import datasets, errors, files, models, results
from lrsc.config import run_id
from lrsc.errors import shown
from lrsc.experiments import shipped_ids
from lrsc.results import locks, netcdf
from lrsc.runs import is_own, without_defaults
from lrsc.sweep import packs

DAY, HOUR = 86400.0, 3600.0  # seconds
# measures that every run has whose network could be measured
_FINITE = ("epochs", "steps", "train_accuracy", "unbiased_accuracy", "prunability")


class Finding(NamedTuple):
    """What was found of a file.

    state: 'ok', 'wrong', 'in use', 'left over' or 'kept' (what a run goes on from); of `garbage`
    also 'old form'; of `merge` 'taken', 'same', 'different' or 'wrong'.
    """

    path: Path
    state: str
    detail: str


def verify(root: str | Path | None = None, shipped: bool = True) -> Iterator[Finding]:
    """Look at every file of a results folder, and at the results that ship with the book.

    A run's file is 'wrong' if it cannot be read, if a value is not the one that was written (its
    digest), if its name is not that of its configuration and data, if a variable lacks units or
    long_name, or a measure is missing or not finite that must be. Nothing is changed.
    """
    folder = results.results_root(root)
    for path in _files(folder / "runs", "*.nc"):
        yield _verified(path)
    for path in _files(folder / "derived", "*.nc"):
        yield _verified(path, _of_experiment)
    yield from _beside(folder)
    if shipped:
        for path in _files(results.path.shipped_folder(), "*.nc"):
            yield _verified(path, _of_experiment)


def merge(sources: Iterable[str | Path], root: str | Path | None = None) -> Iterator[Finding]:
    """Bring the runs of other results folders, with their weights, and of packs into this one.

    A pack is a file that `lrsc campaign` wrote; all that are given are taken together, and the
    checkpoints in them of runs that are not done here come too. Each run is verified before it is
    taken, and copied atomically, its weights first. A run that is here already is never replaced:
    'same' if all its variables are equal, else 'different'. Called again after an interruption, it
    goes on. The sources are only read. Raises ValueError for a
    source that is no results folder or pack, or this one.
    """
    folder = results.results_root(root)
    given = [errors.path("sources", source) for source in sources]
    archives = [source for source in given if source.is_file()]
    given = [source for source in given if source not in archives]
    for source in given:
        if not (source / "runs").is_dir():
            raise ValueError(f"{source} is no results folder: it has no folder runs/")
        if source.resolve() == folder.resolve():
            raise ValueError(f"{source} is the results folder itself: name another one")
    for source in given:
        for path in _files(source / "runs", "*.nc"):
            yield _merged(path, source, folder)
    if archives:
        with packs.unpacked(archives, folder) as source:
            for path in _files(source / "runs", "*.nc"):
                yield _merged(path, source, folder)._replace(path=path.relative_to(source))
            for path in _files(source / "checkpoints", "*/*.pt"):
                yield _checkpoint(path, folder)._replace(path=path.relative_to(source))


def garbage(root: str | Path | None = None, weights: bool = False) -> Iterator[Finding]:
    """What is no longer needed, and results in an old form; never the file of a run.

    Temporary files older than a day, or an hour if the process that wrote them has ended;
    checkpoints of runs that are done; locks that nobody holds. weights: also weights of runs that
    are neither here nor ship with the book. Earlier versions wrote float16, which netCDF-4 lacks
    and at which netCDF4 1.7.3 to 1.7.5 end the process: 'old form'.
    """
    folder = results.results_root(root)
    for found in _beside(folder):
        if found.state == "left over" and (weights or found.path.parent != folder / "weights"):
            yield found
    for path in _files(folder, "**/*.nc"):
        with contextlib.suppress(OSError, KeyError, RuntimeError):  # damaged: `verify` says so
            half = [name for name, dtype in netcdf.dtypes(path).items() if dtype == np.float16]
            if half:
                yield Finding(path, "old form", f"float16: {', '.join(half)}")


def remove(found: Finding) -> bool:
    """Remove a piece of garbage; False if it is gone by now, or in use again.

    A result in an old form is written anew, its values as they are.
    """
    path = found.path
    if not path.exists():
        return False
    if found.state == "old form":
        results.save(results.load(path), path)
        return True
    if path.suffix == ".lock":
        with contextlib.suppress(OSError), files.locked(path, remove=True) as free:
            return free
        return False
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        return True
    return False


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(p for p in folder.glob(pattern) if p.is_file())


def _of_run(found: xr.Dataset, path: Path) -> Iterator[str]:
    """What is wrong with a run's result."""
    results.check_run(found.attrs, path)
    attrs = found.attrs
    yield from _name(attrs["run_id"], attrs["config"], attrs["source_id"], attrs["checksum"])
    yield from _without_units(found)
    yield from _markup(attrs.items())
    if attrs["status"] not in ("converged", "cap", "diverged"):
        yield f"unknown status {attrs['status']!r}"
    elif attrs["status"] != "diverged":
        for name in _FINITE:
            if name not in found or not np.isfinite(found[name].values).all():
                yield f"{name} is missing or not finite"


def _verified(path: Path, look: Callable[[xr.Dataset, Path], Iterable[str]] = _of_run) -> Finding:
    """A file of results, looked at; a run's, unless said otherwise."""
    try:
        wrong = list(look(results.load(path), path))
    except KeyError as error:
        return Finding(path, "wrong", f"it has no {error}")
    except (ValueError, TypeError) as error:
        return Finding(path, "wrong", str(error))
    return Finding(path, "wrong" if wrong else "ok", "; ".join(wrong))


def _of_experiment(found: xr.Dataset, path: Path) -> Iterator[str]:
    """What is wrong with a file of many runs; those without configurations are only read."""
    if "config" not in found.coords:
        return
    yield from _without_units(found)
    for name in results.FROM_ATTRS:
        yield from _markup((name, text) for text in np.unique(found[name].values.astype(str)))
    columns = (found[name].values for name in ("run_id", "config", "source_id", "checksum"))
    for name, text, source_id, checksum in zip(*columns, strict=True):
        yield from _name(name, text, source_id, checksum)


def _markup(texts: Iterable[tuple[str, object]]) -> Iterator[str]:
    """Texts that a page of the book would show as more than text."""
    for name, value in texts:
        if isinstance(value, str) and "<" in value:
            yield f"attribute {name!r} holds markup: {shown(value)}"


def _without_units(found: xr.Dataset) -> Iterator[str]:
    lacking = [n for n, v in found.data_vars.items() if not {"units", "long_name"} <= set(v.attrs)]
    if lacking:
        yield f"no units or long_name: {', '.join(map(str, lacking))}"


def _name(name: str, text: str, source_id: str, checksum: str) -> Iterator[str]:
    """A complaint if a run's name is not that of its configuration and data.

    Under no version of the data set's and the model's code so far, that is. Of a run with a user's
    own code, which may not be here, nothing is said.
    """
    config = results.parsed(text)
    if is_own(config):
        return
    config = without_defaults(config)
    versions = itertools.product(
        range(datasets.version(config.dataset), 0, -1), range(models.VERSIONS[config.model], 0, -1)
    )
    key = f"{source_id}:{checksum}"
    if all(name != run_id(config, key, {"data": d, "model": m}) for d, m in versions):
        yield f"run {name} has the name of another configuration or of other data"


def _merged(path: Path, source: Path, folder: Path) -> Finding:
    looked_at = _verified(path)
    if looked_at.state != "ok":
        return looked_at
    name = path.stem
    target = results.run_path(name, folder)
    here = results.load_run(target)
    if here is not None:
        same = here.equals(results.load(path))
        if same:
            _bring_weights(name, source, folder)
        detail = "" if same else f"values differ from those of {target}, which stays"
        return Finding(path, "same" if same else "different", detail)
    try:
        weights = _bring_weights(name, source, folder)
        with files.atomic(target, replace=False) as part:
            shutil.copyfile(path, part)
            # what was copied, not what was read
            results.check_run(results.load(part).attrs, target)
    except FileExistsError:  # another process was quicker
        return _merged(path, source, folder)
    except ValueError as error:
        return Finding(path, "wrong", f"it changed while it was copied: {error}")
    return Finding(path, "taken", "with weights" if weights else "")


def _bring_weights(name: str, source: Path, folder: Path) -> bool:
    """Copy a run's weights if they are whole and not here; whether they are here then."""
    path, target = results.weights_path(name, source), results.weights_path(name, folder)
    if target.is_file() or not _is_whole(path):
        return target.is_file()
    with contextlib.suppress(FileExistsError), files.atomic(target, replace=False) as part:
        shutil.copyfile(path, part)
        if not _is_whole(part):
            raise ValueError(f"the copy of {path} is damaged")
    return True


def _checkpoint(path: Path, folder: Path) -> Finding:
    """Bring what a run that was cut off goes on from, unless it went further here."""
    name = path.parent.name
    target = results.checkpoints_path(name, folder) / path.name
    if results.run_path(name, folder).is_file() or target.is_file():
        return Finding(path, "same", "the run is further here")
    with files.atomic(target, replace=False) as part:
        shutil.copyfile(path, part)
    return Finding(path, "taken", "checkpoint")


def _is_whole(path: Path) -> bool:
    """Whether every part of a file of weights has its checksum; nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError):
        return False


def _beside(folder: Path) -> Iterator[Finding]:
    """Files of a results folder that are no results."""
    done = {path.stem for path in _files(folder / "runs", "*.nc")}
    shipped = shipped_ids()
    for path in _files(folder / "runs", "*.damaged"):
        again = path.name.partition(".")[0] in done
        detail = "set aside; the run was done again" if again else "set aside; the run is not done"
        yield Finding(path, "kept" if again else "wrong", detail)
    for path in _files(folder, "**/.*.part"):
        yield _part(path)
    for path in _files(folder / "runs", ".*.lock"):
        held = files.is_locked(path)
        state, detail = ("in use", "a run is trained") if held else ("left over", "nobody holds it")
        yield Finding(path, state, detail)
    for path in _files(folder / "weights", "*.pt"):
        if path.stem not in done and path.stem not in shipped:
            yield Finding(path, "left over", "weights of a run that is not here")
        elif not _is_whole(path):
            yield Finding(path, "wrong", "weights are damaged")
    for path in sorted((folder / "checkpoints").glob("*")):
        file = results.run_path(path.name, folder)
        held = files.is_locked(locks.lock_path(path.name, folder))
        over = not held and _verified(file).state == "ok"
        detail = "the run is done" if over else "its run goes on from here"
        yield Finding(path, "left over" if over else "kept", detail)


def _part(path: Path) -> Finding:
    with contextlib.suppress(FileNotFoundError):
        age = time.time() - path.stat().st_mtime
        if age > DAY or (age > HOUR and files.left_behind(path)):
            return Finding(path, "left over", f"temporary, {age / HOUR:.0f} hours old")
    return Finding(path, "in use", "temporary, perhaps being written")
