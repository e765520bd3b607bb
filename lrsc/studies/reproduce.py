"""A stored result made again from what its own file says, and compared with it."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from lrsc import datasets, errors, experiments, results, runs, sweep
from lrsc.config import RunConfig
from lrsc.training import arguments

# what may change the last digits of a result; where all agree, results are equal bit for bit
PROVENANCE = (
    "lrsc_version", "commit", "torch_version", "packages", "lock", "device", "device_name",
    "cpu_capability", "threads", "precision", "engine", "replicas", "processes", "prune_samples",
    "measured_commit",
)  # fmt: skip
ALONE = ("reference", "threads")  # engines whose runs are equal to those trained alone
# A difference in the last digit grows along a training. Elsewhere the measures that are one number
# may differ by this much, less than seeds usually make; curves and raw material are only reported.
RELATIVE, ABSOLUTE = 0.05, 0.02


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """A stored result beside the same run made now.

    rows: of each variable its name, stored and new value (None for more than one), the largest
    absolute difference (NaN where one has no value) and whether both are equal. differences: what
    is different in how they were made, as 'name: stored ..., now ...'; lost: names that the new
    result lacks. verdict: one line; ok: equal, or within tolerance where something is different.
    """

    run_id: str
    rows: list[dict[str, Any]]
    differences: list[str]
    lost: list[str]
    verdict: str
    ok: bool


def reproduce(
    result: str | Path,
    *,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Reproduction:
    """Train and measure a stored run again, and compare all that its result holds.

    result: a run_id, of the results folder `root` or shipped, or the file of a run. The new result
    is made in a temporary folder; nothing stored is touched. Device and threads are those of the
    stored result where they are to be had and nothing else is asked for. The run is trained alone:
    what the engines 'stacked' and 'graphs' trained is found again only up to roundoff. Raises
    ValueError, before any training, for a result that is not there or damaged and for data that are
    not those it was made from; DataMissing where they are absent.
    """
    stored = _stored(result, root)
    attrs = stored.attrs
    config = _with_source(results.parsed(attrs["config"]), attrs["source_id"])
    runs.check_file(config)
    _check_data(config, attrs, data_root)
    alone = attrs["engine"] if attrs["engine"] in ALONE else "reference"
    with (
        tempfile.TemporaryDirectory(prefix="lrsc-repro-") as folder,
        _threads(threads or int(attrs["threads"])),
    ):
        (name,) = sweep.run(
            [config], root=folder, data_root=data_root, device=device or _device(attrs["device"]),
            engine=alone, raw=True,
        ).trained  # fmt: skip
        now = results.load(results.run_path(name, folder))
    return compare(stored, now)


def compare(stored: xr.Dataset, now: xr.Dataset) -> Reproduction:
    """Two results of one run, variable by variable, and what differs in how they were made.

    A stored measure without the dimension `statistics` is compared with that of running ones.
    """
    stored, now = _apart(stored), _apart(now)
    rows = [_row(str(name), stored[name], now[name]) for name in stored.data_vars if name in now]
    lost = [str(name) for name in stored.data_vars if name not in now]
    differences = _differences(stored.attrs, now.attrs)
    if stored.attrs["status"] != now.attrs["status"]:
        lost.append(f"status {stored.attrs['status']} (now {now.attrs['status']})")
    changed = [row for row in rows if not row["equal"]]
    outside = [row["name"] for row in changed if not row["within"]]
    because = f" with other {', '.join(d.partition(':')[0] for d in differences)}"
    if lost:
        ok, verdict = False, f"not reproduced: {', '.join(lost)} not found again"
    elif not changed:
        ok, verdict = True, f"equal bit for bit: all {len(rows)} variables"
        verdict += f", even{because}" if differences else ""
    elif not differences:
        names = ", ".join(row["name"] for row in changed)
        ok, verdict = False, f"not reproduced: nothing is different, but {names}"
    elif outside:
        ok, verdict = False, f"not reproduced{because}: {', '.join(outside)} beyond the tolerance"
    else:
        ok = True
        verdict = f"within the tolerance{because}: {len(changed)} of {len(rows)} variables differ"
    return Reproduction(stored.attrs["run_id"], rows, differences, lost, verdict, ok)


def _apart(run: xr.Dataset) -> xr.Dataset:
    """Measures in each of the statistics of batch normalisation as variables of their own."""
    found = results.running(run)
    for name in run["statistics"].values if "statistics" in run.dims else ():
        if name != "running":
            other = run.sel(statistics=name, drop=True)
            held = [n for n, v in run.data_vars.items() if "statistics" in v.dims]
            found = found.assign({f"{n}, {name}": other[n] for n in held})
    return found


def _stored(result: str | Path, root: str | Path | None) -> xr.Dataset:
    path = errors.path("result", result)
    if not path.is_file():
        path = results.run_path(str(result), root)
    if path.is_file():
        found = results.load(path)
        results.check_run(found.attrs, path)
    else:
        found = _shipped(str(result), path.parent)
    known = {name: found.attrs.get(name, empty) for name, empty in results.FROM_ATTRS.items()}
    return found.assign_attrs(known | {"processes": found.attrs.get("processes", 1)})


def _shipped(run_id: str, looked_in: Path) -> xr.Dataset:
    """A run out of the file of an experiment, without the padding of the others."""
    for name in experiments.names():
        whole = experiments.shipped(name)
        if whole is not None and run_id in whole["run_id"].values:
            row = whole.isel(run=whole["run_id"].values.tolist().index(run_id))
            attrs = {column: row[column].item() for column in results.FROM_ATTRS}
            held = [n for n, v in row.data_vars.items() if np.isfinite(v.values).any()]
            alone = row[held].reset_coords(drop=True).assign_attrs(attrs)
            return alone.dropna("statistics", how="all") if "statistics" in alone.dims else alone
    raise ValueError(
        f"{run_id!r} is no file, no run in {looked_in} and none that ships with the book: give a "
        "run_id, as the names of the files in results/runs, or the file of a run"
    )


def _with_source(config: RunConfig, source_id: str) -> RunConfig:
    """'auto' as it was resolved then: real data that came since are not meant."""
    if config.source != "auto":
        return config
    embedded = datasets.is_stand_in(source_id) or source_id in datasets.SINGLE
    return dataclasses.replace(config, source="embedded" if embedded else "real")


def _check_data(config: RunConfig, attrs: dict, data_root: str | Path | None) -> None:
    options = dict(runs.without_defaults(config).data)
    found = datasets.resolve(config.dataset, data_root, config.source, options)
    then = f"{attrs['source_id']}:{attrs['checksum']}"
    if found.key != then:
        raise ValueError(
            f"the data of {config.dataset!r} are not those of run {attrs['run_id']}: found "
            f"{found.key}, the result was made from {then}. Get those with lrsc data get, or name "
            "another data root (--data-root)"
        )


def _device(stored: str) -> str | None:
    """The stored device if it is here; None, the default, if not."""
    try:
        return str(arguments.device(stored or None))
    except ValueError:
        return None


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    if number < 0:
        raise ValueError(f"threads must be >= 1, found {number}")
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)  # 0: the result does not say
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _row(name: str, stored: xr.DataArray, now: xr.DataArray) -> dict[str, Any]:
    then, found = stored.values.astype(float), now.values.astype(float)
    then, found = _cut(then, found.shape), _cut(found, then.shape)
    same_shape = then.shape == found.shape
    equal = same_shape and np.array_equal(then, found, equal_nan=True)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        apart = np.abs(then - found) if same_shape else np.array([np.nan])
    known = apart[np.isfinite(apart)]
    difference = 0.0 if equal else float(known.max()) if known.size else float("nan")
    single = then.ndim == found.ndim == 0
    return {
        "name": name,
        "stored": float(then) if single else None,
        "now": float(found) if single else None,
        "values": found.size,
        "difference": difference,
        "equal": bool(equal),
        "within": equal or not single or bool(apart <= ABSOLUTE + RELATIVE * np.abs(then)),
    }


def _cut(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Without the NaNs that fill a run up to the size of others it was stored with."""
    if values.ndim != len(shape) or not all(np.array(values.shape) >= shape):
        return values
    inner = tuple(slice(n) for n in shape)
    rest = values.copy()
    rest[inner] = np.nan
    return values[inner] if np.isnan(rest).all() else values


def _differences(then: dict, now: dict) -> list[str]:
    found = []
    for name in PROVENANCE:
        old, new = then.get(name, ""), now.get(name, "")
        if name == "replicas":
            # each run of 'threads' is the reference loop, alone on its core
            old = 1 if then["engine"] in ("threads", "") else int(old or 1)
        if old != new:
            old, new = ("not recorded" if v == "" else v for v in (old, new))
            found.append(f"{name}: stored {old}, now {new}")
    if then["run_id"] != now["run_id"]:
        found.append(f"name: stored {then['run_id']}, now {now['run_id']} (versions of the code)")
    return found
