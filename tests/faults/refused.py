"""Writes to a disk that is full, and to folders that take no files.

Each function takes a random.Random and an empty folder, and returns what came of its faults.
"""

import contextlib
import functools
import io
import os
import random
import resource
import subprocess
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from injection import Counts, answer, finished, in_child, look, runs, sweeping

from lrsc import RunConfig, files, results
from lrsc.datasets.raw import archives, cache
from lrsc.training import checkpoint


def a_result() -> xr.Dataset:
    about = {"units": "1", "long_name": "a measure"}
    config = RunConfig("parity", "fcn").to_json()
    values = np.random.default_rng(0).random(20_000)
    found = xr.Dataset({"csi": ((), 0.5, about), "z": ("sample", values, about)})
    return found.assign_attrs(run_id="0" * 16, config=config, status="converged")


def write_result(folder: Path) -> None:
    results.save(a_result(), folder / f"{'0' * 16}.nc")


def write_checkpoint(folder: Path) -> None:
    checkpoint.save(folder / "run.pt", {"run": "1"}, {"step": 1, "w": torch.rand(40_000)})


def write_weights(folder: Path) -> None:
    files.save({"weight": torch.rand(200, 200)}, folder / "weights.pt")


def write_cache(folder: Path) -> None:
    os.environ["LRSC_CACHE"] = str(folder)
    cache.arrays("one", _make_entry)


def _make_entry(folder: Path) -> None:
    out = cache.new_array(folder / "x.npy", (20_000,), np.int64)
    out[:] = np.arange(20_000)
    out.flush()


def _unpack_archive(folder: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "zeros" * 50_000)
    source = folder.parent / "packed.zip"
    if not source.is_file():
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
        source.write_bytes(packed.getvalue())
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    archives.extract(source, folder / "unpacked")


def _write_table(folder: Path) -> None:
    with files.atomic(folder / "checksums.json") as part:
        part.write_text("0" * 100_000)


WRITES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a result": (write_result, f"{'0' * 16}.nc"),
    "a checkpoint": (write_checkpoint, "run.pt"),
    "weights": (write_weights, "weights.pt"),
    "a cache entry": (write_cache, "one"),
    "an archive": (_unpack_archive, "unpacked"),
    "a table": (_write_table, "checksums.json"),
}


def disk_full(rng: random.Random, folder: Path) -> Counts:
    """Every kind of write where only so many bytes fit into a file; what was there stays."""
    counts = Counts(faults=len(WRITES))
    for number, (kind, (write, name)) in enumerate(WRITES.items()):
        target = folder / str(number)
        target.mkdir()
        old = rng.random() < 0.5 and kind not in ("a cache entry", "an archive")
        if old:
            (target / name).write_text("what was there before")
        said = answer(_with_limit, folder, rng.randrange(0, 60_000), write, target)
        if not said.startswith(("OSError: ", "ValueError: ", "DataMissing: ")):
            counts.wrong.append(f"{kind}, on a full disk: {said}")
        found = (target / name).read_text() if (target / name).exists() else ""
        counts.half_written += found != ("what was there before" if old else "")
        left = [path.name for path in target.rglob("*.part")]
        counts.wrong += [f"{kind}, on a full disk, left over: {left}"] if left else []
    return counts


def _with_limit(limit: int, write: Callable[[Path], None], folder: Path) -> str:
    """In a child: what a write says that may put only so many bytes into a file."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    said = _said(write, folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    return said


def _said(write: Callable[[Path], object], folder: Path) -> str:
    try:
        write(folder)
    except (OSError, ValueError) as error:
        kind = "OSError" if isinstance(error, OSError) else "ValueError"
        return f"{kind}: {error}"
    except Exception:
        return traceback.format_exc()
    return "nothing: it was written"


def sweep_on_a_full_disk(rng: random.Random, folder: Path, n: int = 4) -> Counts:
    """A sweep that ends when a file grows too large, and is started again with room enough."""
    root, configs, counts = folder / "results", runs(n), Counts(faults=1)
    limit = rng.randrange(1000, 250_000)
    said = answer(_with_limit, folder, limit, functools.partial(_one_sweep, configs), root)
    if not said.startswith("OSError: ") and "nothing" not in said:
        counts.wrong.append(f"a sweep on a full disk: {said}")
    before = finished(root)
    counts += look(root, before)
    in_child(sweeping, folder, root, configs, "auto").join()
    counts += look(root, before)
    counts.lost += n - len(finished(root))
    return counts


def _one_sweep(configs: list[RunConfig], root: Path) -> None:
    sweeping(root, configs, "auto")


def refusing_folders(rng: random.Random, folder: Path) -> Counts:
    """Every kind of write, and a sweep, into a folder that refuses it."""
    writes = {kind: write for kind, (write, _) in WRITES.items()}
    writes["a sweep"] = functools.partial(_one_sweep, runs(2))
    counts = Counts(faults=len(writes))
    for number, (kind, write) in enumerate(writes.items()):
        target = folder / f"{kind.split()[-1]}-{number}"
        if kind == "an archive":  # its source is made beside the target
            target.mkdir()
            _unpack_archive(target)
            target = target.with_name("again")
        with refusing(rng, target):
            said = answer(_said, folder, write, target)
        named = target.name in said
        if not said.startswith(("OSError: ", "ValueError: ")) or not named:
            counts.wrong.append(f"{kind}, into a folder that refuses it: {said}")
        counts.half_written += target.is_dir() and bool(list(target.rglob("*")))
    return counts


def full_device(rng: random.Random, folder: Path) -> Counts:
    """The same on a device of some kilobytes; no faults where none can be mounted."""
    counts = Counts()
    for number, (kind, (write, name)) in enumerate(WRITES.items()):
        target = folder / f"device-{number}"
        target.mkdir()
        size = f"size={rng.randrange(1, 15) * 4096}"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", target]).returncode:
            return counts
        try:
            counts.faults += 1
            said = answer(_said, folder, write, target)
            if not said.startswith(("OSError: ", "ValueError: ")):
                counts.wrong.append(f"{kind}, on a full device: {said}")
            counts.half_written += (target / name).exists()
            left = [path.name for path in target.rglob("*.part")]
            counts.wrong += [f"{kind}, on a full device, left over: {left}"] if left else []
        finally:
            subprocess.run(["umount", "--lazy", target], check=True)
    return counts


def too_many_open_files(rng: random.Random, folder: Path) -> Counts:
    """A result that cannot be opened now is not taken for a damaged one."""
    write_result(folder)
    (path,) = folder.glob("*.nc")
    said = answer(_without_files, folder, path)
    counts = Counts(faults=1, repeated=not path.is_file())
    if "cannot be read: Too many open files" not in said or path.name not in said:
        counts.wrong.append(f"too many open files: {said}")
    return counts


def _without_files(path: Path) -> str:
    results.load(path)  # imports what it needs
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, most))
    said = _said(results.load_run, path)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return said


@contextlib.contextmanager
def refusing(rng: random.Random, folder: Path):
    """A folder that takes no files, for root too: without permission, or a file in its place."""
    if os.geteuid() != 0 and rng.random() < 0.5:
        folder.mkdir()
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    if os.geteuid() == 0 and rng.random() < 0.5:
        folder.mkdir()
        made = subprocess.run(["chattr", "+i", str(folder)], capture_output=True).returncode == 0
        if made:
            try:
                yield
            finally:
                subprocess.run(["chattr", "-i", str(folder)], check=True)
            return
        folder.rmdir()
    folder.write_text("a file in the folder's place")
    yield
