"""What pruned networks save once their zero filters are removed: sizes, operations, time.

    python benchmarks/shrinking.py [--batch 32] [--runs 7] [--json] [--output FILE]

Weights as initialised, which cost what trained ones do; the BatchNorms' values are drawn, so that
zero filters send constants on, as after training. `ms` is the median of forward passes of one
batch, the whole network (pruned, not shrunk) and the shrunk one in turns; `change` the largest
difference of their outputs, as a share of the largest output. Not all filters that are zero can be
removed: see zeroed and removed. parameters, macs, bytes: what the shrunk network has of the whole
one's, as shares.
"""

import torch
from report import arguments, show
from torch import nn

import lrsc
from lrsc import pruning

CASES = {  # name -> shape of one input
    "fcn": (3, 28, 28),
    "cnn": (3, 32, 32),
    "resnet18": (3, 32, 32),
    "resnet50": (3, 64, 64),
}
KAPPAS = (0.5, 0.7, 0.9)


def build(name: str, shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    net = lrsc.models.build(name, shape, 10)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
    return net.eval()


def main() -> None:
    options = arguments(__doc__.splitlines()[0], batch=32, runs=7)
    rows = []
    for name, shape in CASES.items():
        net, x = build(name, shape), torch.randn(options.batch, *shape)
        for kappa in KAPPAS:
            shrunk = pruning.shrink(net, kappa, x, runs=options.runs)
            with torch.no_grad():
                expected = pruning.prune(net, kappa).eval()(x)
                change = float((shrunk.model(x) - expected).abs().max() / expected.abs().max())
            before, after = shrunk.before, shrunk.after
            rows.append({
                "model": name, "kappa": kappa, "zeroed": shrunk.zeroed, "removed": shrunk.removed,
                "carriers": shrunk.carriers,
                "parameters": after.parameters / before.parameters,
                "macs": after.macs / before.macs, "bytes": after.bytes / before.bytes,
                "ms": 1000 * before.seconds, "shrunk_ms": 1000 * after.seconds,
                "times_faster": before.seconds / after.seconds, "change": change,
            })  # fmt: skip
    show(rows, options.json, options.output)


if __name__ == "__main__":
    main()
