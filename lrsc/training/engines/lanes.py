"""Lanes: each trains a group of runs side by side, and takes the next run when one has ended.

On a GPU, and for the reference loop, there is one lane. On the CPU there may be one a core, each a
thread with a single torch thread: nothing waits at the barriers of a shared product.
"""

import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator

import torch

from lrsc.training import distributed, stopping
from lrsc.training.checkpoint import Refused
from lrsc.training.engines.queue import Queue
from lrsc.training.memory import advice, free, is_out_of_memory
from lrsc.training.noise import noise, seeded, set_noise
from lrsc.training.progress import Progress
from lrsc.training.run import Job, Request, Run
from lrsc.training.stopping import Engine

_RECORDED = 2**24  # logits that are buffered before their losses are computed
_log = logging.getLogger(__name__)


class Stopped(BaseException):
    """Another lane has failed or was asked to stop: so does this one."""


class Trainer:
    """Trains all runs of a queue in some lanes.

    engine: makes the engine of a lane; width: runs side by side in a lane; single: with one torch
    thread a lane, as several lanes must have; finish(runs): called in its lane with runs that have
    ended together; refused(request, error): called for a checkpoint of another run, after which the
    run starts over, or None to raise.
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
        errors = [error for f in futures if (error := f.exception()) is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, Stopped)):
            raise error

    def _lane(self) -> None:
        if self.single:
            torch.set_num_threads(1)  # of this thread, and of those that start after it
        engine, runs = self.engine(self.job), list[Run]()
        while not self.stopped.is_set():
            taken = self.queue.take(self.width - len(runs), wait=not runs)
            if not taken and not runs:
                return
            full = ""
            try:
                self._fill(runs, taken)
                ended = self._epoch(engine, runs)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                full = str(error)
            if full:  # not inside the handler: the traceback holds what is to be freed
                waiting = [*(run.request for run in runs), *taken]
                del engine
                runs, taken = [], []
                free(self.job.device)
                if not self._smaller(waiting, full):
                    return
                engine = self.engine(self.job)
                continue
            runs = [run for run in runs if run not in ended]
            engine.leave(ended)
            if ended:
                self._give_out(engine, ended, runs)
                ended = []  # and nothing holds them any more
                if distributed.world() > 1:
                    self.job.asked.stop()
            if distributed.world() == 1 and self.job.asked.signal is not None:
                self._stop(runs)
        raise Stopped

    def _fill(self, runs: list[Run], taken: list[Request]) -> None:
        """Start what was taken from the queue; what could not be started stays in `taken`."""
        while taken:
            runs.append(self._start(taken[0]))
            taken.pop(0)

    def _stop(self, runs: list[Run]) -> None:
        """Keep these runs, and end as a signal would have, if one has come."""
        for run in runs:
            run.keeper.save()
        self.job.asked.stop()

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
                self._stop(runs)
            if self.stopped.is_set():
                raise Stopped

        with self._noise(runs):
            going = [run for run in runs if not run.seen and not run.over]
            if going:
                self._advance(engine, going)
                due = [run for run in going if run.keeper.due(run.done)]
                if self.job.asked.signal is not None and distributed.world() == 1:
                    due = runs
                if due:
                    self._stop(due)
            decided = [run for run in runs if run.seen]
            if decided:
                stopping.decide(engine, decided, poll)
            ended = [run for run in runs if run.over]
            fresh = [run for run in ended if not run.finished]
            stopping.finish(engine, fresh, poll)
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
        stopping.record(runs, logits, chosen)
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
