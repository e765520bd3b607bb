"""A campaign: the runs that are worth most, as many as a given time holds, and packed at its end.

This process keeps the time. Workers train: processes that go through the plan in its order, each
taking what nobody has taken, so that a worker that fails or hangs costs its runs and not the time.
"""

import contextlib
import csv
import dataclasses
import functools
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lrsc import datasets, experiments, files, measures, models, pruning, results, sweep
from lrsc.config import RunConfig
from lrsc.errors import DataMissing, check_names, shown
from lrsc.sweep import packs
from lrsc.training import ENGINES, arguments
from lrsc.training.progress import Progress

PLAN = Path(experiments.__file__).parent / "tables" / "campaign.csv"
COLUMNS = ("weight", "experiment", "dataset", "model", "row", "profile", "values", "seeds")
GRACE = 20.0  # seconds before the end at which training stops
PACKING = 12.0  # of these, for what is not measured by then to be given up, and packing
EVERY = 10.0  # seconds between two lines of the log
# what a worker tells of itself, in this order
_IMAGES, _OPERATIONS, _RUNNING, _DIVERGED, _PEAK, _ITEM, _CHEAPEST = range(7)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Item:
    """A row of the plan: its runs in the order in which they say most."""

    name: str
    weight: float
    runs: tuple[RunConfig, ...]


@dataclasses.dataclass(frozen=True)
class Done:
    """What a campaign leaves: runs finished in it, runs of the plan that stand, files, seconds."""

    finished: tuple[str, ...]
    standing: int
    rows: tuple[int, int]  # whole ones, of
    files: tuple[Path, ...]
    seconds: float


def read_plan(path: str | Path | None = None) -> list[Item]:
    """The rows of a plan, the weightiest first, equal ones in the file's order.

    path: a CSV file with the columns weight, experiment, dataset, model, row (its hyperparameter),
    profile, values and seeds (both separated by blanks; empty: the row's own); default the plan
    that ships. Of a row come first both ends of its values with its first seed, then the values
    between, then the further seeds. Raises ValueError for a file that cannot be read, has no rows
    or lacks a column, and for rows that do not exist; the text names the line.
    """
    path = Path(PLAN if path is None else path)
    try:
        with open(path, newline="") as file:
            table = csv.DictReader(file)
            lines = [(table.line_num, line) for line in table]
            columns = table.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read the plan {path}: {error}") from error
    if lacking := [name for name in COLUMNS if name not in columns]:
        raise ValueError(f"plan {path} lacks the columns {', '.join(lacking)}")
    if not lines:
        raise ValueError(f"plan {path} has no rows: name at least one under {','.join(COLUMNS)}")
    items = []
    for number, line in lines:
        try:
            items.append(_item(line))
        except ValueError as error:
            raise ValueError(f"plan {path}, line {number}: {error}") from error
    return sorted(items, key=lambda item: -item.weight)


def _item(line: Mapping[str, str | None]) -> Item:
    read = {name: (line[name] or "").strip() for name in COLUMNS}
    experiment, dataset, model, row = (
        read[n] for n in ("experiment", "dataset", "model", "row")
    )  # fmt: skip
    weight, values = float(read["weight"]), [float(v) for v in read["values"].split()]
    if not math.isfinite(weight):
        raise ValueError(f"weight must be a number, found {shown(read['weight'])}")
    seeds = [int(seed) for seed in read["seeds"].split()] or None
    own = values if values and row == "lr" else None
    runs = experiments.configs(
        experiment, read["profile"], dataset, model, own, seeds, row
    )  # fmt: skip
    knob = experiments.knob(experiment, dataset, model, row)
    if values and own is None:
        runs = [c for c in runs if np.isclose(results.value_of(c, knob), values).any()]
    if not runs:
        raise ValueError(f"none of the values {read['values']} is one of the row's")
    return Item(f"{dataset} {model} {row} {read['profile']}", weight, _in_order(runs, knob))


def _in_order(runs: Sequence[RunConfig], knob: str) -> tuple[RunConfig, ...]:
    """Both ends of the values and the first seed first, then the middle, then further seeds."""
    values = sorted({results.value_of(c, knob) for c in runs})
    seeds = list(dict.fromkeys(c.seed for c in runs))
    middle = (len(values) - 1) / 2
    ends = [values[-1], values[0]]
    inner = sorted(values[1:-1], key=lambda v: abs(values.index(v) - middle))
    order = {value: place for place, value in enumerate(dict.fromkeys([*ends, *inner]))}
    key: Callable[[RunConfig], tuple] = lambda c: (  # noqa: E731
        seeds.index(c.seed), order[results.value_of(c, knob)],
    )  # fmt: skip
    return tuple(sorted(runs, key=key))


@dataclasses.dataclass(frozen=True)
class _Options:
    """What all workers are told."""

    plan: Path | None
    root: Path
    data_root: Path | None
    device: str | None
    engine: str
    raw: bool
    threads: int
    end: float  # of the training, by the clock that all processes share


def run(
    minutes: float,
    *,
    device: str | None = None,
    out: str | Path = "campaign",
    plan: str | Path | None = None,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    engine: str = "auto",
    workers: int | None = None,
    raw: bool = False,
    light: bool = False,
) -> Done:
    """Train and measure what the time holds of a plan (`read_plan`), and pack it; ends on time.

    A run is started only if it can end in time, by the time of a step measured here and the epochs
    of the nearest run that is done. Runs of a row go side by side as in a sweep; workers: processes
    beside one another, default a core each on a CPU and 1 on a GPU. Runs that stand in the results
    folder are not repeated, and, unless raw, those that ship with the book in all statistics of
    batch normalisation; those cut off keep checkpoints, from which the next one goes on. out: the
    folder for `packs.write`, a few files and a manifest; light: without raw material. A row that
    fails is tried again with the reference engine, then left.

    Raises ValueError before any training for a plan that cannot be used, a device that is absent, a
    folder that cannot be written, and too little time for any run, with what the cheapest takes.
    """
    started = time.monotonic()
    if not isinstance(minutes, int | float) or not 60 * minutes >= 1.5 * GRACE:
        raise ValueError(
            f"minutes must be a number >= {1.5 * GRACE / 60:g}, found {shown(minutes)}: training "
            f"ends {GRACE:g} s before the time does"
        )
    check_names("engine", [engine], ENGINES)
    if workers is not None and not arguments.is_whole(workers, 1):
        raise ValueError(f"workers must be a whole number >= 1 or None, found {shown(workers)}")
    where = arguments.device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = workers or (1 if where.type == "cuda" else cores or 1)
    items = read_plan(plan)
    folder = packs.prepare(out)
    base = results.results_root(root)
    options = _Options(
        None if plan is None else Path(plan).resolve(), base,
        None if data_root is None else Path(data_root).resolve(), device, engine, raw,
        max(1, (cores or 1) // workers), started + 60 * minutes - GRACE,
    )  # fmt: skip
    named = _named(items, options.data_root)
    every = list(dict.fromkeys(name for names in named for name in names))
    before = {name for name in every if _stands(name, options)}
    to_do = len(before) < len(every)
    end = started + 60 * minutes
    crew = _Crew(options, workers, len(items))

    def report() -> None:
        rows = [[_stands(name, options) for name in names] for names in named if names]
        _log.info(
            "%d of %d rows, %d of %d runs, %s, %.1f minutes left", sum(map(all, rows)), len(rows),
            sum(_stands(name, options) for name in every), len(every), crew.told(),
            (end - time.monotonic()) / 60,
        )  # fmt: skip

    try:
        crew.watch(report)
    finally:
        crew.stop(end - PACKING)
        report()
    finished = [name for name in every if name not in before and _stands(name, options)]
    if to_do and not finished and not crew.logged[0]:
        takes = (
            f"the cheapest takes {crew.cheapest / 60:.1f} minutes here"
            if math.isfinite(crew.cheapest) else "they were over before a row was looked at"
        )  # fmt: skip
        raise ValueError(
            f"{minutes:g} minutes hold no run of the plan: {takes}, and the end {GRACE:g} s"
        )
    about = {"minutes": minutes, "plan": str(plan or PLAN.name), "failed": [
        item.name for item, n in zip(items, crew.failures, strict=True) if n > 1
    ]}  # fmt: skip
    files = packs.write(folder, base, every, light=light, end=end - 1.0, about=about)
    whole = [all(_stands(n, options) for n in names) for names in named if names]
    return Done(
        tuple(finished), sum(_stands(n, options) for n in every), (sum(whole), len(whole)),
        tuple(files), time.monotonic() - started,
    )  # fmt: skip


def _named(items: Sequence[Item], data_root: Path | None) -> list[list[str]]:
    """Names of the runs of each item; none where its data are not here."""
    found = []
    for item in items:
        try:
            found.append([sweep.identify(c, data_root) for c in item.runs])
        except DataMissing as error:
            _log.info("left out: %s (%s)", item.name, str(error).partition("\n")[0])
            found.append([])
    return found


def _stands(name: str, options: _Options) -> bool:
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


class _Crew:
    """The workers: started, started again without what failed, and stopped on time."""

    def __init__(self, options: _Options, workers: int, items: int) -> None:
        self.options, self.failures = options, [0] * items
        self.context = multiprocessing.get_context("spawn")
        self.boards = [self.context.Array("d", 7, lock=False) for _ in range(workers)]
        self.before = np.zeros(3)  # images, operations, diverged of workers that are gone
        self.workers = [self._start(board) for board in self.boards]
        self.logged = np.zeros(3)

    def _start(self, board: Any) -> Any:
        board[:] = [0.0] * _ITEM + [-1.0, math.inf]
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
        if board[_ITEM] < 0:
            return None
        self.failures[int(board[_ITEM])] += 1
        self.before += self._told(board)
        return self._start(board)

    def _told(self, board: Any) -> np.ndarray:
        return np.array([board[_IMAGES], board[_OPERATIONS], board[_DIVERGED]])

    def told(self) -> str:
        """What they do, for a line of the log."""
        now = self.before + sum(self._told(board) for board in self.boards)
        images, operations, diverged = now - [*self.logged[:2], 0]
        self.logged = now
        peak = sum(board[_PEAK] for board in self.boards) or math.inf
        running = sum(board[_RUNNING] for board in self.boards)
        return (
            f"{running:.0f} running, {diverged:.0f} diverged, {images / EVERY:.0f} images/s, "
            f"{operations / EVERY / peak:.0%} of peak"
        )

    @property
    def cheapest(self) -> float:
        """Seconds of the shortest run that they looked at."""
        return min(board[_CHEAPEST] for board in self.boards)

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


# in a worker


def _work(options: _Options, failures: Sequence[int], board: Any) -> None:
    """A worker's life: once through the plan, row by row, starting what can still end."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that keeps the time says when
    torch.set_num_threads(options.threads)
    board[_PEAK] = _peak(arguments.device(options.device))
    display = Progress(0, 0.0, bound=False, show=False)
    costs = _Costs(options, board[_PEAK])
    teller = _Teller(board, display, costs)
    threading.Thread(target=teller.go_on, daemon=True).start()
    for number, item in enumerate(read_plan(options.plan)):
        if failures[number] > 1:
            continue
        board[_ITEM] = number
        engine = "reference" if failures[number] else options.engine
        with contextlib.suppress(DataMissing):
            costs.look_at(item)
            if costs.to_do:
                sweep.run(
                    costs.to_do, root=options.root, data_root=options.data_root,
                    device=options.device, engine=engine, raw=True, wanted=costs.fits,
                    progress=display, on_result=costs.learn,
                )  # fmt: skip
        teller.tell()


class _Teller:
    """Tells the process that keeps the time what is done, and stops where it is gone."""

    def __init__(self, board: Any, display: Progress, costs: "_Costs") -> None:
        self.board, self.display, self.costs = board, display, costs
        self.parent, self.images = os.getppid(), 0
        self.lock = threading.Lock()

    def go_on(self) -> None:
        """Every half second, to the end of the worker."""
        while True:
            self.tell()
            if os.getppid() != self.parent:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)

    def tell(self) -> None:
        """Once."""
        with self.lock:
            board, images = self.board, self.display.images
            board[_OPERATIONS] += (images - self.images) * self.costs.operations
            self.images = board[_IMAGES] = images
            board[_RUNNING], board[_DIVERGED] = self.display.running, self.display.diverged
            board[_CHEAPEST] = self.costs.cheapest


class _Costs:
    """Seconds that runs take here, from steps and passes measured in a few seconds for each row."""

    def __init__(self, options: _Options, peak: float) -> None:
        self.options, self.device, self.peak = options, arguments.device(options.device), peak
        self.known = experiments.known_runs(options.root)
        self.measured: dict[tuple, tuple[float, float, float]] = {}
        self.to_do: list[RunConfig] = []
        self.operations, self.cheapest = 0.0, math.inf
        self.expected: dict[str, float] = {}
        self.key: tuple = ()

    def look_at(self, item: Item) -> None:
        """The item's runs that are to be done, and what a step of them takes."""
        options = self.options
        self.to_do = [
            c for c in item.runs if not _stands(sweep.identify(c, options.data_root), options)
        ]
        if self.to_do:
            first = self.to_do[0]
            t = first.train
            self.key = (
                first.dataset, first.data, first.model, first.model_options, t.batch_size,
                t.optimizer, t.sam_rho > 0, t.asam_rho > 0,
            )  # fmt: skip
            if self.key not in self.measured:
                self.measured[self.key] = self._measure(first)
            self.operations = self.measured[self.key][2]
            self.to_do = [c for c in self.to_do if self.fits(c)]

    def _measure(self, config: RunConfig) -> tuple[float, float, float]:
        """Seconds of a step of one run and of its measures; operations an image in training.

        Nothing is tried of runs for which there is not time enough even at the device's peak.
        """
        dataset = sweep.load(config, self.options.data_root)
        net = arguments.factory(config.model, dataset, dict(config.model_options))()
        with FlopCounterMode(display=False) as counter:
            x = dataset.train.inputs(dataset.train.x[:2])
            F.cross_entropy(net(x), dataset.train.y[:2]).backward()
        operations = counter.get_total_flops() / 2
        step = operations * config.train.batch_size / self.peak
        shortest = min(self._steps(c, dataset) for c in self.to_do) * step
        if time.monotonic() + shortest > self.options.end:
            return step, 0.0, operations
        together = self.device.type == "cuda" or config.model == "fcn"
        runs = min(len(self.to_do) if together else self.options.threads, len(self.to_do))
        step = sweep.step_seconds(config, dataset, self.options.device, runs)
        few = measures.fixed_samples(dataset.test, 100).to(self.device)
        models.predict(net.to(self.device), few).sum().item()
        started = time.perf_counter()
        models.predict(net, few).sum().item()
        a_pass = (time.perf_counter() - started) / len(few)
        modes = 3 if config.model in models.NORMALISED else 1
        pruned = 2 * len(pruning.KAPPAS)  # networks: two methods
        passes = modes * (len(dataset.test) + pruned * sweep.prune_samples(config, dataset))
        passes += pruned * models.normalisation.SAMPLES if modes > 1 else 0
        # 50 points of a path, of as many samples as a batch, and DeepLIFT
        seconds = passes * a_pass + modes * 60 * step / runs
        # on a GPU one lane measures all its runs in turn, while none is trained
        return step, seconds * (runs if self.device.type == "cuda" else 1), operations

    def _steps(self, config: RunConfig, dataset: datasets.BiasedDataset) -> float:
        """Steps that a run is still to take, an epoch at least."""
        epoch = len(dataset.train) // min(config.train.batch_size, len(dataset.train))
        steps = experiments.estimate_epochs(config, self.known) * epoch
        return max(epoch, min(steps, config.train.max_steps or math.inf) - self._done(config))

    def of(self, config: RunConfig) -> float:
        """Seconds from a run's start to its result."""
        step, seconds, _ = self.measured[self.key]
        return self._steps(config, sweep.load(config, self.options.data_root)) * step + seconds

    def _done(self, config: RunConfig) -> int:
        """Steps that an earlier campaign did of a run that was cut off."""
        name = sweep.identify(config, self.options.data_root)
        for path in results.checkpoints_path(name, self.options.root).glob("*.pt"):
            with contextlib.suppress(ValueError, OSError, LookupError):  # then it starts over
                return int(files.load(path)["state"]["done"])
        return 0

    def fits(self, config: RunConfig) -> bool:
        """Whether a run can end before the training must."""
        self.expected[config.to_json()] = seconds = self.of(config)
        self.cheapest = min(self.cheapest, seconds)
        return time.monotonic() + seconds <= self.options.end

    def learn(self, number: int, of: int, found: xr.Dataset) -> None:
        """What a run that has ended took is what the others of its row are expected to take."""
        trained, whole = found.attrs["train_seconds"], found.attrs["wall_seconds"]
        expected = self.expected.get(found.attrs["config"], math.nan)
        _log.info("  took %.0f s, expected %.0f s", whole, expected)
        if trained < whole and found["steps"] > 0:  # not one that went on from a checkpoint
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
