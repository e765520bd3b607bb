"""What a trained run's result holds: measures, curves of training, attributions, raw material."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import nn

from lrsc import datasets, measures, models, pruning
from lrsc.config import RunConfig
from lrsc.training import Trained

ATTRIBUTED = 100  # of the fixed test inputs, on which attributions are computed
FEW_PRUNED = 2000  # unbiased test images on which most networks are pruned
# the same in the quick profile, which is no evidence; training images for recalibration as well
QUICK_PRUNED, QUICK_ATTRIBUTED = 100, 20
SMALL = 3 * 32 * 32  # values of an input; of larger ones fewer are attributed where few are pruned
# and of networks of so many weights, which are pruned by columns and in running statistics alone
HUGE_PRUNED, HUGE_ATTRIBUTED, HUGE_SAMPLES, HUGE = 20, 2, 100, ("wide_resnet101_2",)
HUGE_WEIGHTS = 10**8


def result_each(
    trained: Sequence[Trained], dataset: datasets.BiasedDataset, prune_samples: int
) -> list[xr.Dataset]:
    """Measures and raw material of trained runs of one model, their pruning curves together.

    A diverged one has no measures of its network; a run whose network gives NaN or infinity on the
    test split has diverged as well.
    """
    # read once for all networks
    dataset = dataclasses.replace(dataset, test=dataset.test.loaded())
    fine, seen = [], []
    for run in (run for run in trained if run.status != "diverged"):
        what = measures.observe(run.model, dataset, samples(prune_samples))
        if bool(what.z.isfinite().all() & what.logits.isfinite().all()):
            fine.append(run)
            seen.append(what)
        else:
            run.status, run.train_accuracy = "diverged", math.nan
    measured = of_networks([run.model for run in fine], dataset, prune_samples, seen)
    of_network = {id(run): found for run, found in zip(fine, measured, strict=True)}
    return [
        xr.merge([of_training(run), of_network.get(id(run), measures.nothing())]) for run in trained
    ]


def of_networks(
    networks: Sequence[nn.Module], dataset: datasets.BiasedDataset, prune_samples: int,
    seen: Sequence[measures.Observed],
) -> list[xr.Dataset]:  # fmt: skip
    """Measures, attributions and raw material of networks of one model."""
    train, few = dataset.train, attributed(prune_samples, dataset.test.x[:1].numel())
    if prune_samples in (QUICK_PRUNED, HUGE_PRUNED):
        train = measures.fixed_samples(train, prune_samples)
    huge = prune_samples == HUGE_PRUNED and any(map(_is_huge, networks))
    measured = measures.measure_each(
        networks, dataset, prune_samples=prune_samples, seen=seen, train=train,
        methods=pruning.METHODS[: 1 if huge else None], statistics=["running"] if huge else None,
    )  # fmt: skip
    if huge:  # no dimension, as where the statistics make no difference
        measured = [found.squeeze("statistics", drop=True) for found in measured]
    return [
        xr.merge([found, raw_material(net, what), attributions(net, what, train, few, huge)])
        for net, found, what in zip(networks, measured, seen, strict=True)
    ]


def _is_huge(net: nn.Module) -> bool:
    return sum(p.numel() for p in net.parameters()) > HUGE_WEIGHTS


def attributed(pruned: int, values: int) -> int:
    """Samples with attributions beside so many pruned ones, of inputs of so many values.

    A path takes the time of some 150 passes, both pruning curves that of 18: one sample in 20 adds
    less than half of pruning's time. Of small inputs 20 at least.
    """
    if pruned == HUGE_PRUNED:
        return HUGE_ATTRIBUTED
    least = min(QUICK_ATTRIBUTED, QUICK_ATTRIBUTED * SMALL // values)
    return max(1, least, min(ATTRIBUTED, pruned // 20))


def of_training(trained: Trained) -> xr.Dataset:
    """What is known of a run from its training alone."""
    values: dict[str, float] = {"epochs": trained.epochs, "steps": trained.steps}
    values["train_accuracy"] = trained.train_accuracy
    for curve in ("loss_ratio", "loss_ratio_fixed"):
        if curve in trained.curves:
            values[f"max_{curve}"] = float(np.nanmax(trained.curves[curve].numpy(), initial=0.0))
    return xr.merge([measures.as_dataset(values), sampled_curves(trained)])


def raw_material(model: nn.Module, seen: measures.Observed) -> xr.Dataset:
    """What a changed metric needs: representation, logits, labels, norms of the filters."""
    chosen = seen.chosen
    weights = [(n, p) for n, p in model.named_parameters() if p.dim() >= 2]
    norms = [p.detach().flatten(1).norm(dim=1) for _, p in weights]
    numbers = [torch.full((len(p),), i) for i, (_, p) in enumerate(weights)]
    # where its numbers reach so far: what is rounded so is compressed to half the space
    z = seen.z.half().float() if float(seen.z.abs().max()) < 65504 else seen.z
    variables = {
        "representation": (("sample", "unit"), z, "representation of fixed test inputs"),
        "sample_label": (("sample",), chosen.y, "class label of the fixed test inputs"),
        "logits": (("test_sample", "logit"), seen.logits, "logits of the test set"),
        "filter_norm": (
            ("filter",), torch.cat(norms), "L2 norm of each filter or neuron of each weight"
        ),
        "filter_weight": (
            ("filter",), torch.cat(numbers),
            "number of the weight, of: " + " ".join(n for n, _ in weights),
        ),
    }  # fmt: skip
    if chosen.bias is not None:
        variables["sample_bias"] = (("sample",), chosen.bias, "bias label of the fixed test inputs")
    return xr.Dataset({
        name: (dims, value.cpu().numpy(), {"units": "1", "long_name": about})
        for name, (dims, value, about) in variables.items()
    })  # fmt: skip


def attributions(
    model: nn.Module, seen: measures.Observed, train: datasets.Split, n: int, running: bool = False
) -> xr.Dataset:
    """What the network looks at on n fixed test samples, and the maps themselves.

    In all statistics of batch normalisation, or in running ones alone; the maps are those in
    running ones. train: samples from which they are estimated anew.
    """
    chosen = seen.chosen.take(torch.arange(min(n, len(seen.chosen))))
    found, maps = measures.attribution_measures(model, chosen)
    measured = {"running": found}
    if models.batch_norms(model) and not running:
        measured["batch"], _ = measures.attribution_measures(model, chosen, "batch")
        renewed, _ = models.settled(model, "recalibrated", train)
        measured["recalibrated"], _ = measures.attribution_measures(renewed, chosen)
    about = "signed attribution map of fixed test inputs, divided by its largest value, "
    dims = ("attributed", *("row", "column")[: maps["integrated_gradients"].dim() - 1])
    variables = {
        f"map_{method}": (
            dims, a.half().float().cpu().numpy(), {"units": "1", "long_name": about + method}
        )
        for method, a in maps.items()
    }  # fmt: skip
    return measures.by_statistics(measured, None).assign(variables)


def sampled_curves(trained: Trained) -> xr.Dataset:
    """Curves of the training at fixed iterations: means since the one before, and the probes."""
    curves = trained.curves
    steps = len(curves["loss"])
    early = [s for s in (1, 2, 5, 10, 20, 50, 100, 150) if s < steps]
    marks = np.unique([*early, *range(200, steps, 200), steps])
    parts = np.split(np.arange(steps), marks[:-1])
    about = {"units": "1", "long_name": "steps done"}
    found = xr.Dataset(coords={"iteration": ("iteration", marks, about)})

    def put(name: str, dims: str | list[str], values: np.ndarray, text: str, units: str = "1"):
        found[f"curve_{name}"] = dims, values, {"units": units, "long_name": text}

    for name, units in (("loss", "nat"), ("loss_ratio", "1")):
        if name in curves:
            values = np.array([curves[name].numpy()[p].mean() for p in parts], np.float32)
            text = f"mean mini-batch {name.replace('_', ' ')} since the iteration before"
            put(name, "iteration", values, text, units)
    for name, text in (
        ("accuracy", "running training accuracy of each epoch"),
        ("validation_accuracy", "accuracy on the validation split"),
    ):
        if name in curves:
            put(name, "epoch", curves[name].numpy(), text)
    for probe in [name.removesuffix("_step") for name in curves if name.endswith("_step")]:
        found[f"{probe}_step"] = (f"{probe}_call", curves[f"{probe}_step"].numpy(), about)
        for name in curves:
            if name == probe or (name.startswith(f"{probe}_") and name != f"{probe}_step"):
                values = curves[name].numpy()
                dims = [f"{probe}_call", *(f"{name}_{i}" for i in range(1, values.ndim))]
                put(name, dims, values, f"{name.replace('_', ' ')} at the probe's iterations")
    return found


def samples(prune_samples: int) -> int:
    """Test samples for the representation, by those that pruning is evaluated on."""
    return HUGE_SAMPLES if prune_samples == HUGE_PRUNED else measures.SAMPLES


def prune_samples(config: RunConfig, dataset: datasets.BiasedDataset) -> int:
    """Test samples that pruning is evaluated on: a fixed subset, or all where that costs little.

    All of them in the paper profile, for networks without batch normalisation; the others are
    pruned three times, once for each of its statistics, and a user's own may be.
    """
    few = (
        "n_train" in dict(config.data) or config.model in models.NORMALISED
        or not models.is_ours(config.model)
    )  # fmt: skip
    quick = HUGE_PRUNED if config.model in HUGE else QUICK_PRUNED
    most = quick if config.source == "embedded" else FEW_PRUNED
    return min(most, len(dataset.test)) if few else len(dataset.test)
