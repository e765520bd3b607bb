"""Model soups (Wortsman et al. 2022), and runs whose LR is switched at different iterations.

Weights are averaged in double precision. Averaged running statistics of BatchNorm would be those
of no network: they are measured anew on training samples. Fig. 30 of the paper.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from lrsc import metrics
from lrsc.config import CHOICES, TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.errors import check_names
from lrsc.models import batch_norms, modes_kept, pass_size, predict, recalibrate
from lrsc.training.fit import Trained, fit


def uniform_soup(models: Iterable[nn.Module | Trained], split: Split) -> nn.Module:
    """A new network with the mean weights of networks of one architecture; of one, a copy.

    split: the training samples (raw), on which BatchNorm's statistics are measured; not looked at
    where there is none. Means make sense of networks that share their initial weights. The first
    model gives device and mode; no model is changed. Raises ValueError for no models, and for
    weights and buffers that differ in name or shape or, holding whole numbers, in value.
    """
    networks = _networks(models)
    soup = _mean(networks)
    if len(networks) > 1 and any(layer.running_mean is not None for layer in batch_norms(soup)):
        recalibrate(soup, split, max(2, len(split)), pass_size(split.x.shape[1:]))
    return soup


def greedy_soup(
    models: Iterable[nn.Module | Trained], train: Split, val: Split, select_by: str = "mean"
) -> tuple[nn.Module, list[int]]:
    """The soup to which models are added, best first, while its validation accuracy does not fall.

    A model that lowers it is left out, and the next one is tried; at equal accuracy alone the
    first given goes first. select_by: accuracy on all samples of val ('mean') or on its worst
    (class, bias) group ('worst_group'). Returns the soup and the indices of the models in it, in
    the order in which they were added. Errors and train: as in `uniform_soup`; also ValueError for
    worst groups without bias labels. Wortsman et al. 2022, algorithm 1.
    """
    check_names("select_by", [select_by], CHOICES["select_by"])
    networks = _networks(models)
    _check_alike(networks)
    alone = [_accuracy(net, val, select_by) for net in networks]
    first, *others = sorted(range(len(networks)), key=lambda i: -alone[i])
    soup, used, best = copy.deepcopy(networks[first]), [first], alone[first]
    for i in others:
        larger = uniform_soup([networks[k] for k in (*used, i)], train)
        accuracy = _accuracy(larger, val, select_by)
        if accuracy >= best:
            soup, used, best = larger, [*used, i], accuracy
    return soup, used


def lr_switch(
    model: str | nn.Module | Callable[[], nn.Module],
    dataset: BiasedDataset,
    config: TrainConfig,
    switch_at: Iterable[int | None],
    switch_lr: float | None = None,
    **options,
) -> list[Trained]:
    """Runs at config.lr that go on with switch_lr (None: lr / 100) from an iteration on.

    switch_at: iterations, one run each (and one a seed: iterations outermost); 0 is the low LR
    throughout, None the high one throughout. A run that ends before its iteration is one at the
    high LR. options: those of `fit` but lrs; checkpoints gets a folder for each iteration. Raises
    ValueError for a schedule that is not constant, no or bad iterations, and as `fit`, which
    looks at each run when it starts.
    """
    iterations = list(switch_at)
    if not iterations:
        raise ValueError("switch_at is empty: give at least one iteration, or None for no switch")
    if config.schedule != "constant":
        raise ValueError(
            f"config has schedule={config.schedule!r}, expected 'constant': lr_switch sets it"
        )
    if "lrs" in options:
        raise ValueError(
            "lrs is no option of lr_switch: config.lr is the high LR and switch_lr the low one"
        )
    if isinstance(model, nn.Module) and len(iterations) > 1:
        raise ValueError(
            f"a ready module is trained for one run, found {len(iterations)} (switch_at); "
            "give a factory: lr_switch(lambda: MyModel(), ...)"
        )
    low = config.lr / 100 if switch_lr is None else switch_lr
    configs = [_switched(config, at, low) for at in iterations]
    folder = options.pop("checkpoints", None)
    runs = []
    for at, switched in zip(iterations, configs, strict=True):
        if folder is not None:
            options["checkpoints"] = Path(folder) / f"switch-{at}"
        runs += fit(model, dataset, switched, **options)
    return runs


def _switched(config: TrainConfig, at: int | None, low: float) -> TrainConfig:
    switched = dataclasses.replace(config, schedule="switch", switch_at=at or None, switch_lr=low)
    if at is None:
        return config
    return dataclasses.replace(config, lr=low) if at == 0 else switched


def _networks(models: Iterable[nn.Module | Trained]) -> list[nn.Module]:
    found = [run.model if isinstance(run, Trained) else run for run in models]
    if not found:
        raise ValueError("models is empty: give at least one nn.Module or Trained")
    for net in found:
        if not isinstance(net, nn.Module):
            raise ValueError(f"models must hold nn.Modules or Trained, found {type(net).__name__}")
    return found


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def _check_alike(networks: list[nn.Module]) -> None:
    """Raise for the first weight or buffer that cannot be averaged with the first network's."""
    first = _tensors(networks[0])
    counters = {name for name in first if name.endswith("num_batches_tracked")}
    for i, net in enumerate(networks[1:], 1):
        other = _tensors(net)
        for name in (*first, *other):
            if name not in first or name not in other:
                raise ValueError(
                    f"parameter {name!r} is in one of models 0 and {i} only; a soup needs one "
                    "architecture"
                )
            ours, theirs = first[name], other[name]
            if ours.shape != theirs.shape:
                raise ValueError(
                    f"parameter {name!r} has shape {tuple(ours.shape)} in model 0 and "
                    f"{tuple(theirs.shape)} in model {i}; a soup needs one architecture"
                )
            whole = not ours.is_floating_point() and name not in counters
            if whole and not torch.equal(ours, theirs.to(ours.device)):
                raise ValueError(
                    f"buffer {name!r} holds whole numbers that differ between models 0 and {i}: "
                    "they have no mean; make them equal"
                )


@torch.no_grad()
def _mean(networks: list[nn.Module]) -> nn.Module:
    _check_alike(networks)
    soup = copy.deepcopy(networks[0])
    found = [_tensors(net) for net in networks]
    for name, value in _tensors(soup).items():
        if value.is_floating_point():
            each = [tensors[name].to(value.device).double() for tensors in found]
            value.copy_(torch.stack(each).mean(0))
    return soup


def _accuracy(net: nn.Module, split: Split, select_by: str) -> float:
    split = split.to(next(net.parameters()).device)
    if len(split) == 0:
        raise ValueError("val holds 0 samples, expected validation samples")
    with modes_kept(net):
        predicted = predict(net, split).argmax(1)
    if select_by == "mean":
        return float(metrics.accuracy(predicted, split.y))
    if split.bias is None:
        raise ValueError("select_by='worst_group' needs bias labels in val: Split(..., bias=...)")
    return float(metrics.worst_group_accuracy(predicted, split.y, split.bias))
