"""The runs of an experiment in a profile, chosen from its rows."""

import dataclasses
import functools
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lrsc import datasets, models, results
from lrsc.config import RunConfig, TrainConfig, usual_batch_size
from lrsc.errors import check_names
from lrsc.experiments.rows import EXPERIMENTS, Row

PROFILES = ("quick", "desk", "paper")  # from the smallest to the paper's own settings
DESK_TRAIN = 10_000  # training samples of the desk profile
LR = 0.1  # where a row does not say
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
    """The runs of an experiment in a profile, restricted to a data set or model if given.

    lrs: replace the plan's own; rows that sweep something else are then left out, with a warning.
    Your own data set or model is swept over a row's LRs, those of the same model's or data set's if
    there is one. seeds: replace the plan's own. hyperparameter: only the row of this name ('lr',
    'l2', 'adam', ...). Each run comes once, even if it belongs to several rows. Raises ValueError
    for unknown names, for a data set, model and hyperparameter that form no row of the experiment,
    and for an empty list.
    """
    check_names("experiment", [name], EXPERIMENTS)
    check_names("profile", [profile], PROFILES)
    rows = rows_for(name, dataset, model)
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
        others = list(dict.fromkeys(r.hyperparameter for r in rows if r.knob != "lr"))
        rows = tuple(r for r in rows if r.knob == "lr")
        if not rows:
            raise ValueError(f"lrs: {asked} sweeps something else than the LR; leave lrs out")
        if others:
            text = "lrs: rows of %s that sweep no LR are left out: %s"
            _log.warning(text, asked, ", ".join(others))
    if seeds is not None:
        seeds = tuple(seeds)
    return list(dict.fromkeys(c for r in rows for c in runs_of_row(r, profile, lrs, seeds)))


def rows_for(name: str, dataset: str | None, model: str | None) -> tuple[Row, ...]:
    """The rows of an experiment, or the one in it for a data set or model of a user's own."""
    rows = EXPERIMENTS[name]
    if dataset is None or model is None or not (datasets.is_own(dataset) or models.is_own(model)):
        return rows
    datasets.check_name(dataset)
    models.check_name(model)
    swept = [row for row in rows if row.hyperparameter == "lr"] or list(rows)
    like = max(swept, key=lambda row: (row.model == model, row.dataset == dataset))
    return (Row(dataset, model, like.plans),)


def runs_of_row(
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
            row.dataset, row.model, LR, seed, profile, plan.max_epochs, data_of(row, profile),
            row.train | row.setting(value), row.model_options,
        )
        for value in values
        for seed in seeds
    ]  # fmt: skip


def knob(name: str, dataset: str, model: str, hyperparameter: str) -> str:
    """The field of TrainConfig that a row of an experiment sweeps."""
    return rows_of(name, (dataset, model, hyperparameter))[0].knob


def recording(config: RunConfig) -> dict[str, int]:
    """Probes that a sweep records of a run, and the iterations between two calls.

    They are all that any experiment with a row of this data set, model and settings asks for in the
    run's profile, since one run serves several figures.
    """
    return dict(_recording(dataclasses.replace(config, seed=0)))


@functools.lru_cache(maxsize=10_000)
def _recording(config: RunConfig) -> dict[str, int]:
    found: dict[str, int] = {}
    profile = profile_of(config)
    for row in itertools.chain.from_iterable(EXPERIMENTS.values()):
        if row.record and profile in row.plans and is_of_row(config, row):
            found |= row.record
    if config.source == "embedded":
        found = {probe: max(1, every // 10) for probe, every in found.items()}
    return found


def is_of_row(config: RunConfig, row: Row) -> bool:
    """Whether a run differs from those of a row in knob, seed, cap and size of data only."""
    if (config.dataset, config.model) != (row.dataset, row.model):
        return False
    if dict(config.model_options) != row.model_options:
        return False
    usual = _usual(config.dataset, LR, config.train.max_epochs)
    data = {k: v for k, v in config.data if k != "n_train"}
    knob = {row.knob: getattr(config.train, row.knob)}
    train = TrainConfig(**(usual | row.train | knob))
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
    replaces the profile's. train: further fields of TrainConfig; model_options: options of the
    model.
    """
    models.check_name(model)
    check_names("profile", [profile], PROFILES)
    known = datasets.options(dataset)  # which checks its name
    options = {k: v for k, v in (data or {}).items() if v != known.get(k)}
    # parity has 10 000 in every profile, a user's own as many as it has
    if profile == "desk" and dataset != "parity" and datasets.is_ours(dataset):
        options.setdefault("n_train", DESK_TRAIN)
    return RunConfig(
        dataset,
        model,
        TrainConfig(**(_usual(dataset, lr, max_epochs) | dict(train or {}))),
        seed,
        data=options,
        model_options=model_options or {},
        source="embedded" if profile == "quick" else "real",
    )


def _usual(dataset: str, lr: float, max_epochs: int) -> dict:
    return {"lr": lr, "max_epochs": max_epochs, "batch_size": usual_batch_size(dataset)}


def usual_row(dataset: str, model: str, profile: str) -> tuple[str, Row] | None:
    """The first experiment, and its row, that vary the LR alone for a data set and model.

    One with a plan for the profile comes before others; None if there is no such row.
    """
    rows = [
        (name, row) for name, rows in EXPERIMENTS.items() for row in rows
        if (row.dataset, row.model, row.hyperparameter) == (dataset, model, "lr")
    ]  # fmt: skip
    return min(rows, key=lambda found: profile not in found[1].plans, default=None)


def usual_data(dataset: str, model: str, profile: str) -> Mapping:
    """Options of a data set in this model's row that varies the LR alone, such as its own rho."""
    found = usual_row(dataset, model, profile)
    return {} if found is None else data_of(found[1], profile)


def data_of(row: Row, profile: str) -> dict:
    """A row's options of the data set, and the size of its plan, where that has its own."""
    n = row.plans[profile].n_train if profile in row.plans else None
    return row.data | ({} if n is None else {"n_train": n})


def usual_run(
    dataset: str,
    model: str,
    profile: str,
    seed: int = 0,
    data: Mapping | None = None,
    train: Mapping | None = None,
    model_options: Mapping | None = None,
) -> tuple[RunConfig, str]:
    """One run as the row of `usual_row` trains it, except for what is given, and a line on that.

    Without such a row: the defaults of data set, model and TrainConfig, up to 1000 epochs.
    """
    datasets.check_name(dataset)
    models.check_name(model)
    check_names("profile", [profile], PROFILES)
    found, cap = usual_row(dataset, model, profile), {"max_epochs": 1000}
    if found is None:
        usual: tuple[Mapping, Mapping, Mapping] = {}, cap, {}
        said = f"no section trains {model} on {dataset}: the usual settings of each"
    else:
        name, row = found
        if profile in row.plans:
            cap = {"max_epochs": row.plans[profile].max_epochs}
        usual = data_of(row, profile), cap | row.train, row.model_options
        said = f"as the section {name!r} trains {model} on {dataset}"
    settings = [dict(own) | dict(given or {}) for own, given in
                zip(usual, (data, train, model_options), strict=True)]  # fmt: skip
    config = run_config(
        dataset, model, LR, seed, profile, data=settings[0], train=settings[1],
        model_options=settings[2],
    )  # fmt: skip
    own = _listed(data, train, model_options)
    return config, f"{said} ({_listed(*usual)})" + (f", but for {own}" if own else "")


def _listed(*settings: Mapping | None) -> str:
    return ", ".join(f"{n}={v}" for each in settings for n, v in (each or {}).items())


def is_planned(config: RunConfig, row: Row) -> bool:
    """Whether a run is one of a row: of its values of the knob, or of any LR where that is it."""
    planned = [value for plan in row.plans.values() for value in plan.values]
    value = results.value_of(config, row.knob)
    return is_of_row(config, row) and (
        row.knob == "lr" or bool(np.isclose(value, planned, rtol=0.02).any())
    )


def profile_of(config: RunConfig) -> str:
    """The profile a run's data settings belong to."""
    if config.source == "embedded":
        return "quick"
    return "desk" if "n_train" in dict(config.data) else "paper"


def row_keys(name: str) -> list[tuple[str, str, str]]:
    """Data sets, models and hyperparameters of an experiment's rows, in its order."""
    return list(dict.fromkeys((r.dataset, r.model, r.hyperparameter) for r in EXPERIMENTS[name]))


def rows_of(name: str, key: tuple[str, ...]) -> list[Row]:
    return [r for r in EXPERIMENTS[name] if (r.dataset, r.model, r.hyperparameter) == key]


def planned_runs(name: str, profile: str, *key: str) -> list[RunConfig]:
    """The runs of the rows of one key, or of all; none if the profile has no plan for them."""
    rows = rows_of(name, key) if key else EXPERIMENTS[name]
    found = (c for row in rows if profile in row.plans for c in runs_of_row(row, profile))
    return list(dict.fromkeys(found))


def recorded(name: str) -> tuple[str, ...]:
    """Probes whose curves belong to an experiment."""
    return tuple(dict.fromkeys(probe for row in EXPERIMENTS[name] for probe in row.record))
