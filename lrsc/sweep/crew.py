"""Workers of a campaign: processes that train what can still end in time, and what they cost."""

import contextlib
import ctypes
import dataclasses
import functools
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lrsc import datasets, experiments, files, measures, models, pruning, results, runs, sweep
from lrsc.config import RunConfig
from lrsc.errors import DataMissing
from lrsc.measures.result import prune_samples
from lrsc.runs import identify, load
from lrsc.sweep.estimate import steps_of_epoch
from lrsc.sweep.plan import Item, read_plan
from lrsc.training import arguments
from lrsc.training.progress import Progress

EVERY = 10.0  # seconds between two lines of the log
_log = logging.getLogger(__name__)


class Board(ctypes.Structure):
    """What a worker tells of itself, in memory that it shares with the process that keeps the time.

    peak: operations a second at best; item: which it is at; cheapest: seconds of the shortest run.
    """

    _fields_ = [
        (name, ctypes.c_double)
        for name in ("images", "operations", "diverged", "running", "peak", "item", "cheapest")
    ]


@dataclasses.dataclass(frozen=True)
class Options:
    """What all workers are told."""

    plan: Path | None
    root: Path
    data_root: Path | None
    device: str | None
    engine: str
    raw: bool
    threads: int
    end: float  # of the training, by the clock that all processes share
    code: Sequence[tuple[str, str, str, int]] = ()  # of the user's own, as `runs.code` gives it


def stands(name: str, options: Options) -> bool:
    return results.run_path(name, options.root).is_file() or (
        not options.raw and name in _shipped()
    )


@functools.cache
def _shipped() -> frozenset[str]:
    """Shipped runs that are measured in all that their network can be measured in."""
    names: set[str] = set()
    for experiment in experiments.names():
        if (found := experiments.shipped(experiment)) is not None:
            whole = ~np.isin(found["model"].values, models.NORMALISED)
            accuracy = found["unbiased_accuracy"]
            if "statistics" in accuracy.dims:
                whole |= np.isfinite(accuracy.transpose("run", ...).values).all(1)
            names |= set(found["run_id"].values[whole].tolist())
    return frozenset(names)


class Crew:
    """The workers: started, started again without what failed, and stopped on time."""

    def __init__(self, options: Options, workers: int, items: int) -> None:
        self.options, self.failures = options, [0] * items
        self.context = multiprocessing.get_context("spawn")
        self.boards: list[Any] = [self.context.Value(Board, lock=False) for _ in range(workers)]
        self.before = np.zeros(3)  # images, operations, diverged of workers that are gone
        self.workers = [self._start(board) for board in self.boards]
        self.logged = np.zeros(3)

    def _start(self, board: Any) -> Any:
        board.__init__(0, 0, 0, 0, 0, -1, math.inf)
        worker = self.context.Process(
            target=_work, args=(self.options, tuple(self.failures), board), daemon=True
        )
        worker.start()
        return worker

    def watch(self, report: Callable[[], None]) -> None:
        """Until the end of the training, or until there is nothing left to start."""
        reported = time.monotonic()
        while time.monotonic() < self.options.end and any(self.workers):
            for k, worker in enumerate(self.workers):
                if worker is not None and worker.exitcode is not None:
                    self.workers[k] = self._again(self.boards[k]) if worker.exitcode else None
            if time.monotonic() - reported >= EVERY:
                reported = time.monotonic()
                report()
            time.sleep(0.1)

    def _again(self, board: Any) -> Any:
        """Another worker in the place of one that failed; None if that had not even begun."""
        if board.item < 0:
            return None
        self.failures[int(board.item)] += 1
        self.before += (board.images, board.operations, board.diverged)
        return self._start(board)

    def told(self) -> str:
        """What they do, for a line of the log."""
        now = self.before + sum(
            np.array([board.images, board.operations, board.diverged]) for board in self.boards
        )
        images, operations, diverged = now - [*self.logged[:2], 0]
        self.logged = now
        peak = sum(board.peak for board in self.boards) or math.inf
        running = sum(board.running for board in self.boards)
        return (
            f"{running:.0f} running, {diverged:.0f} diverged, {images / EVERY:.0f} images/s, "
            f"{operations / EVERY / peak:.0%} of peak"
        )

    @property
    def cheapest(self) -> float:
        """Seconds of the shortest run that they looked at."""
        return min(board.cheapest for board in self.boards)

    def stop(self, end: float) -> None:
        """Ask the workers to keep what they have, and end those that do not by then."""
        left = [worker for worker in self.workers if worker is not None]
        for worker in left:
            worker.terminate()
        for worker in left:
            worker.join(max(0.0, end - time.monotonic()))
            if worker.exitcode is None:
                worker.kill()
                worker.join()


def _work(options: Options, failures: Sequence[int], board: Any) -> None:
    """A worker's life: through the plan, row by row, starting what can still end.

    And again, as long as something was trained: what did not fit beside others may fit now.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that keeps the time says when
    torch.set_num_threads(options.threads)
    display = Progress(0, 0.0, bound=False, show=False)
    costs = _Costs(options, board)
    threading.Thread(target=_tell, args=(board, display, costs), daemon=True).start()
    runs.learn(options.code)
    items, trained = read_plan(options.plan), True
    while trained:
        trained = False
        for number, item in enumerate(items):
            if failures[number] > 1:
                continue
            board.item = number
            engine = "reference" if failures[number] else options.engine
            with contextlib.suppress(DataMissing):
                costs.look_at(item)
                if costs.to_do:
                    report = sweep.run(
                        costs.to_do, root=options.root, data_root=options.data_root,
                        device=options.device, engine=engine, raw=True, wanted=costs.fits,
                        progress=display, on_result=costs.learn,
                    )  # fmt: skip
                    trained |= bool(report.trained)
        costs.measured.clear()  # fewer are left to go side by side


def _tell(board: Any, display: Progress, costs: "_Costs") -> None:
    """Every half second, to the end of the worker: what is done; stops where nobody looks."""
    parent, images = os.getppid(), 0
    while True:
        before, images = images, display.images
        board.images, board.running, board.diverged = images, display.running, display.diverged
        board.operations += (images - before) * costs.operations
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)


class _Costs:
    """Seconds that runs take here, from steps and passes measured in a few seconds for each row."""

    def __init__(self, options: Options, board: Any) -> None:
        self.options, self.device, self.board = options, arguments.device(options.device), board
        board.peak = _peak(self.device)
        self.known = experiments.known_runs(options.root)
        self.measured: dict[tuple, tuple[float, float, float]] = {}
        self.to_do: list[RunConfig] = []
        self.operations = 0.0
        self.expected: dict[str, float] = {}
        self.key: tuple = ()

    def look_at(self, item: Item) -> None:
        """The item's runs that can be done now, as many as fit side by side; their step time."""
        options, self.to_do = self.options, []
        left = [c for c in item.runs if not stands(identify(c, options.data_root), options)]
        while left and not self.to_do:
            first, t = left[0], left[0].train
            together = self.device.type == "cuda" or first.model == "fcn"
            beside = min(len(left) if together else options.threads, len(left))
            self.key = (
                first.dataset, first.data, first.model, first.model_options, t.batch_size,
                t.optimizer, t.sam_rho > 0, t.asam_rho > 0, beside,
            )  # fmt: skip
            if self.key not in self.measured:
                self.measured[self.key] = self._measure(left, beside)
            self.operations = self.measured[self.key][2]
            self.to_do = [c for c in left if self.fits(c)]
            left = left[: len(left) // 2] if together else []  # half as many take half as long

    def _measure(self, left: Sequence[RunConfig], runs: int) -> tuple[float, float, float]:
        """Seconds of a step of so many runs and of a run's measures; operations an image.

        Nothing is tried of runs for which there is not time enough even at the device's peak.
        """
        config = left[0]
        dataset = load(config, self.options.data_root)
        net = arguments.factory(config.model, dataset, dict(config.model_options))()
        with FlopCounterMode(display=False) as counter:
            x = dataset.train.inputs(dataset.train.x[:2])
            F.cross_entropy(models.logits(net, x), dataset.train.y[:2]).backward()
        operations = counter.get_total_flops() / 2
        step = operations * config.train.batch_size / self.board.peak
        shortest = min(self._steps(c, dataset) for c in left) * step
        if time.monotonic() + shortest > self.options.end:
            return step, 0.0, operations
        step = sweep.step_seconds(config, dataset, self.options.device, runs)
        few = measures.fixed_samples(dataset.test, 100).to(self.device)
        models.predict(net.to(self.device), few).sum().item()
        started = time.perf_counter()
        models.predict(net, few).sum().item()
        a_pass = (time.perf_counter() - started) / len(few)
        modes = 3 if config.model in models.NORMALISED else 1
        pruned = 2 * len(pruning.KAPPAS)  # networks: two methods
        passes = modes * (len(dataset.test) + pruned * prune_samples(config, dataset))
        passes += pruned * models.normalisation.SAMPLES if modes > 1 else 0
        # 50 points of a path, of as many samples as a batch, and DeepLIFT
        seconds = passes * a_pass + modes * 60 * step / runs
        # on a GPU one lane measures all its runs in turn, while none is trained
        return step, seconds * (runs if self.device.type == "cuda" else 1), operations

    def _steps(self, config: RunConfig, dataset: datasets.BiasedDataset) -> float:
        """Steps that a run is still to take, an epoch at least."""
        epoch = steps_of_epoch(config, dataset)
        steps = experiments.estimate_epochs(config, self.known) * epoch
        return max(epoch, min(steps, config.train.max_steps or math.inf) - self._done(config))

    def _done(self, config: RunConfig) -> int:
        """Steps that an earlier campaign did of a run that was cut off."""
        name = identify(config, self.options.data_root)
        for path in results.checkpoints_path(name, self.options.root).glob("*.pt"):
            with contextlib.suppress(ValueError, OSError, LookupError):  # then it starts over
                return int(files.load(path)["state"]["done"])
        return 0

    def fits(self, config: RunConfig) -> bool:
        """Whether a run, from its start to its result, can end before the training must."""
        step, of_measures, _ = self.measured[self.key]
        steps = self._steps(config, load(config, self.options.data_root))
        self.expected[config.to_json()] = seconds = steps * step + of_measures
        self.board.cheapest = min(self.board.cheapest, seconds)
        return time.monotonic() + seconds <= self.options.end

    def learn(self, number: int, of: int, found: xr.Dataset) -> None:
        """What a run that has ended took is what the others of its row are expected to take."""
        trained, whole = found.attrs["train_seconds"], found.attrs["wall_seconds"]
        expected = self.expected.get(found.attrs["config"], math.nan)
        _log.info(
            "  took %.0f s, expected %.0f s; its measures %.1f s, expected %.1f s",
            whole, expected, whole - trained, self.measured[self.key][1],
        )  # fmt: skip
        if found["steps"] > 0:
            step = trained / float(found["steps"])
            self.measured[self.key] = (step, whole - trained, self.operations)


def _peak(device: torch.device) -> float:
    """Operations a second of the quickest of some matrix products in fp32, as it is set."""
    n = 8192 if device.type == "cuda" else 1024
    a, seconds = torch.randn(n, n, device=device), []
    for _ in range(12):
        started = time.perf_counter()
        (a @ a)[0, 0].item()
        seconds.append(time.perf_counter() - started)
    return 2 * n**3 / min(seconds)
