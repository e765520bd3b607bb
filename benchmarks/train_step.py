"""Milliseconds a training step: `lrsc.fit` against a bare loop and against spuco's Trainer.

    python benchmarks/train_step.py [--rounds 5] [--json]

All three train the same model on the same samples with batch 100. The bare loop records nothing;
its ResNet18 is our module, spuco's as torchvision builds it, which a user of spuco would train.
spuco (pip install spuco==2.0.3, not a dependency) gets a TensorDataset; its worker processes'
start is left out: steps are timed from the tenth on. Each round times all three in turn; the
medians over rounds and of the rounds' ratios are printed. Targets: bare x 1.05 (parity 1.25),
spuco at least 2.5 (parity), 1.5 (fcn), 1.15 (resnet18) times slower.
"""

import dataclasses
import importlib.util
import os
import sys
import tempfile
import time

import torch
from report import arguments, median, show
from torch.nn import functional as F

import lrsc

WARM = 10  # steps not timed
CASES = {  # name -> (data set, model, steps timed)
    "parity fcn 200-200": ("parity", "fcn", 490),
    "colored_mnist fcn 1024-1024": ("colored_mnist", "fcn", 90),
    "colored_mnist resnet18": ("colored_mnist", "resnet18", 40),
}
N, BATCH, LR = 10_000, 100, 0.001


def dataset(name: str) -> lrsc.datasets.BiasedDataset:
    """Real-sized inputs: the speed does not depend on what the images show."""
    found = lrsc.datasets.load(name, source="embedded")
    if len(found.train) < N:
        rows = torch.arange(N) % len(found.train)
        found = dataclasses.replace(found, train=found.train.take(rows))
    return found


def build(ds, model):
    torch.manual_seed(0)
    options = lrsc.models.options_for(model, ds.name)
    return lrsc.models.build(model, ds.input_shape, ds.n_classes, **options)


def ours(ds, model, x, y, steps) -> float:
    """A probe reads the clock at step WARM and every `steps` steps after it."""
    clock = lambda net: torch.tensor(time.perf_counter(), dtype=torch.float64)  # noqa: E731
    config = lrsc.TrainConfig(lr=LR, max_steps=WARM + steps + 1, stop_at_accuracy=None)
    (run,) = lrsc.fit(model, ds, config, probes={"clock": clock}, probe_every=WARM)
    at = dict(zip(run.curves["clock_step"].tolist(), run.curves["clock"].tolist(), strict=True))
    return (at[WARM + steps] - at[WARM]) / steps


def bare(ds, model, x, y, steps) -> float:
    net = build(ds, model).train()
    optimizer = torch.optim.SGD(net.parameters(), LR)
    done = 0
    while True:
        for batch in torch.randperm(N).split(BATCH):
            if done == WARM:
                started = time.perf_counter()
            if done == WARM + steps:
                return (time.perf_counter() - started) / steps
            loss = F.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1


def plain(net):
    """The model as torchvision builds it, without our convolution for small maps."""
    for module in net.modules():
        if type(module) is lrsc.models.SmallMapConv2d:
            module.__class__ = torch.nn.Conv2d
    return net


def spuco(ds, model, x, y, steps) -> float:
    from spuco.utils.trainer import Trainer

    times = []

    def forward_pass(trainer, batch):
        times.append(time.perf_counter())
        inputs, labels = batch
        outputs = trainer.model(inputs)
        return trainer.criterion(outputs, labels), outputs, labels

    steps = min(steps, N // BATCH - WARM - 1)  # within one epoch, of as many batches as needed
    few = slice(BATCH * (WARM + steps + 1))
    net = plain(build(ds, model))
    Trainer(
        torch.utils.data.TensorDataset(x[few], y[few]), net, BATCH,
        torch.optim.SGD(net.parameters(), LR), forward_pass=forward_pass,
    ).train_epoch(0)  # fmt: skip
    return (times[WARM + steps] - times[WARM]) / steps


def main() -> None:
    options = arguments(__doc__.splitlines()[0], rounds=5)
    trainers = {"fit": ours, "bare": bare}
    if importlib.util.find_spec("spuco"):
        trainers["spuco"] = spuco
    else:
        print("to compare with spuco: pip install spuco==2.0.3", file=sys.stderr)
    rows = []
    for case, (name, model, steps) in CASES.items():
        ds = dataset(name)
        x, y = ds.train.inputs(ds.train.x), ds.train.y
        times = {k: [] for k in trainers}
        for _ in range(options.rounds):
            for k, time_one in trainers.items():
                times[k].append(1000 * time_one(ds, model, x, y, steps))
        row = {"case": case} | {f"{k} ms": median(v) for k, v in times.items()}
        for k in list(trainers)[1:]:
            ratios = [a / b for a, b in zip(times["fit"], times[k], strict=True)]
            row |= {"fit/bare": median(ratios)} if k == "bare" else {
                "spuco/fit": median(1 / r for r in ratios)
            }  # fmt: skip
        rows.append(row)
    show(rows, options.json)


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())  # spuco leaves files where it stands
    main()
