"""A cache of decoded arrays: built once whatever the number of processes, never half-made."""

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

_log = logging.getLogger(__name__)
_SIZES = "sizes.json"  # written last: name -> bytes of every file


def folder() -> Path:
    """The cache folder: $LRSC_CACHE, else lrsc in $XDG_CACHE_HOME, else ~/.cache/lrsc."""
    if "LRSC_CACHE" in os.environ:
        return Path(os.environ["LRSC_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lrsc"


def arrays(key: str, make: Callable[[Path], None]) -> Mapping[str, np.ndarray]:
    """Memory-mapped arrays by name, from the cache entry `key`; made where it is absent.

    make(folder) writes `<name>.npy` files into an empty folder. Of several processes one makes the
    entry and the others wait for it. An entry with files missing or of another size is made again,
    with a warning. Where `make` raises, nothing is left behind.
    """
    entry = folder() / key
    found = _open(entry)
    if found is not None:
        return found
    entry.parent.mkdir(parents=True, exist_ok=True)
    with _locked(entry.with_name(f".{entry.name}.lock")):
        found = _open(entry)  # made while we waited
        if found is not None:
            return found
        part = Path(tempfile.mkdtemp(dir=entry.parent, prefix=f".{entry.name}."))
        try:
            make(part)
            sizes = {path.name: path.stat().st_size for path in sorted(part.glob("*.npy"))}
            (part / _SIZES).write_text(json.dumps(sizes))
            shutil.rmtree(entry, ignore_errors=True)
            part.rename(entry)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    found = _open(entry)
    if found is None:
        raise OSError(f"the cache entry {entry} could not be written")
    return found


def _open(entry: Path) -> dict[str, np.ndarray] | None:
    if not entry.is_dir():
        return None
    try:
        sizes = json.loads((entry / _SIZES).read_text())
        if any((entry / name).stat().st_size != size for name, size in sizes.items()):
            raise ValueError("a file has another size")
        return {Path(name).stem: np.load(entry / name, mmap_mode="r") for name in sizes}
    except (OSError, ValueError) as error:
        _log.warning("the cache entry %s is damaged (%s): it is made again", entry, error)
        return None


@contextlib.contextmanager
def _locked(path: Path):
    import fcntl

    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
