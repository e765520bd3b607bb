"""Integrated Gradients against captum's, and class separation: seconds, and their ratios.

    LRSC_DATA=... python benchmarks/attribution.py [--rounds 3] [--images 40] [--output FILE]

FCN, CNN and ResNet18, Colored MNIST, 50 steps: captum's loop over single images, captum with the
best of some internal batch sizes, and ours, which is captum's but for the linear layers that the
FCN begins with; in turn in each round, medians over rounds and of the rounds' ratios. Target for
the FCN: 1.3 x captum's best batch size; the others: as fast. Class separation of 10 000 x 2048 in
ten classes: target 1 s. Time goes with the number of images.
"""

import time
from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients
from report import arguments, median, show

import lrsc

MODELS = ("fcn", "cnn", "resnet18")
SIZES = (50, 100, 200, 400)  # captum's internal batch sizes that are tried


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compared(name: str, ds: lrsc.datasets.BiasedDataset, n: int, rounds: int) -> list[dict]:
    """Rows of a network: seconds of each way, and how many times as fast as single images."""
    net = lrsc.models.build(name, ds.input_shape, 10).eval()
    x, y = ds.train.inputs(ds.train.x[:n]), ds.train.y[:n]
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
    times = [{case: seconds(run) for case, run in runs.items()} for _ in range(rounds)]
    return [
        {
            "case": f"{name}: {case}",
            "source": ds.source_id,
            "images": len(x),
            "seconds": median([r[case] for r in times]),
            "ratio": median([r["captum, single images"] / r[case] for r in times]),
        }
        for case in runs
    ]


def main() -> None:
    args = arguments(__doc__ or "", rounds=3, images=40)
    ds = lrsc.datasets.load("colored_mnist", n_train=1000)
    rows = [row for name in MODELS for row in compared(name, ds, args.images, args.rounds)]
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
