"""A list of runs -> results on disk, with resume: what is done is never trained again."""

import contextlib
import dataclasses
import functools
import logging
import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from lrsc import datasets, experiments, files, measures, models, results
from lrsc.config import RunConfig, run_id
from lrsc.errors import check_names, shown
from lrsc.models.weights import read as read_weights
from lrsc.results import locks
from lrsc.sweep import cluster, workers
from lrsc.training import (
    ENGINES,
    PROBES,
    Probe,
    Request,
    Trained,
    arguments,
    distributed,
    fit_each,
    fixed_loss_ratio,
)
from lrsc.training import step_seconds as seconds_of_a_step
from lrsc.training.checkpoint import Refused
from lrsc.training.progress import Progress

EXECUTORS = ("serial", "dask")
WRITERS = ("worker", "client")
ATTRIBUTED = 100  # of the fixed test inputs, on which attributions are computed
FEW_PRUNED = 2000  # unbiased test images on which most networks are pruned
# the same in the quick profile, which is no evidence; training images for recalibration as well
QUICK_PRUNED, QUICK_ATTRIBUTED = 100, 20
_log = logging.getLogger(__name__)
_writing = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Report:
    """Names of the runs trained now, done before, taken by another process, and why some failed."""

    trained: tuple[str, ...] = ()
    done_before: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict)


def run(
    what: str | Sequence[RunConfig],
    executor: str = "serial",
    *,
    profile: str = "quick",
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | None = None,
    engine: str = "auto",
    replicas: int | None = None,
    raw: bool = False,
    on_result: Callable[[int, int, xr.Dataset], None] | None = None,
    scheduler: Any = None,
    write: str = "worker",
    retries: int = 2,
    time_limit: float | None = None,
    wanted: Callable[[RunConfig], bool] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Train and measure every run that is not done yet, runs of one model side by side.

    what: an experiment's name (in `profile`) or a list of RunConfigs. root: results folder.
    engine, replicas: as in `fit`, for the runs that can be trained together. raw: train runs that
    ship with the book too if their raw material is not here. on_result is called with (number, of,
    result) after each run, one at a time. All runs are checked before the first starts; a run that
    another process is at is left to it. A run that was stopped goes on from its last checkpoint.
    wanted: asked before each run starts, which else is left. progress: a display that calls share.
    Of several processes (torchrun) all train each run, and the first measures and writes.

    executor 'dask' sends the runs to the workers of a Dask cluster, the longest first: scheduler is
    its address, a cluster object or a client; None starts workers on this machine. write: 'worker'
    where all machines see the results folder under the same path, 'client' where the results come
    back to this process, which writes them. A run whose worker dies, or that fails with another
    error than a ValueError, is tried `retries` times more; after `time_limit` seconds it fails, and
    keeps its checkpoint. Failed runs are in the report, and do not stop the others; with executor
    'serial' an error stops the sweep.

    Raises ValueError before any work for names or options that do not exist, DataMissing where
    real data are asked for and absent.
    """
    check_names("executor", [executor], EXECUTORS)
    check_names("write", [write], WRITERS)
    _check_limits(executor, scheduler, retries, time_limit)
    check_names("engine", [engine], ENGINES)
    arguments.device(device)
    if isinstance(what, str):
        configs = experiments.configs(what, profile)
    else:
        configs = list(what) if isinstance(what, Iterable) else [what]
    if not all(isinstance(config, RunConfig) for config in configs):
        raise ValueError(
            f"what must be an experiment's name or a list of RunConfigs, found {shown(what)}"
        )
    if not configs:
        raise ValueError("no runs: give an experiment's name or at least one RunConfig")
    results.commit()  # of the code as it is loaded, before anyone commits more
    named = {identify(config, data_root): config for config in configs}
    shipped = frozenset() if raw else shipped_ids()
    # raw material: also what is recorded along training
    asked = {n: tuple(experiments.recording(c)) if raw else () for n, c in named.items()}
    before = [
        n for n in named if distributed.first_says(n in shipped or _is_done(n, root, asked[n]))
    ]
    to_do = {name: config for name, config in named.items() if name not in before}
    if executor == "dask":
        found, failed = workers.train(
            _on_worker, _groups(to_do), asked, scheduler, root=root, data_root=data_root,
            write=write, retries=retries, replicas=replicas, device=device, engine=engine,
            time_limit=time_limit, on_result=on_result,
        )  # fmt: skip
        of = lambda kind: {name for name, found_as in found.items() if found_as == kind}  # noqa: E731
        return Report(
            tuple(n for n in named if n in of("trained")),
            tuple(n for n in named if n in before or n in of("before")),
            tuple(n for n in named if n in of("elsewhere")),
            failed,
        )
    expected, bound = _expected_steps(to_do, root, data_root)
    images = sum(steps * batch for steps, batch in expected.values())
    with contextlib.closing(progress or Progress(len(to_do), images, bound)) as display:
        sweep = _Sweep(asked, root, data_root, on_result, expected, display, wanted)
        for group in _groups(to_do):
            sweep.train(group, device, engine, replicas)
    return Report(
        tuple(n for n in named if n in sweep.trained),
        tuple(n for n in named if n in before or n in sweep.before),
        tuple(n for n in named if n in sweep.elsewhere),
    )


def _check_limits(executor: str, scheduler: Any, retries: int, time_limit: float | None) -> None:
    if executor != "dask" and (scheduler is not None or time_limit is not None):
        name = "scheduler" if scheduler is not None else "time_limit"
        raise ValueError(f"{name} is for executor='dask', found executor={executor!r}")
    if not arguments.is_whole(retries, 0):
        raise ValueError(f"retries must be a whole number >= 0, found {shown(retries)}")
    is_number = isinstance(time_limit, int | float) and not isinstance(time_limit, bool)
    if time_limit is not None and not (is_number and time_limit > 0):
        raise ValueError(f"time_limit must be > 0 seconds or None, found {shown(time_limit)}")


def _groups(named: dict[str, RunConfig]) -> list[dict[str, RunConfig]]:
    """Runs that train side by side: they differ in LR, seed, penalties, schedule and end only."""
    groups: dict[tuple, dict[str, RunConfig]] = {}
    for name, config in named.items():
        t = config.train
        key = (
            config.dataset, config.data, config.source, config.model, config.model_options,
            t.batch_size, t.validation_share, t.precision, t.accumulation, t.optimizer,
            t.sam_rho > 0 or t.asam_rho > 0, tuple(experiments.recording(config).items()),
        )  # fmt: skip
        groups.setdefault(key, {})[name] = config
    return list(groups.values())


class _Sweep:
    """Runs that are claimed, trained and written; lanes may finish some at the same time."""

    def __init__(
        self,
        asked: dict[str, tuple[str, ...]],
        root: str | Path | None,
        data_root: str | Path | None,
        on_result: Callable[[int, int, xr.Dataset], None] | None,
        expected: dict[str, tuple[float, int]],
        progress: Progress,
        wanted: Callable[[RunConfig], bool] | None = None,
    ) -> None:
        self.wanted = wanted
        self.asked, self.root, self.data_root, self.on_result = asked, root, data_root, on_result
        self.order = list(asked)
        self.expected, self.progress = expected, progress
        self.trained: set[str] = set()
        self.before: set[str] = set()
        self.elsewhere: set[str] = set()
        self.claims: dict[str, contextlib.ExitStack] = {}
        self.started: dict[str, tuple[float, str]] = {}

    def train(
        self, group: dict[str, RunConfig], device: str | None, engine: str, replicas: int | None,
        time_limit: float | None = None,
    ) -> None:  # fmt: skip
        """All runs of a group."""
        first = next(iter(group.values()))
        dataset = load(first, self.data_root)
        recording = experiments.recording(first)
        probes: dict[str, Probe] = {name: PROBES[name](dataset) for name in recording}
        every = dict(recording)
        if dataset.train.bias is not None:
            probes["loss_ratio_fixed"] = fixed_loss_ratio(dataset)
            every["loss_ratio_fixed"] = 200
        try:
            fit_each(
                first.model, dataset, [config.train for config in group.values()],
                self._requests(group),
                lambda ended: self._finish(ended, group, dataset),
                model_options=dict(first.model_options), probes=probes, probe_every=every,
                device=device,
                engine=engine, replicas=replicas, refused=self._start_over,
                progress=self.progress, time_limit=time_limit,
            )  # fmt: skip
        except Exception as error:
            for name in self.claims:  # those that were under way
                locks.note_failure(name, group[name], cluster.reason(error), root=self.root)
            raise
        finally:
            for claim in self.claims.values():
                claim.close()

    def _requests(self, group: dict[str, RunConfig]) -> Iterator[Request]:
        """The group's runs as this process may train them, each claimed when it is asked for."""
        for name, config in group.items():
            claim = contextlib.ExitStack()
            if self.wanted is not None and not self.wanted(config):
                self.progress.left_out()
                continue
            if not claim.enter_context(_claim(name, self.root, config)):
                self.elsewhere.add(name)
                self.progress.left_out()
                continue
            # finished by another process while this one came here
            if distributed.first_says(_is_done(name, self.root, self.asked[name])):
                self.before.add(name)
                self.progress.left_out()
                claim.close()
                continue
            self.claims[name] = claim
            self.started[name] = (
                time.perf_counter(),
                datetime.now(UTC).isoformat(timespec="seconds"),
            )
            path = results.checkpoints_path(name, self.root)
            file = path / f"lr-{config.train.lr!r}-seed-{config.seed}.pt"
            steps = self.expected[name][0] if name in self.expected else None
            yield Request(config.train, config.seed, file, name, steps)

    def _start_over(self, request: Request, error: Refused) -> None:
        """A checkpoint of an older version of the code, or damaged."""
        _log.warning("run %s starts over: %s", request.name, error)
        if distributed.rank() == 0:
            shutil.rmtree(results.checkpoints_path(request.name, self.root), ignore_errors=True)
        distributed.everyones(None)

    def _finish(
        self, ended: list[tuple[Request, Trained]], group: dict[str, RunConfig],
        dataset: datasets.BiasedDataset,
    ) -> None:  # fmt: skip
        """Measure and write runs that have ended together; of several processes the first does."""
        if distributed.rank() == 0:
            trained = [run for _, run in ended]
            pruned_on = prune_samples(next(iter(group.values())), dataset)
            for (request, run), found in zip(
                ended, result_each(trained, dataset, pruned_on), strict=True
            ):
                found.attrs = self._attributes(request, run, group, dataset, pruned_on)
                self._write(request.name, run, found)
        for request, _ in ended:
            self.trained.add(request.name)
            self.claims.pop(request.name).close()
        distributed.everyones(None)  # wait for the one that measures

    def _attributes(self, request: Request, run: Trained, group, dataset, pruned_on: int) -> dict:
        started, when = self.started[request.name]
        where = next(run.model.parameters()).device
        found = {
            "run_id": request.name,
            "config": group[request.name].to_json(),
            "status": run.status,
            "source_id": dataset.source_id,
            "checksum": dataset.checksum,
            "rho": dataset.rho,
            "n_train": len(dataset.train),
            "n_test": len(dataset.test),
            "prune_samples": pruned_on,
            "started": when,
            "train_seconds": run.seconds,
            "wall_seconds": time.perf_counter() - started,
            "processes": distributed.world(),
            "engine": run.engine,
            "replicas": run.replicas,
        } | results.provenance(where, run.config.precision)
        if run.config.select_by is not None:
            found |= {
                "selected_by": f"{run.config.select_by} accuracy on the validation split",
                "selected_epoch": run.selected_epoch or 0,
            }
        return found

    def _write(self, name: str, run: Trained, found: xr.Dataset) -> None:
        state = {k: v.cpu() for k, v in run.model.state_dict().items()}
        files.save(state, results.weights_path(name, self.root))
        with _writing:  # HDF5 is not made for several threads
            results.save(found, results.run_path(name, self.root))
            shutil.rmtree(results.checkpoints_path(name, self.root), ignore_errors=True)
            locks.forget_failure(name, self.root)
            number = self.order.index(name) + 1
            _log.info("run %d of %d: %s", number, len(self.order), summary(found))
            if self.on_result is not None:
                self.on_result(number, len(self.order), found)


def _on_worker(
    configs: dict[str, str], asked: dict[str, tuple[str, ...]], options: dict
) -> dict[str, tuple[str, Any]]:
    """On a worker: train runs (name -> config as JSON) that the client names.

    Returns, for each run, how it was found ('trained', 'before', 'elsewhere') and what it has to
    tell of it, as `workers.answer` packs it. Raises ValueError where this worker has other data.
    """
    root, data_root = workers.own_root(options), options["data_root"]
    named = {name: RunConfig.from_json(text) for name, text in configs.items()}
    for name, config in named.items():
        if identify(config, data_root) != name:
            raise ValueError(
                f"{config.dataset} on this worker is other data than on the client: its run is "
                f"{identify(config, data_root)}, there {name}. Give all the same data root"
            )
    told: dict[str, str] = {}

    def tell(number: int, of: int, found: xr.Dataset) -> None:
        told[found.attrs["run_id"]] = summary(found)

    with contextlib.closing(Progress(len(named), 0, False, show=False)) as progress:
        sweep = _Sweep(asked, root, data_root, tell, {}, progress)
        limit = options["time_limit"]
        sweep.train(
            named, options["device"] or cluster.own_gpu(), options["engine"], options["replicas"],
            None if limit is None else limit * len(named),
        )  # fmt: skip
    found = dict.fromkeys(sweep.trained, "trained") | dict.fromkeys(sweep.before, "before")
    found |= dict.fromkeys(sweep.elsewhere, "elsewhere")
    return {n: (kind, workers.answer(n, kind, told, root, options)) for n, kind in found.items()}


def _expected_steps(
    named: dict[str, RunConfig], root: str | Path | None, data_root: str | Path | None
) -> tuple[dict[str, tuple[float, int]], bool]:
    """Steps that each run is likely to need, and its batch size; whether some are the run's cap.

    For the time left: looked up only where someone sees it.
    """
    if not sys.stderr.isatty():
        return {}, True
    known, bound = experiments.known_runs(root), False
    lengths: dict[tuple, int] = {}
    found: dict[str, tuple[float, int]] = {}
    for name, config in named.items():
        key = config.dataset, config.data, config.source
        if key not in lengths:
            lengths[key] = len(load(config, data_root).train)
        batch = min(config.train.batch_size, lengths[key])
        epochs = experiments.estimate_epochs(config, known)
        bound |= epochs == config.train.max_epochs
        found[name] = epochs * (lengths[key] // batch), batch
    return found, bound


def result_each(
    trained: Sequence[Trained], dataset: datasets.BiasedDataset, prune_samples: int
) -> list[xr.Dataset]:
    """Measures and raw material of trained runs of one model, their pruning curves together.

    A diverged one has no measures of its network; a run whose network gives NaN or infinity on the
    test split has diverged as well.
    """
    fine, seen = [], []
    for run in (run for run in trained if run.status != "diverged"):
        what = measures.observe(run.model, dataset)
        if bool(what.z.isfinite().all() & what.logits.isfinite().all()):
            fine.append(run)
            seen.append(what)
        else:
            run.status, run.train_accuracy = "diverged", math.nan
    measured = of_networks([run.model for run in fine], dataset, prune_samples, seen)
    of_network = {id(run): found for run, found in zip(fine, measured, strict=True)}
    return [
        xr.merge([of_training(run), of_network.get(id(run), measures.nothing())]) for run in trained
    ]


def of_networks(
    networks: Sequence[nn.Module], dataset: datasets.BiasedDataset, prune_samples: int,
    seen: Sequence[measures.Observed],
) -> list[xr.Dataset]:  # fmt: skip
    """Measures, attributions and raw material of networks of one model."""
    train, attributed = dataset.train, ATTRIBUTED
    if prune_samples == QUICK_PRUNED:
        train, attributed = measures.fixed_samples(train, QUICK_PRUNED), QUICK_ATTRIBUTED
    measured = measures.measure_each(
        networks, dataset, prune_samples=prune_samples, seen=seen, train=train
    )
    return [
        xr.merge([found, raw_material(net, what), attributions(net, what, train, attributed)])
        for net, found, what in zip(networks, measured, seen, strict=True)
    ]


def of_training(trained: Trained) -> xr.Dataset:
    """What is known of a run from its training alone."""
    values: dict[str, float] = {"epochs": trained.epochs, "steps": trained.steps}
    values["train_accuracy"] = trained.train_accuracy
    for curve in ("loss_ratio", "loss_ratio_fixed"):
        if curve in trained.curves:
            values[f"max_{curve}"] = float(np.nanmax(trained.curves[curve].numpy(), initial=0.0))
    return xr.merge([measures.as_dataset(values), sampled_curves(trained)])


def raw_material(model: nn.Module, seen: measures.Observed) -> xr.Dataset:
    """What a changed metric needs: representation, logits, labels, norms of the filters."""
    chosen = seen.chosen
    weights = [(n, p) for n, p in model.named_parameters() if p.dim() >= 2]
    variables = {
        "representation": (
            ("sample", "unit"),
            # in half the space, where its numbers reach so far
            seen.z.half() if float(seen.z.abs().max()) < 65504 else seen.z,
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


def attributions(
    model: nn.Module, seen: measures.Observed, train: datasets.Split, n: int
) -> xr.Dataset:
    """What the network looks at on n fixed test samples, and the maps themselves.

    In all statistics of batch normalisation; the maps are those in running ones. train: samples
    from which they are estimated anew.
    """
    chosen = seen.chosen.take(torch.arange(min(n, len(seen.chosen))))
    found, maps = measures.attribution_measures(model, chosen)
    measured = {"running": found}
    if models.batch_norms(model):
        measured["batch"], _ = measures.attribution_measures(model, chosen, "batch")
        renewed, _ = models.settled(model, "recalibrated", train)
        measured["recalibrated"], _ = measures.attribution_measures(renewed, chosen)
    about = "signed attribution map of fixed test inputs, divided by its largest value, "
    dims = ("attributed", *("row", "column")[: maps["integrated_gradients"].dim() - 1])
    variables = {
        f"map_{method}": (
            dims, a.half().cpu().numpy(), {"units": "1", "long_name": about + method}
        )
        for method, a in maps.items()
    }  # fmt: skip
    return measures.by_statistics(measured, None).assign(variables)


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
    plain = without_defaults(config)
    source = datasets.resolve(config.dataset, data_root, config.source)
    versions = {"data": datasets.version(config.dataset), "model": models.VERSIONS[config.model]}
    return run_id(plain, source.key, versions)


def without_defaults(config: RunConfig) -> RunConfig:
    """The run without options that repeat a default; ValueError for options that do not exist."""
    known = datasets.options(config.dataset)
    datasets.check_options(config.dataset, dict(config.data))
    check_names("model", [config.model], models.BUILDERS)
    usual = models.BUILDERS[config.model][1] | models.options_for(config.model, config.dataset)
    check_names(f"option of model {config.model!r}", dict(config.model_options), usual)
    return dataclasses.replace(
        config,
        data={k: v for k, v in config.data if v != known[k]},
        model_options={k: v for k, v in config.model_options if v != usual[k]},
    )


def load(config: RunConfig, data_root: str | Path | None = None) -> datasets.BiasedDataset:
    """The data set of a run; the last one is kept, as the runs of a sweep mostly share it."""
    return _load(config.dataset, config.data, config.source, data_root)


@functools.lru_cache(maxsize=1)
def _load(name, data, source, data_root) -> datasets.BiasedDataset:
    return datasets.load(name, root=data_root, source=source, **dict(data))


def prune_samples(config: RunConfig, dataset: datasets.BiasedDataset) -> int:
    """Test samples that pruning is evaluated on: a fixed subset, or all where that costs little.

    All of them in the paper profile, for networks without batch normalisation; the others are
    pruned three times, once for each of its statistics.
    """
    few = "n_train" in dict(config.data) or config.model in models.NORMALISED
    most = QUICK_PRUNED if config.source == "embedded" else FEW_PRUNED
    return min(most, len(dataset.test)) if few else len(dataset.test)


def _is_done(name: str, root: str | Path | None, probes: Iterable[str]) -> bool:
    """`is_done` as the first process of a run sees it: it alone sets damaged files aside."""
    return distributed.rank() == 0 and is_done(name, root, probes)


def is_done(name: str, root: str | Path | None = None, probes: Iterable[str] = ()) -> bool:
    """Whether a run's result stands and can be read, and holds the curves of these probes."""
    found = results.load_run(results.run_path(name, root))
    return found is not None and all(f"{probe}_step" in found for probe in probes)


@functools.cache
def shipped_ids() -> frozenset[str]:
    """Names of the runs that ship with the book: they count as done."""
    ids: set[str] = set()
    for experiment in experiments.names():
        if (found := experiments.shipped(experiment)) is not None:
            ids |= set(found["run_id"].values.tolist())
    return frozenset(ids)


def summary(found: xr.Dataset) -> str:
    """One line about a result, for people."""
    config = RunConfig.from_json(found.attrs["config"])
    text = (
        f"{config.dataset} {config.model} lr {config.train.lr:g} seed {config.seed} "
        f"({found.attrs['source_id']}): {found.attrs['status']} after {int(found['epochs'])} epochs"
    )
    if found.attrs["status"] != "diverged":
        said = results.running(found)
        text += (
            f", unbiased accuracy {float(said['unbiased_accuracy']):.2%}"
            f", prunability {float(said['prunability']):.3f}"
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
    known_runs = experiments.known_runs(root)
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


def step_seconds(
    config: RunConfig, dataset: datasets.BiasedDataset, device: str | None, runs: int = 1
) -> float:
    """Median seconds of a training step of so many runs side by side, as far as they go so."""
    few = dataclasses.replace(dataset, train=measures.fixed_samples(dataset.train, 2000))
    return seconds_of_a_step(
        config.model, few, config.train, runs, dict(config.model_options), device
    )


@contextlib.contextmanager
def _claim(name: str, root: str | Path | None, config: RunConfig):
    """`states.claim`; of the processes of one run (torchrun) the first holds it for all."""
    first = distributed.rank() == 0
    with locks.claim(name, root, config) if first else contextlib.nullcontext() as mine:
        yield distributed.first_says(mine)


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
        net.load_state_dict(read_weights(Path(path)))
    except (ValueError, RuntimeError) as error:
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
            pruned_on = prune_samples(config, dataset)
            seen = measures.observe(net, dataset)
            (fresh,) = of_networks([net], dataset, pruned_on, [seen])
            old, source = old.assign_attrs(prune_samples=pruned_on), "weights"
        else:
            fresh = _from_raw_material(old, load(config, data_root))
            source = "raw material; pruning, and other than running statistics, as they were"
        found = old.drop_vars([n for n in fresh.variables if n in old]).merge(fresh)
        found = found.assign_attrs(old.attrs | {"measured_commit": results.commit()})
        results.save(found, results.run_path(name, root))
        yield f"{name} measured again from {source}"


def _from_raw_material(old: xr.Dataset, dataset: datasets.BiasedDataset) -> xr.Dataset:
    tensor = lambda name: torch.from_numpy(old[name].values)  # noqa: E731
    bias = tensor("sample_bias") if "sample_bias" in old else None
    found = measures.accuracy_measures(tensor("logits"), dataset.test, dataset.train)
    z = tensor("representation")
    if bool(z.isfinite().all()):  # older versions kept numbers beyond 65 504 as infinity
        found |= measures.representation_measures(z, tensor("sample_label"), bias)
    fresh = measures.as_dataset(found)
    for name in [n for n in fresh if n in old and "statistics" in old[n].dims]:
        # raw material is of running statistics; without batch normalisation all are the same
        alike = RunConfig.from_json(old.attrs["config"]).model not in models.NORMALISED
        kept = old[name].copy()
        kept.loc[{"statistics": slice(None) if alike else "running"}] = fresh[name]
        fresh[name] = kept
    return fresh
