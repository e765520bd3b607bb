"""Probes: functions of a network that `fit` calls at fixed iterations (eval mode, no gradient)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrsc.datasets import BiasedDataset
from lrsc.metrics import loss_ratio
from lrsc.models import predict


def fixed_loss_ratio(dataset: BiasedDataset, n: int = 1000) -> Callable[[nn.Module], Tensor]:
    """Probe: bias-conflicting loss / total loss on n fixed random training samples (SPEC 5).

    Raises ValueError if the training split has no bias labels.
    """
    chosen = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0))[:n]
    split = dataset.train.take(chosen)
    conflicting = split.conflicting

    def probe(net: nn.Module) -> Tensor:
        nonlocal split, conflicting
        device = next(net.parameters()).device
        if split.x.device != device:
            split, conflicting = split.to(device), conflicting.to(device)
        losses = F.cross_entropy(predict(net, split), split.y, reduction="none")
        return loss_ratio(losses, conflicting)

    return probe
