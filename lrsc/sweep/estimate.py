"""What a sweep will take, before it starts: from steps measured here and epochs of done runs."""

import dataclasses
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lrsc import datasets, experiments, measures, models
from lrsc.config import RunConfig, TrainConfig
from lrsc.experiments.status import is_done, shipped_ids
from lrsc.runs import identify, load
from lrsc.training import PROBES, Probe, fixed_loss_ratio
from lrsc.training.engines import choose
from lrsc.training.fit import make_job
from lrsc.training.progress import Progress
from lrsc.training.run import Request, Run

PROBED = 8  # runs side by side of which a step is timed


def display(
    named: dict[str, RunConfig], root: str | Path | None, data_root: str | Path | None
) -> Progress:
    """A display of a sweep, with the time left by the steps that its runs are likely to need."""
    if not named:
        return Progress(0, 0, bound=True, show=False)
    known, bound, images = experiments.known_runs(root), False, 0.0
    steps: dict[Any, float] = {}
    of = lambda name: str((named[name].dataset, named[name].data))  # noqa: E731
    for name in sorted(named, key=of):  # one data set after the other: the last one is kept
        config = named[name]
        dataset = load(config, data_root)
        epochs = experiments.estimate_epochs(config, known)
        bound |= epochs == config.train.max_epochs
        steps[name] = epochs * steps_of_epoch(config, dataset)
        images += steps[name] * min(config.train.batch_size, len(dataset.train))
    return Progress(len(named), images, bound, steps=steps)


def steps_of_epoch(config: RunConfig, dataset: datasets.BiasedDataset) -> int:
    """Full batches of a run's training set."""
    return len(dataset.train) // min(config.train.batch_size, len(dataset.train))


def estimate(
    configs: Iterable[RunConfig],
    *,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | None = None,
) -> list[dict]:
    """Time a sweep will take, before it starts: one row for each data set and model.

    Step times are measured here; epochs are estimated from finished runs of the nearest LRs, or are
    the cap if there are none. `at_most_seconds` counts the cap for every run.
    """
    known_runs = experiments.known_runs(root)
    shipped = shipped_ids()
    rows: dict[tuple, dict] = {}
    for config in configs:
        row = rows.setdefault((config.dataset, config.model), {
            "dataset": config.dataset, "model": config.model, "runs": 0, "to_do": 0,
            "step_ms": float("nan"), "seconds": 0.0, "at_most_seconds": 0.0,
        })  # fmt: skip
        row["runs"] += 1
        name = identify(config, data_root)
        if name in shipped or is_done(name, root):
            continue
        dataset = load(config, data_root)
        if row["to_do"] == 0:
            row["step_ms"] = 1000 * step_seconds(config, dataset, device)
        row["to_do"] += 1
        seconds = steps_of_epoch(config, dataset) * row["step_ms"] / 1000
        row["seconds"] += seconds * experiments.estimate_epochs(config, known_runs)
        row["at_most_seconds"] += seconds * config.train.max_epochs
    return list(rows.values())


@models.with_gradients()
def step_seconds(
    config: RunConfig, dataset: datasets.BiasedDataset, device: str | None, runs: int = 1
) -> float:
    """Seconds per step of one lane's runs, `runs` in all: median of three timings of half an epoch.

    At most PROBED runs are timed; for more, the time is scaled up with their number. Probes add the
    time of a call, divided by the iterations between two calls.
    """
    few = dataclasses.replace(dataset, train=measures.fixed_samples(dataset.train, 2000))
    usual, ends = TrainConfig(), ("max_steps", "stop_at_accuracy", "stop_at_loss")
    schedule = ("schedule", "step_at", "step_factor", "switch_at", "switch_lr", "warmup", "decay")
    plain = {name: getattr(usual, name) for name in schedule} | dict.fromkeys(ends)
    train, options = dataclasses.replace(config.train, **plain), dict(config.model_options)
    probes, every = probes_of(config, few)
    job = make_job(config.model, few, [train], options, probes, every, None, None, device)
    job.every.clear()  # without probes first
    plan = choose.plan(job, [train] * min(runs, PROBED))
    threads = torch.get_num_threads()
    if plan.single:
        torch.set_num_threads(1)
    try:
        made, group = plan.make(job), []
        for seed in range(plan.width):
            group.append(Run(job, Request(train, seed)))
        half = max(1, job.epoch // 2)

        def timed(n: int) -> float:
            started = time.perf_counter()
            logits, _ = made.advance(group, n, lambda done: False)
            logits.sum().item()  # waits for the device
            for run in group:
                run.done = (run.done + n) % half
            return (time.perf_counter() - started) / n

        with models.matmul_precision(train.precision, job.device):
            timed(half)  # graphs are captured, memory is taken
            step = together = statistics.median(timed(half) for _ in range(3))
            for name, between in every.items():
                job.every.clear()
                job.every[name] = 1
                timed(1)
                together += max(0.0, timed(1) - step) / between
        beside = plan.width * plan.lanes
        return together * max(1.0, min(runs, choose.MOST) / beside if beside >= PROBED else 1.0)
    finally:
        torch.set_num_threads(threads)


def probes_of(
    config: RunConfig, dataset: datasets.BiasedDataset
) -> tuple[dict[str, Probe], dict[str, int]]:
    """What a sweep records along a run's training, and the iterations between two calls."""
    every = experiments.recording(config)
    probes: dict[str, Probe] = {name: PROBES[name](dataset) for name in every}
    if dataset.train.bias is not None:
        probes["loss_ratio_fixed"] = fixed_loss_ratio(dataset)
        every["loss_ratio_fixed"] = 200
    return probes, every
