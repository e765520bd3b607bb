"""Lanes: each trains a group of runs side by side, and takes the next run when one has ended.

On a GPU, and for the reference loop, there is one lane. On the CPU there may be one a core, each a
thread with a single torch thread: nothing waits at the barriers of a shared product.
"""

import collections
import concurrent.futures
import contextlib
import gc
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from lrsc.config import TrainConfig
from lrsc.errors import OutOfMemory
from lrsc.metrics import loss_ratio
from lrsc.training import distributed, evaluation
from lrsc.training.checkpoint import Refused
from lrsc.training.progress import Progress
from lrsc.training.run import Job, Request, Run

_RECORDED = 2**24  # logits that are buffered before their losses are computed
_log = logging.getLogger(__name__)


class Engine(Protocol):
    """What trains a group of runs; `Reference` shows the contract."""

    def advance(
        self, runs: Sequence[Run], n: int, due: Callable[[int], bool]
    ) -> tuple[Tensor, Tensor]: ...

    def forward(self, runs: Sequence[Run]) -> evaluation.Forward: ...

    def leave(self, runs: Sequence[Run]) -> None: ...


class Queue:
    """Runs that wait for a place, shared by the lanes.

    A lane that finds nothing waits for another to hand over some of its runs, until all lanes wait.
    """

    def __init__(self, requests: Iterable[Request], lanes: int) -> None:
        self.requests, self.lanes = iter(requests), lanes
        self.handed: collections.deque[Request | Run] = collections.deque()
        self.condition = threading.Condition()
        self.waiting, self.closed = 0, False

    def take(self, room: int, wait: bool) -> list[Request | Run]:
        """Up to `room` runs; if there are none and wait, those that come, else an empty list."""
        with self.condition:
            # what is handed over is for the lanes that have nothing
            found = self._some(room, also_handed=wait or not self.waiting)
            if found or not wait:
                return found
            self.waiting += 1
            if self.waiting == self.lanes:
                self._close()
            while not self.closed and not found:
                self.condition.wait()
                found = [] if self.closed else self._some(room)
            self.waiting -= 1
            return found

    def hand_over(self, runs: Sequence[Request | Run]) -> None:
        """Runs for whoever has a place."""
        with self.condition:
            self.handed.extend(runs)
            self.condition.notify_all()

    def retire(self, runs: Sequence[Request]) -> bool:
        """One lane fewer, that leaves its runs to the others; False if there is no other."""
        with self.condition:
            if self.lanes == 1:
                return False
            self.lanes -= 1
            self.handed.extend(runs)
            self.condition.notify_all()
            return True

    @property
    def wanting(self) -> bool:
        """Whether a lane stands idle."""
        return self.waiting > 0 and not self.handed

    def close(self) -> None:
        """Nothing is given out any more."""
        with self.condition:
            self._close()

    def _close(self) -> None:
        self.closed = True
        self.condition.notify_all()

    def _some(self, room: int, also_handed: bool = True) -> list[Request | Run]:
        found: list[Request | Run] = []
        while len(found) < room and not self.closed:
            if self.handed and also_handed:
                found.append(self.handed.popleft())
            elif (request := next(self.requests, None)) is not None:
                found.append(request)
            else:
                break
        return found


class Stopped(BaseException):
    """Another lane has failed or was asked to stop: so does this one."""


class Trainer:
    """Trains all runs of a queue in some lanes.

    engine: makes the engine of a lane; width: runs side by side in a lane; single: with one torch
    thread a lane, as several lanes must have; finish(runs): called in
    its lane with runs that have ended together; refused(request, error): called for a checkpoint
    of another run, after which the run starts over, or None to raise.
    """

    def __init__(
        self,
        job: Job,
        engine: Callable[[Job], Engine],
        lanes: int,
        width: int,
        requests: Iterable[Request],
        finish: Callable[[list[Run]], None],
        progress: Progress,
        single: bool = False,
        refused: Callable[[Request, Refused], None] | None = None,
    ) -> None:
        self.job, self.engine, self.lanes, self.width = job, engine, lanes, width
        self.finish, self.progress, self.refused = finish, progress, refused
        self.single = single
        self.queue = Queue(requests, lanes)
        self.stopped = threading.Event()

    def train(self) -> None:
        """Train all; what a lane raises ends the others too, and is raised."""
        threads = torch.get_num_threads()
        if self.lanes == 1:
            try:
                self._lane()
            finally:
                torch.set_num_threads(threads)
            return
        pool = concurrent.futures.ThreadPoolExecutor(self.lanes, "lane")
        futures: list[concurrent.futures.Future] = []
        try:
            futures += [pool.submit(self._lane) for _ in range(self.lanes)]
            concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
        finally:
            self.stopped.set()  # no lane goes on without the others
            self.queue.close()
            pool.shutdown()
            torch.set_num_threads(threads)
            for item in self.queue.handed:  # a run between two lanes
                if isinstance(item, Run):
                    item.keeper.save()
        errors = [error for f in futures if (error := f.exception()) is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, Stopped)):
            raise error

    def _lane(self) -> None:
        if self.single:
            torch.set_num_threads(1)  # of this thread, and of those that start after it
        engine, runs = self.engine(self.job), list[Run]()
        item: Request | Run | None = None
        while not self.stopped.is_set():
            taken = self.queue.take(self.width - len(runs), wait=not runs)
            if not taken and not runs:
                return
            full = ""
            try:
                while taken:
                    item = taken[0]
                    runs.append(self._start(item) if isinstance(item, Request) else item)
                    taken.pop(0)
                ended = self._epoch(engine, runs)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                full = str(error)
            if full:  # not inside the handler: the traceback holds what is to be freed
                waiting = [i.request if isinstance(i, Run) else i for i in [*runs, *taken]]
                del engine
                runs, item, taken = [], None, []
                free(self.job.device)
                if not self._smaller(waiting, full):
                    return
                engine = self.engine(self.job)
                continue
            runs = [run for run in runs if run not in ended]
            engine.leave(ended)
            if ended:
                self._give_out(engine, ended, runs)
            if distributed.world() > 1:
                if ended:
                    self.job.asked.stop()
            elif self.job.asked.signal is not None:
                for run in runs:
                    run.keeper.save()
                self.job.asked.stop()
            if self.queue.wanting and len(runs) > 1:
                given = runs[len(runs) // 2 :]
                runs = runs[: len(runs) // 2]
                engine.leave(given)
                self.queue.hand_over(given)
        raise Stopped

    def _give_out(self, engine: Engine, ended: list[Run], others: list[Run]) -> None:
        """Finish runs; once more, without what the others hold on the device, if it is full."""
        full = False
        try:
            self.finish(ended)
        except (MemoryError, RuntimeError) as error:
            full = is_out_of_memory(error) and bool(others)
            if not full:
                raise
        if full:
            engine.leave(others)
            free(self.job.device)
            self.finish(ended)
        self.progress.ended(ended)

    def _start(self, request: Request) -> Run:
        with self.job.lock, seeded(request.seed, self.job.device):
            run = Run(self.job, request)
            try:
                run.keeper.resume()
            except Refused as error:
                if self.refused is None:
                    raise
                self.refused(request, error)
            run.noise = noise(self.job.device)
        self.progress.started(run)
        return run

    def _epoch(self, engine: Engine, runs: list[Run]) -> list[Run]:
        """Advance all to the next end of an epoch; returns those that have ended."""
        for run in runs:
            run.keeper.beside = len(runs)

        def poll() -> None:
            if self.job.asked.signal is not None and distributed.world() == 1:
                for run in runs:
                    run.keeper.save()
                self.job.asked.stop()
            if self.stopped.is_set():
                raise Stopped

        with self._noise(runs):
            going = [run for run in runs if not run.seen and not run.over]
            if going:
                self._advance(engine, going)
                due = [run for run in going if run.keeper.due(run.done)]
                if self.job.asked.signal is not None and distributed.world() == 1:
                    due = runs
                for run in due:
                    run.keeper.save()
                if due:
                    self.job.asked.stop()
            decided = [run for run in runs if run.seen]
            if decided:
                _end_of_epoch(engine, decided, poll)
            ended = [run for run in runs if run.over]
            fresh = [run for run in ended if not run.finished]
            _finish(engine, fresh, poll)
            for run in fresh:
                run.keeper.save()
        return ended

    def _advance(self, engine: Engine, runs: list[Run]) -> None:
        job = self.job
        most = max(1, _RECORDED // (len(runs) * job.batch * job.dataset.n_classes))
        n = min(most, *(run.left for run in runs))
        keepers = [(run.keeper, run.done) for run in runs if run.keeper.path]

        def due(done: int) -> bool:
            self.progress.step(len(runs) * job.batch)
            return self.stopped.is_set() or any(k.due(before + done) for k, before in keepers)

        logits, chosen = engine.advance(runs, n, due)
        _record(runs, logits, chosen)
        for run in runs:
            run.advanced(len(logits))
            if len(logits) == most and not run.seen and not run.finite:
                run.end_epoch()

    def _smaller(self, requests: list[Request], error: str) -> bool:
        """After an out-of-memory: fewer runs at once, those of this lane anew; whether it goes on.

        Finished runs are results already; the others start over, from their checkpoints where
        there are some.
        """
        text = "out of memory with %d runs side by side: they start over, with %s"
        self.progress.back(len(requests))
        if len(requests) == 1:
            if not self.queue.retire(requests):
                raise advice(error, requests[0].config)
            _log.warning(text, len(requests), "a lane less")
            return False
        self.width = max(1, min(self.width, len(requests)) // 2)
        _log.warning(text, len(requests), f"{self.width} at once in a lane")
        self.queue.hand_over(requests)
        return True

    @contextlib.contextmanager
    def _noise(self, runs: list[Run]) -> Iterator[None]:
        """Inside, torch's generators are those of the run, where a run is trained alone."""
        if self.lanes > 1 or self.width > 1:
            yield
            return
        (run,) = runs
        with seeded(run.seed, self.job.device):
            set_noise(run.noise, self.job.device)
            yield
            run.noise = noise(self.job.device)


@torch.inference_mode()
def _record(runs: Sequence[Run], logits: Tensor, chosen: Tensor) -> None:
    """Add the curves of some steps: logits steps x R x batch x K, chosen their samples."""
    logits, chosen = distributed.gather(logits, 2), distributed.gather(chosen, 2)
    train = runs[0].job.train
    y = train.y[chosen]
    losses = F.cross_entropy(logits.flatten(0, 2), y.flatten(), reduction="none").view(y.shape)
    right = (logits.argmax(3) == y).sum((0, 2))
    curves = {"loss": losses.mean(2)}
    if train.bias is not None:
        curves["loss_ratio"] = loss_ratio(losses, (train.bias != train.y)[chosen])
    finite = losses.isfinite().all(0).all(1)
    for k, run in enumerate(runs):
        for name, curve in curves.items():
            run.curves.setdefault(name, []).append(curve[:, k].clone())
        run.right += right[k]
        run.finite &= finite[k]


def _end_of_epoch(engine: Engine, runs: list[Run], poll: Callable[[], None]) -> None:
    """What is decided at the end of an epoch; a signal during its evaluations repeats them."""
    # the epoch's only host synchronisation beside the evaluations
    finite = torch.stack([run.finite for run in runs]).tolist()
    fine = [run for run, is_finite in zip(runs, finite, strict=True) if is_finite]
    validation = {
        run: evaluation.validation_accuracy(run.net, run.job.val, run.config.select_by, poll)
        for run in fine
        if run.job.val is not None
    }
    asking = {run: s for run in fine if (s := run.config.stop_at_accuracy) is not None}
    accuracy = _accuracies(engine, list(asking), list(asking.values()), poll)
    converged = {run: _converged(run, accuracy.get(run), poll) for run in fine}
    for run in runs:
        run.status = "diverged" if run not in converged else "cap"
        if converged.get(run):
            run.status = "converged"
        run.accuracy = accuracy.get(run, run.accuracy)
        run.curves.setdefault("accuracy", []).append((run.right / run.seen).float())
        run.epochs, run.seen = run.epochs + 1, 0
        run.right.zero_()
        if run in validation:
            _select(run, validation[run])


def _accuracies(
    engine: Engine, runs: list[Run], enough: list[float], poll: Callable[[], None]
) -> dict[Run, float]:
    if not runs:
        return {}
    found = evaluation.training_accuracies(
        lambda which: engine.forward([runs[k] for k in which]), runs[0].job.train, enough, poll
    )
    return dict(zip(runs, found, strict=True))


def _converged(run: Run, accuracy: float | None, poll: Callable[[], None]) -> bool:
    """Whether all rules that are given hold."""
    config = run.config
    rules = []
    if accuracy is not None and config.stop_at_accuracy is not None:
        rules.append(accuracy >= config.stop_at_accuracy)
    if config.stop_at_loss is not None and all(rules):
        loss = evaluation.training_loss(run.net, run.job.train, poll)
        rules.append(loss <= config.stop_at_loss)
    return bool(rules) and all(rules)


def _select(run: Run, accuracy: float) -> None:
    run.curves.setdefault("validation_accuracy", []).append(torch.tensor(accuracy))
    if run.config.select_by is not None and accuracy > run.best["accuracy"]:
        weights = {name: value.detach().clone() for name, value in run.net.state_dict().items()}
        run.best = {"epoch": run.epochs, "accuracy": accuracy, "weights": weights}


def _finish(engine: Engine, runs: list[Run], poll: Callable[[], None]) -> None:
    """The last probes, the selected weights, and the accuracy that a run at its cap ends with."""
    asking = []
    for run in runs:
        if run.status == "diverged":
            run.accuracy, run.best["epoch"] = float("nan"), None
            continue
        if run.job.probes and not run.probed:
            for p in run.net.parameters():
                p.grad = None
            run.look(list(run.job.probes), run.done)
            run.probed = True
        if run.best["weights"]:
            run.net.load_state_dict(run.best["weights"])
        if run.status == "cap" or run.best["weights"]:
            asking.append(run)
    for run, accuracy in _accuracies(engine, asking, [0.0] * len(asking), poll).items():
        run.accuracy = accuracy
    for run in runs:
        run.seconds_before = run.seconds
        run.best["weights"] = {}
        run.finished = True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory does not suffice: torch has several ways to."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        said in str(error) for said in ("t allocate", "ALLOC_FAILED", "out of memory")
    )


def free(device: torch.device) -> None:
    """Give memory back that nothing holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def advice(error: str, config: TrainConfig) -> OutOfMemory:
    """The error a user sees, with the settings that need less memory."""
    return OutOfMemory(
        f"out of memory in training: {error.partition(chr(10))[0]}\n"
        f"What needs less: a smaller batch_size (now {config.batch_size}), more parts of a "
        f"batch (accumulation, now {config.accumulation}; the update stays that of the whole "
        f"batch), or precision='bf16' (now {config.precision!r})."
    )


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Run with torch's generators seeded, and put them back as they were afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def noise(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """State of torch's generators."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), cuda


def set_noise(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    """Put torch's generators into a state."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
