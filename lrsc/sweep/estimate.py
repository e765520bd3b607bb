"""What a sweep will take, before it starts: from steps measured here and epochs of done runs."""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path

from lrsc import datasets, experiments, measures
from lrsc.config import RunConfig
from lrsc.experiments.status import is_done, shipped_ids
from lrsc.runs import identify, load
from lrsc.training import PROBES, Probe, fixed_loss_ratio
from lrsc.training import step_seconds as seconds_of_a_step


def expected_steps(
    named: dict[str, RunConfig], root: str | Path | None, data_root: str | Path | None
) -> tuple[dict[str, tuple[float, int]], bool]:
    """Steps that each run is likely to need, and its batch size; whether some are the run's cap.

    For the time left: looked up only where someone sees it.
    """
    if not sys.stderr.isatty():
        return {}, True
    known, bound = experiments.known_runs(root), False
    found: dict[str, tuple[float, int]] = {}
    of = lambda name: str((named[name].dataset, named[name].data))  # noqa: E731
    for name in sorted(named, key=of):  # one data set after the other: the last one is kept
        config = named[name]
        dataset = load(config, data_root)
        epochs = experiments.estimate_epochs(config, known)
        bound |= epochs == config.train.max_epochs
        batch = min(config.train.batch_size, len(dataset.train))
        found[name] = epochs * steps_of_epoch(config, dataset), batch
    return found, bound


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

    Step times are measured here; the number of epochs is told by done runs of the nearest LRs,
    and where there is none, the cap (`seconds` is then an upper bound: `bounded` is False).
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


def step_seconds(
    config: RunConfig, dataset: datasets.BiasedDataset, device: str | None, runs: int = 1
) -> float:
    """Median seconds of a training step of so many runs side by side, as far as they go so."""
    few = dataclasses.replace(dataset, train=measures.fixed_samples(dataset.train, 2000))
    return seconds_of_a_step(
        config.model, few, config.train, runs, dict(config.model_options), device,
        *probes_of(config, few),
    )  # fmt: skip


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
