"""A training step in bf16 (autocast) against one in fp32, on this device.

    python benchmarks/precision.py [--rounds 5] [--json] [--output FILE]

Colored MNIST's shapes, batch 100, plain SGD through `lrsc.fit`. Each round times both in turn;
medians over the rounds of the times and of their ratios. Targets on two cores: 1.5 for the FCN of
1024, 1.15 for ResNet18.
"""

import time

import torch
from report import arguments, median, show

import lrsc
from lrsc.datasets import BiasedDataset, Split

STEPS = {"fcn": 60, "resnet18": 12}
WARM = 3


def step_ms(model: str, dataset: BiasedDataset, precision: str) -> float:
    config = lrsc.TrainConfig(
        lr=1e-3, max_steps=WARM + STEPS[model] + 1, stop_at_accuracy=None, precision=precision
    )
    times = {}

    def clock(net):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times[len(times)] = time.perf_counter()
        return torch.zeros(())

    every = {"clock": 1}
    lrsc.fit(model, dataset, config, probes={"clock": clock}, probe_every=every)
    return 1000 * (times[WARM + STEPS[model]] - times[WARM]) / STEPS[model]


def main() -> None:
    args = arguments(__doc__, rounds=5)
    x = torch.randint(0, 256, (10_000, 3, 28, 28), dtype=torch.uint8)
    split = Split(x, torch.arange(10_000) % 10)
    dataset = BiasedDataset("random", split, split, n_classes=10)
    rows = []
    for model in STEPS:
        rounds = [
            [step_ms(model, dataset, precision) for precision in ("fp32", "bf16")]
            for _ in range(args.rounds)
        ]
        rows.append({
            "model": model,
            "fp32_ms": median(full for full, _ in rounds),
            "bf16_ms": median(half for _, half in rounds),
            "ratio": median(full / half for full, half in rounds),
            "rounds": args.rounds,
        })  # fmt: skip
    show(rows, args.json, args.output)


if __name__ == "__main__":
    main()
