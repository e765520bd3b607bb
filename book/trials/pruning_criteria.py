"""Which reading of pruning gives table S1's prunability? Trained ResNet18s, tried.

    LRSC_DATA=... python book/trials/pruning_criteria.py

Prunes the networks of the rows `settings` of the experiment `choices` (Colored MNIST, all images,
rho 0.02, both initialisations, each LR whose weights stand in the results folder) by each criterion
below, at nine shares, evaluates them in each of the statistics of batch normalisation, and writes
book/results/pruning_criteria.nc: accuracies on 1000 fixed unbiased test images. Four to eight
minutes a network on one core.
"""

import argparse
import copy
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from lrsc import experiments, measures, models, pruning, results
from lrsc.runs import identify, load_checkpoint

SAMPLES = 1000
RHO = 0.02
KAPPAS = (0.0, *pruning.KAPPAS)
Layers = dict[str, tuple[nn.Conv2d, nn.BatchNorm2d]]


def main() -> None:
    """Try every criterion on every network and store the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, help="results folder, which holds the weights")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parts, runs = [], []
    for config in experiments.configs(
        "choices", "paper", dataset="colored_mnist", model="resnet18", hyperparameter="settings"
    ):
        weights = results.weights_path(identify(config), args.results)
        if dict(config.data).get("rho") != RHO or not weights.is_file():
            continue
        init = dict(config.model_options).get("init", "torchvision")
        logging.info("%s initialisation, LR %g", init, config.train.lr)
        labels = {"init": [init], "lr": [config.train.lr]}
        parts.append(tried(*load_checkpoint(weights, config)).expand_dims(labels))
        runs.append(identify(config))
    table = xr.combine_by_coords(parts, combine_attrs="drop_conflicts")
    table.attrs = {
        "run_ids": " ".join(runs), "rho": RHO, "test_samples": SAMPLES, "n_train": 60_000,
        "source_id": "mnist", "made_by": "book/trials/pruning_criteria.py",
    }  # fmt: skip
    results.save(table, Path(__file__).parents[1] / "results" / "pruning_criteria.nc")


def tried(net: nn.Module, ds) -> xr.Dataset:
    """Accuracies of one network by criterion, statistics and kappa."""
    test = measures.fixed_samples(ds.test, SAMPLES)
    found = np.array([
        [[accuracy(net, test, ds.train, prune, k, mode) for k in KAPPAS]
         for mode in models.STATISTICS]
        for prune in CRITERIA.values()
    ])  # fmt: skip
    return xr.Dataset(
        {"accuracy": (("criterion", "statistics", "kappa"), found, {"units": "1"})},
        {"criterion": list(CRITERIA), "statistics": list(models.STATISTICS), "kappa": list(KAPPAS)},
    )


@torch.no_grad()
def accuracy(net: nn.Module, test, train, prune: Callable, kappa: float, mode: str) -> float:
    """Accuracy of a pruned copy in one of the statistics."""
    net = copy.deepcopy(net).eval()
    prune(_layers(net), kappa)
    if mode == "recalibrated":
        models.recalibrate(net, train)
    logits = models.predict(net, test, "batch" if mode == "batch" else "running")
    return float((logits.argmax(1) == test.y).double().mean())


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


def filters_by_scale(layers: Layers, kappa: float) -> None:
    for conv, norm in layers.values():
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).abs()
        conv.weight[_smallest(scale * conv.weight.flatten(1).norm(dim=1), kappa)] = 0


def filters_at_random(layers: Layers, kappa: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for conv, _ in layers.values():
        conv.weight[_smallest(torch.rand(len(conv.weight), generator=generator), kappa)] = 0


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
    "the same, with the constant that is left": filters_and_constants,
    "the same as ours, shortcuts left alone": filters_but_shortcuts,
    "filters, norm times batch normalisation's scale": filters_by_scale,
    "filters, at random in each layer": filters_at_random,
    "filters, root mean square over all layers": filters_over_all_layers,
    "input channels, smallest norm in each layer": input_channels,
    "single kernels, smallest norm in each layer": kernels,
    "single weights over all layers (magnitude)": single_weights,
}


if __name__ == "__main__":
    main()
