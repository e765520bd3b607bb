"""Results that are made of several runs: in the results folder, and those that ship with the book.

Who makes one writes into the results folder, `derived/<name>_<profile>.nc`. What ships is written
on demand alone, and never by something that is no evidence or holds less than what is there.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import datasets, errors
from lrsc.results import path as places
from lrsc.results.file import load, parsed, save, shipped, with_needs

EVIDENCE = ("desk", "paper")  # profiles, from the smaller to the larger
_log = logging.getLogger(__name__)


def derived_path(name: str, profile: str = "", root: str | Path | None = None) -> Path:
    """Path of a result of several runs in a results folder; profile: empty for several profiles."""
    return places.results_root(root) / "derived" / f"{name}{profile and f'_{profile}'}.nc"


def derived(
    name: str, needs: Iterable[str] = (), root: str | Path | None = None
) -> xr.Dataset | None:
    """A result of several runs, local or shipped: that of the largest profile, then of most runs.

    Among equals, the one that ships. Results of quick runs or on stand-ins are no evidence and are
    left out. None if there is none; needs: as in `results.shipped`. Raises ValueError if there are
    results but none can be used.
    """
    needs, found, wrong = tuple(needs), [], []
    for profile in (None, *EVIDENCE):
        try:
            one = (
                shipped(name, needs) if profile is None
                else local_derived(name, needs, root, profile)
            )  # fmt: skip
        except ValueError as error:
            _log.info("%s", error)
            wrong.append(error)
            continue
        if one is not None and not no_evidence(one):
            found.append(one)
    if not found and wrong:
        raise wrong[0]
    return max(found, key=lambda one: (_rank(one), one.sizes.get("run", 0)), default=None)


def local_derived(
    name: str, needs: Iterable[str] = (), root: str | Path | None = None, profile: str = ""
) -> xr.Dataset | None:
    """A result of several runs from the results folder, read as `results.shipped` does."""
    path = derived_path(name, profile, root)
    return with_needs(path, f"derived/{path.name}", needs)


def derived_names(kind: str, root: str | Path | None = None) -> list[str]:
    """Names of the results of one kind ('contrast', 'soup'), local or shipped, sorted."""
    local = places.results_root(root) / "derived"
    names = {path.stem for path in places.shipped_folder().glob(f"{kind}_*.nc")}
    names |= {path.stem.rpartition("_")[0] for path in local.glob(f"{kind}_*.nc")}
    return sorted(names)


def write_derived(
    found: xr.Dataset,
    name: str,
    profile: str = "",
    *,
    root: str | Path | None = None,
    output: str | Path | None = None,
    ship: bool = False,
) -> Path:
    """Write a result of several runs to the results folder, to `output`, or to where it ships.

    Raises ValueError if it may not ship (see `check_ship`), and if the file that ships holds more,
    naming what would be lost.
    """
    if ship:
        check_ship(profile, output)
        path = places.shipped_path(name)
        if why := no_evidence(found):
            raise ValueError(f"ship: {why} never ship; leave ship out")
        if path.is_file() and (gone := lost(load(path), found)):
            raise ValueError(
                f"ship: in place of {path} this would lose {'; '.join(gone)}. Move that file away "
                "first, if you mean it"
            )
    else:
        path = derived_path(name, profile, root) if output is None else check_output(output)
    save(found, path)
    return path


def check_output(output: str | Path) -> Path:
    """The path of a file to write; ValueError for a folder, and where results ship (use `ship`)."""
    path = errors.path("output", output)
    if path.is_dir():
        raise ValueError(f"output must be a file, found the folder {path}")
    if path.resolve().parent == places.shipped_folder().resolve():
        raise ValueError(f"output {path} is where results ship: use ship, or another folder")
    return path


def check_ship(profile: str = "", output: str | Path | None = None) -> None:
    """Raise ValueError if nothing can ship: outside a checkout, for quick runs, with `output`."""
    if output is not None:
        raise ValueError(f"ship writes to {places.shipped_folder()}: give either output or ship")
    if not places.in_checkout():
        raise ValueError(
            "ship writes to book/results/ of a checkout, and this lrsc is installed without one; "
            "leave ship out, and it goes to the results folder"
        )
    if profile and profile not in EVIDENCE:
        raise ValueError(f"ship: quick runs never ship, found profile {profile!r}; leave ship out")


def lost(old: xr.Dataset, new: xr.Dataset) -> list[str]:
    """What a result holds that another one in its place would not, in words; none if it is larger.

    Compared are the profile, runs, variables, how many values each has, and numbers of samples.
    """
    if _rank(new) != _rank(old):
        return [f"profile {EVIDENCE[_rank(old)]!r}"] if _rank(new) < _rank(old) else []
    said, both = [], new
    if "run_id" in old.coords and "run_id" in new.coords:
        ids = old["run_id"].values
        gone = [str(name) for name in ids if name not in new["run_id"].values]
        if gone:
            some = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
            said.append(f"{len(gone)} of {len(ids)} runs ({some})")
        both = new.isel(run=np.isin(new["run_id"].values, ids))
        old = old.isel(run=np.isin(ids, new["run_id"].values))
    for name, variable in old.variables.items():
        has, had = _values(both.get(str(name))), _values(variable)
        if has < had:
            said.append(f"{had - has:,} of {had:,} values of {name!r}")
    for name in ("n_train", "n_test", "networks"):
        had, has = (np.sum(of.attrs.get(name, 0)) for of in (old, new))
        if has < had:
            said.append(f"{name}: {had} instead of {has}")
    return said[:6] + [f"and {len(said) - 6} more"] * (len(said) > 6)


def no_evidence(found: xr.Dataset) -> str:
    """'quick runs' or 'results on stand-ins' where a result is of such; else empty."""
    sources = {parsed(text).source for text in _all(found, "config")}
    if _all(found, "profile") - set(EVIDENCE) or "embedded" in sources:
        return "quick runs"
    stand_in = any(map(datasets.is_stand_in, _all(found, "source_id")))
    return "results on stand-ins" if stand_in else ""


def _rank(found: xr.Dataset) -> int:
    return max((EVIDENCE.index(p) for p in _all(found, "profile") if p in EVIDENCE), default=-1)


def _all(found: xr.Dataset, name: str) -> set[str]:
    """What a result has of an attribute, or its runs of a coordinate."""
    if name in found.coords:
        return set(found[name].values.astype(str).ravel().tolist())
    return {str(found.attrs[name])} if name in found.attrs else set()


def _values(variable: xr.Variable | xr.DataArray | None) -> int:
    """How many values there are; of numbers, finite ones."""
    if variable is None:
        return 0
    values = variable.values
    return int(np.isfinite(values).sum()) if values.dtype.kind in "fc" else values.size
