"""A cache of decoded arrays: built once whatever the number of processes, never half-made."""

import glob
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from lrsc import errors
from lrsc.files import locked, making, user_folder

_log = logging.getLogger(__name__)
_BLOCK = 2**20  # bytes
_WHOLE, _SAMPLED = 2**32, 2**30  # files up to 4 GiB are read whole, 1 GiB of larger ones
_FILES = "files.json"  # written last: name -> bytes and CRC-32 of every file


def folder() -> Path:
    """The cache folder: $LRSC_CACHE, else the user's, on Linux ~/.cache/lrsc."""
    if "LRSC_CACHE" in os.environ:
        return errors.path("LRSC_CACHE", os.environ["LRSC_CACHE"])
    return user_folder("cache")


def arrays(key: str, make: Callable[[Path], object]) -> Mapping[str, np.ndarray]:
    """Memory-mapped arrays by name, from the cache entry `key`; made where it is absent.

    make(folder) writes `<name>.npy` files, and others, into an empty folder. Of several processes
    one makes the entry and the others wait for it. An entry is read when it is opened (2 GB a
    second), of files over 4 GiB a part: one with files missing or changed is made again, with a
    warning. Where `make` raises, nothing is left behind.
    """
    entry = folder() / key
    found = _open(entry)
    if found is None:
        with locked(entry.with_name(f".{entry.name}.lock"), wait=True):
            found = _open(entry)  # made while we waited
            if found is None:
                _make(entry, make)
                found = _open(entry)
    if found is None:
        raise OSError(f"the cache entry {entry} could not be written")
    return found


def _make(entry: Path, make: Callable[[Path], object]) -> None:
    for left in entry.parent.glob(f".{glob.escape(entry.name)}.????????.part"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    with making(entry) as part:
        make(part)
        files = {
            path.relative_to(part).as_posix(): [path.stat().st_size, _crc(path)]
            for path in sorted(part.rglob("*")) if path.is_file()
        }  # fmt: skip
        (part / _FILES).write_text(json.dumps(files))


def new_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap:
    """A new `.npy` file to be filled piece by piece; OSError where it does not fit on the disk.

    Its space is taken at once: to write into a map of a full disk ends the process.
    """
    out = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error
    return out


def _open(entry: Path) -> dict[str, np.ndarray] | None:
    if not entry.is_dir():
        return None
    try:
        files = json.loads((entry / _FILES).read_text())
        for name, (size, crc) in files.items():
            if (entry / name).stat().st_size != size:
                raise ValueError(f"{name} has another size")
            if _crc(entry / name) != crc:
                raise ValueError(f"the content of {name} has changed")
        arrays = [name for name in files if name.endswith(".npy") and "/" not in name]
        return {name[:-4]: np.load(entry / name, mmap_mode="r") for name in arrays}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _log.warning("the cache entry %s is damaged (%s): it is made again", entry, error)
        return None


def _crc(path: Path) -> int:
    """CRC-32 of a file, of a very large one of blocks spread over it."""
    found, size = 0, path.stat().st_size
    step = _BLOCK if size <= _WHOLE else size // (_SAMPLED // _BLOCK)
    with path.open("rb") as file:
        for start in range(0, size, step):
            file.seek(start)
            found = zlib.crc32(file.read(_BLOCK), found)
    return found
