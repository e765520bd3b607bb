"""A list of runs -> results on disk, with resume: what is done is never trained again."""

import contextlib
import dataclasses
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from lrsc import datasets, errors, experiments, files, results, runs
from lrsc.config import RunConfig
from lrsc.errors import check_names, is_number, is_whole, shown
from lrsc.experiments.status import shipped_ids
from lrsc.measures.result import prune_samples, result_each
from lrsc.results import locks
from lrsc.runs import identify, load
from lrsc.sweep import dask, on_worker
from lrsc.sweep.estimate import display, probes_of
from lrsc.sweep.ledger import Ledger, OnResult, done
from lrsc.training import ENGINES, Request, Trained, arguments, distributed, fit_each
from lrsc.training.checkpoint import Refused
from lrsc.training.progress import Progress

EXECUTORS = ("serial", "dask")
WRITERS = ("worker", "client")
FOUND = ("trained", "before", "elsewhere")  # how a run was found, in the order of a report
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
    profile: str | None = None,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | None = None,
    engine: str = "auto",
    replicas: int | None = None,
    raw: bool = False,
    on_result: OnResult | None = None,
    scheduler: Any = None,
    write: str = "worker",
    retries: int = 2,
    time_limit: float | None = None,
    wanted: Callable[[RunConfig], bool] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Train and measure every run that is not done yet, runs of one model side by side.

    what: an experiment's name (in `profile`, default 'quick') or a list of RunConfigs, which have
    their own profile and take none here. root: results folder.
    engine, replicas: as in `fit`, for the runs that can be trained together. raw: train runs that
    ship with the book too if their raw material is not here. on_result is called with (number, of,
    result) after each run, one at a time. All runs are checked before the first starts; a run that
    another process is training is left to it. A stopped run resumes from its last checkpoint.
    wanted: asked before each run; if False, it is skipped. progress: a display that several calls
    share. Under torchrun all processes train each run, and the first measures and writes.

    executor 'dask' sends the runs to the workers of a Dask cluster, the longest first: scheduler is
    its address, a cluster object or a client; None starts workers on this machine. write: 'worker'
    if all machines see the results folder under the same path, 'client' if results are to come back
    to this process, which writes them. A run that fails with an error other than ValueError, or
    whose worker dies, is retried `retries` times (after a worker's death on your own cluster, as
    often as its setting allowed-failures says); after `time_limit` seconds it fails, and keeps its
    checkpoint. Failed runs are in the report and do not stop the others; with executor 'serial' an
    error stops the sweep.

    Raises ValueError before any work for names or options that do not exist, DataMissing where
    real data are asked for and absent, ConnectionError if the scheduler is lost: all finished runs
    are kept, and the same call resumes.
    """
    check_names("executor", [executor], EXECUTORS)
    check_names("write", [write], WRITERS)
    _check_limits(executor, scheduler, retries, time_limit)
    if executor == "dask" and scheduler is None:  # which starts workers here
        dask.check_guard()
    check_names("engine", [engine], ENGINES)
    arguments.device(device)
    if isinstance(what, str):
        configs = experiments.configs(what, "quick" if profile is None else profile)
    elif profile is not None:
        raise ValueError(f"profile={profile!r} is of an experiment's name, RunConfigs have one")
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
    ledger = Ledger(results.results_root(root), _asked(named, raw), on_result)
    to_do = {
        name: config for name, config in named.items()
        if name not in shipped and not done(name, ledger.root, ledger.asked[name])
    }  # fmt: skip
    ledger.found = {name: "before" for name in named if name not in to_do}
    failed: Mapping[str, str] = {}
    options = {"device": device, "engine": engine, "replicas": replicas}
    if executor == "dask":
        failed = dask.train(
            _on_worker, _groups(to_do), ledger, scheduler, write, retries, raw=raw,
            time_limit=time_limit, code=runs.code(to_do.values()),
            data_root=data_root and str(errors.path("data_root", data_root).resolve()), **options,
        )  # fmt: skip
    else:
        _train(ledger, to_do, data_root, progress, wanted, **options)
    trained, done_before, elsewhere = (
        tuple(n for n in named if ledger.found.get(n) == kind) for kind in FOUND
    )
    return Report(trained, done_before, elsewhere, failed)


def _asked(named: dict[str, RunConfig], raw: bool) -> dict[str, tuple[str, ...]]:
    """What each run's result must hold beside its measures: raw material is recorded too."""
    return {n: tuple(experiments.recording(c)) if raw else () for n, c in named.items()}


def _train(
    ledger: Ledger, named: dict[str, RunConfig], data_root: str | Path | None,
    progress: Progress | None, wanted: Callable[[RunConfig], bool] | None = None, **options: Any,
) -> None:  # fmt: skip
    """Train runs in this process; progress: a display of the caller's."""
    progress = progress or display(named, ledger.root, data_root)
    with contextlib.closing(progress), contextlib.closing(ledger):
        for configs in _groups(named):
            dataset = load(next(iter(configs.values())), data_root)
            _Group(ledger, configs, dataset, progress, wanted).train(**options)


def _check_limits(executor: str, scheduler: Any, retries: int, time_limit: float | None) -> None:
    if executor != "dask" and (scheduler is not None or time_limit is not None):
        name = "scheduler" if scheduler is not None else "time_limit"
        raise ValueError(f"{name} is for executor='dask', found executor={executor!r}")
    if not is_whole(retries, 0):
        raise ValueError(f"retries must be a whole number >= 0, found {shown(retries)}")
    if time_limit is not None and not (is_number(time_limit) and time_limit > 0):
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


@dataclasses.dataclass
class _Group:
    """Runs that are claimed, trained side by side and written; lanes may finish some at once."""

    ledger: Ledger
    configs: dict[str, RunConfig]
    dataset: datasets.BiasedDataset
    progress: Progress
    wanted: Callable[[RunConfig], bool] | None
    started: dict[str, str] = dataclasses.field(default_factory=dict)

    def train(self, **options: Any) -> None:
        """All of them."""
        first = next(iter(self.configs.values()))
        probes, every = probes_of(first, self.dataset)
        try:
            fit_each(
                first.model, self.dataset, [config.train for config in self.configs.values()],
                self._requests(), self._finish, model_options=dict(first.model_options),
                probes=probes, probe_every=every, refused=self._start_over,
                progress=self.progress, **options,
            )  # fmt: skip
        except Exception as error:
            for name in self.ledger.held:  # those that were under way
                locks.note_failure(
                    name, self.configs[name], dask.reason(error), root=self.ledger.root
                )
            raise

    def _requests(self) -> Iterator[Request]:
        """The runs as this process may train them, each claimed when it is asked for."""
        for name, config in self.configs.items():
            wanted = self.wanted is None or self.wanted(config)
            if not wanted or not self.ledger.claim(name, config):
                self.progress.left_out()
                continue
            self.started[name] = datetime.now(UTC).isoformat(timespec="seconds")
            path = results.checkpoints_path(name, self.ledger.root)
            file = path / f"lr-{config.train.lr!r}-seed-{config.seed}.pt"
            yield Request(config.train, config.seed, file, name)

    def _start_over(self, request: Request, error: Refused) -> None:
        """A checkpoint of another version of the code, or damaged: kept until the run is done."""
        about = "it is kept as .older until the run is done"
        _log.warning("run %s starts over: %s; %s", request.name, error, about)
        if distributed.rank() == 0:
            for path in results.checkpoints_path(request.name, self.ledger.root).glob("*.pt"):
                path.replace(f"{path}.older")
        distributed.everyones(None)

    def _finish(self, ended: list[tuple[Request, Trained]]) -> None:
        """Measure and write runs that have ended together; of several processes the first does."""
        since = time.perf_counter()
        if distributed.rank() == 0:
            pruned_on = prune_samples(self.configs[ended[0][0].name], self.dataset)
            measured = result_each([run for _, run in ended], self.dataset, pruned_on)
            for (request, run), found in zip(ended, measured, strict=True):
                found.attrs = self._attributes(request.name, run, pruned_on, since)
                self._write(request.name, run, found)
        for request, _ in ended:
            self.ledger.release(request.name, "trained")
        distributed.everyones(None)  # wait for the one that measures

    def _attributes(self, name: str, run: Trained, pruned_on: int, since: float) -> dict:
        dataset = self.dataset
        found = {
            "run_id": name,
            "config": self.configs[name].to_json(),
            "status": run.status,
            "source_id": dataset.source_id,
            "checksum": dataset.checksum,
            "rho": dataset.rho,
            "n_train": len(dataset.train),
            "n_test": len(dataset.test),
            "prune_samples": pruned_on,
            "started": self.started[name],
            "train_seconds": run.seconds,
            # what was trained before a checkpoint included
            "wall_seconds": run.seconds + time.perf_counter() - since,
            "processes": distributed.world(),
            "engine": run.engine,
            "replicas": run.replicas,
        } | results.provenance(next(run.model.parameters()).device, run.config.precision)
        if run.config.select_by is not None:
            found |= {
                "selected_by": f"{run.config.select_by} accuracy on the validation split",
                "selected_epoch": run.selected_epoch or 0,
            }
        return found

    def _write(self, name: str, run: Trained, found: xr.Dataset) -> None:
        state = {k: v.cpu() for k, v in run.model.state_dict().items()}
        files.save(state, results.weights_path(name, self.ledger.root))
        with _writing:  # HDF5 is not made for several threads
            results.save(found, results.run_path(name, self.ledger.root))
            shutil.rmtree(results.checkpoints_path(name, self.ledger.root), ignore_errors=True)
            locks.forget_failure(name, self.ledger.root)
            self.ledger.tell(name, summary(found), found)


def _on_worker(configs: dict[str, str], options: dict) -> dict[str, tuple[str, Any]]:
    """On a worker: train runs (name -> config as JSON) that the client names.

    Returns, for each run, how it was found ('trained', 'before', 'elsewhere') and what it has to
    tell of it, as `on_worker.answer` packs it. Raises ValueError where this worker has other data.
    """
    root, data_root = on_worker.own_root(options), options["data_root"]
    runs.learn(options["code"])
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

    ledger, limit = Ledger(root, _asked(named, options["raw"]), tell), options["time_limit"]
    _train(
        ledger, named, data_root, Progress(len(named), 0, False, show=False),
        device=options["device"] or on_worker.own_gpu(), engine=options["engine"],
        replicas=options["replicas"], time_limit=None if limit is None else limit * len(named),
    )  # fmt: skip
    return {
        n: (kind, on_worker.answer(n, kind, told, root, options))
        for n, kind in ledger.found.items()
    }


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
