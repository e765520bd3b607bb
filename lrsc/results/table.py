"""Results of many runs in long form, dimension `run`, and the dense grids that figures want."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from lrsc.config import STATISTICS, RunConfig, usual_batch_size
from lrsc.errors import check_names
from lrsc.results.file import parsed

# Attributes of a run's file that become coordinates of an experiment
FROM_ATTRS = {
    "run_id": "", "status": "", "source_id": "", "checksum": "", "rho": np.nan, "n_train": 0,
    "n_test": 0, "device": "", "device_name": "", "threads": 0, "precision": "", "started": "",
    "wall_seconds": np.nan, "train_seconds": np.nan, "prune_samples": 0, "lrsc_version": "",
    "commit": "", "torch_version": "", "packages": "", "lock": "", "cpu_capability": "",
    "engine": "", "replicas": 0, "config": "",
}  # fmt: skip
LOW_LR = 0.001  # at which the other hyperparameters are swept
# dimensions an experiment keeps; raw material has others
LABELS = {"statistics", "kappa", "class", "bias", "q", "kept"}
# dimensions of raw material that is no curve
_RAW = {"sample", "unit", "test_sample", "logit", "filter", "attributed", "row", "column"}


def without_raw(found: xr.Dataset) -> xr.Dataset:
    """A run's measures and curves, without the raw material for changed metrics."""
    return found.drop_vars([n for n, v in found.variables.items() if _RAW & set(v.dims)])


def combine(runs: Iterable[xr.Dataset]) -> xr.Dataset:
    """Runs' results -> long form: dimension `run`, with what identifies a run as coordinates.

    Variables keep the dimensions kappa, class and bias, padded with NaN; raw material and curves
    (other dimensions) are left out. Raises ValueError for no runs.
    """
    runs = list(runs)
    if not runs:
        raise ValueError("no results to combine: run a sweep first (lrsc sweep)")
    records, about = [], dict[str, dict]()
    for run in runs:
        kept = {str(n): v for n, v in run.data_vars.items() if set(v.dims) <= LABELS}
        records.append({name: (tuple(v.dims), v.values) for name, v in kept.items()})
        about = {name: v.attrs for name, v in kept.items()} | about
    found = long_form([r.attrs for r in runs], records, about)
    kappa = next((r["kappa"] for r in runs if "kappa" in r.coords), None)
    return found if kappa is None else found.assign_coords(kappa=kappa)


_ROW = ("dataset", "model", "hyperparameter", "data", "model_options", "value")
Record = Mapping[str, tuple[tuple, np.ndarray]]  # of one run: name -> (dimensions, values)


def long_form(
    attrs: Sequence[Mapping], records: Sequence[Record], about: Mapping[str, Mapping]
) -> xr.Dataset:
    """Runs' attributes and variables along `run`; about: the variables' own attributes."""
    found = xr.Dataset(
        {n: (*value, about[n]) for n, value in stacked(records).items()}, coordinates(attrs)
    )
    if "statistics" not in found.dims:
        return found
    told = {"units": "1", "long_name": "statistics of batch normalisation"}
    return found.assign_coords(statistics=("statistics", np.array(STATISTICS, object), told))


def stacked(records: Sequence[Record]) -> dict[str, tuple[tuple, np.ndarray]]:
    """Variables of runs -> one array for each name, dimension `run` first, padded with NaN.

    A measure from an older version, without the dimension `statistics`, counts as a running one.
    """
    sizes: dict = {}
    for record in records:
        for dims, values in record.values():
            for dim, size in zip(dims, values.shape, strict=True):
                sizes[dim] = max(size, sizes.get(dim, 0))
    found = {}
    for name in dict.fromkeys(name for record in records for name in record):
        held = [(i, record[name]) for i, record in enumerate(records) if name in record]
        dims = max((dims for _, (dims, _) in held), key=len)
        kind = np.float32 if name.startswith("curve_") else np.float64
        array = np.full((len(records), *(sizes[d] for d in dims)), np.nan, kind)
        if dims:
            for i, (own, values) in held:
                first = (STATISTICS.index("running"),) if len(own) < len(dims) else ()
                place: tuple = (i, *first, *map(slice, values.shape))
                array[place] = values
        else:
            array[[i for i, _ in held]] = [values for _, (_, values) in held]
        found[name] = ("run", *dims), array
    return found


def once(found: xr.Dataset) -> xr.Dataset:
    """Long form with only the first row of each run."""
    again = pd.Index(found["run_id"].values).duplicated()
    return found.isel(run=~again) if again.any() else found


def all_with(found: xr.Dataset, **values: object) -> xr.Dataset:
    """Long form with further coordinates, which have the same value for all runs."""
    n = found.sizes["run"]
    return found.assign_coords({name: ("run", _column([v] * n)) for name, v in values.items()})


def running(run: xr.Dataset) -> xr.Dataset:
    """One run's result with measures in running statistics of batch normalisation only."""
    return run.sel(statistics="running", drop=True) if "statistics" in run.dims else run


def curve_of(run: xr.Dataset, probe: str, name: str) -> np.ndarray:
    """What a probe recorded of each neuron of one run: calls x neurons, without the padding."""
    values = run[f"curve_{probe}_{name}"].values
    values = values[np.isfinite(run[f"{probe}_step"].values)]
    return values[:, np.isfinite(values).any(0)]


def concat(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Long-form data sets one after the other; curves of different lengths are filled with NaN."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    longest: dict[str, int] = {}
    for part in parts:
        for dim, size in part.sizes.items():
            if dim != "run" and dim not in part.coords:
                longest[str(dim)] = max(size, longest.get(str(dim), 0))
    apart = {str(n) for p in parts for n, v in p.data_vars.items() if "statistics" in v.dims}
    padded = [
        _with_statistics(part, apart).pad(
            {d: (0, n - part.sizes[d]) for d, n in longest.items() if part.sizes.get(d, n) < n}
        )
        for part in parts
    ]
    return xr.concat(padded, "run", join="outer")


def _with_statistics(part: xr.Dataset, names: Collection[str]) -> xr.Dataset:
    """With the dimension `statistics`; a measure that has none is that of running ones."""
    grown = {
        n: part[n].expand_dims(statistics=["running"]).transpose("run", "statistics", ...)
        for n in names
        if n in part and "statistics" not in part[n].dims
    }
    if not grown or "statistics" not in part.coords:
        return part.assign(grown)
    return part.assign({n: v.reindex_like(part["statistics"]) for n, v in grown.items()})


def intervention(config: RunConfig) -> str:
    """The hyperparameter in which a run differs from plain SGD; 'lr' if there is none.

    'high_lr_l2': L2 at another LR than the low one, at which the other hyperparameters are swept
    (table S2).
    """
    t = config.train
    if t.schedule == "switch":
        return "switch_at"
    if t.l2 > 0:
        return "l2" if t.lr <= LOW_LR else "high_lr_l2"
    swept = ("l1", "focal_gamma", "asam_rho", "momentum")
    found = next((name for name in swept if getattr(t, name) > 0), None)
    return found or ("lr" if t.batch_size == usual_batch_size(config.dataset) else "batch_size")


def value_of(config: RunConfig, hyperparameter: str) -> float:
    """A run's value of a hyperparameter; for batch size B it is 1 / B."""
    name = "l2" if hyperparameter == "high_lr_l2" else hyperparameter
    value = getattr(config.train, name)
    return 1 / value if name == "batch_size" else float("nan" if value is None else value)


def coordinates(attrs: Sequence[Mapping]) -> dict[str, tuple[str, np.ndarray]]:
    """What identifies runs, from the attributes of their files, along the dimension `run`."""
    return described([each["config"] for each in attrs]) | {
        name: ("run", _column([each.get(name, empty) for each in attrs]))
        for name, empty in FROM_ATTRS.items()
    }


def described(texts: Iterable[str]) -> dict[str, tuple[str, np.ndarray]]:
    """The coordinates that follow from runs' configurations."""
    configs = [parsed(text) for text in texts]
    return {name: ("run", _column([tell(c) for c in configs])) for name, tell in _TOLD.items()}


def options_text(options: Iterable[tuple[str, object]]) -> str:
    """Options of a data set or model, as a coordinate holds them."""
    return ", ".join(f"{name} = {value}" for name, value in options)


_TOLD: dict[str, Callable[[RunConfig], object]] = {
    "dataset": lambda config: config.dataset,
    "model": lambda config: config.model,
    "lr": lambda config: config.train.lr,
    "seed": lambda config: config.seed,
    "data": lambda config: options_text(config.data),
    "model_options": lambda config: options_text(config.model_options),
    "hyperparameter": intervention,
    "value": lambda config: value_of(config, intervention(config)),
}
COORDINATES = (*_TOLD, *FROM_ATTRS)  # of every run in long form


def _column(values: list) -> np.ndarray:
    """Texts as objects: netCDF's own strings, of any length."""
    return np.array(values, object if values and isinstance(values[0], str) else None)


def to_grid(dataset: xr.Dataset, *dims: str) -> xr.Dataset:
    """Long form -> dense view with one dimension for each coordinate named, as figures need it.

    If runs would share a cell, what distinguishes an experiment's rows becomes a dimension too:
    data set, model, ... (_ROW). Missing combinations are NaN. Raises ValueError if a coordinate
    does not exist or if two runs fall into one cell of the grid.
    """
    if not dims:
        raise ValueError("name at least one coordinate of the grid, as in to_grid(ds, 'lr')")
    coords = [str(c) for c in dataset.coords if dataset[c].dims == ("run",)]
    check_names("coordinate", dims, coords)

    def shared(dims: Sequence[str]) -> tuple | None:
        places = list(zip(*(dataset[d].values.tolist() for d in dims), strict=True))
        return next((p for p, n in Counter(places).items() if n > 1), None)

    differ = [n for n in _ROW if n in coords and len(set(dataset[n].values.tolist())) > 1]
    for name in differ:
        if name not in dims and shared(dims) is not None:
            dims = (*dims, name)
    twice = shared(dims)
    if twice is not None:
        raise ValueError(
            f"two runs stand at {dict(zip(dims, twice, strict=True))}: name more of the "
            f"coordinates {', '.join(coords)}"
        )
    return dataset.set_index(run=list(dims)).unstack("run")
