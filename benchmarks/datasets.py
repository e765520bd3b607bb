"""Seconds and peak memory of building the data sets, each in a process of its own.

    LRSC_DATA=... python benchmarks/datasets.py [--rounds 3] [--json]

Colored MNIST (60 000 + 10 000 images) target: under 2 s, and at least 20 times as fast as the
comparable builder of spuco (pip install spuco==2.0.3, not a dependency; its training split holds
48 000 images, counted per image). Corrupted CIFAR-10 (60 000 images, ten corruptions): under 60 s,
from the cache under 1 s. Peak memory is the process's largest resident set. Without real data the
stand-ins are timed, and the rows say so.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile

from report import arguments, median, show

LOAD = """
import json, resource, sys, time
import lrsc, lrsc.datasets, torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
ds = lrsc.datasets.load(sys.argv[1])
seconds = time.perf_counter() - started
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = len(ds.train) + len(ds.test)
print(json.dumps([ds.source_id, images, seconds, before / 1024, after / 1024]))
"""
SPUCO = """
import json, os, resource, sys, time
import matplotlib, matplotlib.cm
import torchvision
matplotlib.cm.get_cmap = matplotlib.colormaps.get_cmap  # gone since 3.9, still used by spuco
from spuco.datasets import SpuCoMNIST, SpuriousFeatureDifficulty
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
ds = SpuCoMNIST(
    os.environ["LRSC_DATA"], SpuriousFeatureDifficulty.MAGNITUDE_LARGE, [[i] for i in range(10)],
    spurious_correlation_strength=0.975, split="train", download=False,
)
ds.initialize()
seconds = time.perf_counter() - started
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(["mnist", len(ds), seconds, before / 1024, after / 1024]))
"""
SETS = (
    "colored_mnist", "double_mnist", "moon_star", "parity", "cifar10", "mnist_cifar",
    "corrupted_cifar10",
)  # fmt: skip
TWICE = ("cifar10", "corrupted_cifar10")  # the second load comes from the cache


def main() -> None:
    options = arguments(__doc__.splitlines()[0], rounds=3)
    cases = [(name, "first load", LOAD) for name in SETS]
    cases += [(name, "from the cache", LOAD) for name in TWICE]
    if os.environ.get("LRSC_DATA") and importlib.util.find_spec("spuco"):
        cases.append(("SpuCoMNIST", "spuco", SPUCO))
    else:
        print("to compare with spuco: LRSC_DATA and pip install spuco==2.0.3", file=sys.stderr)
    rows = []
    cache = tempfile.mkdtemp()
    for name, what, program in cases:
        # what takes long is built once; the rest is quick and noisy
        once = program is SPUCO or (name in TWICE and what == "first load")
        rounds = 1 if once else options.rounds
        found = [one(program, name, cache) for _ in range(rounds)]
        source, images, *_ = found[0]
        rows.append({
            "data set": name, "what": what, "source": source, "images": images,
            "s": median(f[2] for f in found),
            "us/image": 1e6 * median(f[2] for f in found) / images,
            "MiB before": median(f[3] for f in found), "MiB peak": median(f[4] for f in found),
        })  # fmt: skip
    shutil.rmtree(cache)
    per_image = {
        row["data set"]: row["us/image"] for row in rows if row["what"] != "from the cache"
    }
    if "SpuCoMNIST" in per_image:
        for row in rows:
            row["spuco/ours"] = per_image["SpuCoMNIST"] / row["us/image"]
    show(rows, options.json)


def one(program: str, name: str, cache: str) -> list:
    """[source_id, images, seconds, MiB before, MiB peak] of one load in a fresh process."""
    if name not in TWICE:
        cache = os.path.join(cache, name)
    answer = subprocess.run(
        [sys.executable, "-c", program, name], check=True, capture_output=True, text=True,
        env=os.environ | {"LRSC_CACHE": cache},
    )  # fmt: skip
    return json.loads(answer.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
