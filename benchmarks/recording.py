"""What recording a training costs: milliseconds a step with the probes and without.

    LRSC_DATA=... python benchmarks/recording.py [--rounds 3] [--steps 500] [--json] [--output FILE]

Colored MNIST, batch 100; `dynamics` on 500 fixed samples every 50 iterations and
`attribution_shares` on 16 images every 500, the default sizes. Each round trains without and with
the probes, in turn; the medians over rounds and of the rounds' ratios are printed, and the median
milliseconds of one call of each probe; `share` is what these calls add to a step of the median
length, which drift of the machine's speed between two trainings does not touch. Fewer steps than
500 overstate the attribution's cost.
Target: at most 1.1 x. On two cores a round takes minutes (ResNet18). Without real data the
embedded digits are used: the time does not depend on what the images show.
"""

import dataclasses
import time
from collections.abc import Callable

import torch
from report import arguments, median, show

import lrsc
from lrsc.training import attribution_shares, dynamics

WARM = 10  # iterations not timed
EVERY = {"dynamics": 50, "attribution": 500}
CASES = {"colored_mnist fcn 1024-1024": "fcn", "colored_mnist resnet18": "resnet18"}


def clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def with_regions(ds: lrsc.datasets.BiasedDataset) -> lrsc.datasets.BiasedDataset:
    """Two halves as regions: a colour has no pixels of its own."""
    left = torch.zeros(1, 1, *ds.input_shape[1:], dtype=torch.bool)
    left[..., : left.shape[-1] // 2] = True
    train = dataclasses.replace(ds.train, core_mask=left, spurious_mask=~left)
    return dataclasses.replace(ds, train=train)


def timed(probe: Callable, seconds: list[float]) -> Callable:
    def call(net):
        started = clock()
        found = probe(net)
        seconds.append(clock() - started)
        return found

    return call


def step_seconds(model: str, ds: lrsc.datasets.BiasedDataset, probes: dict, steps: int) -> float:
    """Mean over `steps` iterations, from the WARM-th on; a first probe reads the clock."""
    probes = {"clock": lambda net: torch.tensor(clock(), dtype=torch.float64), **probes}
    every = {"clock": WARM} | {name: min(EVERY[name], steps) for name in probes if name in EVERY}
    config = lrsc.TrainConfig(lr=0.001, max_steps=WARM + steps + 1, stop_at_accuracy=None)
    (run,) = lrsc.fit(model, ds, config, probes=probes, probe_every=every)
    at = dict(zip(run.curves["clock_step"].tolist(), run.curves["clock"].tolist(), strict=True))
    return (at[WARM + steps] - at[WARM]) / steps


def main() -> None:
    options = arguments(__doc__.splitlines()[0], rounds=3, steps=500)
    if options.steps < 50 or options.steps % 50:
        raise SystemExit(f"--steps must be a multiple of 50, found {options.steps}")
    ds = with_regions(lrsc.datasets.load("colored_mnist"))
    rows = []
    for case, model in CASES.items():
        calls: dict[str, list[float]] = {name: [] for name in EVERY}
        probes = {
            "dynamics": timed(dynamics(ds), calls["dynamics"]),
            "attribution": timed(attribution_shares(ds), calls["attribution"]),
        }
        without, recorded = [], []
        for _ in range(options.rounds):
            without.append(1000 * step_seconds(model, ds, {}, options.steps))
            recorded.append(1000 * step_seconds(model, ds, probes, options.steps))
        call_ms = {name: 1000 * median(seconds) for name, seconds in calls.items()}
        ms = median(without)
        rows.append({
            "case": case, "source": ds.source_id, "ms": ms, "recorded_ms": median(recorded),
            "rounds": options.rounds,
            "ratio": median(a / b for a, b in zip(recorded, without, strict=True)),
            **{f"{name}_call_ms": value for name, value in call_ms.items()},
            "share": sum(value / EVERY[name] for name, value in call_ms.items()) / ms,
        })  # fmt: skip
    show(rows, options.json, options.output)


if __name__ == "__main__":
    main()
