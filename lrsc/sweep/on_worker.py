"""On a worker of a cluster: the folder it writes in, the files it sends back, and its GPU."""

import contextlib
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from lrsc import results
from lrsc.datasets.raw import cache
from lrsc.files import locked

KEPT = 20  # returned results that a worker keeps, should one be lost on its way


def own_root(options: dict) -> Path:
    """On a worker: the folder to write in, the client's or one of this machine's own.

    Raises ValueError if the client's is not seen from here.
    """
    if not options["token"]:
        return cache.folder() / "results-of-workers"
    if not Path(options["token"]).is_file():
        raise ValueError(
            f"this worker does not see the client's results folder {options['root']}: give a "
            "folder that all machines share, or write='client' (--write client)"
        )
    return Path(options["root"])


def answer(name: str, kind: str, told: dict[str, str], root: Path, options: dict) -> dict:
    """On a worker: what to tell of a run; its files too where the client writes them."""
    found: dict[str, Any] = {"summary": told.get(name, "")}
    if options["token"] or kind == "elsewhere":
        return found
    found["files"] = {
        where: path.read_bytes() for where, path in paths_of(name, root).items() if path.is_file()
    }
    _forget(root)
    return found


def paths_of(name: str, root: Path) -> dict[str, Path]:
    """The files of a run that travel, the result last."""
    return {"weights": results.weights_path(name, root), "result": results.run_path(name, root)}


def _forget(root: Path) -> None:
    """Remove the oldest results of this worker's own folder: the client has them."""
    runs = sorted((root / "runs").glob("*.nc"), key=lambda path: path.stat().st_mtime)
    for path in runs[:-KEPT]:
        for each in paths_of(path.stem, root).values():
            each.unlink(missing_ok=True)
        shutil.rmtree(results.checkpoints_path(path.stem, root), ignore_errors=True)


@functools.cache
def own_gpu() -> str | None:
    """The GPU of this worker process, 'cuda:1', or None where there is none.

    Each process on a machine takes one that no other has; more processes than GPUs share them.
    """
    n = torch.cuda.device_count()
    for i in range(n):
        device = torch.cuda.get_device_properties(i).uuid
        lock = Path(tempfile.gettempdir()) / f"lrsc-{os.getuid()}-gpu-{device}.lock"
        if _held.enter_context(locked(lock)):
            return f"cuda:{i}"
    return f"cuda:{os.getpid() % n}" if n else None


_held = contextlib.ExitStack()  # of the lock that this process keeps until it ends
