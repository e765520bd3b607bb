"""Truncated, bit-flipped and foreign files.

Each function takes a random.Random and an empty folder, and returns what came of its faults.
"""

import hashlib
import io
import logging
import pickle
import random
import tarfile
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from injection import Counts, answer, in_child, runs, sweeping
from refused import a_result, write_cache, write_checkpoint, write_weights

from lrsc import files, results
from lrsc.datasets import cifar
from lrsc.datasets.raw import archives, cache
from lrsc.datasets.raw.sources import check_md5
from lrsc.training import checkpoint


def _changed(rng: random.Random, whole: bytes) -> bytes:
    """A file's bytes with flipped bits, a cut, a hole, or something else entirely."""
    kind = rng.choice(["flip", "flip", "flip", "flips", "cut", "hole", "foreign", "empty"])
    if not whole:  # of a file that was emptied before
        kind = "foreign"
    data = bytearray(whole)
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else rng.randrange(2, 9)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "hole":
        start = rng.randrange(len(data))
        data[start : start + 512] = bytes(len(data[start : start + 512]))
    elif kind == "foreign":
        other = [b"not what was written" * 9, rng.randbytes(2000), pickle.dumps({"made_by": 1})]
        data = bytearray(rng.choice(other))
    else:
        data = bytearray()
    return bytes(data)


def damage(rng: random.Random, path: Path) -> None:
    path.write_bytes(_changed(rng, path.read_bytes()))


def same(a, b) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, xr.Dataset):
        return isinstance(b, xr.Dataset) and a.equals(b) and a.attrs.items() <= b.attrs.items()
    return a == b


def _cifar_batch(path: Path) -> None:
    rng = np.random.default_rng(0)
    held = {"data": rng.integers(0, 256, (4, 3072), np.uint8), "labels": [0, 1, 2, 3]}
    path.write_bytes(pickle.dumps(held, protocol=2))


def _read_cifar(path: Path, md5: str) -> list:
    data = path.read_bytes()
    check_md5(path, data, md5)
    return list(cifar._batch(path, data, 10))


def _packed(path: Path) -> None:
    content = {"a/b.txt": b"some text" * 50, "c.bin": bytes(range(256))}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        return
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w:xz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def readers(folder: Path) -> dict[str, tuple[Path, Callable[[], object]]]:
    """Kind of file -> a whole one, and what reads it."""
    path = folder / f"{'0' * 16}.nc"
    results.save(a_result(), path)
    found: dict[str, tuple[Path, Callable[[], object]]] = {
        "result": (path, lambda: results.load(path)),
    }
    state = folder / "run.pt"
    write_checkpoint(folder)
    found["checkpoint"] = state, lambda: checkpoint.load(state, {"run": "1"})
    weights = folder / "weights.pt"
    write_weights(folder)
    found["weights"] = weights, lambda: files.load(weights)
    write_cache(folder / "cache")
    entry = folder / "cache" / "one"
    found["cache"] = entry / "x.npy", lambda: cache._open(entry)
    found["cache's list"] = entry / "files.json", lambda: cache._open(entry)
    batch = folder / "data_batch_1"
    _cifar_batch(batch)
    published = _md5(batch)
    found["data"] = batch, lambda: _read_cifar(batch, published)
    for suffix in (".zip", ".tar.gz", ".tar.xz"):
        packed = folder / f"packed{suffix}"
        _packed(packed)
        found[f"archive {suffix}"] = packed, lambda packed=packed: dict(archives.members(packed))
    return found


def files_damaged(rng: random.Random, folder: Path, each: int = 20) -> Counts:
    """Result, checkpoint, weights, cache, data and archive, damaged: refused, or read as written.

    In a process of its own: a library that crashes on a damaged file is a finding too.
    """
    said = answer(_damage_all, folder, rng.random(), folder, each)
    if isinstance(said, str):
        return Counts(faults=1, wrong=[f"reading damaged files: {said}"])
    return said


def _damage_all(seed: float, folder: Path, each: int) -> Counts:
    rng, counts = random.Random(seed), Counts()
    logging.disable(logging.WARNING)
    for kind, (path, read) in readers(folder).items():
        whole, expected = path.read_bytes(), read()
        if isinstance(expected, dict) and "cache" in kind:
            expected = {name: np.array(value) for name, value in expected.items()}
        for _ in range(each):
            changed = _changed(rng, whole)
            path.write_bytes(changed)
            counts.faults += 1
            try:
                found = read()
            except ValueError as error:
                counts.wrong += [] if path.name in str(error) else [f"{kind}: unnamed: {error}"]
                continue
            except Exception:
                counts.wrong.append(f"{kind}: {traceback.format_exc()}")
                continue
            refused = found is None and "cache" in kind  # it is made again
            if not refused and not same(expected, found):
                counts.accepted += 1
                at = [i for i, (a, b) in enumerate(zip(whole, changed, strict=False)) if a != b]
                counts.wrong.append(
                    f"{kind}: accepted with {len(changed)} bytes, changed at {at[:9]}"
                )
        path.write_bytes(whole)
    return counts


def result_damaged_in_a_sweep(rng: random.Random, folder: Path) -> Counts:
    """A result that is damaged between two sweeps: set aside, done again."""
    root, configs, counts = folder / "results", runs(2), Counts(faults=1)
    in_child(sweeping, folder, root, configs, "reference").join()
    path = rng.choice(sorted((root / "runs").glob("*.nc")))
    whole = results.load(path)
    damage(rng, path)
    in_child(sweeping, folder, root, configs, "reference").join()
    if not path.is_file():
        return Counts(faults=1, lost=1)
    counts.accepted += not whole.equals(results.load(path))
    return counts
