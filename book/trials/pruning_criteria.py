"""Which reading of column pruning gives table S1's prunability? One trained ResNet18, tried.

    LRSC_DATA=... python book/trials/pruning_criteria.py [--lr 0.15] [--seed 0]

Prunes the ResNet18 of the paper profile on Colored MNIST (its weights must stand in the results
folder) by each criterion below, at nine shares, and writes book/results/pruning_criteria.nc: the
accuracies on 2000 fixed unbiased test images. Minutes on one core.
"""

import argparse
import copy
import logging
from collections.abc import Callable
from pathlib import Path

import torch
import xarray as xr
from torch import Tensor, nn

import lrsc
from lrsc import experiments, measure, models, pruning, results, sweep

SAMPLES = 2000
Layers = dict[str, tuple[nn.Conv2d, nn.BatchNorm2d]]


def main() -> None:
    """Try every criterion and store the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    (config,) = experiments.configs(
        "semi_synthetic", "paper", dataset="colored_mnist", model="resnet18",
        lrs=[args.lr], seeds=[args.seed],
    )  # fmt: skip
    run = sweep.identify(config, None)
    net = models.build("resnet18", (3, 28, 28), 10)
    net.load_state_dict(torch.load(results.weights_path(run), weights_only=True))
    ds = lrsc.datasets.load("colored_mnist", source="real")
    test = measure.fixed_samples(ds.test, SAMPLES)
    seen = measure.fixed_samples(ds.train, 500)
    found = {}
    for name, prune in CRITERIA.items():
        found[name] = [accuracy(net, test, seen, prune, k) for k in (0.0, *pruning.KAPPAS)]
        logging.info("%s: mean %.3f", name, sum(found[name][1:]) / len(pruning.KAPPAS))
    table = xr.Dataset(
        {"accuracy": (("criterion", "kappa"), list(found.values()), {"units": "1"})},
        {"criterion": list(found), "kappa": [0.0, *pruning.KAPPAS]},
        {"run_id": run, "lr": args.lr, "seed": args.seed, "test_samples": SAMPLES,
         "made_by": "book/trials/pruning_criteria.py"},
    )  # fmt: skip
    results.save(table, Path(__file__).parents[1] / "results" / "pruning_criteria.nc")


@torch.no_grad()
def accuracy(net: nn.Module, test, seen, prune: Callable, kappa: float) -> float:
    """Accuracy of a pruned copy; for some criteria its batch statistics are renewed first."""
    net = copy.deepcopy(net).eval()
    prune(_layers(net), kappa)
    if prune in RENEWED and kappa:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        net.train()(seen.inputs(seen.x))
    return float((models.predict(net, test).argmax(1) == test.y).double().mean())


def _layers(net: nn.Module) -> Layers:
    """Prunable convolutions by name, each with the batch normalisation that follows it."""
    modules = dict(net.named_modules())
    names = [name.removesuffix(".weight") for name in pruning.prunable(net)]
    after = {n: n[:-1] + "1" if "downsample" in n else n.replace("conv", "bn") for n in names}
    return {n: (modules[n], modules[after[n]]) for n in names}


def _smallest(scores: Tensor, kappa: float) -> Tensor:
    return scores.argsort(stable=True)[: round(kappa * len(scores))]


def filters(layers: Layers, kappa: float) -> None:
    for conv, _ in layers.values():
        conv.weight[_smallest(conv.weight.flatten(1).norm(dim=1), kappa)] = 0


def filters_and_constants(layers: Layers, kappa: float) -> None:
    for conv, norm in layers.values():
        gone = _smallest(conv.weight.flatten(1).norm(dim=1), kappa)
        conv.weight[gone], norm.weight[gone], norm.bias[gone] = 0, 0, 0


def filters_but_shortcuts(layers: Layers, kappa: float) -> None:
    filters({n: pair for n, pair in layers.items() if "downsample" not in n}, kappa)


def filters_inside_blocks(layers: Layers, kappa: float) -> None:
    filters({n: pair for n, pair in layers.items() if n.endswith("conv1")}, kappa)


def filters_re_estimated(layers: Layers, kappa: float) -> None:
    filters(layers, kappa)


def filters_but_shortcuts_re_estimated(layers: Layers, kappa: float) -> None:
    filters_but_shortcuts(layers, kappa)


def filters_by_scale(layers: Layers, kappa: float) -> None:
    for conv, norm in layers.values():
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).abs()
        conv.weight[_smallest(scale * conv.weight.flatten(1).norm(dim=1), kappa)] = 0


def filters_over_all_layers(layers: Layers, kappa: float) -> None:
    sizes = [len(conv.weight) for conv, _ in layers.values()]
    means = [conv.weight.flatten(1).square().mean(1).sqrt() for conv, _ in layers.values()]
    gone = torch.zeros(sum(sizes), dtype=torch.bool)
    gone[_smallest(torch.cat(means), kappa)] = True
    for (conv, _), mask in zip(layers.values(), gone.split(sizes), strict=True):
        conv.weight[mask] = 0


def input_channels(layers: Layers, kappa: float) -> None:
    for conv, _ in layers.values():
        conv.weight[:, _smallest(conv.weight.transpose(0, 1).flatten(1).norm(dim=1), kappa)] = 0


def matrix_columns(layers: Layers, kappa: float) -> None:
    for conv, _ in layers.values():
        matrix = conv.weight.flatten(1)
        matrix[:, _smallest(matrix.norm(dim=0), kappa)] = 0


def kernels(layers: Layers, kappa: float) -> None:
    for conv, _ in layers.values():
        flat = conv.weight.flatten(0, 1)
        flat[_smallest(flat.flatten(1).norm(dim=1), kappa)] = 0


def single_weights(layers: Layers, kappa: float) -> None:
    weights = [conv.weight for conv, _ in layers.values()]
    gone = torch.zeros(sum(w.numel() for w in weights), dtype=torch.bool)
    gone[_smallest(torch.cat([w.abs().flatten() for w in weights]), kappa)] = True
    for weight, mask in zip(weights, gone.split([w.numel() for w in weights]), strict=True):
        weight[mask.view_as(weight)] = 0


CRITERIA: dict[str, Callable[[Layers, float], None]] = {
    "filters, smallest norm in each layer (ours)": filters,
    "the same, with the constant that batch normalisation leaves": filters_and_constants,
    "the same as ours, shortcuts left alone": filters_but_shortcuts,
    "the same as ours, only the first convolution of each block": filters_inside_blocks,
    "filters, norm times batch normalisation's scale": filters_by_scale,
    "filters, root mean square over all layers": filters_over_all_layers,
    "ours, batch statistics re-estimated afterwards": filters_re_estimated,
    "ours but shortcuts, batch statistics re-estimated": filters_but_shortcuts_re_estimated,
    "input channels, smallest norm in each layer": input_channels,
    "columns of the matrix outputs x (inputs x taps)": matrix_columns,
    "single kernels, smallest norm in each layer": kernels,
    "single weights over all layers (magnitude)": single_weights,
}
RENEWED = (filters_re_estimated, filters_but_shortcuts_re_estimated)


if __name__ == "__main__":
    main()
