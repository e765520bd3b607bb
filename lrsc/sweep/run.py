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

from lrsc import datasets, experiments, files, results
from lrsc.config import RunConfig
from lrsc.errors import check_names, shown
from lrsc.experiments.status import is_done, shipped_ids
from lrsc.measures.result import prune_samples, result_each
from lrsc.results import locks
from lrsc.runs import identify, load
from lrsc.sweep import dask, on_worker
from lrsc.sweep.estimate import expected_steps, probes_of
from lrsc.training import (
    ENGINES,
    Request,
    Trained,
    arguments,
    distributed,
    fit_each,
)
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
    on_result: Callable[[int, int, xr.Dataset], None] | None = None,
    scheduler: Any = None,
    write: str = "worker",
    retries: int = 2,
    time_limit: float | None = None,
    wanted: Callable[[RunConfig], bool] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Train and measure every run that is not done yet, runs of one model side by side.

    what: an experiment's name (in `profile`, default 'quick') or a list of RunConfigs, each of
    which has its own and takes none here. root: results folder.
    engine, replicas: as in `fit`, for the runs that can be trained together. raw: train runs that
    ship with the book too if their raw material is not here. on_result is called with (number, of,
    result) after each run, one at a time. All runs are checked before the first starts; a run that
    another process is at is left to it. A run that was stopped goes on from its last checkpoint.
    wanted: asked before each run starts, which else is left. progress: a display that calls share.
    Of several processes (torchrun) all train each run, and the first measures and writes.

    executor 'dask' sends the runs to the workers of a Dask cluster, the longest first: scheduler is
    its address, a cluster object or a client; None starts workers on this machine. write: 'worker'
    where all machines see the results folder under the same path, 'client' where the results come
    back to this process, which writes them. A run that fails with another error than a ValueError,
    or whose worker dies, is tried `retries` times more (a cluster of your own tries the latter as
    often as its setting allowed-failures says); after `time_limit` seconds it fails, and keeps its
    checkpoint. Failed runs are in the report, and do not stop the others; with executor 'serial' an
    error stops the sweep.

    Raises ValueError before any work for names or options that do not exist, DataMissing where
    real data are asked for and absent, ConnectionError where the scheduler is gone: all finished
    runs are kept, and the same call goes on.
    """
    check_names("executor", [executor], EXECUTORS)
    check_names("write", [write], WRITERS)
    _check_limits(executor, scheduler, retries, time_limit)
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
    # raw material: also what is recorded along training
    asked = {n: tuple(experiments.recording(c)) if raw else () for n, c in named.items()}
    before = [
        n for n in named if distributed.first_says(n in shipped or _is_done(n, root, asked[n]))
    ]
    to_do = {name: config for name, config in named.items() if name not in before}
    failed: Mapping[str, str] = {}
    if executor == "dask":
        found, failed = dask.train(
            _on_worker, _groups(to_do), asked, scheduler, results.results_root(root).resolve(),
            write=write, retries=retries, on_result=on_result, replicas=replicas, device=device,
            engine=engine, time_limit=time_limit,
            data_root=None if data_root is None else str(Path(data_root).resolve()),
        )  # fmt: skip
    else:
        expected, bound = expected_steps(to_do, root, data_root)
        images = sum(steps * batch for steps, batch in expected.values())
        with contextlib.closing(progress or Progress(len(to_do), images, bound)) as display:
            sweep = _Sweep(asked, root, data_root, on_result, expected, display, wanted)
            for group in _groups(to_do):
                sweep.train(group, device, engine, replicas)
        found = sweep.found
    found = dict.fromkeys(before, "before") | found
    trained, done_before, elsewhere = (
        tuple(n for n in named if found.get(n) == kind) for kind in FOUND
    )
    return Report(trained, done_before, elsewhere, failed)


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
        self.found: dict[str, str] = {}  # run -> one of FOUND
        self.claims: dict[str, contextlib.ExitStack] = {}
        self.started: dict[str, tuple[float, str]] = {}

    def train(
        self, group: dict[str, RunConfig], device: str | None, engine: str, replicas: int | None,
        time_limit: float | None = None,
    ) -> None:  # fmt: skip
        """All runs of a group."""
        first = next(iter(group.values()))
        dataset = load(first, self.data_root)
        probes, every = probes_of(first, dataset)
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
                locks.note_failure(name, group[name], dask.reason(error), root=self.root)
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
                self.found[name] = "elsewhere"
                self.progress.left_out()
                continue
            # finished by another process while this one came here
            if distributed.first_says(_is_done(name, self.root, self.asked[name])):
                self.found[name] = "before"
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
            self.found[request.name] = "trained"
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
    tell of it, as `on_worker.answer` packs it. Raises ValueError where this worker has other data.
    """
    root, data_root = on_worker.own_root(options), options["data_root"]
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
            named, options["device"] or on_worker.own_gpu(), options["engine"],
            options["replicas"], None if limit is None else limit * len(named),
        )  # fmt: skip
    return {
        n: (kind, on_worker.answer(n, kind, told, root, options)) for n, kind in sweep.found.items()
    }


def _is_done(name: str, root: str | Path | None, probes: Iterable[str]) -> bool:
    """`is_done` as the first process of a run sees it: it alone sets damaged files aside."""
    return distributed.rank() == 0 and is_done(name, root, probes)


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


@contextlib.contextmanager
def _claim(name: str, root: str | Path | None, config: RunConfig):
    """`locks.claim`; of the processes of one run (torchrun) the first holds it for all."""
    first = distributed.rank() == 0
    with locks.claim(name, root, config) if first else contextlib.nullcontext() as mine:
        yield distributed.first_says(mine)
