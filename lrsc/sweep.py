"""A list of runs -> results on disk, with resume: what is done is never trained again."""

import contextlib
import dataclasses
import functools
import logging
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from lrsc import datasets, experiments, measure, models, results
from lrsc.config import RunConfig, TrainConfig, run_id
from lrsc.errors import check_names
from lrsc.training import Trained, distributed, fit, fixed_loss_ratio
from lrsc.training.checkpoint import Refused

EXECUTORS = ("serial",)
DESK_PRUNE = 2000  # unbiased test images on which the desk profile prunes
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Report:
    """Names of the runs trained now, done before, and taken by another process."""

    trained: tuple[str, ...] = ()
    done_before: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


def run(
    what: str | Sequence[RunConfig],
    executor: str = "serial",
    *,
    profile: str = "quick",
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | None = None,
    raw: bool = False,
    on_result: Callable[[int, int, xr.Dataset], None] | None = None,
) -> Report:
    """Train and measure every run that is not done yet, one after the other.

    what: an experiment's name (in `profile`) or a list of RunConfigs. root: results folder.
    raw: train runs that ship with the book too if their raw material is not here. on_result is
    called with (number, of, result) after each run. All runs are checked before the first starts;
    a run that another process is at is left to it. Raises ValueError before any work for names
    or options that do not exist, DataMissing where real data are asked for and absent.
    """
    check_names("executor", [executor], EXECUTORS)
    configs = experiments.configs(what, profile) if isinstance(what, str) else list(what)
    if not configs:
        raise ValueError("no runs: give an experiment's name or at least one RunConfig")
    named = [(identify(config, data_root), config) for config in configs]
    shipped = frozenset() if raw else shipped_ids()
    trained, before, elsewhere = [], [], []
    for number, (name, config) in enumerate(named, 1):
        if distributed.first_says(name in shipped or _is_done(name, root)):
            before.append(name)
            continue
        with _claim(results.run_path(name, root)) as mine:
            if not mine:
                elsewhere.append(name)
                continue
            # finished by another process while this one came here
            if distributed.first_says(_is_done(name, root)):
                before.append(name)
                continue
            found = train_and_measure(config, root=root, data_root=data_root, device=device)
            distributed.everyones(None)  # wait for the one that measures
        trained.append(name)
        if found is None:
            continue
        _log.info("run %d of %d: %s", number, len(named), summary(found))
        if on_result is not None:
            on_result(number, len(named), found)
    return Report(tuple(trained), tuple(before), tuple(elsewhere))


def train_and_measure(
    config: RunConfig,
    *,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | None = None,
) -> xr.Dataset | None:
    """One run from its config to its result file: train, measure, write; returns the result.

    A run that was stopped goes on from its last checkpoint. Of several processes (torchrun) all
    train and the first measures, writes and returns the result, the others None.
    """
    started = time.perf_counter()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    dataset = load(config, data_root)
    has_bias = dataset.train.bias is not None
    probes = {"loss_ratio_fixed": fixed_loss_ratio(dataset)} if has_bias else {}
    name = identify(config, data_root)
    checkpoints = results.checkpoints_path(name, root)
    train = functools.partial(
        fit,
        config.model,
        dataset,
        config.train,
        seeds=[config.seed],
        model_options=dict(config.model_options),
        probes=probes,
        checkpoints=checkpoints,
        device=device,
    )
    try:
        (trained,) = train()
    except Refused as error:  # of an older version of the code, or damaged
        _log.warning("run %s starts over: %s", name, error)
        if distributed.rank() == 0:
            shutil.rmtree(checkpoints, ignore_errors=True)
        distributed.everyones(None)
        (trained,) = train()
    if distributed.rank():  # one process measures and writes
        return None
    pruned_on = prune_samples(config, dataset)
    found = result(trained, dataset, pruned_on)
    where = next(trained.model.parameters()).device
    found.attrs = {
        "run_id": name,
        "config": config.to_json(),
        "status": trained.status,
        "source_id": dataset.source_id,
        "checksum": dataset.checksum,
        "rho": dataset.rho,
        "n_train": len(dataset.train),
        "n_test": len(dataset.test),
        "prune_samples": pruned_on,
        "started": when,
        "train_seconds": trained.seconds,
        "wall_seconds": time.perf_counter() - started,
        "processes": distributed.world(),
    } | results.provenance(where, config.train.precision)
    if config.train.select_by is not None:
        found.attrs |= {
            "selected_by": f"{config.train.select_by} accuracy on the validation split",
            "selected_epoch": trained.selected_epoch or 0,
        }
    with results.atomic(results.weights_path(name, root)) as part:
        torch.save({k: v.cpu() for k, v in trained.model.state_dict().items()}, part)
    results.save(found, results.run_path(name, root))
    shutil.rmtree(checkpoints, ignore_errors=True)
    return found


def result(trained: Trained, dataset: datasets.BiasedDataset, prune_samples: int) -> xr.Dataset:
    """Measures and raw material of a trained run; a diverged one has no measures of its network."""
    values: dict[str, float] = {"epochs": trained.epochs, "steps": trained.steps}
    values["train_accuracy"] = trained.train_accuracy
    for curve in ("loss_ratio", "loss_ratio_fixed"):
        if curve in trained.curves:
            values[f"max_{curve}"] = float(np.nanmax(trained.curves[curve].numpy(), initial=0.0))
    parts = [measure.as_dataset(values), sampled_curves(trained)]
    if trained.status == "diverged":
        return xr.merge([*parts, measure.nothing()])
    seen = measure.observe(trained.model, dataset)
    measured = measure.measure(trained.model, dataset, prune_samples=prune_samples, seen=seen)
    return xr.merge([*parts, measured, raw_material(trained.model, seen)])


def raw_material(model: nn.Module, seen: measure.Observed) -> xr.Dataset:
    """What a changed metric needs: representation, logits, labels, norms of the filters."""
    chosen = seen.chosen
    weights = [(n, p) for n, p in model.named_parameters() if p.dim() >= 2]
    variables = {
        "representation": (
            ("sample", "unit"),
            seen.z.half(),
            "representation of fixed test inputs",
        ),
        "sample_label": (("sample",), chosen.y, "class label of the fixed test inputs"),
        "logits": (
            ("test_sample", "logit"),
            seen.logits,
            "logits of the test set",
        ),
        "filter_norm": (
            ("filter",),
            torch.cat([p.detach().flatten(1).norm(dim=1) for _, p in weights]),
            "L2 norm of each filter or neuron of each weight",
        ),
        "filter_weight": (
            ("filter",),
            torch.cat([torch.full((len(p),), i) for i, (_, p) in enumerate(weights)]),
            "number of the weight, of: " + " ".join(n for n, _ in weights),
        ),
    }
    if chosen.bias is not None:
        variables["sample_bias"] = (("sample",), chosen.bias, "bias label of the fixed test inputs")
    return xr.Dataset({
        name: (dims, value.cpu().numpy(), {"units": "1", "long_name": about})
        for name, (dims, value, about) in variables.items()
    })  # fmt: skip


def sampled_curves(trained: Trained) -> xr.Dataset:
    """Curves of the training at fixed iterations: means since the one before, and the probes."""
    curves = trained.curves
    steps = len(curves["loss"])
    early = [s for s in (1, 2, 5, 10, 20, 50, 100, 150) if s < steps]
    marks = np.unique([*early, *range(200, steps, 200), steps])
    parts = np.split(np.arange(steps), marks[:-1])
    about = {"units": "1", "long_name": "steps done"}
    found = xr.Dataset(coords={"iteration": ("iteration", marks, about)})
    for name, units in (("loss", "nat"), ("loss_ratio", "1")):
        if name in curves:
            values = curves[name].numpy()
            text = f"mean mini-batch {name.replace('_', ' ')} since the iteration before"
            found[f"curve_{name}"] = (
                "iteration", np.array([values[p].mean() for p in parts], np.float32),
                {"units": units, "long_name": text},
            )  # fmt: skip
    accuracy = {"units": "1", "long_name": "running training accuracy of each epoch"}
    found["curve_accuracy"] = ("epoch", curves["accuracy"].numpy(), accuracy)
    if "validation_accuracy" in curves:
        about_val = {"units": "1", "long_name": "accuracy on the validation split"}
        found["curve_validation_accuracy"] = (
            "epoch", curves["validation_accuracy"].numpy(), about_val)  # fmt: skip
    for probe in [name.removesuffix("_step") for name in curves if name.endswith("_step")]:
        found[f"{probe}_step"] = (f"{probe}_call", curves[f"{probe}_step"].numpy(), about)
        for name in curves:
            if name == probe or (name.startswith(f"{probe}_") and name != f"{probe}_step"):
                values = curves[name].numpy()
                dims = [f"{probe}_call", *(f"{name}_{i}" for i in range(1, values.ndim))]
                text = f"{name.replace('_', ' ')} at the probe's iterations"
                found[f"curve_{name}"] = (dims, values, {"units": "1", "long_name": text})
    return found


def identify(config: RunConfig, data_root: str | Path | None = None) -> str:
    """The run's name: `config.run_id` with the resolved source and the versions of the code.

    Options that only repeat a default are dropped first, so that they name no other run.
    Raises ValueError for options that do not exist, before any work.
    """
    known = datasets.options(config.dataset)
    check_names(f"option of data set {config.dataset!r}", dict(config.data), known)
    check_names("model", [config.model], models.BUILDERS)
    usual = models.BUILDERS[config.model][1] | models.options_for(config.model, config.dataset)
    check_names(f"option of model {config.model!r}", dict(config.model_options), usual)
    plain = dataclasses.replace(
        config,
        data={k: v for k, v in config.data if v != known[k]},
        model_options={k: v for k, v in config.model_options if v != usual[k]},
    )
    source = datasets.resolve(config.dataset, data_root, config.source)
    versions = {"data": datasets.version(config.dataset), "model": models.VERSIONS[config.model]}
    return run_id(plain, source.key, versions)


def load(config: RunConfig, data_root: str | Path | None = None) -> datasets.BiasedDataset:
    """The data set of a run; the last one is kept, as the runs of a sweep mostly share it."""
    return _load(config.dataset, config.data, config.source, data_root)


@functools.lru_cache(maxsize=1)
def _load(name, data, source, data_root) -> datasets.BiasedDataset:
    return datasets.load(name, root=data_root, source=source, **dict(data))


def prune_samples(config: RunConfig, dataset: datasets.BiasedDataset) -> int:
    """Test samples that pruning is evaluated on: a fixed subset in the desk profile, else all."""
    desk = "n_train" in dict(config.data)
    return min(DESK_PRUNE, len(dataset.test)) if desk else len(dataset.test)


def _is_done(name: str, root: str | Path | None) -> bool:
    """`is_done` as the first process of a run sees it: it alone sets damaged files aside."""
    return distributed.rank() == 0 and is_done(name, root)


def is_done(name: str, root: str | Path | None = None) -> bool:
    """Whether a run's result stands and can be read."""
    return results.load_run(results.run_path(name, root)) is not None


@functools.cache
def shipped_ids() -> frozenset[str]:
    """Names of the runs that ship with the book: they count as done."""
    ids: set[str] = set()
    for experiment in experiments.names():
        path = results.shipped_path(experiment)
        if path.is_file():
            ids |= set(results.load(path)["run_id"].values.tolist())
    return frozenset(ids)


def summary(found: xr.Dataset) -> str:
    """One line about a result, for people."""
    config = RunConfig.from_json(found.attrs["config"])
    text = (
        f"{config.dataset} {config.model} lr {config.train.lr:g} seed {config.seed} "
        f"({found.attrs['source_id']}): {found.attrs['status']} after {int(found['epochs'])} epochs"
    )
    if found.attrs["status"] != "diverged":
        text += (
            f", unbiased accuracy {float(found['unbiased_accuracy']):.2%}"
            f", prunability {float(found['prunability']):.3f}"
        )
    return f"{text}, {found.attrs['wall_seconds']:.0f} s"


def estimate(
    configs: Iterable[RunConfig],
    *,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | None = None,
) -> list[dict]:
    """Time a sweep will take, before it starts: one row for each data set and model.

    Step times are measured here; the number of epochs is that of the done run nearest in LR,
    and where there is none, the cap (`seconds` is then an upper bound: `bounded` is False).
    """
    known = results.local_runs(root)
    known_runs = results.combine(known) if known else None
    shipped = shipped_ids()
    rows: dict[tuple, dict] = {}
    for config in configs:
        row = rows.setdefault((config.dataset, config.model), {
            "dataset": config.dataset, "model": config.model, "runs": 0, "to_do": 0,
            "step_ms": float("nan"), "seconds": 0.0, "at_most_seconds": 0.0,
        })  # fmt: skip
        row["runs"] += 1
        name = identify(config, data_root)
        if name in shipped or is_done(name, root):
            continue
        dataset = load(config, data_root)
        if row["to_do"] == 0:
            row["step_ms"] = 1000 * step_seconds(config, dataset, device)
        row["to_do"] += 1
        epoch = len(dataset.train) // min(config.train.batch_size, len(dataset.train))
        seconds = epoch * row["step_ms"] / 1000
        row["seconds"] += seconds * experiments.estimate_epochs(config, known_runs)
        row["at_most_seconds"] += seconds * config.train.max_epochs
    return list(rows.values())


def step_seconds(config: RunConfig, dataset: datasets.BiasedDataset, device: str | None) -> float:
    """Median seconds of a training step, measured: 2 and 12 steps, three times."""
    few = dataclasses.replace(dataset, train=measure.fixed_samples(dataset.train, 2000))

    usual = TrainConfig()
    fields = ("schedule", "step_at", "step_factor", "switch_at", "switch_lr", "warmup", "decay")
    constant = {name: getattr(usual, name) for name in fields}

    def timed(steps: int) -> float:
        short = dataclasses.replace(
            config.train, max_steps=steps, stop_at_accuracy=None, stop_at_loss=None, **constant
        )
        options = dict(config.model_options)
        started = time.perf_counter()
        fit(config.model, few, short, model_options=options, device=device, progress=False)
        return time.perf_counter() - started

    timed(2)
    return statistics.median((timed(12) - timed(2)) / 10 for _ in range(3))


@contextlib.contextmanager
def _claim(path: Path):
    """Yield whether this process may train the run: a lock that ends with its process.

    Of the processes of one run (torchrun) the first holds it for all.
    """
    if distributed.world() > 1:
        with _lock(path) if distributed.rank() == 0 else contextlib.nullcontext() as mine:
            yield distributed.first_says(mine)
        return
    with _lock(path) as mine:
        yield mine


@contextlib.contextmanager
def _lock(path: Path):
    try:
        import fcntl
    except ImportError:  # not on this system: two processes may then train the same run twice
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.stem}.lock")
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # whoever held it may have removed it meanwhile: this would be a lock on nothing
            if not lock.exists() or lock.stat().st_ino != os.fstat(file.fileno()).st_ino:
                raise OSError
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            lock.unlink(missing_ok=True)


def load_checkpoint(
    path: str | Path, config: RunConfig, data_root: str | Path | None = None
) -> tuple[nn.Module, datasets.BiasedDataset]:
    """A model with the weights of a state_dict file, and the data set of its run.

    Only tensors are read (`weights_only`). Raises ValueError for a file that is missing, damaged
    or of another model.
    """
    dataset = load(config, data_root)
    options = models.options_for(config.model, config.dataset) | dict(config.model_options)
    options.pop("weights", None)  # all weights are in the checkpoint
    net = models.build(config.model, dataset.input_shape, dataset.n_classes, **options)
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(state)
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        raise ValueError(
            f"{path} does not hold weights of {config.model!r} for {config.dataset!r}: {error}"
        ) from error
    return net, dataset


def measure_again(
    *, root: str | Path | None = None, data_root: str | Path | None = None
) -> Iterable[str]:
    """Recompute the measures of all stored local runs; yields one line a run.

    From the weights where they are kept; else all but pruning, from the raw material.
    """
    for old in results.local_runs(root):
        name, config = old.attrs["run_id"], RunConfig.from_json(old.attrs["config"])
        if old.attrs["status"] == "diverged":
            continue
        weights = results.weights_path(name, root)
        if weights.is_file():
            net, dataset = load_checkpoint(weights, config, data_root)
            fresh = measure.measure(net, dataset, prune_samples=prune_samples(config, dataset))
            source = "weights"
        else:
            fresh = _from_raw_material(old, load(config, data_root))
            source = "raw material, pruning as it was"
        found = old.assign(fresh.data_vars).assign_attrs(measured_commit=results.commit())
        results.save(found, results.run_path(name, root))
        yield f"{name} measured again from {source}"


def _from_raw_material(old: xr.Dataset, dataset: datasets.BiasedDataset) -> xr.Dataset:
    tensor = lambda name: torch.from_numpy(old[name].values)  # noqa: E731
    bias = tensor("sample_bias") if "sample_bias" in old else None
    found = measure.accuracy_measures(tensor("logits"), dataset.test, dataset.train)
    found |= measure.representation_measures(tensor("representation"), tensor("sample_label"), bias)
    return measure.as_dataset(found)
