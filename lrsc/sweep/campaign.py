"""A campaign: the runs that are worth most, as many as a given time holds, and packed at its end.

This process keeps the time. Workers train: processes that go through the plan in its order, each
taking what nobody has taken, so that a worker that fails or hangs costs its runs and not the time.
"""

import dataclasses
import logging
import math
import os
import time
from pathlib import Path

from lrsc import errors, results, runs
from lrsc.errors import DataMissing, check_names, is_number, is_whole, shown
from lrsc.runs import identify
from lrsc.sweep import packs
from lrsc.sweep.crew import Crew, Options, stands
from lrsc.sweep.dask import check_guard
from lrsc.sweep.plan import PLAN, Item, read_plan
from lrsc.training import ENGINES, arguments

GRACE = 20.0  # seconds before the end at which training stops
PACKING = 12.0  # of these, for what is not measured by then to be given up, and packing
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Done:
    """What a campaign leaves: runs finished in it, runs of the plan that stand, files, seconds."""

    finished: tuple[str, ...]
    standing: int
    rows: tuple[int, int]  # whole ones, of
    files: tuple[Path, ...]
    seconds: float


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
    of done runs of the nearest LRs. Runs of a row go side by side as in a sweep; workers: processes
    beside one another, default a core each on a CPU and 1 on a GPU. Runs that stand in the results
    folder are not repeated, and, unless raw, those that ship with the book in all statistics of
    batch normalisation; those cut off keep checkpoints, from which the next one goes on. out: the
    folder for `packs.write`, a few files and a manifest; light: without raw material. A row that
    fails is tried again with the reference engine, then left.

    Raises ValueError before any training for a plan that cannot be used, a device that is absent, a
    folder that cannot be written, and too little time for any run, with what the cheapest takes.
    """
    started = time.monotonic()
    check_guard()
    if not is_number(minutes) or not 60 * minutes >= 1.5 * GRACE:
        raise ValueError(
            f"minutes must be a number >= {1.5 * GRACE / 60:g}, found {shown(minutes)}: training "
            f"ends {GRACE:g} s before the time does"
        )
    check_names("engine", [engine], ENGINES)
    if workers is not None and not is_whole(workers, 1):
        raise ValueError(f"workers must be a whole number >= 1 or None, found {shown(workers)}")
    where = arguments.device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = workers or (1 if where.type == "cuda" else cores or 1)
    items = read_plan(plan)
    folder = packs.prepare(out)
    base = results.results_root(root)
    absolute = lambda name, path: path and errors.path(name, path).resolve()  # noqa: E731
    options = Options(
        absolute("plan", plan), base, absolute("data_root", data_root), device, engine, raw,
        max(1, (cores or 1) // workers), started + 60 * minutes - GRACE,
        runs.code(config for item in items for config in item.runs),
    )  # fmt: skip
    named = [names for item in items if (names := _names(item, options.data_root))]
    every = list(dict.fromkeys(name for names in named for name in names))
    standing = lambda: {name for name in every if stands(name, options)}  # noqa: E731
    whole = lambda now: sum(now >= set(names) for names in named)  # noqa: E731
    before, end = standing(), started + 60 * minutes
    crew = Crew(options, workers, len(items))

    def report() -> None:
        now = standing()
        _log.info(
            "%d of %d rows, %d of %d runs, %s, %.1f minutes left", whole(now), len(named),
            len(now), len(every), crew.told(), (end - time.monotonic()) / 60,
        )  # fmt: skip

    try:
        crew.watch(report)
    finally:
        crew.stop(end - PACKING)
        report()
    now = standing()
    if len(before) < len(every) and now <= before and not crew.logged[0]:
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
    return Done(
        tuple(name for name in every if name in now - before), len(now), (whole(now), len(named)),
        tuple(files), time.monotonic() - started,
    )  # fmt: skip


def _names(item: Item, data_root: Path | None) -> list[str]:
    """Names of an item's runs; none where its data are not here."""
    try:
        return [identify(config, data_root) for config in item.runs]
    except DataMissing as error:
        _log.info("left out: %s (%s)", item.name, str(error).partition("\n")[0])
        return []
