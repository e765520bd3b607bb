"""SIGKILL at random moments, several processes at one sweep, a clock that jumps.

Each function takes a random.Random and an empty folder, and returns what came of its faults.
"""

import importlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from damaged import damage
from injection import (
    Counts,
    answer,
    environment,
    finished,
    in_child,
    kill,
    look,
    note,
    notes,
    runs,
    sweeping,
    tail,
)

from lrsc import experiments, results, sweep
from lrsc.datasets.raw import cache
from lrsc.results import consolidated
from lrsc.sweep import care
from lrsc.training import checkpoint


def _undisturbed(n: int, steps: int, folder: Path) -> dict[str, xr.Dataset]:
    """Results of the same runs in a sweep that nobody disturbs."""
    root = folder / "undisturbed"
    assert answer(sweeping, folder, root, runs(n, steps), "reference") is None
    return {name: results.load(results.run_path(name, root)) for name in finished(root)}


def sweep_killed(rng: random.Random, folder: Path, kills: int = 3, n: int = 4) -> Counts:
    """SIGKILL of a sweep at random moments, and at writes; then it is let go on to its end."""
    steps = 1500
    whole = _undisturbed(n, steps, folder)
    root, configs, counts = folder / "results", runs(n, steps), Counts(faults=kills)
    for attempt in range(kills + 1):
        before, resumes = finished(root), list(root.glob("checkpoints/*/*.pt"))
        process = in_child(sweeping, folder, root, configs, "reference")
        if attempt < kills:
            _wait_for(process, root, rng.choice(["time", "write"]), rng.uniform(0.05, 1.5))
            kill(process)
        else:
            process.join()
            if process.exitcode:
                counts.wrong.append(f"the last sweep ended with {process.exitcode}: {tail(folder)}")
        counts += look(root, before)
        if resumes:
            counts.resume_seconds = max(counts.resume_seconds, _resumed(root))
    counts += _compare(root, whole)
    return counts


def _wait_for(process, root: Path, what: str, seconds: float) -> None:
    """Wait so long, or until a temporary file appears after half the time."""
    time.sleep(seconds / 2 if what == "write" else seconds)
    until = time.monotonic() + 1
    while what == "write" and time.monotonic() < until and process.is_alive():
        if any(name.endswith(".part") for _, _, names in os.walk(root) for name in names):
            return


def _resumed(root: Path) -> float:
    """Seconds from the start of the last sweep to its first step; 0 if it did not come so far."""
    starts, steps = ([float(t) for t in notes(root, kind)] for kind in ("start", "step"))
    later = [step for step in steps if step > starts[-1]]
    return min(later) - starts[-1] if later else 0.0


def _compare(root: Path, whole: dict[str, xr.Dataset]) -> Counts:
    """Runs of a disturbed sweep that are missing or not as those of the undisturbed one."""
    counts = Counts(lost=len(whole.keys() - finished(root).keys()))
    for name in whole.keys() & finished(root).keys():
        found = results.load(results.run_path(name, root))
        if not found.equals(whole[name]):
            counts.wrong.append(f"run {name} is not the one that was never disturbed")
    return counts


def sweep_shared(
    rng: random.Random, folder: Path, processes: int = 8, n: int = 6, kills: int = 0
) -> Counts:
    """Several processes at one sweep, some of them killed; then one alone does the rest."""
    root, configs, counts = folder / "results", runs(n), Counts(faults=1 + kills)
    started = [in_child(sweeping, folder, root, configs, "auto") for _ in range(processes)]
    for process in rng.sample(started, kills):
        time.sleep(rng.uniform(0, 0.8))
        kill(process)
    for process in started:
        process.join()
    ended = [process.exitcode for process in started]
    if set(ended) - ({0} if not kills else {0, -signal.SIGKILL}):
        counts.wrong.append(f"processes ended with {ended}: {tail(folder)}")
    counts += look(root, {})
    before = finished(root)
    if kills:
        in_child(sweeping, folder, root, configs, "auto").join()
        counts += look(root, before)
    done = notes(root, "done")
    counts.repeated += len(done) - len(set(done))
    counts.lost += n - len(finished(root))
    left = list(root.glob("**/*.part"))
    if left and not kills:
        counts.wrong.append(f"left over: {left}")
    return counts


def checkpoint_killed(rng: random.Random, folder: Path, kills: int = 5) -> Counts:
    """SIGKILL of a process that writes one checkpoint after the other."""
    path, counts = folder / "run.pt", Counts(faults=kills)
    for _ in range(kills):
        process = in_child(_write_checkpoints, folder, path)
        time.sleep(rng.uniform(0.05, 0.6))
        kill(process)
        said = [int(line) for line in notes(folder, "written")]
        try:
            state = checkpoint.load(path, {"run": "1"})
        except checkpoint.Refused as error:
            counts.half_written += 1
            counts.wrong.append(str(error))
            continue
        step = state["step"] if state else 0
        counts.lost += step < max(said, default=0)
        if state and not bool((state["weights"] == step).all()):
            counts.wrong.append(f"checkpoint {step} is a mixture")
    return counts


def _write_checkpoints(path: Path) -> None:
    state = checkpoint.load(path, {"run": "1"})
    for step in itertools.count(1 + (state["step"] if state else 0)):
        weights = torch.full((1000, 500), float(step))
        checkpoint.save(path, {"run": "1"}, {"step": step, "weights": weights})
        note(path.parent, "written", step)


def cache_killed(rng: random.Random, folder: Path, kills: int = 5) -> Counts:
    """SIGKILL of a process that builds a cache entry, at times in the place of a damaged one."""
    counts = Counts(faults=kills)
    entry = folder / "cache" / "one"
    for _ in range(kills):
        if entry.is_dir() and rng.random() < 0.7:
            damage(rng, entry / "x.npy")
        damaged = entry.is_dir() and (entry / "x.npy").read_bytes()
        process = in_child(_build_cache, folder, folder / "cache")
        time.sleep(rng.uniform(0.0, 0.5))
        kill(process)
        if entry.is_dir() and (entry / "x.npy").read_bytes() != damaged:
            counts.half_written += cache._open(entry) is None
    with environment(LRSC_CACHE=str(folder / "cache")):
        found = cache.arrays("one", _make_entry)
    counts.accepted += not np.array_equal(found["x"], _entry())
    left = [path.name for path in (folder / "cache").iterdir() if path.name.endswith(".part")]
    counts.wrong += [f"left over: {name}" for name in left]
    return counts


def _entry() -> np.ndarray:
    return np.arange(200_000)


def _make_entry(folder: Path) -> None:
    out = cache.new_array(folder / "x.npy", _entry().shape, np.int64)
    for part in np.array_split(_entry(), 10):
        out[part[0] : part[-1] + 1] = part
        time.sleep(0.02)
    out.flush()
    (folder / "list.txt").write_text("beside the arrays")


def _build_cache(folder: Path) -> None:
    os.environ["LRSC_CACHE"] = str(folder)
    cache.arrays("one", _make_entry)


def clock_set_back(rng: random.Random, folder: Path, n: int = 3) -> Counts:
    """Wall-clock time that jumps back and forth during a sweep, files from the future."""
    said = answer(_with_clock, folder, rng.random(), folder / "results", n)
    return Counts(faults=1, wrong=[said]) if isinstance(said, str) else said


def _with_clock(seed: float, root: Path, n: int) -> Counts:
    rng, counts = random.Random(seed), Counts(faults=3)
    real, jump = time.time, [0.0]

    def now() -> float:
        jump[0] -= rng.uniform(-1e5, 2e5)
        return real() + jump[0]

    class Jumping(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(now(), tz)

    time.time = now
    importlib.import_module("lrsc.sweep.run").datetime = Jumping
    report = sweep.run(runs(n), root=root, raw=True)
    counts.lost += n - len(report.trained)
    for name in report.trained:
        found = results.load(results.run_path(name, root))
        if not 0 <= found.attrs["train_seconds"] <= found.attrs["wall_seconds"] < 600:
            counts.wrong.append(f"time of {name}: {found.attrs['wall_seconds']}")
    before = finished(root)
    for path in (root / "runs").glob("*.nc"):
        shift = rng.choice([-1, 1]) * timedelta(days=rng.randrange(1, 5000)).total_seconds()
        os.utime(path, (real() + shift, real() + shift))
    moved = finished(root)
    if consolidated.measures(root).sizes["run"] != n:
        counts.lost += 1
    again = sweep.run(runs(n), root=root, raw=True)
    counts.repeated += len(again.trained) + (finished(root) != moved)
    counts.lost += len(before.keys() - finished(root).keys())
    counts.lost += n - experiments.open_runs(runs(n), root).sizes["run"]
    if any(found.path.suffix == ".nc" for found in care.garbage(root)):
        counts.wrong.append("a run's file is taken for garbage")
    return counts


_CONFIG = (
    "title: A small book\nexecute: {execute_notebooks: 'off'}\nonly_build_toc_files: true\n"
    "sphinx: {extra_extensions: [sphinx-mathjax-offline]}\n"
)
_TOC = "format: jb-book\nroot: book/first\nchapters:\n- file: notebooks/live\n"
_CELLS = ("import time", "time.sleep(0.3)\nprint('executed')")


def book_killed(rng: random.Random, folder: Path, kills: int = 2, pages: bool = False) -> Counts:
    """SIGKILL of a build of a small book; pages: with Jupyter Book, else the execution alone."""
    root, output, counts = _small_book(folder), folder / "built", Counts(faults=kills)
    executed, index = output / "executed" / "notebooks" / "live.ipynb", output / "html/index.html"
    for _ in range(kills):
        process = _build(root, output, pages)
        time.sleep(rng.uniform(0.5, 25 if pages else 6))
        process.kill()
        process.wait()
        counts += _look_at_book(executed, index)
    process = _build(root, output, pages)
    if process.wait():
        counts.wrong.append(
            f"the build after a kill failed: {(folder / 'build.txt').read_text()[-1500:]}"
        )
    counts += _look_at_book(executed, index)
    counts.lost += not executed.is_file() or (pages and not index.is_file())
    return counts


def _small_book(folder: Path) -> Path:
    import nbformat

    root = folder / "small"
    (root / "book").mkdir(parents=True)
    (root / "notebooks").mkdir()
    (root / "_config.yml").write_text(_CONFIG)
    (root / "_toc.yml").write_text(_TOC)
    (root / "book" / "first.md").write_text("# First\n\n[Live](../notebooks/live.ipynb).\n")
    new = nbformat.v4
    cells = [new.new_markdown_cell("# Live"), *map(new.new_code_cell, _CELLS)]
    kernel = {"name": "python3", "display_name": "P", "language": "python"}
    book = new.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    (root / "notebooks" / "live.ipynb").write_text(nbformat.writes(book))
    return root


def _build(root: Path, output: Path, pages: bool) -> subprocess.Popen:
    code = (
        "import sys; from pathlib import Path; from lrsc import bookbuild, results\n"
        "results.path.default_root = lambda: Path(sys.argv[2]) / 'none'\n"
        "if sys.argv[3] == 'False': bookbuild.html.make = lambda *a: None\n"
        "bookbuild.build(root=sys.argv[1], output=sys.argv[2])"
    )
    with open(root.parent / "build.txt", "a") as log:
        command = [sys.executable, "-c", code, str(root), str(output), str(pages)]
        return subprocess.Popen(command, stdout=log, stderr=log)


def _look_at_book(executed: Path, index: Path) -> Counts:
    """An executed notebook and a book stand whole under their names, or not at all."""
    import nbformat

    counts = Counts()
    if executed.is_file():
        try:
            text = str(nbformat.read(executed, as_version=4).cells[-1].outputs)
        except Exception as error:  # whatever reading a half-written notebook raises
            text = str(error)
        counts.half_written += "executed" not in text
    html = index.parent
    if html.is_dir():
        pages = [html / "book" / "first.html", html / "notebooks" / "live.html"]
        whole = all(p.is_file() and "</html>" in p.read_text()[-200:] for p in pages)
        counts.half_written += not (whole and index.is_file())
    return counts
