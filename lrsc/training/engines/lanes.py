"""Lanes: each trains a group of runs side by side, and takes the next run when one has ended.

On a GPU, and for the reference loop, there is one lane. On the CPU there may be one a core, each a
thread with a single torch thread: nothing waits at the barriers of a shared product.
"""

import concurrent.futures
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterable

import torch

from lrsc.models import is_out_of_memory
from lrsc.training import distributed, stopping
from lrsc.training.checkpoint import Refused
from lrsc.training.engines.choose import Plan
from lrsc.training.engines.reference import Reference
from lrsc.training.memory import advice, free
from lrsc.training.progress import Progress
from lrsc.training.run import Job, Request, Run

_RECORDED = 2**24  # logits that are buffered before their losses are computed
_log = logging.getLogger(__name__)


class Stopped(BaseException):
    """Another lane has failed or was asked to stop: so does this one."""


class Trainer:
    """Trains all requests in the lanes of a plan.

    finish(runs): called in its lane with runs that have ended together; refused(request, error):
    called for a checkpoint of another run, after which the run starts over, or None to raise.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        requests: Iterable[Request],
        finish: Callable[[list[Run]], None],
        progress: Progress,
        refused: Callable[[Request, Refused], None] | None = None,
    ) -> None:
        self.job, self.plan, self.lanes, self.width = job, plan, plan.lanes, plan.width
        self.finish, self.progress, self.refused = finish, progress, refused
        self.requests, self.handed = iter(requests), list[Request]()
        self.lock = threading.Lock()  # of these two

    def train(self) -> None:
        """Train all; what a lane raises ends the others too, and is raised."""
        threads = torch.get_num_threads()
        try:
            self._train()
            while self.handed:  # by a lane without memory, when the others had ended
                self._train()
        finally:
            torch.set_num_threads(threads)

    def _train(self) -> None:
        self.stopped = threading.Event()
        if self.lanes == 1:
            self._lane()
            return
        pool = concurrent.futures.ThreadPoolExecutor(self.lanes, "lane")
        futures: list[concurrent.futures.Future] = []
        try:
            futures += [pool.submit(self._lane) for _ in range(self.lanes)]
            concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
        finally:
            self.stopped.set()  # no lane goes on without the others
            pool.shutdown()
        errors = [error for f in futures if (error := f.exception()) is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, Stopped)):
            raise error

    def _lane(self) -> None:
        if self.plan.single:
            torch.set_num_threads(1)  # of this thread, and of those that start after it
        engine, runs = self.plan.make(self.job), list[Run]()
        while not self.stopped.is_set():
            taken = self._take(self.width - len(runs))
            if not taken and not runs:
                return
            full = ""
            try:
                while taken:  # what could not be started stays in it
                    runs.append(self._start(taken[0]))
                    taken.pop(0)
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
                engine = self.plan.make(self.job)
                continue
            runs = [run for run in runs if run not in ended]
            engine.leave(ended)
            if ended:
                self._give_out(engine, ended, runs)
                ended = []  # and nothing holds them any more
                if distributed.world() > 1:
                    self.job.asked.stop()
            if self._asked:
                self._stop(runs)
        raise Stopped

    def _take(self, room: int) -> list[Request]:
        """Up to so many runs that wait for a place."""
        with self.lock:
            found, self.handed = self.handed[:room], self.handed[room:]
            return [*found, *itertools.islice(self.requests, room - len(found))]

    @property
    def _asked(self) -> bool:
        """Whether a signal has come; several processes agree on that where they write."""
        return distributed.world() == 1 and self.job.asked.signal is not None

    def _stop(self, runs: list[Run]) -> None:
        """Keep these runs, and end as a signal would have, if one has come."""
        for run in runs:
            run.keeper.save()
        self.job.asked.stop()

    def _give_out(self, engine: Reference, ended: list[Run], others: list[Run]) -> None:
        """Finish runs; once more, without what the others hold on the device, if it is full."""
        full = False
        try:
            with self.job.asked.nothing_to_keep(not others):
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
        with self.job.lock:
            run = Run(self.job, request)
            try:
                run.keeper.resume()
            except Refused as error:
                if self.refused is None:
                    raise
                self.refused(request, error)
        self.progress.started(run)
        return run

    def _epoch(self, engine: Reference, runs: list[Run]) -> list[Run]:
        """Advance all to the next end of an epoch; returns those that have ended."""
        for run in runs:
            run.keeper.beside = len(runs)

        def poll() -> None:
            if self._asked:
                self._stop(runs)
            if self.stopped.is_set():
                raise Stopped

        with self._drawing(runs):
            going = [run for run in runs if not run.seen and not run.over]
            if going:
                self._advance(engine, going)
                due = [run for run in going if run.keeper.due(run.done)]
                if self._asked:
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

    def _drawing(self, runs: list[Run]) -> contextlib.AbstractContextManager[None]:
        """Where a run is trained alone it may draw, and what drew before does.

        The others are of networks that draw nothing (`choose`). Of runs that have drawn nothing in
        an epoch, those in several threads do not wait for one another.
        """
        if self.plan.lanes > 1 or self.plan.width > 1:
            return contextlib.nullcontext()
        draws = runs[0].draws
        return draws.inside(wait=draws.drawn or draws.times < 2)

    def _advance(self, engine: Reference, runs: list[Run]) -> None:
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
        alone = len(requests) == 1
        self.progress.back(len(requests))
        with self.lock:
            if alone and self.lanes == 1:
                raise advice(error, requests[0].config)
            self.lanes -= alone
            self.handed += requests
            if not alone:
                self.width = max(1, min(self.width, len(requests)) // 2)
        _log.warning(
            "out of memory with %d runs side by side: they start over, with %s",
            len(requests), "a lane less" if alone else f"{self.width} at once in a lane",
        )  # fmt: skip
        return not alone
