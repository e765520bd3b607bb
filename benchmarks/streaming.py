"""Images a second of `Images.batches` from JPEG files, against bare decoding processes.

    python benchmarks/streaming.py [--images 400] [--passes 8] [--rounds 3] [--workers 2] [--json]

JPEG files of 500 x 375 pixels (drawn, with noise: about as many bytes as ImageNet's) are read at
224 x 224. bare: as many processes as --workers, started beforehand, which decode and throw away.
batches: by as many threads, in batches of 16 in random order, the first waited for before the
clock starts. cached: the same from the memory-mapped cache. Each round times all in turn; medians
are printed. Target: batches at least 0.9 x bare. Peak memory: resident, of this process beyond what
it holds before.
"""

import functools
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from report import arguments, median, show

from lrsc.datasets.images import Images, decode
from lrsc.datasets.raw import files
from lrsc.datasets.standins import drawing

SIZE, BATCH = 224, 16


def write_images(folder: Path, n: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(n):
        picture, _ = drawing.objects(np.array([i % 10]), np.array([i % 10]), 64, rng)
        image = Image.fromarray(drawing.to_uint8(picture[0])).resize((500, 375))
        noisy = np.asarray(image) + rng.normal(0, 14, (375, 500, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(
            folder / f"{i:06d}.jpg", quality=92
        )


def bare(paths: list[str], workers: int) -> float:
    """Images a second of processes that decode and do nothing else."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(workers, spawn.Barrier(workers).wait) as pool:
        work = functools.partial(pool.map, drop, chunksize=8)
        work(paths[: 8 * workers])  # all have started, and loaded Pillow
        started = time.perf_counter()
        work(paths)
        return len(paths) / (time.perf_counter() - started)


def drop(path: str) -> None:
    decode(path, SIZE)


def streamed(images: Images, order: torch.Tensor, workers: int) -> float:
    """Images a second once the first batch is there (what is decoded by then is not counted)."""
    ahead = 2 * workers * 8  # little, so that little is decoded before the clock starts
    batches = images.batches(order.split(BATCH), workers, ahead)
    next(batches)
    started = time.perf_counter()
    n = sum(map(len, batches))
    return (n - ahead) / (time.perf_counter() - started)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB; Linux counts in kB


def main() -> None:
    options = arguments(__doc__.splitlines()[0], images=400, passes=8, rounds=3, workers=2)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LRSC_CACHE"] = str(Path(folder, "cache"))
        write_images(Path(folder), options.images)
        found = files.listed(Path(folder))
        images = Images(found, SIZE)
        order = torch.randperm(options.passes * len(images)) % len(images)
        paths = [str(Path(folder, f"{i:06d}.jpg")) for i in order]
        rates: dict[str, list[float]] = {"bare": [], "batches": [], "cached": []}
        before = peak()
        for _ in range(options.rounds):
            rates["bare"].append(bare(paths, options.workers))
            rates["batches"].append(streamed(images, order, options.workers))
        held = peak() - before
        kept = Images(images.cached("streaming", options.workers))
        for _ in range(options.rounds):
            rates["cached"].append(streamed(kept, order, options.workers))
    ratios = [a / b for a, b in zip(rates["batches"], rates["bare"], strict=True)]
    rows = [{
        "case": f"{options.images} JPEGs of {np.mean(found.n_bytes) / 1000:.0f} kB",
        "bare 1/s": median(rates["bare"]), "batches 1/s": median(rates["batches"]),
        "batches/bare": median(ratios), "cached 1/s": median(rates["cached"]),
        "peak MB": held,
    }]  # fmt: skip
    show(rows, options.json)


if __name__ == "__main__":
    main()
