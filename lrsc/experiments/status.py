"""What is done of the experiments, what is missing, and what that is likely to take."""

import collections
import dataclasses
import functools
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import datasets, results
from lrsc.config import RunConfig
from lrsc.errors import check_names
from lrsc.experiments.found import all_runs, all_shipped, find_places, key_of
from lrsc.experiments.rows import EXPERIMENTS
from lrsc.experiments.select import PROFILES, planned_runs, profile_of, row_keys
from lrsc.results import locks
from lrsc.runs import is_own


def known_runs(root: str | Path | None = None) -> xr.Dataset | None:
    """Epochs of all runs that are done, local or shipped, in long form; None if there are none."""
    found = all_runs(root)
    keys = ["dataset", "model", "data", "hyperparameter", "status", "lr", "epochs", "train_seconds",
            "n_train", "replicas", "stand_in"]  # fmt: skip
    return xr.concat([f.reset_coords()[keys] for f in found], "run") if found else None


def estimate_epochs(config: RunConfig, known: xr.Dataset | None) -> float:
    """Epochs a run is likely to need, from finished runs of the two nearest LRs; else its cap.

    Taken from a line through their means, with both axes logarithmic. Runs with the same data
    options and the same hyperparameter are used if there are any.
    """
    if known is not None:
        chosen = _alike(config, known)
        lr, epochs = np.log(chosen["lr"].values), np.log(np.maximum(chosen["epochs"].values, 1))
        asked, lrs = math.log(config.train.lr), np.unique(lr)
        if len(lrs):
            near = lrs[np.abs(lrs - asked).argsort()]
            first = epochs[lr == near[0]].mean()
            apart = near[np.abs(near - near[0]) > 0.1]  # LRs that are nearly one have no slope
            rise = (epochs[lr == apart[0]].mean() - first) if len(apart) else 0.0
            slope = np.clip(rise / (apart[0] - near[0]), -2, 2) if len(apart) else 0.0
            away = np.clip(asked - near[0], -math.log(10), math.log(10))
            found = math.exp(first + slope * away)
            return float(min(max(found, 1.0), config.train.max_epochs))
    return float(config.train.max_epochs) if math.isfinite(config.train.max_epochs) else 0.0


def _alike(config: RunConfig, known: xr.Dataset) -> xr.Dataset:
    """Runs of a run's data set and model, of its data and hyperparameter where there are some."""
    chosen = (known["dataset"] == config.dataset) & (known["model"] == config.model)
    chosen &= known["status"] != "diverged"
    for narrower in (
        known["data"] == results.options_text(config.data),
        known["hyperparameter"] == results.intervention(config),
    ):
        if bool((chosen & narrower).any()):
            chosen &= narrower
    return known.isel(run=chosen.values)


def expected_seconds(config: RunConfig, known: xr.Dataset | None) -> float:
    """Seconds that a run is likely to train, from finished runs of its data set and model.

    Their seconds per sample and epoch, divided among runs trained side by side, times the samples
    and epochs of this one. Infinity if there are no such runs.
    """
    if known is None:
        return math.inf
    chosen = _alike(config, known)
    samples = chosen["n_train"].values * chosen["epochs"].values
    seconds = chosen["train_seconds"].values / np.maximum(chosen["replicas"].values, 1)
    fine = (samples > 0) & np.isfinite(seconds)
    if not fine.any():
        return math.inf
    rate = float(np.median(seconds[fine] / samples[fine]))
    return rate * _samples(config, known) * estimate_epochs(config, known)


def _samples(config: RunConfig, known: xr.Dataset) -> float:
    """Training samples of a run: as its data say, else as runs of its data set had that are done.

    Stand-ins have at most 2000; a data set that is generated has as many in every profile.
    """
    if "n_train" in dict(config.data):
        return float(dict(config.data)["n_train"])
    embedded = config.source == "embedded" and datasets.is_ours(config.dataset)
    if embedded:
        source = datasets.resolve(config.dataset, None, "embedded").source_id
        embedded = datasets.is_stand_in(source)
    same = (known["dataset"] == config.dataset) & (known["stand_in"] == embedded)
    sizes = known["n_train"].values[same.values]
    return float(np.max(sizes)) if len(sizes) else 2000.0 if embedded else 60_000.0


def status(profile: str | None = None, root: str | Path | None = None) -> list[dict]:
    """Progress of every experiment: one row for each profile and row of its table.

    missing: neither done nor running now; of those, failed ones have been tried. seconds: what one
    process needs for the rest, from finished runs of the same data set and model; None if there are
    none.
    """
    if profile is not None:
        check_names("profile", [profile], PROFILES)
    sources = all_runs(root)
    diverged = [(source["status"].values == "diverged").tolist() for source in sources]
    known = known_runs(root)
    running, failed = (
        {(profile_of(c), key_of(c)) for n in notes for c in [RunConfig.from_json(n["config"])]}
        for notes in (locks.running(root), locks.failures(root))
    )
    # seeds make no difference
    seconds_of = functools.cache(lambda config: expected_seconds(config, known))
    rows = []
    for candidate in [profile] if profile else PROFILES:
        for name in EXPERIMENTS:
            for key in row_keys(name):
                wanted = planned_runs(name, candidate, *key)
                if not wanted:
                    continue
                places = find_places(sources, wanted, candidate)
                ended = {sources[number]["key"].values[row] for number, row in places}
                to_do = {(candidate, key_of(c)): c for c in wanted if key_of(c) not in ended}
                now = len(running & set(to_do))
                seconds = sum(seconds_of(dataclasses.replace(c, seed=0)) for c in to_do.values())
                rows.append({
                    "profile": candidate, "experiment": name, "dataset": key[0],
                    "model": key[1], "hyperparameter": key[2],
                    "runs": len(wanted), "done": len(places),
                    "diverged": sum(diverged[number][row] for number, row in places),
                    "running": now, "failed": len(failed & set(to_do)),
                    "missing": len(wanted) - len(places) - now,
                    "seconds": seconds if math.isfinite(seconds) else None,
                })  # fmt: skip
    return rows + _own(profile, sources, running, failed)


def _own(
    profile: str | None, sources: list[xr.Dataset], running: set[tuple], failed: set[tuple]
) -> list[dict]:
    """What is done of runs with a user's own data set or model, which no experiment plans."""
    runs: dict[tuple, dict[str, str]] = {}  # row -> key of the run -> how it stands

    def put(config: RunConfig, state: str) -> None:
        if is_own(config) and profile in (None, profile_of(config)):
            row = profile_of(config), config.dataset, config.model, results.intervention(config)
            runs.setdefault(row, {})[key_of(config)] = state

    for found in sources:
        for text, status in zip(found["config"].values, found["status"].values, strict=True):
            put(results.parsed(text), "diverged" if status == "diverged" else "done")
    for state, noted in (("failed", failed), ("running", running)):
        for _, text in noted:
            put(RunConfig.from_json(text), state)
    return [
        dict(zip(("profile", "dataset", "model", "hyperparameter"), row, strict=True)) | {
            "experiment": "own", "runs": len(of_row), "done": states["done"] + states["diverged"],
            "diverged": states["diverged"], "running": states["running"],
            "failed": states["failed"], "missing": states["failed"], "seconds": None,
        }
        for row, of_row in runs.items() if (states := collections.Counter(of_row.values()))
    ]  # fmt: skip


def is_done(name: str, root: str | Path | None = None, probes: Iterable[str] = ()) -> bool:
    """Whether a run's result stands and can be read, and holds the curves of these probes."""
    found = results.load_run(results.run_path(name, root))
    return found is not None and all(f"{probe}_step" in found for probe in probes)


@functools.cache
def shipped_ids() -> frozenset[str]:
    """Names of the runs that ship with the book: they count as done."""
    return frozenset(name for found in all_shipped() for name in found["run_id"].values.tolist())
