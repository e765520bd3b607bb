"""Runs of a sweep on the workers of a Dask cluster, and their results on their way back.

Either the workers write into a results folder that all machines share, or they return the files
and the client writes them. Who is tried again, in which order, is left to distributed.
"""

import ast
import asyncio
import contextlib
import dataclasses
import itertools
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrsc import experiments, results
from lrsc.config import RunConfig
from lrsc.files import atomic
from lrsc.results import locks
from lrsc.sweep.ledger import Ledger
from lrsc.sweep.on_worker import paths_of
from lrsc.training import checkpoint

CLAIMED = 64  # tasks whose runs the client claims at a time, or two for each thread of the workers
LOST = (
    "the connection to the Dask scheduler is lost. All finished runs are kept: once the scheduler "
    "is back, the same command goes on from there"
)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Task:
    """Runs that go to a worker together.

    name: of the runs, joined by '+'; arguments: of the function, plain data; seconds: that it is
    likely to take, or infinity.
    """

    name: str
    arguments: tuple
    seconds: float = float("inf")


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a task has no result, and how often it was tried."""

    reason: str
    attempts: int


def train(
    function: Callable[..., dict[str, tuple[str, Any]]],
    groups: Sequence[dict[str, RunConfig]],
    ledger: Ledger,
    scheduler: Any,
    write: str,
    retries: int,
    **options: Any,
) -> dict[str, str]:
    """Train all runs; the ledger tells how each was found. Returns why some failed.

    function(configs, options): what a worker calls for some runs, see `sweep`. groups: runs that
    may train side by side, name -> config; options["replicas"] of them go to a worker at a time.
    The rest is as in `sweep.run`.
    """
    folder = ledger.root.resolve()
    runs = _Runs(ledger, groups, write)
    with (
        _shared_file(folder, write) as token, connect(scheduler, retries) as client,
        contextlib.closing(ledger),
    ):  # fmt: skip
        _greet(client)
        options |= {"root": str(folder), "token": token}

        def room() -> int:  # a claim is an open file; a cluster may grow with what waits
            return max(CLAIMED, 2 * sum(client.nthreads().values()))

        tasks = list(_tasks(groups, options, folder))
        several = None if write == "worker" else room
        for _ in range(2):
            for task, found in each(function, tasks, client, retries, several, runs.start):
                runs.take(task, found)
            # once more: a worker that lost its connection may have held its runs a little longer
            tasks = [left for task in tasks if (left := runs.elsewhere(task))]
    return runs.failed


def check_guard() -> None:
    """Raise ValueError where new processes would run the calling script again from its start.

    They import it; only what stands under `if __name__ == "__main__":` is left out.
    """
    frame = sys._getframe()
    while frame.f_globals.get("__name__") != "__main__" or frame.f_code.co_name != "<module>":
        if frame.f_back is None:
            return
        frame = frame.f_back
    try:
        script = ast.parse(Path(frame.f_globals["__file__"]).read_text(encoding="utf-8"))
    except (KeyError, OSError, SyntaxError, ValueError):  # a notebook, a prompt
        return
    for node in script.body:
        guard = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
        if guard and node.lineno <= frame.f_lineno <= (node.end_lineno or 0):
            return
    raise ValueError(
        f"line {frame.f_lineno} of {frame.f_globals['__file__']} starts processes, each of which "
        'imports this script: put the call under `if __name__ == "__main__":`'
    )


@contextlib.contextmanager
def connect(scheduler: Any = None, retries: int = 2) -> Iterator[Any]:
    """A distributed.Client: of an address, a cluster object, a client, or None for this machine.

    On this machine there is a worker for each GPU, else for each core, with one thread each; a task
    whose worker dies is tried `retries` times more. Raises ValueError if nobody answers.
    """
    try:
        import distributed
    except ImportError as error:
        raise ValueError(
            "executor 'dask' needs the package distributed: pip install 'lrsc[sweep]'"
        ) from error
    if isinstance(scheduler, distributed.Client):
        yield scheduler
        return
    with contextlib.ExitStack() as opened:
        if scheduler is None:
            workers = torch.cuda.device_count() or len(os.sched_getaffinity(0))
            scheduler = opened.enter_context(
                distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"allowed_failures": retries},
                )
            )  # fmt: skip
        try:
            client = distributed.Client(scheduler)
        except (OSError, TimeoutError) as error:
            raise ValueError(
                f"no Dask scheduler answers at {scheduler!r}: start one with `dask scheduler`, "
                "and give the address that it prints"
            ) from error
        yield opened.enter_context(client)


def _greet(client) -> None:
    """Say where the cluster can be watched; refuse workers with other code."""
    found = client.run(versions, on_error="return")
    _log.info("Dask: %d workers; dashboard %s", len(found), client.dashboard_link)
    expected = versions()
    for address, theirs in found.items():
        if isinstance(theirs, BaseException):
            raise ValueError(f"worker {address} cannot import lrsc: {reason(theirs)}")
        check_versions(expected, f"worker {address}", theirs)


def versions() -> dict[str, str]:
    """What a worker must have in common with the client, to make the same results."""
    return checkpoint.identity() | {
        "numpy": np.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def check_versions(expected: dict[str, str], who: str, found: dict[str, str]) -> None:
    """Raise ValueError, naming each difference, if a worker is of other versions."""
    differences = [
        f"{name} {found.get(name)!r}, expected {value!r}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"{who} is not like the client: {'; '.join(differences)}. Install the same versions "
            "and start the worker anew"
        )


def each(
    function: Callable[..., Any],
    tasks: Iterable[Task],
    client: Any,
    retries: int = 2,
    room: Callable[[], int] | None = None,
    start: Callable[[Task], Task | None] = lambda task: task,
) -> Iterator[tuple[Task, Any]]:
    """Call function(*arguments) of every task on the workers, the longest first.

    Yields each task with its result, or its Failure, as it ends. One that raises ValueError has
    failed for good; after another error it is tried `retries` times more, and if its worker dies as
    often as the scheduler allows. start: called before a task is handed out, returns the task,
    changed or not, or None to leave it out; room: how many may be handed out at a time, None for
    all. Raises ConnectionError if the scheduler is gone.
    """
    from distributed import as_completed

    waiting = filter(None, map(start, sorted(tasks, key=lambda task: -task.seconds)))
    out, order, expected = {}, itertools.count(), versions()

    def submit(task: Task):
        try:
            future = client.submit(
                _call, function, task.arguments, expected, pure=False, retries=retries,
                priority=-next(order), key=f"lrsc-{task.name}-{time.monotonic_ns()}",
            )  # fmt: skip
        except Exception as error:
            if client.status in ("running", "connecting"):
                raise
            raise ConnectionError(LOST) from error
        out[future] = task
        return future

    def more() -> list:
        free = None if room is None else max(0, room() - len(out))
        return [submit(task) for task in itertools.islice(waiting, free)]

    ended = as_completed(more(), loop=client.loop)
    for future in ended:
        # distributed cancels all where the connection is lost, and closes if it does not come back
        if future.status not in ("finished", "error") or client.status == "closed":
            raise ConnectionError(LOST)
        task = out.pop(future)
        ended.update(more())
        yield task, _outcome(future, retries)


def _outcome(future: Any, retries: int) -> Any:
    """What a task that has ended gave, or its Failure."""
    if future.status == "error":
        error = future.exception()
        return Failure(reason(error), 1 + getattr(error, "allowed_failures", retries))
    try:
        return future.result()
    except (OSError, asyncio.CancelledError) as error:
        raise ConnectionError(LOST) from error
    except Exception as error:  # lost with its worker, and not made again
        return Failure(reason(error), 1)


def reason(error: BaseException) -> str:
    """An error in one line, for people."""
    kind = type(error).__name__
    if kind == "KilledWorker":
        return "its workers died: killed, or out of memory"
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{kind}: {text}".rstrip(": ")


def _call(function: Callable[..., Any], arguments: tuple, expected: dict[str, str]) -> Any:
    """On a worker: what the function returns, or a Failure that no other try would mend."""
    from distributed import get_worker

    try:
        check_versions(expected, f"worker {get_worker().address}", versions())
        return function(*arguments)
    except ValueError as error:
        return Failure(reason(error), 1)


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


def _tasks(groups: Sequence[dict[str, RunConfig]], options: dict, folder: Path) -> Iterator[Task]:
    known, together = experiments.known_runs(folder), options["replicas"] or 1
    for group in groups:
        seconds = {n: experiments.expected_seconds(c, known) for n, c in group.items()}
        names = sorted(group, key=lambda n: -seconds[n])
        for i in range(0, len(names), together):
            some = names[i : i + together]
            configs = {n: group[n].to_json() for n in some}
            yield Task("+".join(some), (configs, options), sum(seconds[n] for n in some))


def _some(task: Task, wanted: Callable[[str], bool]) -> Task | None:
    """The task with some of its runs, None without any."""
    configs, options = task.arguments
    configs = {name: text for name, text in configs.items() if wanted(name)}
    return Task("+".join(configs), (configs, options), task.seconds) if configs else None


class _Runs:
    """What the client does for each run: claim it where it writes it, take its result."""

    def __init__(self, ledger: Ledger, groups: Sequence[dict[str, RunConfig]], write: str) -> None:
        self.ledger, self.write = ledger, write
        self.configs = {name: config for group in groups for name, config in group.items()}
        self.failed: dict[str, str] = {}

    def start(self, task: Task) -> Task | None:
        """The task without the runs that need nothing any more, None if no run is left.

        A worker that writes claims its runs itself.
        """
        if self.write == "worker":
            return task
        return _some(task, lambda name: self.ledger.claim(name, self.configs[name]))

    def elsewhere(self, task: Task) -> Task | None:
        """The task's runs that another process was at, None if there are none."""
        return _some(task, lambda name: self.ledger.found.get(name) == "elsewhere")

    def take(self, task: Task, answers: dict[str, tuple[str, Any]] | Failure) -> None:
        """Keep what a worker has found, or note why it has not."""
        if isinstance(answers, Failure):
            self._fail(task, answers)
            return
        for name, (kind, told) in answers.items():
            if self.write == "client" and kind != "elsewhere":
                self._keep(name, told["files"])
            self.ledger.release(name, kind)
            if kind == "trained":
                self.ledger.tell(name, told["summary"])

    def _keep(self, name: str, files: dict[str, bytes]) -> None:
        """Write a run's files as they came, the result last: it says that the run is done."""
        for where, content in files.items():
            with atomic(paths_of(name, self.ledger.root)[where]) as part:
                part.write_bytes(content)
        locks.forget_failure(name, self.ledger.root)

    def _fail(self, task: Task, failure: Failure) -> None:
        """Note the task's runs in the results folder, but those that were trained."""
        root = self.ledger.root
        for name in task.arguments[0]:
            if results.run_path(name, root).is_file():
                continue
            self.failed[name] = failure.reason
            locks.note_failure(name, self.configs[name], failure.reason, failure.attempts, root)
            _log.warning("run %s failed: %s", name, failure.reason)
