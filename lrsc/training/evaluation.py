"""What a run is judged by at the end of an epoch: training and validation samples, eval mode."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrsc import metrics, models
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.training import distributed

_SPLIT_SEED = 0x5A11


def splits(dataset: BiasedDataset, config: TrainConfig) -> tuple[Split, Split | None]:
    """Training split and validation split (None where there is neither a share nor an own one).

    The share is taken from every (class, bias) group alike, the same samples for every seed.
    Raises ValueError for a selection without validation samples, or by groups without bias labels.
    """
    train, val = dataset.train, dataset.val
    if config.validation_share:
        if val is not None:
            raise ValueError(
                f"validation_share={config.validation_share!r}, and data set {dataset.name!r} has "
                "a validation split of its own: use validation_share=0"
            )
        kept, held = _held_out(train, config.validation_share)
        train, val = train.take(kept), train.take(held)
    if config.select_by is not None and val is None:
        raise ValueError(
            f"select_by={config.select_by!r} needs validation samples, but validation_share=0.0 "
            f"and data set {dataset.name!r} has no validation split: set validation_share=0.1"
        )
    if config.select_by == "worst_group" and val is not None and val.bias is None:
        raise ValueError("select_by='worst_group' needs bias labels in the validation split")
    return train, val


def _held_out(train: Split, share: float) -> tuple[Tensor, Tensor]:
    """Indices to train on and to hold out: round(share * n) of every group, at random."""
    group = train.y.cpu()
    if train.bias is not None:
        group = group * (int(train.bias.max()) + 1) + train.bias.cpu()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    order = order[group[order].argsort(stable=True)]
    held = torch.cat([
        members[: round(share * len(members))]
        for members in order.split(group[order].unique_consecutive(return_counts=True)[1].tolist())
    ])  # fmt: skip
    if not len(held):
        raise ValueError(
            f"validation_share={share!r} of {len(train)} training samples is not one sample of "
            "any group: give a larger share"
        )
    mask = torch.ones(len(train), dtype=torch.bool)
    mask[held] = False
    return mask.nonzero()[:, 0], held.sort().values


@torch.inference_mode()
def training_accuracy(
    net: nn.Module, split: Split, enough: float = 0.0, poll: Callable[[], None] = lambda: None
) -> float:
    """Accuracy on all samples, eval mode; stops early, with an upper bound, below `enough`.

    The bound makes the check at the end of an epoch nearly free until the run converges: a target
    of 100 % is missed at the first error.
    """
    net.eval()
    n, wrong = len(split), 0
    order = _mine(split)
    for part, x in zip(order, split.batches(order), strict=True):
        poll()
        wrong += int((net(x).argmax(1) != split.y[part.to(split.y.device)]).sum())
        if (n - wrong) / n < enough:
            break
    wrong = int(distributed.total(torch.tensor(wrong, device=split.y.device)))
    return (n - wrong) / n


@torch.inference_mode()
def training_loss(net: nn.Module, split: Split, poll: Callable[[], None] = lambda: None) -> float:
    """Mean cross-entropy (nat) on all samples, eval mode, summed in double precision."""
    net.eval()
    order = _mine(split)
    summed = torch.zeros((), dtype=torch.float64, device=split.y.device)
    for part, x in zip(order, split.batches(order), strict=True):
        poll()
        y = split.y[part.to(split.y.device)]
        summed += F.cross_entropy(net(x).double(), y, reduction="sum")
    return float(distributed.total(summed)) / len(split)


@torch.inference_mode()
def validation_accuracy(
    net: nn.Module, split: Split, select_by: str | None, poll: Callable[[], None] = lambda: None
) -> float:
    """Accuracy on a validation split: of the worst (class, bias) group, else of all samples."""
    net.eval()
    order = _mine(split)
    right = torch.zeros(len(split), device=split.y.device)
    for part, x in zip(order, split.batches(order), strict=True):
        poll()
        part = part.to(split.y.device)
        right[part] = (net(x).argmax(1) == split.y[part]).float()
    right = distributed.total(right)
    if select_by != "worst_group" or split.bias is None:
        return float(right.double().mean())
    predicted = torch.where(right > 0, split.y, -1)
    return float(metrics.worst_group_accuracy(predicted, split.y, split.bias))


def _mine(split: Split) -> tuple[Tensor, ...]:
    """Indices of the samples that this process looks at, a forward pass each."""
    indices = torch.arange(distributed.rank(), len(split), distributed.world())
    return indices.split(models.pass_size(split.x.shape[1:], 1000))
