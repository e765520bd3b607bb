"""Independent tasks on a Dask cluster: longest first, tried again, only on workers with our code.

The client keeps the list: a scheduler that restarts or a connection that closes costs what was
under way, and nothing else.
"""

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import platform
import queue
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrsc.training import checkpoint

# tasks that are handed to the scheduler at a time, at least; twice as many as the workers' threads
# otherwise: enough for a cluster that grows with what waits
WINDOW = 64
LOST_SECONDS = 600.0  # for which a scheduler that is gone is waited for
AGAIN_SECONDS = 2.0  # before a task that another process is at is asked for again
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Task:
    """Something to call on a worker.

    arguments: of the function, plain data; seconds: that it is likely to take, or infinity.
    """

    name: str
    arguments: tuple
    seconds: float = float("inf")


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a task has no result, and how often it was tried."""

    reason: str
    attempts: int


def versions() -> dict[str, str]:
    """What a worker must have in common with the client, to make the same results."""
    made_by = checkpoint.identity()
    return made_by | {
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


@contextlib.contextmanager
def connect(scheduler: Any = None) -> Iterator[Any]:
    """A distributed.Client: of an address, a cluster object, a client, or None for this machine.

    On this machine there is a worker for each GPU, else for each core, with one thread each.
    Raises ValueError if nobody answers at the address.
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
                    n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
                )
            )
        try:
            client = distributed.Client(scheduler)
        except (OSError, TimeoutError) as error:
            raise ValueError(
                f"no Dask scheduler answers at {scheduler!r}: start one with `dask scheduler`, "
                "and give the address that it prints"
            ) from error
        opened.enter_context(client)
        yield client


def each(
    function: Callable[..., Any],
    tasks: Sequence[Task],
    scheduler: Any = None,
    *,
    retries: int = 2,
    on_start: Callable[[Task], Task | None] = lambda task: task,
    on_result: Callable[[Task, Any], bool] = lambda task, result: True,
    on_connect: Callable[[Any], None] = lambda client: None,
) -> dict[str, Failure]:
    """Call function(*arguments) of every task on the workers; returns the failures by name.

    Longest first. A task that raises ValueError has failed for good; after another error, or when
    its workers died, it is tried `retries` times more. on_start: called before a task is handed
    out, returns the task, changed or not, or None to leave it out; on_result: called with each
    result, False asks for the task once more at the end. Both are called in this thread.
    on_connect: called with each new client, before tasks are handed out; what it raises ends all.
    """
    waiting = sorted(tasks, key=lambda task: -task.seconds)
    state = _State(function, waiting, retries, on_start, on_result)
    lost = None
    while state.left:
        with contextlib.ExitStack() as opened:
            try:
                client = opened.enter_context(connect(scheduler))
            except ValueError:
                if lost is None or time.monotonic() - lost > LOST_SECONDS:
                    raise
                time.sleep(AGAIN_SECONDS)
                continue
            on_connect(client)
            if state.work(client):
                break
            lost = time.monotonic()
            _log.warning(
                "the Dask scheduler is gone: waiting up to %.0f s for it; %d tasks are left",
                LOST_SECONDS, state.left,
            )  # fmt: skip
    return state.failed


class _State:
    """Tasks that wait, that are handed out, and that failed."""

    def __init__(self, function, waiting: list[Task], retries: int, on_start, on_result) -> None:
        self.function, self.waiting, self.retries = function, waiting, retries
        self.on_start, self.on_result = on_start, on_result
        self.out: dict[Any, Task] = {}
        self.later: list[Task] = []
        self.asked_again: set[str] = set()
        # handed out when a connection was lost: a worker may still be at them
        self.abandoned: set[str] = set()
        self.attempts: dict[str, int] = {}
        self.failed: dict[str, Failure] = {}
        self.expected = versions()
        self.order = itertools.count()

    @property
    def left(self) -> int:
        return len(self.waiting) + len(self.out) + len(self.later)

    def work(self, client) -> bool:
        """Until all is done: True; or until the scheduler is gone: False."""
        ended: queue.SimpleQueue = queue.SimpleQueue()
        while self.left:
            if client.status not in ("running", "connecting"):
                self._take_back(self.out)
                return False
            try:
                self._hand_out(client, ended)
                if not self.out:
                    if not self.later:
                        continue
                    time.sleep(AGAIN_SECONDS)
                    self.waiting, self.later = self.later, []
                    continue
                future = ended.get(timeout=1.0)
            except queue.Empty:
                continue
            except OSError:  # the connection closed while a task was handed out
                time.sleep(AGAIN_SECONDS)
                continue
            if future in self.out:
                self._ended(future)
        return True

    def _hand_out(self, client, ended: queue.SimpleQueue) -> None:
        threads = sum(w["nthreads"] for w in client.scheduler_info(-1)["workers"].values())
        room = max(WINDOW, 2 * threads) - len(self.out)
        while self.waiting and room > 0:
            task = self.waiting[0]  # it waits until it is handed out: the connection may close
            if task.name not in self.attempts:
                started = self.on_start(task)
                if started is None:
                    self.waiting.pop(0)
                    continue
                task = self.waiting[0] = started
                self.attempts[task.name] = 0
            future = client.submit(
                _call, self.function, task.arguments, self.expected,
                key=f"lrsc-{task.name}-{self.attempts[task.name]}-{time.monotonic_ns()}",
                pure=False, priority=-next(self.order),
            )  # fmt: skip
            self.waiting.pop(0)
            self.out[future] = task
            future.add_done_callback(ended.put)
            room -= 1

    def _ended(self, future) -> None:
        task = self.out.pop(future)
        if future.status == "finished":
            try:
                result = future.result()
            except (Exception, asyncio.CancelledError) as error:  # gone with its worker
                self._again(task, error)
                return
            if self.on_result(task, result):
                return
            if task.name in self.abandoned or task.name not in self.asked_again:
                self.asked_again.add(task.name)
                self.later.append(task)
        elif future.status == "error":
            self._again(task, future.exception())
        else:  # cancelled or lost: the scheduler is a new one
            self._take_back({future: task})

    def _again(self, task: Task, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):  # the connection was lost, not the task
            self.abandoned.add(task.name)
            self.waiting.insert(0, task)
            return
        self.attempts[task.name] += 1
        tried = self.attempts[task.name]
        if isinstance(error, ValueError) or tried > self.retries:
            self.failed[task.name] = Failure(reason(error), tried)
            return
        _log.warning("%s failed (%s): tried again", task.name, reason(error))
        self.waiting.insert(0, task)

    def _take_back(self, futures: dict[Any, Task]) -> None:
        for future, task in list(futures.items()):
            self.out.pop(future, None)
            self.abandoned.add(task.name)
            self.waiting.insert(0, task)


def reason(error: BaseException) -> str:
    """An error in one line, for people."""
    kind = type(error).__name__
    if kind == "KilledWorker":
        return "its workers died: killed, or out of memory"
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{kind}: {text}".rstrip(": ")


def _call(function: Callable[..., Any], arguments: tuple, expected: dict[str, str]) -> Any:
    from distributed import get_worker

    check_versions(expected, f"worker {get_worker().address}", versions())
    return function(*arguments)


@functools.cache
def own_gpu() -> str | None:
    """The GPU of this worker process, 'cuda:1', or None where there is none.

    Each process on a machine takes one that no other has; more processes than GPUs share them.
    """
    n = torch.cuda.device_count()
    if n == 0:
        return None
    free = [i for i in range(n) if _take(torch.cuda.get_device_properties(i).uuid)]
    return f"cuda:{free[0] if free else os.getpid() % n}"


_held: list[Any] = []  # files whose locks this process keeps until it ends


def _take(device: Any) -> bool:
    """Whether this process, which has none yet, now has the device."""
    if _held:
        return False
    import fcntl

    name = f"lrsc-{os.getuid()}-gpu-{device}.lock"
    file = open(Path(tempfile.gettempdir()) / name, "w")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return False
    _held.append(file)
    return True
