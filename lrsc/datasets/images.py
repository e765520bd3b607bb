"""Sets of image files too large for memory: listed, decoded ahead by threads, cached on disk."""

import collections
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lrsc.datasets.raw import cache, decoding
from lrsc.datasets.raw.decoding import decode
from lrsc.datasets.raw.files import Files
from lrsc.errors import is_whole

PIECE = 8  # images a thread is asked for at a time
AHEAD = 256  # images decoded ahead


class Images:
    """N x 3 x S x S uint8 images that lie on disk and are read when they are asked for.

    source: image files, decoded as `decode` does (size, short, channels); or a tensor over a memory
    map, as `cached` gives it. x[int | slice | int or bool tensor] is a uint8 tensor, read in this
    process; `batches` reads ahead. Whatever the set's size, only the files' names are held.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(
        self, source: Files | Tensor, size: int = 224, short: int | None = None, rows=None,
        channels: int = 3,
    ) -> None:  # fmt: skip
        self.source = source
        self.size = size if isinstance(source, Files) else source.shape[-1]
        self.short = decoding.shorter_side(size) if short is None else short
        self.rows = torch.arange(len(source)) if rows is None else rows
        self.channels = channels
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, S, S), or (N, 1, S, S) for grey."""
        return torch.Size((len(self), self.channels, self.size, self.size))

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
        """The images at each tensor of indices, in the order asked, decoded ahead by threads.

        workers: threads, default one a core and at most 8; 0 decodes in the caller's. Pillow
        decodes and resizes without Python's lock. They live as long as the iteration. Memory:
        `ahead` images of 3 S^2 bytes (39 MB at 224), two batches, and for each thread one image
        at full size, whatever the set's size and its batches'. An image that cannot be read is a
        ValueError naming it when its batch is due.
        """
        workers = _cores() if workers is None else workers
        if not is_whole(workers):
            raise ValueError(f"workers must be a whole number >= 0, found {workers!r}")
        if isinstance(self.source, Tensor) or workers == 0:
            for index in indices:
                yield self[index]
            return
        pool = ThreadPoolExecutor(workers, "decoding")
        try:
            pieces = self._pieces(indices, pool)
            waiting = collections.deque(itertools.islice(pieces, max(2 * workers, ahead // PIECE)))
            while waiting:
                piece, batch = waiting.popleft()
                piece.result()
                waiting.extend(itertools.islice(pieces, 1))
                if batch is not None:
                    yield batch.to(self.device)
        finally:
            pool.shutdown(cancel_futures=True)

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
        new = Images(self.source, self.size, self.short, rows, self.channels)
        new.device = device
        return new

    def _pieces(
        self, indices: Iterable[Tensor], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[Future, Tensor | None]]:
        """Pieces of batches that are being decoded; with the last of each comes its batch."""
        for index in indices:
            rows = self.rows[index.cpu()].reshape(-1)
            batch = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8)
            for start in range(0, max(1, len(rows)), PIECE):
                part = slice(start, start + PIECE)
                piece = pool.submit(self._decode, rows[part], batch.numpy()[part])
                yield piece, batch if start + PIECE >= len(rows) else None

    def _read(self, rows: Tensor) -> Tensor:
        if isinstance(self.source, Tensor):
            return self.source[rows]
        out = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8)
        self._decode(rows, out.numpy())
        return out

    def _decode(self, rows: Tensor, out: np.ndarray) -> None:
        assert isinstance(self.source, Files)
        for i, row in enumerate(rows.tolist()):
            name, data = self.source.read(row)
            out[i] = decode(data, self.size, self.short, name, self.channels)


def batches(
    x: Tensor | Images, indices: Iterable[Tensor], workers: int | None = None
) -> Iterator[Tensor]:
    """x at each tensor of indices: decoded ahead where x is `Images`, plain indexing else."""
    if isinstance(x, Images):
        return x.batches(indices, workers)
    return (x[index.to(x.device)] for index in indices)


def _cores() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, usable or 1)
