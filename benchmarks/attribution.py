"""Integrated Gradients against captum's, and class separation: seconds, and their ratios.

    LRSC_DATA=... python benchmarks/attribution.py [--rounds 3] [--images 40] [--output FILE]

ResNet18, Colored MNIST, 50 steps: captum's loop over single images, captum with the best of some
internal batch sizes, and ours; in turn in each round, medians over rounds and of the rounds'
ratios. Targets: 3 x captum's loop, never slower than its best batch size. Class separation of
10 000 x 2048 in ten classes: target 1 s. Time goes with the number of images; the book has 1000.
"""

import time
from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients
from report import arguments, median, show

import lrsc

SIZES = (50, 100, 200, 400)  # captum's internal batch sizes that are tried


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    args = arguments(__doc__ or "", rounds=3, images=40)
    ds = lrsc.datasets.load("colored_mnist", n_train=1000)
    net = lrsc.models.build("resnet18", ds.input_shape, 10).eval()
    x, y = ds.train.inputs(ds.train.x[: args.images]), ds.train.y[: args.images]
    theirs = IntegratedGradients(net)
    best = min(SIZES, key=lambda n: seconds(
        lambda: theirs.attribute(x[:16], target=y[:16], n_steps=50, internal_batch_size=n)
    ))  # fmt: skip
    runs = {
        "captum, single images": lambda: [
            theirs.attribute(x[i : i + 1], target=int(y[i]), n_steps=50) for i in range(len(x))
        ],
        f"captum, internal batch {best}": lambda: theirs.attribute(
            x, target=y, n_steps=50, internal_batch_size=best
        ),
        "lrsc": lambda: lrsc.attribution.integrated_gradients(net, x, y, steps=50),
    }
    rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(args.rounds)]
    rows = [
        {
            "case": name,
            "source": ds.source_id,
            "images": len(x),
            "seconds": median([r[name] for r in rounds]),
            "ratio": median([r["captum, single images"] / r[name] for r in rounds]),
        }
        for name in runs
    ]
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(10_000, 2048, generator=generator).relu()
    labels = torch.randint(10, (10_000,), generator=generator)
    times = [seconds(lambda: lrsc.metrics.class_separation(z, labels)) for _ in range(args.rounds)]
    rows.append({
        "case": "class separation, 10 000 x 2048", "source": "random", "images": 10_000,
        "seconds": median(times), "ratio": None,
    })  # fmt: skip
    show(rows, args.json, args.output)


if __name__ == "__main__":
    main()
