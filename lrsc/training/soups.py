"""Model soups: networks with the mean weights of others (Wortsman et al. 2022).

Weights are averaged in double precision. Averaged running statistics of BatchNorm would be those
of no network: they are measured anew on training samples.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lrsc.datasets import Split
from lrsc.models import batch_norms, copied, pass_size, recalibrate
from lrsc.training.fit import Trained


def uniform_soup(models: Iterable[nn.Module | Trained], split: Split) -> nn.Module:
    """A new network with the mean weights of networks of one architecture; for one, a copy.

    split: the training samples (raw), on which BatchNorm's statistics are measured; unused without
    BatchNorm. Means make sense for networks that share their initial weights. The first model gives
    device and mode; no model is changed. Raises ValueError for no models, for NaN, and for weights
    and buffers that differ in name or shape or, if they hold whole numbers, in value.
    """
    networks = _networks(models)
    soup = _mean(networks)
    if len(networks) > 1 and any(layer.running_mean is not None for layer in batch_norms(soup)):
        recalibrate(soup, split, max(2, len(split)), pass_size(split.x.shape[1:]))
    return soup


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
    soup = copied(networks[0])
    found = [_tensors(net) for net in networks]
    for name, value in _tensors(soup).items():
        if value.is_floating_point():
            each = [tensors[name].to(value.device).double() for tensors in found]
            value.copy_(torch.stack(each).mean(0))
            if value.isnan().any():
                raise ValueError(f"the mean of {name!r} holds NaN: leave out runs that diverged")
    return soup
