"""What a run is judged by at the end of an epoch: training and validation samples, eval mode."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrsc import metrics, models
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.training import distributed

_SPLIT_SEED = 0x5A11
FIRST = 100  # samples that tell most networks that have not converged


def splits(
    dataset: BiasedDataset, config: TrainConfig, small: bool = False
) -> tuple[Split, Split | None]:
    """Training split and validation split (None where there is neither a share nor an own one).

    The share is taken from every (class, bias) group alike, the same samples for every seed. Of
    groups too small for that none is taken, or, if `small`, the share of all of them together.
    Raises ValueError for a selection without validation samples, or by groups without bias labels.
    """
    train, val, select_by = dataset.train, dataset.val, config.select_by
    if config.validation_share:
        if val is not None:
            raise ValueError(
                f"validation_share={config.validation_share!r}, and data set {dataset.name!r} has "
                "a validation split of its own: use validation_share=0"
            )
        kept, held = _held_out(train, config.validation_share, small)
        train, val = train.take(kept), train.take(held)
    if select_by is not None and val is None:
        raise ValueError(
            f"select_by={select_by!r} needs validation samples, but validation_share=0.0 and data "
            f"set {dataset.name!r} has no validation split: set validation_share=0.1"
        )
    known = val is not None and val.bias is not None and bool(val.known.any())
    if select_by == "worst_group" and not known:
        raise ValueError("select_by='worst_group' needs bias labels in the validation split")
    return train, val


def _held_out(train: Split, share: float, small: bool) -> tuple[Tensor, Tensor]:
    """Indices to train on and to hold out: round(share * n) of every group, at random."""
    group = train.y.cpu()
    if train.bias is not None:
        # -1, unknown, is a group too
        group = group * (int(train.bias.max()) + 2) + 1 + train.bias.cpu()
    at_random = torch.randperm(len(train), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    order = at_random[group[at_random].argsort(stable=True)]
    groups = order.split(group[order].unique_consecutive(return_counts=True)[1].tolist())
    held = torch.cat([members[: round(share * len(members))] for members in groups])
    if small:
        few = [members for members in groups if round(share * len(members)) == 0]
        left = at_random[torch.isin(at_random, torch.cat([*few, order[:0]]))]
        held = torch.cat([held, left[: round(share * len(left))]])
    if not len(held):
        raise ValueError(
            f"validation_share={share!r} of {len(train)} training samples is not one sample of "
            "any group: give a larger share"
        )
    mask = torch.ones(len(train), dtype=torch.bool)
    mask[held] = False
    return mask.nonzero()[:, 0], held.sort().values


Forward = Callable[[Tensor], Tensor]  # inputs (N x ...) -> logits of R networks (R x N x K)


def forward_all(nets: Sequence[nn.Module]) -> Forward:
    """Logits of several networks in eval mode, one network after the other."""
    for net in nets:
        net.eval()

    return lambda x: torch.stack([models.logits(net, x) for net in nets])


@torch.inference_mode()
def training_accuracies(
    forward_of: Callable[[list[int]], Forward],
    split: Split,
    enough: Sequence[float],
    poll: Callable[[], None] = lambda: None,
) -> list[float]:
    """Accuracies of R networks on all samples, eval mode; forward_of gives that of some of them.

    A network leaves early, with an upper bound, when it must fall below its `enough`. That makes
    the check at the end of an epoch nearly free until the run converges: a target of 100 % is
    missed at the first error. The host looks once a pass, for all networks.
    """
    n, wrong = len(split), torch.zeros(len(enough), dtype=torch.int64, device=split.y.device)
    left = list(range(len(enough)))
    forward = forward_of(left)
    for _, x, y in _passes(split, poll, first=FIRST):
        wrong[left] += (forward(x).argmax(2) != y).sum(1)
        counts = wrong.tolist()
        staying = [k for k in left if (n - counts[k]) / n >= enough[k]]
        if not staying:
            break
        if staying != left:
            left, forward = staying, forward_of(staying)
    return [(n - count) / n for count in distributed.total(wrong).tolist()]


@torch.inference_mode()
def training_loss(net: nn.Module, split: Split, poll: Callable[[], None] = lambda: None) -> float:
    """Mean cross-entropy (nat) on all samples, eval mode, summed in double precision."""
    forward = forward_all([net])
    summed = torch.zeros((), dtype=torch.float64, device=split.y.device)
    for _, x, y in _passes(split, poll):
        summed += F.cross_entropy(forward(x)[0].double(), y, reduction="sum")
    return float(distributed.total(summed)) / len(split)


@torch.inference_mode()
def validation_accuracy(
    net: nn.Module, split: Split, select_by: str | None, poll: Callable[[], None] = lambda: None
) -> float:
    """Accuracy on a validation split: of the worst (class, bias) group, else of all samples."""
    forward = forward_all([net])
    right = torch.zeros(len(split), device=split.y.device)
    for part, x, y in _passes(split, poll):
        right[part] = (forward(x)[0].argmax(1) == y).float()
    right = distributed.total(right)
    if select_by != "worst_group" or split.bias is None:
        return float(right.double().mean())
    known, predicted = split.known, torch.where(right > 0, split.y, -1)
    return float(metrics.worst_group_accuracy(predicted[known], split.y[known], split.bias[known]))


def _passes(
    split: Split, poll: Callable[[], None], first: int = 0
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Indices, inputs and labels of the samples that this process looks at, a pass each.

    first: samples of the first pass, where it is to be a short one; poll is called before each.
    """
    indices = torch.arange(distributed.rank(), len(split), distributed.world())
    size = models.pass_size(split.x.shape[1:], 1000)
    order = (*indices[:first].split(size), *indices[first:].split(size))
    for part, x in zip(order, split.batches(order), strict=True):
        poll()
        part = part.to(split.y.device)
        yield part, x, split.y[part]
