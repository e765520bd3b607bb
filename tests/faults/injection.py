"""What the faults share: counts of what came of them, processes, and a sweep of tiny runs.

Processes come from a fork server that has loaded the library once.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lrsc import RunConfig, TrainConfig, files, results, sweep
from lrsc.training import checkpoint
from lrsc.training.progress import Progress

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([
    "lrsc.sweep", "lrsc.sweep.care", "torch._dynamo", "h5netcdf", "torchvision", "sklearn.datasets",
])  # fmt: skip


@dataclasses.dataclass
class Counts:
    """What came of some faults. All but `faults` should be 0; resume_seconds at most 2.

    lost: finished runs, or saved states, that are gone; repeated: finished runs that were trained
    again; accepted: damaged files read as something else than what was written; half_written: files
    under their final name that cannot be read; wrong: anything else that should not be, in words.
    """

    faults: int = 0
    lost: int = 0
    repeated: int = 0
    accepted: int = 0
    half_written: int = 0
    resume_seconds: float = 0.0
    wrong: list[str] = dataclasses.field(default_factory=list)

    def __add__(self, other: "Counts") -> "Counts":
        names = ("faults", "lost", "repeated", "accepted", "half_written", "wrong")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Counts(**sums, resume_seconds=max(self.resume_seconds, other.resume_seconds))

    @property
    def harmless(self) -> bool:
        """Whether nothing was lost, repeated, accepted or half written."""
        return not (self.lost or self.repeated or self.accepted or self.half_written or self.wrong)


def in_child(target: Callable, folder: Path, *args):
    """A process that runs target(*args), its output in `log.txt`."""
    process = CONTEXT.Process(target=_child, args=(target, folder, args))
    process.start()
    return process


def _child(target: Callable, folder: Path, args: tuple) -> None:
    out = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    torch.set_num_threads(1)
    target(*args)


def kill(process) -> None:
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def answer(target: Callable, folder: Path, *args):
    """What target(*args) returns in a process of its own; a text if the process dies."""
    reader, writer = CONTEXT.Pipe(duplex=False)
    process = in_child(_send, folder, writer, target, args)
    writer.close()
    try:
        return reader.recv()
    except EOFError:
        process.join()
        return f"the process ended with {process.exitcode}: {tail(folder)}"
    finally:
        process.join()


def _send(writer, target: Callable, args: tuple) -> None:
    writer.send(target(*args))


def tail(folder: Path) -> str:
    log = folder / "log.txt"
    return log.read_text(errors="replace")[-1500:] if log.is_file() else ""


@contextlib.contextmanager
def environment(**values: str):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def runs(n: int, steps: int = 400) -> list[RunConfig]:
    """Tiny parity networks; every other one takes ten steps, the others `steps`."""
    data = {"n_train": 500, "n_noise": 5, "n_core": 3}
    return [
        RunConfig("parity", "fcn", TrainConfig(
            lr=0.1, max_epochs=10**6, max_steps=steps if seed % 2 else 10, stop_at_accuracy=None,
        ), seed, data=data, model_options={"hidden": (32, 32)})
        for seed in range(n)
    ]  # fmt: skip


def sweeping(root: Path, configs: list[RunConfig], engine: str, often: float = 0.02) -> None:
    """In a child: the sweep, with a checkpoint every so many seconds; notes what happens when."""
    fit = sys.modules["lrsc.training.fit"]  # lrsc.training.fit is the function
    original = fit.make_job
    fit.make_job = lambda *a: dataclasses.replace(original(*a), checkpoint_seconds=often)
    checkpoint.LEAST_SHARE = 1
    step = Progress.step

    def first_step(self, n: int) -> None:
        Progress.step = step
        note(root, "step", time.monotonic())
        step(self, n)

    Progress.step = first_step
    note(root, "start", time.monotonic())
    report = sweep.run(
        configs, root=root, engine=engine, raw=True,
        on_result=lambda number, of, found: note(root, "done", found.attrs["run_id"]),
    )  # fmt: skip
    note(root, "over", len(report.trained))


def note(root: Path, *what) -> None:
    root.mkdir(parents=True, exist_ok=True)
    line = " ".join(map(str, what)) + "\n"
    file = os.open(root / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode())  # one write: lines of several processes do not mix
    os.close(file)


def notes(root: Path, kind: str) -> list[str]:
    path = root / "notes"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line.split(" ", 1)[1] for line in lines if line.startswith(f"{kind} ")]


def finished(root: Path) -> dict[str, tuple[int, int]]:
    """run_id -> which file it is: another one means that the run was written again."""
    found = {}
    for path in (root / "runs").glob("*.nc"):
        stat = path.stat()
        found[path.stem] = stat.st_ino, stat.st_mtime_ns
    return found


def look(root: Path, before: dict[str, tuple[int, int]]) -> Counts:
    """What a results folder shows after a kill, against what was finished before."""
    after, counts = finished(root), Counts()
    counts.lost = len(before.keys() - after.keys())
    counts.repeated = sum(after.get(name, state) != state for name, state in before.items())
    kinds = {"runs/*.nc": results.load, "weights/*.pt": files.load}
    kinds["checkpoints/*/*.pt"] = files.load
    for path, read in ((path, read) for kind, read in kinds.items() for path in root.glob(kind)):
        try:
            read(path)
        except ValueError as error:
            counts.half_written += 1
            counts.wrong.append(str(error))
    counts.wrong += [f"set aside: {path.name}" for path in root.glob("runs/*.damaged")]
    return counts
