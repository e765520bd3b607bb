"""Sets of image files too large for memory: listed, decoded ahead by processes, cached on disk."""

import collections
import contextlib
import itertools
import mmap
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lrsc.datasets.raw import cache, decoding
from lrsc.datasets.raw.decoding import decode
from lrsc.datasets.raw.files import Files, listed

__all__ = ["Files", "Images", "batches", "decode", "listed"]

PIECE = 8  # images a decoding process is asked for at a time
AHEAD = 256  # images decoded ahead


class Images:
    """N x 3 x S x S uint8 images that lie on disk and are read when they are asked for.

    source: image files, decoded as `decode` does (size, short); or a tensor over a memory map, as
    `cached` gives it. x[int | slice | int or bool tensor] is a uint8 tensor, read in this process;
    `batches` reads ahead. Whatever the set's size, only the files' names are held.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(
        self, source: Files | Tensor, size: int = 224, short: int | None = None, rows=None
    ) -> None:
        self.source = source
        self.size = size if isinstance(source, Files) else source.shape[-1]
        self.short = decoding.shorter_side(size) if short is None else short
        self.rows = torch.arange(len(source)) if rows is None else rows
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, S, S)."""
        return torch.Size((len(self), 3, self.size, self.size))

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        rows = self.rows[index.cpu() if isinstance(index, Tensor) else index]
        found = self._read(rows.reshape(-1))
        return (found if rows.dim() else found[0]).to(self.device)

    def take(self, index: slice | Tensor) -> "Images":
        """These images, in their order, still on disk."""
        rows = self.rows[index.cpu() if isinstance(index, Tensor) else index]
        return self._like(rows, self.device)

    def to(self, device: torch.device | str) -> "Images":
        """The same images, still on disk, that come as tensors on this device."""
        return self._like(self.rows, torch.device(device))

    def batches(
        self, indices: Iterable[Tensor], workers: int | None = None, ahead: int = AHEAD
    ) -> Iterator[Tensor]:
        """The images at each tensor of indices, in the order asked, decoded ahead by processes.

        workers: processes, default one a core and at most 8; 0 decodes in this process. They live
        as long as the iteration. Memory: `ahead` images of 3 S^2 bytes (39 MB at 224), two
        batches, and a process' 40 MB with one image at full size, whatever the set's size and its
        batches'. An image that cannot be read is a ValueError naming it when its batch is due.
        """
        workers = _cores() if workers is None else workers
        if not isinstance(workers, int) or workers < 0:
            raise ValueError(f"workers must be a whole number >= 0, found {workers!r}")
        if isinstance(self.source, Tensor) or workers == 0:
            for index in indices:
                yield self[index]
            return
        rows = (self.rows[index.cpu()].reshape(-1) for index in indices)
        with _Decoders(self.source, self.size, self.short, workers, ahead) as decoders:
            for batch in decoders.batches(rows):
                yield batch.to(self.device)

    def cached(self, key: str, workers: int | None = None) -> Tensor:
        """All images as a tensor over one memory-mapped file of the cache folder, made once.

        3 S^2 bytes an image on disk. The tensor is read-only: writing into it is an error that
        ends the process. Of several processes one makes the file, the others wait for it.
        """

        def make(folder: Path) -> None:
            path, shape = folder / "images.npy", tuple(self.shape)
            out = cache.new_array(path, shape, np.uint8)
            done = 0
            for batch in self.to("cpu").batches(torch.arange(len(self)).split(64), workers):
                out[done : done + len(batch)] = batch.numpy()
                done += len(batch)
            out.flush()

        pixels = cache.arrays(key, make)["images"]
        if pixels.shape != tuple(self.shape):
            raise ValueError(
                f"the cache entry {key!r} holds images of shape {pixels.shape}, expected "
                f"{tuple(self.shape)}: give each set and size a key of its own"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(pixels)

    def _like(self, rows: Tensor, device: torch.device) -> "Images":
        new = Images(self.source, self.size, self.short, rows)
        new.device = device
        return new

    def _read(self, rows: Tensor) -> Tensor:
        source = self.source
        if isinstance(source, Tensor):
            return source[rows]
        out = torch.empty(len(rows), 3, self.size, self.size, dtype=torch.uint8)
        members = source.members(rows.numpy())
        decoding.decode_all(source.place, members, out.numpy(), self.size, self.short)
        return out


def batches(
    x: Tensor | Images, indices: Iterable[Tensor], workers: int | None = None
) -> Iterator[Tensor]:
    """x at each tensor of indices: decoded ahead where x is `Images`, plain indexing else."""
    if isinstance(x, Images):
        return x.batches(indices, workers)
    return (x[index.to(x.device)] for index in indices)


class _Decoders:
    """Processes that decode pieces of batches, in turn, into slots of memory shared with them."""

    def __init__(self, files: Files, size: int, short: int, workers: int, ahead: int) -> None:
        self.files = files
        self.slots = max(2 * workers, ahead // PIECE)
        layout = (self.slots, PIECE, size, short)
        length = self.slots * PIECE * 3 * size**2
        shared = _shared_memory(length)
        try:
            # numpy's copies: torch's threads would spin between them, on the cores that decode
            memory = np.frombuffer(mmap.mmap(shared, length), np.uint8)
            self.pixels = memory.reshape(self.slots, PIECE, 3, size, size)
            # a plain process: no fork of a process that has threads, no import of the user's script
            self.processes = [
                subprocess.Popen(
                    [sys.executable, "-P", decoding.__file__, str(shared)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[shared],
                    process_group=0,  # Ctrl-C is for us; they end when we close their input
                )
                for _ in range(workers)
            ]  # fmt: skip
        finally:
            os.close(shared)
        for worker in range(workers):
            self._send(worker, (sys.path, layout))

    def __enter__(self) -> "_Decoders":
        return self

    def __exit__(self, *error) -> None:
        for process in self.processes:
            process.terminate()
            process.communicate()  # closes the pipes and waits

    def batches(self, rows: Iterable[Tensor]) -> Iterator[Tensor]:
        pieces = (
            (part, len(batch), i)
            for batch in rows
            for i, part in zip(range(0, len(batch) + 1, PIECE), batch.split(PIECE), strict=False)
        )
        waiting: collections.deque = collections.deque()
        sent, received = itertools.count(), itertools.count()

        def send_next() -> None:
            for part, n, start in itertools.islice(pieces, 1):
                k, members = next(sent), self.files.members(part.numpy())
                task = (k % self.slots, self.files.place, members)
                self._send(k % len(self.processes), task)
                waiting.append((part, n, start))

        for _ in range(self.slots):
            send_next()
        while waiting:
            part, n, start = waiting.popleft()
            if start == 0:
                out = np.empty((n, *self.pixels.shape[2:]), np.uint8)
            k = next(received)
            self._receive(k % len(self.processes))
            out[start : start + len(part)] = self.pixels[k % self.slots, : len(part)]
            send_next()  # the slot is free
            if start + len(part) == n:
                yield torch.from_numpy(out)

    def _send(self, worker: int, message: object) -> None:
        pipe = self.processes[worker].stdin
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: _receive says so
            pickle.dump(message, pipe)
            pipe.flush()

    def _receive(self, worker: int) -> None:
        process = self.processes[worker]
        assert process.stdout is not None
        try:
            problem = pickle.load(process.stdout)
        except EOFError:
            raise RuntimeError(
                f"a decoding process ended (exit status {process.wait()}; -9 is mostly too little "
                "memory): give fewer workers"
            ) from None
        if problem:
            raise ValueError(problem)


def _shared_memory(length: int) -> int:
    """Descriptor of anonymous memory that other processes can map; not bounded by /dev/shm."""
    if hasattr(os, "memfd_create"):
        shared = os.memfd_create("lrsc-images")
    else:
        with tempfile.TemporaryFile() as file:
            shared = os.dup(file.fileno())
    os.ftruncate(shared, length)
    return shared


def _cores() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, usable or 1)
