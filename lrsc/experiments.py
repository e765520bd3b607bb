"""The paper's figures and tables as named lists of runs in three profiles."""

import csv
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import datasets, models, results
from lrsc.config import RunConfig, TrainConfig
from lrsc.errors import check_names

PROFILES = ("quick", "desk", "paper")  # from the smallest to the paper's own settings
DESK_TRAIN = 10_000  # training samples of the desk profile
LARGE_IMAGES = ("celeba", "waterbirds", "imagenet")  # trained with batches of 16
COLLAPSE = 0.10  # accuracy below the best LR's of its row at which a larger LR has collapsed


@dataclasses.dataclass(frozen=True)
class Plan:
    """LRs, seeds and the cap of one row in one profile."""

    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    max_epochs: int


@dataclasses.dataclass(frozen=True)
class Row:
    """One data set and model of an experiment, planned for some or all profiles."""

    dataset: str
    model: str
    plans: dict[str, Plan]
    data: dict = dataclasses.field(default_factory=dict)  # options of the data set
    train: dict = dataclasses.field(default_factory=dict)  # fields of TrainConfig
    # probes (training.PROBES) and the iterations between two calls; a tenth of them in quick runs
    record: dict[str, int] = dataclasses.field(default_factory=dict)


def _log_spaced(low: float, high: float, n: int = 6, *more: float) -> tuple[float, ...]:
    """n log-spaced LRs with both ends (3 significant digits), and further ones."""
    grid = {float(f"{lr:.3g}") for lr in np.geomspace(low, high, n)}
    return tuple(sorted(grid | set(more)))


def _usual(dataset: str, model: str, low: float, high: float, **data: float) -> Row:
    """A row of the semi-synthetic grid: table S1's range of LRs, and a third of it on a desk."""
    cap = 1000 if model == "fcn" else 100
    return Row(dataset, model, {
        "desk": Plan(_log_spaced(low, high, 3), (0, 1, 2), cap // 2 if model == "fcn" else cap),
        "paper": Plan(_log_spaced(low, high), (0, 1, 2), cap),
    }, data)  # fmt: skip


_STANDARD_LRS = (0.001, 0.1)  # low and high on CIFAR-10, where table S1 has no row

EXPERIMENTS: dict[str, tuple[Row, ...]] = {
    # figure 3; five seeds, since they cost seconds each
    "synthetic": (
        Row("parity", "fcn", {
            "quick": Plan((0.01, 0.1, 0.75), (0, 1), 60),
            "desk": Plan(_log_spaced(0.01, 0.75), (0, 1, 2), 1000),
            "paper": Plan(_log_spaced(0.01, 0.75), (0, 1, 2, 3, 4), 1000),
        }, record={"attribution": 100}),
        # figure 15; at the default rho of 0.1 every LR ends near 100 % (see "choices")
        Row("moon_star", "fcn", {
            "quick": Plan((0.01, 0.2), (0,), 60),
            "paper": Plan(_log_spaced(0.01, 0.75), (0, 1, 2), 1000),
        }, {"rho": 0.005}),
    ),
    # figures 4 and 5: table S1's ranges, and the LRs of the comparison with other trainers
    "semi_synthetic": (
        Row("colored_mnist", "fcn", {
            "quick": Plan((0.02, 0.06, 0.2), (0, 1), 60),
            "desk": Plan((0.02, 0.1, 0.5), (0, 1, 2), 500),
            "paper": Plan(_log_spaced(0.001, 0.5, 6, 0.05, 0.1), (0, 1, 2), 1000),
        }),
        Row("colored_mnist", "resnet18", {
            "quick": Plan((0.01, 0.1), (0,), 15),
            "desk": Plan((0.001, 0.015, 0.15), (0, 1, 2), 100),
            "paper": Plan(_log_spaced(0.001, 0.25, 6, 0.15), (0, 1, 2), 100),
        }),
        _usual("colored_mnist", "cnn", 0.01, 0.35),
        _usual("colored_mnist", "resnet50", 0.001, 0.1),
        _usual("colored_mnist", "wide_resnet101_2", 0.001, 0.25),
        _usual("double_mnist", "fcn", 0.001, 0.5),
        _usual("double_mnist", "cnn", 0.005, 0.4),
        _usual("double_mnist", "resnet18", 0.001, 0.1),
        _usual("double_mnist", "resnet50", 0.001, 0.1),
        _usual("double_mnist", "wide_resnet101_2", 0.001, 0.1),
        # the paper has more bias-conflicting samples for the FCN here
        _usual("mnist_cifar", "fcn", 0.001, 0.01, rho=0.25),
        _usual("mnist_cifar", "cnn", 0.001, 0.2),
        _usual("mnist_cifar", "resnet18", 0.001, 0.25),
        _usual("mnist_cifar", "resnet50", 0.005, 0.1),
        _usual("mnist_cifar", "wide_resnet101_2", 0.005, 0.1),
        _usual("corrupted_cifar10", "fcn", 0.0001, 0.005, rho=0.25),
        _usual("corrupted_cifar10", "cnn", 0.001, 0.1),
        _usual("corrupted_cifar10", "resnet18", 0.001, 0.5),
        _usual("corrupted_cifar10", "resnet50", 0.001, 0.1),
        _usual("corrupted_cifar10", "wide_resnet101_2", 0.001, 0.25),
    ),
    # figures 9, 12, 13, 17, 18: what happens along training, at a low and a high LR
    "mechanism": (
        Row("colored_mnist", "fcn", {
            "quick": Plan((0.02, 0.2), (0, 1), 40),
            "desk": Plan((0.02, 0.1), (0, 1, 2), 500),
        }, record={"dynamics": 50}),
        Row("double_mnist", "fcn", {
            "desk": Plan((0.0224, 0.1), (0, 1), 500),
        }, record={"dynamics": 50, "attribution": 200, "neurons": 20}),
        Row("colored_mnist", "resnet18", {
            "desk": Plan((0.001, 0.15), (0, 1, 2), 100),
            "paper": Plan((0.001, 0.15), (0, 1, 2), 100),
        }, record={"dynamics": 50}),
        Row("cifar10", "resnet18", {
            "desk": Plan(_STANDARD_LRS, (0, 1, 2), 100),
            "paper": Plan(_STANDARD_LRS, (0, 1, 2), 100),
        }, record={"dynamics": 100}),
        # halves, on which the conflicting samples of the other half are found
        *(
            Row("cifar10", "resnet18", {
                "desk": Plan(_STANDARD_LRS, (10, 11), 100),
                "paper": Plan(_STANDARD_LRS, (10, 11), 100),
            }, {"half": half})
            for half in ("A", "B")
        ),
    ),
    # figures 8, 10, 14, 35, 36: no spurious feature is known here
    "standard_classification": (
        Row("cifar10", "resnet18", {
            "quick": Plan((0.01, 0.1), (0, 1), 4),
            "desk": Plan((0.001, 0.01, 0.1), (0, 1, 2), 100),
            "paper": Plan(_log_spaced(0.001, 0.25, 6, 0.1), tuple(range(10)), 100),
        }, record={"dynamics": 100}),
        Row("cifar100", "resnet18", {
            "paper": Plan(_log_spaced(0.001, 0.25, 6, 0.1), tuple(range(10)), 100),
        }),
    ),
    # what our readings of the paper change: SPEC's (decided) choices of data, varied one by one
    "choices": (
        *(
            Row("parity", "fcn", {"paper": Plan((0.01, 0.75), (0, 1), 1000)},
                dict(zip(("n_core", "n_spurious", "n_noise"), bits, strict=True)))
            for bits in (
                (3, 1, 40), (3, 1, 55), (4, 1, 33), (4, 1, 36), (4, 1, 38), (4, 1, 40), (4, 2, 28),
                (4, 2, 35), (5, 2, 40),
            )
        ),
        *(
            Row("moon_star", "fcn", {"paper": Plan((0.01, 0.316), (0, 1), 1000)}, data)
            for data in ({}, {"rho": 0.02}, {"rho": 0.01}, {"rho": 0.005})
        ),
        *(
            Row("colored_mnist", "fcn", {"paper": Plan((0.05, 0.5), (0,), 1000)}, data)
            for data in ({}, {"standardise": False}, {"rho": 0.02})
        ),
    ),
    # whether bf16 changes what a run ends with
    "precision": tuple(
        Row("colored_mnist", model, {"desk": Plan((0.1,), (0, 1, 2), 100)}, train=train)
        for model in ("fcn", "resnet18")
        for train in ({}, {"precision": "bf16"})
    ),
}  # fmt: skip


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
) -> list[RunConfig]:
    """The runs of an experiment in a profile, restricted to a data set or model where given.

    lrs, seeds: replace the plan's own. Raises ValueError for unknown names, for a data set and
    model that are no row of the experiment, and for an empty list.
    """
    check_names("experiment", [name], EXPERIMENTS)
    check_names("profile", [profile], PROFILES)
    rows = EXPERIMENTS[name]
    if dataset is not None:
        check_names(f"data set of {name!r}", [dataset], dict.fromkeys(r.dataset for r in rows))
        rows = tuple(r for r in rows if r.dataset == dataset)
    if model is not None:
        check_names(f"model of {name!r}", [model], dict.fromkeys(r.model for r in rows))
        rows = tuple(r for r in rows if r.model == model)
    asked = " ".join([f"experiment {name!r}", *filter(None, (dataset, model))])
    has = [p for p in PROFILES if any(p in r.plans for r in rows)]
    rows = tuple(r for r in rows if profile in r.plans)
    if not rows:
        raise ValueError(f"{asked} has no runs in profile {profile!r}, only in {' and '.join(has)}")
    chosen = []
    for row in rows:
        plan = row.plans[profile]
        row_lrs = plan.lrs if lrs is None else tuple(lrs)
        row_seeds = plan.seeds if seeds is None else tuple(seeds)
        if not row_lrs or not row_seeds:
            raise ValueError("lrs and seeds must not be empty: give at least one value of each")
        chosen += [
            run_config(
                row.dataset, row.model, lr, seed, profile, plan.max_epochs, row.data, row.train
            )
            for lr in row_lrs
            for seed in row_seeds
        ]
    return chosen


def recording(config: RunConfig) -> dict[str, int]:
    """Probes that a sweep records of a run, and the iterations between two calls.

    All that any experiment with a row of this data set, model and settings asks for: one run
    serves several figures.
    """
    found: dict[str, int] = {}
    for row in itertools.chain.from_iterable(EXPERIMENTS.values()):
        if row.record and _is_of(config, row):
            found |= row.record
    if config.source == "embedded":
        found = {probe: max(1, every // 10) for probe, every in found.items()}
    return found


def _is_of(config: RunConfig, row: Row) -> bool:
    """Whether a run differs from those of a row in LR, seed, cap and size of the data only."""
    if (config.dataset, config.model) != (row.dataset, row.model) or config.model_options:
        return False
    batch = 16 if config.dataset in LARGE_IMAGES else 100
    usual: dict = {"lr": config.train.lr, "max_epochs": config.train.max_epochs}
    data = {k: v for k, v in config.data if k != "n_train"}
    train = TrainConfig(**(usual | {"batch_size": batch} | row.train))
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

    data: further options of the data set; those that repeat a default are dropped. train: further
    fields of TrainConfig; model_options: options of the model.
    """
    check_names("data set", [dataset], datasets.names())
    check_names("model", [model], models.BUILDERS)
    check_names("profile", [profile], PROFILES)
    known = datasets.options(dataset)
    options = {k: v for k, v in (data or {}).items() if v != known.get(k)}
    if profile == "desk" and dataset != "parity":  # which has 10 000 in every profile
        options["n_train"] = DESK_TRAIN
    batch = 16 if dataset in LARGE_IMAGES else 100  # SPEC section 4
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


def open_experiment(
    name: str,
    profile: str | None = None,
    root: str | Path | None = None,
    dataset: str | None = None,
    model: str | None = None,
) -> xr.Dataset:
    """Results of an experiment, shipped and local, in long form (dimension `run`).

    profile None: for each data set and model the largest profile of which anything is measured.
    Runs that are not done yet are absent; `collapsed` is decided here, by comparison with the
    other LRs. Raises ValueError if nothing is measured.
    """
    check_names("experiment", [name], EXPERIMENTS)
    sources = [_shipped(name), _local(root, recorded(name))]
    runs = [found for found in sources if found is not None]
    chosen = []
    for row_dataset, row_model in _pairs(name):
        if dataset not in (None, row_dataset) or model not in (None, row_model):
            continue
        for candidate in [profile] if profile else reversed(PROFILES):
            wanted = _planned(name, candidate, row_dataset, row_model)
            found = _select(runs, wanted, candidate)
            if found is not None:
                chosen.append(found)
                break
    if not chosen:
        what = f"experiment {name!r}" + (f" in profile {profile!r}" if profile else "")
        raise ValueError(
            f"nothing is measured yet of {what}"
            + "".join(f", {v!r}" for v in (dataset, model) if v)
            + f". Measure it with: lrsc sweep {name}" + (f" --profile {profile}" if profile else "")
        )  # fmt: skip
    return _finish(xr.concat(chosen, "run", join="outer"), name)


def open_runs(runs: Iterable[RunConfig], root: str | Path | None = None) -> xr.Dataset:
    """Results of these runs, local or shipped, in long form, as far as they are done.

    Raises ValueError if none is.
    """
    runs = list(runs)
    probes = {probe for config in runs for probe in recording(config)}
    sources = [_local(root, probes), *(_shipped(name) for name in EXPERIMENTS)]
    found = _select([s for s in sources if s is not None], runs, profile_of(runs[0]))
    if found is None:
        raise ValueError("none of these runs is done: pass them to lrsc.sweep.run first")
    return _finish(found, "")


def profile_of(config: RunConfig) -> str:
    """The profile a run's data settings belong to."""
    if config.source == "embedded":
        return "quick"
    return "desk" if "n_train" in dict(config.data) else "paper"


def export(name: str, root: str | Path | None = None) -> Path:
    """Write book/results/<name>.nc: measures (not raw material) of all local and shipped runs."""
    check_names("experiment", [name], EXPERIMENTS)
    sources = [_shipped(name), _local(root, recorded(name))]
    runs = [found for found in sources if found is not None]
    kept = []
    for profile in PROFILES[1:]:  # quick runs are never evidence
        wanted = [c for d, m in _pairs(name) for c in _planned(name, profile, d, m)]
        found = _select(runs, wanted, profile)
        if found is not None:
            kept.append(found.drop_vars(["profile", "origin"]))
    if not kept:
        raise ValueError(f"no desk or paper run of {name!r} is done: nothing to export")
    together = xr.concat(kept, "run", join="outer")
    _, first = np.unique(together["run_id"].values.astype(str), return_index=True)
    together = together.isel(run=np.sort(first))
    together.attrs = {"experiment": name, "made_by": f"lrsc results export {name}"}
    path = results.shipped_path(name)
    results.save(together, path)
    return path


def reference(dataset: str, model: str) -> dict[str, tuple[float, float]] | None:
    """Table S1's range of each measure for a data set and model, or None if it has no such row.

    Keys are the names of the result variables, and `lr`; accuracies are fractions.
    """
    shown = _TABLE_NAMES.get(dataset), _TABLE_NAMES.get(model)
    with open(Path(__file__).parent / "tables" / "table_s1.csv", newline="") as file:
        rows = [r for r in csv.DictReader(file) if (r["dataset"], r["model"]) == shown]
    if not rows:
        return None
    ranges = {
        ours: (float(rows[0][f"{theirs}_min"]), float(rows[0][f"{theirs}_max"]))
        for ours, theirs in _TABLE_COLUMNS.items()
    }
    low, high = ranges["unbiased_accuracy"]
    return ranges | {"unbiased_accuracy": (low / 100, high / 100)}


_TABLE_NAMES = {
    "parity": "Parity", "moon_star": "Moon-Star", "colored_mnist": "Colored MNIST",
    "double_mnist": "Double MNIST", "mnist_cifar": "MNIST-CIFAR",
    "corrupted_cifar10": "Cor. CIFAR-10", "celeba": "CelebA", "fcn": "FCN", "cnn": "CNN",
    "resnet18": "ResNet18", "resnet50": "ResNet50", "wide_resnet101_2": "Wide ResNet101-2",
    "swin_t": "Swin Transformer",
}  # fmt: skip
_TABLE_COLUMNS = {
    "lr": "lr", "unbiased_accuracy": "test_accuracy", "prunability": "prunability",
    "activation_compressibility": "activation_compressibility", "csi": "csi",
    "class_separation": "class_separation",
}  # fmt: skip


def _pairs(name: str) -> list[tuple[str, str]]:
    """Data sets and models of an experiment, in its order."""
    return list(dict.fromkeys((row.dataset, row.model) for row in EXPERIMENTS[name]))


def _planned(name: str, profile: str, dataset: str, model: str) -> list[RunConfig]:
    """The runs of a data set and model, none where the profile has no plan for them."""
    rows = [r for r in EXPERIMENTS[name] if (r.dataset, r.model) == (dataset, model)]
    planned = any(profile in r.plans for r in rows)
    return configs(name, profile, dataset, model) if planned else []


def _shipped(name: str) -> xr.Dataset | None:
    path = results.shipped_path(name)
    if not path.is_file():
        return None
    return _with_origin(results.completed(results.load(path)), "shipped")


def recorded(name: str) -> tuple[str, ...]:
    """Probes whose curves belong to an experiment."""
    return tuple(dict.fromkeys(probe for row in EXPERIMENTS[name] for probe in row.record))


def _local(root: str | Path | None, recorded: Iterable[str] = ()) -> xr.Dataset | None:
    runs = results.local_runs(root)
    if not runs:
        return None
    return _with_origin(results.combine(runs, recorded), "local")


def _with_origin(found: xr.Dataset, origin: str) -> xr.Dataset:
    return found.assign_coords(origin=("run", np.full(found.sizes["run"], origin, object)))


def _select(sources: list[xr.Dataset], wanted: list[RunConfig], profile: str) -> xr.Dataset | None:
    """Runs among `wanted`, each from the first source that has it, with their profile."""
    keys = [_key(config) for config in wanted]
    chosen, have = [], set()
    for source in sources:
        at = {}
        for i, (text, source_id) in enumerate(
            zip(source["config"].values, source["source_id"].values, strict=True)
        ):
            stands_in = datasets.is_stand_in(source_id)
            if stands_in == (profile == "quick") or source_id == "generated":
                at[_key(RunConfig.from_json(text))] = i
        rows = [at[k] for k in keys if k in at and k not in have]
        have |= set(at)
        if rows:
            chosen.append(source.isel(run=rows))
    if not chosen:
        return None
    found = xr.concat(chosen, "run", join="outer")
    return found.assign_coords(profile=("run", np.full(found.sizes["run"], profile, object)))


@functools.lru_cache(maxsize=100_000)
def _key(config: RunConfig) -> str:
    """What is asked of a run, whatever its source: `_select` looks at the source itself."""
    return dataclasses.replace(config, source="auto").to_json()


def _finish(found: xr.Dataset, name: str) -> xr.Dataset:
    order = np.lexsort([found[k] for k in ("seed", "lr", "data", "model", "dataset")])
    found = found.isel(run=order)
    found = found.assign_coords(status=("run", _with_collapsed(found)))
    profiles = dict.fromkeys(found["profile"].values.tolist())
    origins = dict.fromkeys(found["origin"].values.tolist())
    found.attrs = {
        "experiment": name,
        "profile": ", ".join(profiles),
        "origin": ", ".join(origins),
        "file": f"book/results/{name}.nc" if "shipped" in origins else "",
    }
    return found


def _with_collapsed(found: xr.Dataset) -> np.ndarray:
    """Statuses; a run is collapsed if it is far under its row's best LR, at a larger LR."""
    status = found["status"].values.astype(object)
    accuracy, lr = found["unbiased_accuracy"].values, found["lr"].values
    columns = (found[name].values for name in ("dataset", "model", "data"))
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
    found = [f for f in (_local(root), *(_shipped(name) for name in EXPERIMENTS)) if f is not None]
    keys = ["dataset", "model", "lr", "epochs"]
    return xr.concat([f.reset_coords()[keys] for f in found], "run") if found else None


def estimate_epochs(config: RunConfig, known: xr.Dataset | None) -> float:
    """Epochs a run is likely to need: those of the done run nearest in LR, else its cap."""
    if known is not None:
        same = (known["dataset"] == config.dataset) & (known["model"] == config.model)
        epochs, lr = known["epochs"].values[same], known["lr"].values[same]
        if len(epochs):
            nearest = np.abs(np.log(lr / config.train.lr)).argmin()
            return float(min(epochs[nearest], config.train.max_epochs))
    return float(config.train.max_epochs) if math.isfinite(config.train.max_epochs) else 0.0


def status(profile: str | None = None, root: str | Path | None = None) -> list[dict]:
    """What is done of every experiment: one row for each profile, data set and model."""
    if profile is not None:
        check_names("profile", [profile], PROFILES)
    local = _local(root)
    rows = []
    for candidate in [profile] if profile else PROFILES:
        for name in EXPERIMENTS:
            sources = [found for found in (_shipped(name), local) if found is not None]
            for dataset, model in _pairs(name):
                wanted = _planned(name, candidate, dataset, model)
                if not wanted:
                    continue
                found = _select(sources, wanted, candidate)
                done = 0 if found is None else found.sizes["run"]
                diverged = 0 if found is None else int((found["status"] == "diverged").sum())
                rows.append({
                    "profile": candidate, "experiment": name, "dataset": dataset,
                    "model": model, "runs": len(wanted), "done": done, "diverged": diverged,
                    "missing": len(wanted) - done,
                })  # fmt: skip
    return rows
