"""The paper's figures and tables as named lists of runs in three profiles."""

import collections
import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import datasets, measures, metrics, models, results
from lrsc.config import STATISTICS, RunConfig, TrainConfig
from lrsc.errors import DataMissing, check_names
from lrsc.experiments.paper import reference as reference
from lrsc.experiments.rows import EXPERIMENTS as EXPERIMENTS
from lrsc.experiments.rows import Row
from lrsc.metrics.robustness import LEAST_MARGIN
from lrsc.results import consolidated, locks

PROFILES = ("quick", "desk", "paper")  # from the smallest to the paper's own settings
DESK_TRAIN = 10_000  # training samples of the desk profile
LARGE_IMAGES = ("celeba", "waterbirds", "imagenet")  # trained with batches of 16
# of batch normalisation, in which the paper's numbers are read: nearest to S1 in `choices`
PAPER_STATISTICS = "recalibrated"
COLLAPSE = 0.10  # accuracy below the best LR's of its row at which a larger LR has collapsed
LR = 0.1  # where a row does not say
# without which a file is no experiment
_NEEDS = ("config", "dataset", "model", "lr", "seed", "status", "source_id", "run_id")
_log = logging.getLogger(__name__)


def names() -> list[str]:
    """Names of the experiments."""
    return list(EXPERIMENTS)


def configs(
    name: str,
    profile: str = "quick",
    dataset: str | None = None,
    model: str | None = None,
    lrs: Iterable[float] | None = None,
    seeds: Iterable[int] | None = None,
    hyperparameter: str | None = None,
) -> list[RunConfig]:
    """The runs of an experiment in a profile, restricted to a data set or model where given.

    lrs: replace the plan's own, and leave out rows that sweep something else; seeds: replace the
    plan's own. hyperparameter: only the row of this name ('lr', 'l2', 'adam', ...). Each run comes
    once, also where it stands in several rows. Raises ValueError for unknown names, for a data
    set, model and hyperparameter that are no row of the experiment, and for an empty list.
    """
    check_names("experiment", [name], EXPERIMENTS)
    check_names("profile", [profile], PROFILES)
    rows = EXPERIMENTS[name]
    given = {"dataset": dataset, "model": model, "hyperparameter": hyperparameter}
    for field, value in given.items():
        if value is not None:
            kind = "data set" if field == "dataset" else field
            check_names(f"{kind} of {name!r}", [value], dict.fromkeys(
                getattr(r, field) for r in rows))  # fmt: skip
            rows = tuple(r for r in rows if getattr(r, field) == value)
    asked = " ".join([f"experiment {name!r}", *filter(None, given.values())])
    has = [p for p in PROFILES if any(p in r.plans for r in rows)]
    rows = tuple(r for r in rows if profile in r.plans)
    if not rows:
        raise ValueError(f"{asked} has no runs in profile {profile!r}, only in {' and '.join(has)}")
    if lrs is not None:
        lrs = tuple(lrs)
        rows = tuple(r for r in rows if r.knob == "lr")
        if not rows:
            raise ValueError(f"lrs: {asked} sweeps something else than the LR; leave lrs out")
    if seeds is not None:
        seeds = tuple(seeds)
    return list(dict.fromkeys(c for r in rows for c in _of_row(r, profile, lrs, seeds)))


def _of_row(
    row: Row,
    profile: str,
    values: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[RunConfig]:
    """The runs of one row, value by value; values and seeds: instead of the plan's."""
    plan = row.plans[profile]
    values = plan.values if values is None else values
    seeds = plan.seeds if seeds is None else seeds
    if not values or not seeds:
        raise ValueError("lrs and seeds must not be empty: give at least one value of each")
    return [
        run_config(
            row.dataset, row.model, LR, seed, profile, plan.max_epochs, row.data,
            row.train | row.setting(value), row.model_options,
        )
        for value in values
        for seed in seeds
    ]  # fmt: skip


def knob(name: str, dataset: str, model: str, hyperparameter: str) -> str:
    """The field of TrainConfig that a row of an experiment sweeps."""
    return _rows(name, (dataset, model, hyperparameter))[0].knob


def recording(config: RunConfig) -> dict[str, int]:
    """Probes that a sweep records of a run, and the iterations between two calls.

    All that any experiment with a row of this data set, model and settings asks for in the run's
    profile: one run serves several figures.
    """
    return dict(_recording(dataclasses.replace(config, seed=0)))


@functools.lru_cache(maxsize=10_000)
def _recording(config: RunConfig) -> dict[str, int]:
    found: dict[str, int] = {}
    profile = profile_of(config)
    for row in itertools.chain.from_iterable(EXPERIMENTS.values()):
        if row.record and profile in row.plans and _is_of(config, row):
            found |= row.record
    if config.source == "embedded":
        found = {probe: max(1, every // 10) for probe, every in found.items()}
    return found


def _is_of(config: RunConfig, row: Row) -> bool:
    """Whether a run differs from those of a row in knob, seed, cap and size of data only."""
    if (config.dataset, config.model) != (row.dataset, row.model):
        return False
    if dict(config.model_options) != row.model_options:
        return False
    batch = 16 if config.dataset in LARGE_IMAGES else 100
    usual: dict = {"lr": LR, "max_epochs": config.train.max_epochs}
    data = {k: v for k, v in config.data if k != "n_train"}
    knob = {row.knob: getattr(config.train, row.knob)}
    train = TrainConfig(**(usual | {"batch_size": batch} | row.train | knob))
    return data == row.data and config.train == train


def run_config(
    dataset: str,
    model: str,
    lr: float,
    seed: int,
    profile: str,
    max_epochs: int = 1000,
    data: Mapping | None = None,
    train: Mapping | None = None,
    model_options: Mapping | None = None,
) -> RunConfig:
    """One run in a profile: its data source, batch size and number of training samples.

    data: further options of the data set; those that repeat a default are dropped, and n_train
    stands in place of the profile's. train: further fields of TrainConfig; model_options: options
    of the model.
    """
    check_names("data set", [dataset], datasets.names())
    check_names("model", [model], models.BUILDERS)
    check_names("profile", [profile], PROFILES)
    known = datasets.options(dataset)
    options = {k: v for k, v in (data or {}).items() if v != known.get(k)}
    if profile == "desk" and dataset != "parity":  # which has 10 000 in every profile
        options.setdefault("n_train", DESK_TRAIN)
    batch = 16 if dataset in LARGE_IMAGES else 100  # as the paper has it
    usual: dict = {"lr": lr, "max_epochs": max_epochs, "batch_size": batch}
    return RunConfig(
        dataset,
        model,
        TrainConfig(**(usual | dict(train or {}))),
        seed,
        data=options,
        model_options=model_options or {},
        source="embedded" if profile == "quick" else "real",
    )


def usual_data(dataset: str, model: str) -> Mapping:
    """Options of a data set in this model's row of the LR alone: rho, where it has its own."""
    for row in itertools.chain.from_iterable(EXPERIMENTS.values()):
        if (row.dataset, row.model, row.knob, row.train) == (dataset, model, "lr", {}):
            return row.data
    return {}


def open_experiment(
    name: str,
    profile: str | None = None,
    root: str | Path | None = None,
    dataset: str | None = None,
    model: str | None = None,
    hyperparameter: str | None = None,
    read: list[xr.Dataset] | None = None,
    statistics: str | None = None,
) -> xr.Dataset:
    """Results of an experiment, shipped and local, in long form (dimension `run`).

    Coordinates `hyperparameter` and `value` say of which row a run is, and where in it; a run that
    stands in several rows is in each of them. profile None: for each row the largest profile of
    which anything is measured (with curves, where the row records some). Runs that are not done
    yet are absent; `collapsed` is decided here, by comparison with the row's other values. read:
    what `sources` gave, to open many rows at the cost of one.

    statistics: of batch normalisation, in which networks were evaluated: 'running', 'batch' or
    'recalibrated', without the runs that were not measured so; None: for each row as the paper's
    numbers are read (PAPER_STATISTICS) where all its runs were measured so, else 'running'. The
    coordinate `statistics` says which, and is empty for networks without batch normalisation.
    Raises ValueError if nothing is measured.
    """
    check_names("experiment", [name], EXPERIMENTS)
    if statistics is not None:
        check_names("statistics", [statistics], STATISTICS)
    runs = sources(name, root) if read is None else read
    asked = (dataset, model, hyperparameter)
    chosen = []
    for key in _keys(name):
        if any(a not in (None, k) for a, k in zip(asked, key, strict=True)):
            continue
        candidates = [profile] if profile else list(reversed(PROFILES))
        selected = (_select(runs, _planned(name, c, *key), c) for c in candidates)
        measured = (in_statistics(s, statistics) for s in selected if s is not None)
        found = [s for s in measured if s.sizes["run"]]
        # curves that the row is about count for more than the size of the profile
        found.sort(key=lambda s: not _has_curves(s, name, key))
        if found:
            chosen.append(_labelled(found[0], name, key))
    if not chosen:
        what = f"experiment {name!r}" + (f" in profile {profile!r}" if profile else "")
        raise ValueError(
            f"nothing is measured yet of {what}"
            + "".join(f", {v!r}" for v in asked if v)
            + f". Measure it with: lrsc sweep {name}" + (f" --profile {profile}" if profile else "")
        )  # fmt: skip
    return _finish(results.concat(chosen), name)


def open_runs(
    runs: Iterable[RunConfig], root: str | Path | None = None, name: str = ""
) -> xr.Dataset:
    """Results of these runs, local or shipped, in long form, as far as they are done.

    name: an experiment; each run then stands under every row of it that it is of, as in
    `open_experiment`. Raises ValueError if none is done.
    """
    runs = list(runs)
    probes = {probe for config in runs for probe in recording(config)}
    of_book = (shipped(name) for name in EXPERIMENTS)
    found = _select(
        [*_local(root, probes, runs), *(s for s in of_book if s is not None)],
        runs, profile_of(runs[0]),
    )  # fmt: skip
    if found is None:
        raise ValueError("none of these runs is done: pass them to lrsc.sweep.run first")
    found = in_statistics(found)
    return _finish(_in_rows(found, name) if name else found, name)


def in_statistics(found: xr.Dataset, statistics: str | None = None) -> xr.Dataset:
    """Runs of one row with their measures in one of the statistics: see `open_experiment`."""
    normalised = np.isin(found["model"].values, models.NORMALISED)
    accuracy = found["unbiased_accuracy"]
    several = "statistics" in accuracy.dims

    def has(name: str) -> np.ndarray:
        if name == "running" or not several:
            return np.full(len(normalised), name == "running") | ~normalised
        known = np.isfinite(accuracy.sel(statistics=name).values)
        return known | ~normalised | (found["status"].values == "diverged")

    if statistics is None:
        statistics = PAPER_STATISTICS if has(PAPER_STATISTICS).all() else "running"
    found = found.assign_coords(statistics_of_run=("run", np.where(normalised, statistics, "")))
    found = found.isel(run=has(statistics))
    normalised = np.isin(found["model"].values, models.NORMALISED)
    if several:
        alone = found.sel(statistics="running", drop=True)
        if statistics != "running":
            other = found.sel(statistics=statistics, drop=True)
            apart = {n: v for n, v in found.data_vars.items() if "statistics" in v.dims}
            keep = xr.DataArray(normalised, dims="run")
            alone = alone.assign({
                n: other[n].where(keep, alone[n]).assign_attrs(v.attrs) for n, v in apart.items()
            })  # fmt: skip
        found = alone
    label = found["statistics_of_run"].values.astype(object)
    return found.drop_vars("statistics_of_run").assign_coords(statistics=("run", label))


def _in_rows(found: xr.Dataset, name: str) -> xr.Dataset:
    """Runs under the name and value of each row of an experiment that they are of."""
    # seeds make no difference to what row a run is of
    alike: dict[RunConfig, list[int]] = {}
    for i, text in enumerate(found["config"].values):
        alike.setdefault(dataclasses.replace(results.parsed(text), seed=0), []).append(i)
    parts = []
    for key in _keys(name):
        rows = _rows(name, key)
        of_key = sorted(
            i for c, runs in alike.items() if any(_is_planned(c, row) for row in rows) for i in runs
        )
        if of_key:
            parts.append(_labelled(found.isel(run=of_key), name, key))
    return results.concat(parts) if parts else found


def _is_planned(config: RunConfig, row: Row) -> bool:
    """Whether a run is one of a row: of its values of the knob, or of any LR where that is it."""
    planned = [value for plan in row.plans.values() for value in plan.values]
    value = results.value_of(config, row.knob)
    return _is_of(config, row) and (
        row.knob == "lr" or bool(np.isclose(value, planned, rtol=0.02).any())
    )


def profile_of(config: RunConfig) -> str:
    """The profile a run's data settings belong to."""
    if config.source == "embedded":
        return "quick"
    return "desk" if "n_train" in dict(config.data) else "paper"


def export(name: str, root: str | Path | None = None) -> Path:
    """Write book/results/<name>.nc: measures (not raw material) of all local and shipped runs.

    Raises ValueError where nothing is done, and where the file that is there cannot be used, since
    its runs would be lost.
    """
    check_names("experiment", [name], EXPERIMENTS)
    if why := unusable(name).get(name):
        raise ValueError(f"{why}: move it away first, so that what it holds is not lost")
    runs = sources(name, root)
    kept = []
    for profile in PROFILES[1:]:  # quick runs are never evidence
        wanted = [c for key in _keys(name) for c in _planned(name, profile, *key)]
        found = _select(runs, wanted, profile)
        if found is not None:
            kept.append(found.drop_vars(["profile", "origin", "file"]))
    if not kept:
        raise ValueError(f"no desk or paper run of {name!r} is done: nothing to export")
    together = results.concat(kept)
    _, first = np.unique(together["run_id"].values.astype(str), return_index=True)
    together = _with_chance(together.isel(run=np.sort(first)))
    # curves that other experiments recorded of the same runs stand in their files
    others = {p for other in EXPERIMENTS for p in recorded(other)} - set(recorded(name))
    prefixes = tuple(f"curve_{probe}_" for probe in others)
    steps = {f"{probe}_step" for probe in others}
    together = together.drop_vars([
        str(n) for n in together.data_vars
        if str(n) in steps or str(n).startswith(prefixes)
    ])  # fmt: skip
    together.attrs = {"experiment": name, "made_by": f"lrsc results export {name}"}
    path = results.shipped_path(name)
    results.save(together, path)
    return path


def _with_chance(found: xr.Dataset) -> xr.Dataset:
    """With the chance level of runs that were measured before it was, where their data are here."""

    @functools.cache
    def level(text: str) -> float:
        config = results.parsed(text)
        source = "real" if config.source == "auto" else config.source  # stand-ins never ship
        try:
            data = datasets.load(config.dataset, source=source, **dict(config.data))
        except DataMissing:
            return math.nan
        return float(metrics.chance(data.test.y))

    units, long_name = measures.VARIABLES["chance"]
    known = found["chance"].values if "chance" in found else np.full(found.sizes["run"], np.nan)
    plain = [dataclasses.replace(results.parsed(t), seed=0, train=TrainConfig()).to_json()
             for t in found["config"].values]  # fmt: skip
    values = [k if np.isfinite(k) else level(t) for k, t in zip(known, plain, strict=True)]
    return found.assign(chance=("run", values, {"units": units, "long_name": long_name}))


def _keys(name: str) -> list[tuple[str, str, str]]:
    """Data sets, models and hyperparameters of an experiment's rows, in its order."""
    return list(dict.fromkeys((r.dataset, r.model, r.hyperparameter) for r in EXPERIMENTS[name]))


def _rows(name: str, key: tuple[str, str, str]) -> list[Row]:
    return [r for r in EXPERIMENTS[name] if (r.dataset, r.model, r.hyperparameter) == key]


def _planned(
    name: str, profile: str, dataset: str, model: str, hyperparameter: str
) -> list[RunConfig]:
    """The runs of rows of one key, none where the profile has no plan for them."""
    rows = _rows(name, (dataset, model, hyperparameter))
    found = (c for row in rows if profile in row.plans for c in _of_row(row, profile))
    return list(dict.fromkeys(found))


def _has_curves(found: xr.Dataset, name: str, key: tuple[str, str, str]) -> bool:
    """Whether any run holds the curves of all probes that its row records."""
    steps = [f"{probe}_step" for row in _rows(name, key) for probe in row.record]
    return all(s in found and bool(np.isfinite(found[s].values).any()) for s in steps)


def _labelled(found: xr.Dataset, name: str, key: tuple[str, str, str]) -> xr.Dataset:
    """The runs with the name of their row and the value of its knob."""
    knob = _rows(name, key)[0].knob
    configs = [results.parsed(text) for text in found["config"].values]
    values = np.array([results.value_of(config, knob) for config in configs])
    label = np.full(found.sizes["run"], key[2], object)
    return found.assign_coords(hyperparameter=("run", label), value=("run", values))


def sources(name: str, root: str | Path | None = None, curves: bool = True) -> list[xr.Dataset]:
    """Where runs may stand: the experiment's own file, this machine, other experiments' files.

    curves False: this machine's runs without curves along training, which take long to read.
    """
    wanted = (
        [c for p in PROFILES for k in _keys(name) for c in _planned(name, p, *k)] if curves else []
    )
    local = _local(root, recorded(name), wanted)
    others = (shipped(other) for other in EXPERIMENTS if other != name)
    return [each for each in (shipped(name), *local, *others) if each is not None]


def shipped(name: str) -> xr.Dataset | None:
    """An experiment's runs that ship with the book; None where its file is absent or unusable."""
    found = _read(name)
    return None if isinstance(found, str) else found


def unusable(*names: str) -> dict[str, str]:
    """Experiments whose shipped file is there but cannot be used, and why; of all if none given."""
    found = {name: _read(name) for name in names or EXPERIMENTS}
    return {name: why for name, why in found.items() if isinstance(why, str)}


def check_units(found: xr.Dataset) -> None:
    """Raise ValueError for the first measure that is not in the units that all figures expect."""
    for name, (units, _) in measures.VARIABLES.items():
        if name not in found:
            continue
        has = found[name].attrs.get("units", units)
        if has != units:
            raise ValueError(f"{name} in units {has!r}, expected {units!r}")
        if "accuracy" in name and (found[name].values > 1 + 1e-6).any():
            raise ValueError(f"{name} up to {float(found[name].max()):g}, expected a fraction")


def _read(name: str) -> xr.Dataset | str | None:
    """The shipped file of an experiment, or why it cannot be used."""
    path = results.shipped_path(name)
    return _read_shipped(name, path, path.stat().st_mtime_ns) if path.is_file() else None


@functools.lru_cache(maxsize=64)
def _read_shipped(name: str, path: Path, changed: int) -> xr.Dataset | str | None:
    try:
        found = results.shipped(name, _NEEDS)
        if found is None:
            return None
        if found["config"].dims != ("run",):
            raise ValueError("no runs, expected the dimension 'run'")
        _check_configs(found)
        check_units(found)
    except ValueError as error:
        why = str(error) if path.name in str(error) else f"`book/results/{path.name}` holds {error}"
        _log.info("%s: its runs count as not measured", why)
        return why
    return _with_origin(results.completed(found), "shipped", f"book/results/{name}.nc")


def recorded(name: str) -> tuple[str, ...]:
    """Probes whose curves belong to an experiment."""
    return tuple(dict.fromkeys(probe for row in EXPERIMENTS[name] for probe in row.record))


def _local(
    root: str | Path | None, recorded: Iterable[str] = (), wanted: Iterable[RunConfig] = ()
) -> list[xr.Dataset]:
    """This machine's runs; those wanted that hold curves of these probes apart, with the curves."""
    found = consolidated.measures(root)
    if found is None:
        return []
    found = _with_origin(_with_our_units(found), "local")
    recorded, keys = set(recorded), {_key(config) for config in wanted}
    if recorded and keys:
        held = zip(found["key"].values, found["probes"].values, strict=True)
        chosen = np.array([k in keys and not recorded.isdisjoint(p.split()) for k, p in held])
        if chosen.any():
            curves = consolidated.with_curves(found.isel(run=chosen), recorded, root)
            return [_indexed(curves), found.isel(run=~chosen)]
    return [found]


def _check_configs(found: xr.Dataset) -> None:
    for text in found["config"].values:
        try:
            RunConfig.from_json(text)
        except ValueError as error:
            raise ValueError(f"runs of another version: {error}") from error


def _with_our_units(found: xr.Dataset) -> xr.Dataset:
    """Runs without those whose accuracies are no fractions, each with one warning."""
    names = [n for n in measures.VARIABLES if n in found and "accuracy" in n]
    fine = np.ones(found.sizes["run"], bool)
    for name in names:
        values = found[name].values.reshape(len(fine), -1)
        for row in np.flatnonzero((values > 1 + 1e-6).any(1) & fine):
            fine[row] = False
            _warn_once(
                f"run {found['run_id'].values[row]} is left out: it holds {name} up to "
                f"{np.nanmax(values[row]):g}, expected a fraction"
            )
    return found if fine.all() else found.isel(run=fine)


@functools.cache
def _warn_once(text: str) -> None:
    _log.warning(text)


def _with_origin(found: xr.Dataset, origin: str, file: str = "") -> xr.Dataset:
    columns = {"origin": origin, "file": file}
    n = found.sizes["run"]
    found = found.assign_coords({k: ("run", np.full(n, v, object)) for k, v in columns.items()})
    return _indexed(found)


_INDEX = ("key", "held", "stand_in")  # by which `_places` finds runs


def _indexed(found: xr.Dataset) -> xr.Dataset:
    """With what is asked of each run, how many variables it holds, and whether of a stand-in."""
    stand_in = functools.cache(datasets.is_stand_in)
    columns = {
        "key": np.array([_key_of(text) for text in found["config"].values], object),
        "held": _held(found),
        "stand_in": np.array([stand_in(source) for source in found["source_id"].values], bool),
    }
    return found.assign_coords({name: ("run", column) for name, column in columns.items()})


def _places(
    sources: list[xr.Dataset], wanted: list[RunConfig], profile: str
) -> list[tuple[int, int]]:
    """Source and row of the runs among `wanted`, each in the source that holds most of it.

    Of several that hold as much, in the first.
    """
    keys = dict.fromkeys(_key(config) for config in wanted)
    best: dict[str, tuple[int, int, int]] = {}  # key -> variables held, source, row
    for number, source in enumerate(sources):
        columns = (source[name].values.tolist() for name in (*_INDEX, "source_id"))
        for row, (key, held, stands_in, source_id) in enumerate(zip(*columns, strict=True)):
            if key not in keys or (key in best and held <= best[key][0]):
                continue
            if stands_in == (profile == "quick") or source_id == "generated":
                best[key] = held, number, row
    return [best[key][1:] for key in keys if key in best]


def _select(sources: list[xr.Dataset], wanted: list[RunConfig], profile: str) -> xr.Dataset | None:
    """Runs among `wanted` with their profile, from where `_places` finds them."""
    places = _places(sources, wanted, profile)
    chosen = [
        source.isel(run=rows).drop_vars([*_INDEX, "probes"], errors="ignore")
        for number, source in enumerate(sources)
        if (rows := [row for n, row in places if n == number])
    ]
    if not chosen:
        return None
    found = results.concat(chosen)
    return found.assign_coords(profile=("run", np.full(found.sizes["run"], profile, object)))


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
def _key(config: RunConfig) -> str:
    """What is asked of a run, whatever its source: `_select` looks at the source itself."""
    return dataclasses.replace(config, source="auto").to_json()


@functools.lru_cache(maxsize=100_000)
def _key_of(text: str) -> str:
    """`_key` of a run's stored configuration."""
    return _key(results.parsed(text))


def _finish(found: xr.Dataset, name: str) -> xr.Dataset:
    order = np.lexsort([found[k] for k in (
        "seed", "value", "model_options", "data", "hyperparameter", "model", "dataset",
    )])  # fmt: skip
    found = _corrected(found.isel(run=order))
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
        after = found[f"accuracy_pruned_{method}"].mean("kappa")
        margin = after / found[name] - found["chance"]  # prunability is mean after / before
        units, long_name = measures.VARIABLES[f"{name}_corrected"]
        value = ((after - found["chance"]) / margin).where(margin >= LEAST_MARGIN)
        found[f"{name}_corrected"] = value.assign_attrs(units=units, long_name=long_name)
    return found


def _with_collapsed(found: xr.Dataset) -> np.ndarray:
    """Statuses; a run is collapsed if it is far under its row's best value, at a larger one."""
    status = found["status"].values.astype(object)
    accuracy, lr = found["unbiased_accuracy"].values, found["value"].values
    columns = (found[name].values for name in ("dataset", "model", "hyperparameter", "data",
                                             "model_options"))  # fmt: skip
    rows = np.array([" | ".join(row) for row in zip(*columns, strict=True)])
    for row in np.unique(rows):
        means = {
            v: np.nanmean(accuracy[(rows == row) & (lr == v)])
            for v in np.unique(lr[rows == row])
            if np.isfinite(accuracy[(rows == row) & (lr == v)]).any()
        }
        if not means:
            continue
        best = max(means, key=lambda v: means[v])
        low = (rows == row) & (lr > best) & (accuracy < means[best] - COLLAPSE)
        status[low & (status != "diverged")] = "collapsed"
    return status


def known_runs(root: str | Path | None = None) -> xr.Dataset | None:
    """Epochs of all runs that are done, local or shipped, in long form; None if there are none."""
    of_book = (shipped(name) for name in EXPERIMENTS)
    found = [f for f in (*_local(root), *of_book) if f is not None]
    keys = ["dataset", "model", "data", "lr", "epochs", "train_seconds"]
    return xr.concat([f.reset_coords()[keys] for f in found], "run") if found else None


def estimate_epochs(config: RunConfig, known: xr.Dataset | None) -> float:
    """Epochs a run is likely to need: those of the done run nearest in LR, else its cap.

    Of runs on as much and the same data, where there are some.
    """
    if known is not None:
        chosen = _alike(config, known)
        epochs, lr = chosen["epochs"].values, chosen["lr"].values
        if len(epochs):
            nearest = np.abs(np.log(lr / config.train.lr)).argmin()
            return float(min(epochs[nearest], config.train.max_epochs))
    return float(config.train.max_epochs) if math.isfinite(config.train.max_epochs) else 0.0


def _alike(config: RunConfig, known: xr.Dataset) -> xr.Dataset:
    """Runs of a run's data set and model; of those only the ones with its data options, if any."""
    same = (known["dataset"] == config.dataset) & (known["model"] == config.model)
    alike = same & (known["data"] == results.options_text(config.data))
    return known.isel(run=(alike if alike.any() else same).values)


def expected_seconds(config: RunConfig, known: xr.Dataset | None) -> float:
    """Seconds that a run is likely to train, by done runs of its data set and model.

    Infinity where there are none: nobody knows.
    """
    if known is None:
        return math.inf
    chosen = _alike(config, known)
    epochs, seconds = chosen["epochs"].values, chosen["train_seconds"].values
    fine = (epochs > 0) & np.isfinite(seconds)
    if not fine.any():
        return math.inf
    return estimate_epochs(config, known) * float(np.median(seconds[fine] / epochs[fine]))


def status(profile: str | None = None, root: str | Path | None = None) -> list[dict]:
    """What is done of every experiment: one row for each profile and row of its table.

    missing: neither done nor running now; of those, failed ones have been tried. seconds: that one
    process needs for what is not done, by the done runs of the same data set and model; None where
    there are none.
    """
    if profile is not None:
        check_names("profile", [profile], PROFILES)
    of_book = (shipped(other) for other in EXPERIMENTS)
    sources = [*_local(root), *(s for s in of_book if s is not None)]
    diverged = [(source["status"].values == "diverged").tolist() for source in sources]
    known = known_runs(root)
    running, failed = (
        {(profile_of(c), _key(c)) for note in notes for c in [RunConfig.from_json(note["config"])]}
        for notes in (locks.running(root), locks.failures(root))
    )
    # seeds make no difference
    seconds_of = functools.cache(lambda config: expected_seconds(config, known))
    rows = []
    for candidate in [profile] if profile else PROFILES:
        for name in EXPERIMENTS:
            for key in _keys(name):
                wanted = _planned(name, candidate, *key)
                if not wanted:
                    continue
                places = _places(sources, wanted, candidate)
                ended = {sources[number]["key"].values[row] for number, row in places}
                to_do = {(candidate, _key(c)): c for c in wanted if _key(c) not in ended}
                now = len(running & set(to_do))
                seconds = sum(seconds_of(dataclasses.replace(c, seed=0)) for c in to_do.values())
                rows.append({
                    "profile": candidate, "experiment": name, "dataset": key[0],
                    "model": key[1], "hyperparameter": key[2],
                    "runs": len(wanted), "done": len(places),
                    "diverged": sum(diverged[number][row] for number, row in places),
                    "running": now, "failed": len(failed & set(to_do)),
                    "missing": len(wanted) - len(places) - now,
                    "seconds": seconds if math.isfinite(seconds) else None,
                })  # fmt: skip
    return rows
