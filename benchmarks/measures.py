"""Seconds of all measures of one ResNet18 against the seconds of its training.

    LRSC_DATA=... python benchmarks/measures.py [--rounds 3] [--epochs 16] [--json]

Colored MNIST, 60 000 training and 10 000 test images, both pruning methods, 9 ratios, on as many
test images as a sweep takes; in running statistics of batch normalisation, in these and those of
batches (target: at most 15 %), and in all three; and one recalibration (target: at most 3 s). A
whole training is `epochs` epochs (16 in the shipped run at LR 0.15) of 600 steps at the step time
measured here, in the same run. Without real data the embedded digits are repeated: the time does
not depend on what the images show.
"""

import dataclasses
import time
from collections.abc import Callable

import torch
from report import arguments, median, show

import lrsc
from lrsc import sweep
from lrsc.measures.result import prune_samples


def main() -> None:
    options = arguments(__doc__.splitlines()[0], rounds=3, epochs=16)
    ds = lrsc.datasets.load("colored_mnist")
    if len(ds.test) < 10_000:
        rows = torch.arange(10_000) % len(ds.test)
        ds = dataclasses.replace(ds, test=ds.test.take(rows))
    config = lrsc.RunConfig("colored_mnist", "resnet18")
    torch.manual_seed(0)
    net = lrsc.models.build("resnet18", ds.input_shape, ds.n_classes)
    cases = (("running",), ("running", "batch"), lrsc.models.STATISTICS)
    step, recalibration = [], []
    measures: dict[tuple, list[float]] = {names: [] for names in cases}
    pruned_on = prune_samples(config, ds)
    for _ in range(options.rounds):
        step.append(sweep.step_seconds(config, ds, None))
        recalibration.append(timed(lambda: lrsc.models.recalibrate(net, ds.train)))
        for names, seconds in measures.items():
            seconds.append(timed(
                lambda n=names: lrsc.measure(net, ds, prune_samples=pruned_on, statistics=n)
            ))  # fmt: skip
    training = [600 * options.epochs * s for s in step]
    show(
        [
            {
                "case": "colored_mnist resnet18", "statistics": ", ".join(names),
                "step ms": 1000 * median(step), "training s": median(training),
                "measures s": median(seconds), "recalibration s": median(recalibration),
                "measures/training": median(
                    [m / t for m, t in zip(seconds, training, strict=True)]
                ),
            }
            for names, seconds in measures.items()
        ],
        options.json,
    )  # fmt: skip


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
