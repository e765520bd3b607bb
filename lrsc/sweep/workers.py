"""Runs of a sweep on the workers of a Dask cluster, and their results on their way back.

Either the workers write into a results folder that all machines share, or they return the files
and the client writes them.
"""

import contextlib
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from lrsc import experiments, results
from lrsc.config import RunConfig
from lrsc.datasets.raw import cache
from lrsc.files import atomic
from lrsc.results import locks
from lrsc.sweep import cluster
from lrsc.sweep.cluster import Task

KEPT = 20  # returned results that a worker keeps, should one be lost on its way
_log = logging.getLogger(__name__)


def train(
    function: Callable[..., dict[str, tuple[str, Any]]],
    groups: Sequence[dict[str, RunConfig]],
    asked: dict[str, tuple[str, ...]],
    scheduler: Any,
    *,
    root: str | Path | None,
    data_root: str | Path | None,
    write: str,
    retries: int,
    replicas: int | None,
    device: str | None,
    engine: str,
    time_limit: float | None,
    on_result: Callable[[int, int, xr.Dataset], None] | None,
) -> tuple[dict[str, str], dict[str, str]]:
    """Train all runs; returns how each was found ('trained', 'before', 'elsewhere'), and failures.

    function(configs, asked, options): what a worker calls for some runs, see `sweep`. groups: runs
    that may train side by side, name -> config; `replicas` of them go to a worker at a time. The
    rest is as in `sweep.run`.
    """
    folder = results.results_root(root).resolve()
    client = _Client(folder, groups, asked, write, on_result)
    with _shared_file(folder, write) as token:
        options = {
            "root": str(folder),
            "token": token,
            "data_root": None if data_root is None else str(Path(data_root).resolve()),
            "device": device,
            "engine": engine,
            "replicas": replicas,
            "time_limit": time_limit,
        }
        with client:
            failed = cluster.each(
                function, _tasks(groups, asked, options, replicas, folder), scheduler,
                retries=retries, on_start=client.start, on_result=client.take,
                on_connect=_greet,
            )  # fmt: skip
    return client.found, client.failures(failed)


@contextlib.contextmanager
def _shared_file(folder: Path, write: str) -> Iterator[str]:
    """A file by which a worker sees whether it shares the folder; '' where it need not."""
    if write == "client":
        yield ""
        return
    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".shared-", suffix=".part", dir=runs) as file:
        yield file.name


def _tasks(
    groups: Sequence[dict[str, RunConfig]],
    asked: dict[str, tuple[str, ...]],
    options: dict,
    replicas: int | None,
    folder: Path,
) -> list[Task]:
    known, together, tasks = experiments.known_runs(folder), replicas or 1, []
    for group in groups:
        seconds = {n: experiments.expected_seconds(c, known) for n, c in group.items()}
        names = sorted(group, key=lambda n: -seconds[n])
        for i in range(0, len(names), together):
            some = names[i : i + together]
            configs = {n: group[n].to_json() for n in some}
            arguments = configs, {n: asked[n] for n in some}, options
            tasks.append(Task("+".join(some), arguments, sum(seconds[n] for n in some)))
    return tasks


def _greet(client) -> None:
    """Say where the cluster can be watched; refuse workers that are there with other code."""
    found = client.run(cluster.versions, on_error="return")
    _log.info("Dask: %d workers; dashboard %s", len(found), client.dashboard_link)
    expected = cluster.versions()
    for address, theirs in found.items():
        if isinstance(theirs, BaseException):
            raise ValueError(f"worker {address} cannot import lrsc: {cluster.reason(theirs)}")
        cluster.check_versions(expected, f"worker {address}", theirs)


class _Client:
    """What the client does for each run: claim it where it writes it, take its result."""

    def __init__(
        self,
        folder: Path,
        groups: Sequence[dict[str, RunConfig]],
        asked: dict[str, tuple[str, ...]],
        write: str,
        on_result: Callable[[int, int, xr.Dataset], None] | None,
    ) -> None:
        self.folder, self.write, self.on_result = folder, write, on_result
        self.configs = {name: config for group in groups for name, config in group.items()}
        self.order = list(asked)
        self.found: dict[str, str] = {}
        self.claims: dict[str, contextlib.ExitStack] = {}

    def __enter__(self) -> "_Client":
        return self

    def __exit__(self, *error) -> None:
        for claim in self.claims.values():
            claim.close()

    def start(self, task: Task) -> Task | None:
        """The task without the runs that need nothing any more, None if no run is left.

        A worker that writes claims its runs itself.
        """
        if self.write == "worker":
            return task
        configs, asked, options = task.arguments
        mine = {n: text for n, text in configs.items() if self._claimed(n)}
        if not mine:
            return None
        return Task(task.name, (mine, {n: asked[n] for n in mine}, options), task.seconds)

    def _claimed(self, name: str) -> bool:
        if results.load_run(results.run_path(name, self.folder)) is not None:
            self.found[name] = "before"
            return False
        claim = contextlib.ExitStack()
        if not claim.enter_context(locks.claim(name, self.folder, self.configs[name])):
            self.found[name] = "elsewhere"
            return False
        self.claims[name] = claim
        return True

    def take(self, task: Task, answers: dict[str, tuple[str, Any]]) -> bool:
        """Keep what a worker has found; False if another process is at one of the runs."""
        for name, (kind, told) in answers.items():
            if self.write == "client" and kind != "elsewhere":
                self._keep(name, told["files"])
                self.claims.pop(name).close()
            self.found[name] = kind
            if kind == "trained":
                self._tell(name, told["summary"])
        return all(kind != "elsewhere" for kind, _ in answers.values())

    def _keep(self, name: str, files: dict[str, tuple[bytes, str]]) -> None:
        """Write a run's files as they came, the result last: it says that the run is done."""
        for where, (content, digest) in files.items():
            if hashlib.sha256(content).hexdigest() != digest:
                raise OSError(f"run {name} was damaged on its way from the worker")
            with atomic(_paths(name, self.folder)[where]) as part:
                part.write_bytes(content)
        locks.forget_failure(name, self.folder)

    def _tell(self, name: str, summary: str) -> None:
        number = self.order.index(name) + 1
        _log.info("run %d of %d: %s", number, len(self.order), summary)
        if self.on_result is not None:
            found = results.load(results.run_path(name, self.folder))
            self.on_result(number, len(self.order), found)

    def failures(self, failed: dict[str, cluster.Failure]) -> dict[str, str]:
        """Name -> reason of runs that failed, which are noted in the results folder."""
        reasons = {}
        for task, failure in failed.items():
            for name in task.split("+"):
                if name in self.found or results.run_path(name, self.folder).is_file():
                    continue  # of the task, this one was trained
                reasons[name] = failure.reason
                locks.note_failure(
                    name, self.configs[name], failure.reason, failure.attempts, self.folder
                )
                _log.warning("run %s failed: %s", name, failure.reason)
        return reasons


def own_root(options: dict) -> Path:
    """On a worker: the folder to write in, the client's or one of this machine's own.

    Raises ValueError if the client's is not seen from here.
    """
    if not options["token"]:
        return cache.folder() / "results-of-workers"
    if not Path(options["token"]).is_file():
        raise ValueError(
            f"this worker does not see the client's results folder {options['root']}: give a "
            "folder that all machines share, or write='client' (--write client)"
        )
    return Path(options["root"])


def answer(name: str, kind: str, told: dict[str, str], root: Path, options: dict) -> dict:
    """On a worker: what to tell of a run; its files too where the client writes them."""
    found: dict[str, Any] = {"summary": told.get(name, "")}
    if options["token"] or kind == "elsewhere":
        return found
    found["files"] = {
        where: (content, hashlib.sha256(content).hexdigest())
        for where, path in _paths(name, root).items()
        if path.is_file()
        for content in [path.read_bytes()]
    }
    _forget(root)
    return found


def _paths(name: str, root: Path) -> dict[str, Path]:
    return {"weights": results.weights_path(name, root), "result": results.run_path(name, root)}


def _forget(root: Path) -> None:
    """Remove the oldest results of this worker's own folder: the client has them."""
    runs = sorted((root / "runs").glob("*.nc"), key=lambda path: path.stat().st_mtime)
    for path in runs[:-KEPT]:
        for each in _paths(path.stem, root).values():
            each.unlink(missing_ok=True)
        shutil.rmtree(results.checkpoints_path(path.stem, root), ignore_errors=True)
