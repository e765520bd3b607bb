"""Seconds of all measures of one ResNet18 against the seconds of its training.

    LRSC_DATA=... python benchmarks/measures.py [--rounds 3] [--epochs 16] [--json]

Colored MNIST, 60 000 training and 10 000 test images, both pruning methods, 9 ratios. A whole
training is `epochs` epochs (16 in the shipped run at LR 0.15) of 600 steps at the step time
measured here, in the same run. Target: at most 15 %. Without real data the embedded digits are
repeated: the time does not depend on what the images show.
"""

import dataclasses
import time

import torch
from report import arguments, median, show

import lrsc
from lrsc import sweep


def main() -> None:
    options = arguments(__doc__.splitlines()[0], rounds=3, epochs=16)
    ds = lrsc.datasets.load("colored_mnist")
    if len(ds.test) < 10_000:
        rows = torch.arange(10_000) % len(ds.test)
        ds = dataclasses.replace(ds, test=ds.test.take(rows))
    config = lrsc.RunConfig("colored_mnist", "resnet18")
    torch.manual_seed(0)
    net = lrsc.models.build("resnet18", ds.input_shape, ds.n_classes)
    step, measures = [], []
    for _ in range(options.rounds):
        step.append(sweep.step_seconds(config, ds, None))
        started = time.perf_counter()
        lrsc.measure(net, ds)
        measures.append(time.perf_counter() - started)
    training = [600 * options.epochs * s for s in step]
    shares = [m / t for m, t in zip(measures, training, strict=True)]
    show(
        [{
            "case": "colored_mnist resnet18", "step ms": 1000 * median(step),
            "training s": median(training), "measures s": median(measures),
            "measures/training": median(shares),
        }],
        options.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
