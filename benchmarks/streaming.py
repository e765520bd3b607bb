"""Images a second of `Images.batches` from JPEG files, against two bare decoding processes.

    python benchmarks/streaming.py [--images 400] [--passes 8] [--rounds 3] [--workers 2] [--json]

JPEG files of 500 x 375 pixels (drawn, with noise: about as many bytes as ImageNet's) are read at
224 x 224. bare: as many processes as --workers, started beforehand, each of which decodes its
share and throws it away. batches: batches of 16 in random order, the first waited for before the
clock starts, so that neither pays for starting processes. cached: the same from the memory-mapped
cache. Each round times all in turn; medians are printed. Target: batches at least 0.9 x bare. Peak
memory: resident, of this process beyond what it holds before, and of the largest decoding process.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from report import arguments, median, show

from lrsc.datasets.images import Images
from lrsc.datasets.raw import decoding, files
from lrsc.datasets.standins import drawing

SIZE, BATCH = 224, 16
BARE = """
import sys
sys.path[:0] = [sys.argv[1]]  # the folder of decoding.py alone: importing lrsc would load torch
from decoding import decode
paths = sys.stdin.readline().split("\\t")
paths[-1] = paths[-1].strip()
decode(paths[0], {size})
print("ready", flush=True)
sys.stdin.readline()
for path in paths:
    decode(path, {size})
print("done", flush=True)
"""


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
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BARE.format(size=SIZE), str(Path(decoding.__file__).parent)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(workers)
    ]  # fmt: skip

    def tell(text: str, answer: str) -> None:
        for k, process in enumerate(processes):
            process.stdin.write((text or "\t".join(paths[k::workers])) + "\n")
            process.stdin.flush()
        for process in processes:
            if process.stdout.readline().strip() != answer:
                raise RuntimeError("a decoding process failed")

    tell("", "ready")
    started = time.perf_counter()
    tell("go", "done")
    seconds = time.perf_counter() - started
    for process in processes:
        process.communicate()
    return len(paths) / seconds


def streamed(images: Images, order: torch.Tensor, workers: int) -> tuple[float, float]:
    """Images a second once the first batch is there (what is decoded by then is not counted), and
    the largest decoding process in MB."""
    ahead = 2 * workers * 8  # little, so that little is decoded before the clock starts
    batches = images.batches(order.split(BATCH), workers, ahead)
    next(batches)
    started = time.perf_counter()
    n = sum(len(next(batches)) for _ in range(len(order) // BATCH - 1))
    rate = (n - ahead) / (time.perf_counter() - started)
    largest = decoders_peak()
    batches.close()
    return rate, largest


def decoders_peak() -> float:
    """Largest resident memory so far, in MB, of the processes that this one has started."""
    try:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        texts = [Path(f"/proc/{child}/status").read_text() for child in children]
    except OSError:  # not Linux
        return float("nan")
    lines = [line for text in texts for line in text.splitlines() if line.startswith("VmHWM")]
    return max((int(line.split()[1]) / 1024 for line in lines), default=float("nan"))


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
        before, decoders = peak(), []
        for _ in range(options.rounds):
            rates["bare"].append(bare(paths, options.workers))
            rate, largest = streamed(images, order, options.workers)
            rates["batches"].append(rate)
            decoders.append(largest)
        held = peak() - before
        kept = Images(images.cached("streaming", options.workers))
        for _ in range(options.rounds):
            rates["cached"].append(streamed(kept, order, options.workers)[0])
    ratios = [a / b for a, b in zip(rates["batches"], rates["bare"], strict=True)]
    rows = [{
        "case": f"{options.images} JPEGs of {np.mean(found.n_bytes) / 1000:.0f} kB",
        "bare 1/s": median(rates["bare"]), "batches 1/s": median(rates["batches"]),
        "batches/bare": median(ratios), "cached 1/s": median(rates["cached"]),
        "peak MB": held, "peak MB a process": max(decoders),
    }]  # fmt: skip
    show(rows, options.json)


if __name__ == "__main__":
    main()
