"""How much of a network's accuracy survives pruning: of all samples, and of each group."""

import copy
from collections.abc import Iterator, Sequence

import torch
import xarray as xr
from torch import Tensor, nn

from lrsc import metrics
from lrsc.datasets import Split
from lrsc.models import (
    Stack,
    check_statistics,
    copied,
    find,
    hand_on,
    input_errors,
    linear_layers,
    matmul_precision,
    not_nan,
    pass_size,
    predict,
    recalibration,
    same_with_channels_last,
)
from lrsc.pruning.zeroing import KAPPAS, Scores, check, rankings, set_to_zero

_STACKED = 2**21  # bytes of weights of pruned networks that are computed together


def prunability(
    model: nn.Module,
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str | Scores = "column",
    scope: str = "global",
    statistics: str = "running",
    recalibrate: Split | None = None,
    layer: str | None = None,
) -> float:
    """Mean over kappas of accuracy after pruning / accuracy before; NaN if the latter is 0.

    Arguments and errors: as in `pruning_curve`.
    """
    kappas = check(kappas, method, scope)
    asked = (0.0, *kappas)
    curve = pruning_curve(model, split, asked, method, scope, statistics, recalibrate, layer)
    before, *after = curve.tolist()
    return sum(after) / len(after) / before if before else float("nan")


def pruning_curve(
    model: nn.Module,
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str | Scores = "column",
    scope: str = "global",
    statistics: str = "running",
    recalibrate: Split | None = None,
    layer: str | None = None,
) -> Tensor:
    """Accuracy on a split (raw samples) after `prune`, one fraction (float64) for each kappa.

    Computed in eval mode on the model's device; the model is not changed. statistics: of batch
    normalisation, 'running', 'batch' (of fixed batches of 100 of the split) or 'recalibrated'
    (running ones of each pruned network, from 2000 training samples: `recalibrate`). layer: the
    classifier's name, if it is not the layer whose output is the logits. Raises ValueError as
    `prune` does, for an empty split or list of kappas, for inputs that the model does not
    take, and for 'recalibrated' without samples.
    """
    return pruning_curves([model], split, kappas, method, scope, statistics, recalibrate, layer)[0]


def pruning_curves(
    networks: Sequence[nn.Module],
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str | Scores = "column",
    scope: str = "global",
    statistics: str = "running",
    recalibrate: Split | None = None,
    layer: str | None = None,
) -> Tensor:
    """`pruning_curve` of several networks of one architecture: networks x kappas, float64.

    Small fully connected networks are computed together, over networks and kappas, in batched
    products. Nothing is copied to the host. Errors: as in `pruning_curve`.
    """
    y = split.y.to(next(networks[0].parameters()).device)
    curves = pruned_labels(networks, split, kappas, method, scope, statistics, recalibrate, layer)
    found = [(labels == y).double().mean(1) for labels in curves]
    return torch.cat(found).view(len(networks), -1)


def group_curves(
    model: nn.Module,
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str | Scores = "column",
    scope: str = "global",
    statistics: str = "running",
    recalibrate: Split | None = None,
    layer: str | None = None,
) -> xr.Dataset:
    """What pruning costs each group of a split with bias labels: accuracies, as fractions.

    group_accuracy (kappa x class x bias): of each (class, bias) group, NaN where it has no samples;
    worst_group_accuracy, aligned_accuracy and conflicting_accuracy (kappa): the lowest of the
    groups, and of samples whose bias label equals, or differs from, the class label; `samples`
    (class x bias): how many each group has. Samples of unknown bias are left out. A kappa of 0 is
    the network as it is. Arguments and errors: as in `pruning_curve`; also ValueError if no bias
    label is known.
    """
    kappas, known = check(kappas, method, scope), split.known
    if split.bias is None or not bool(known.any()):
        raise ValueError("split has no sample whose bias label is known, expected at least one")
    rows = known.nonzero().flatten()
    y, bias, some = split.y[rows].cpu(), split.bias[rows].cpu(), split.take(rows)
    curves = pruned_labels([model], some, kappas, method, scope, statistics, recalibrate, layer)
    predicted = torch.cat([*curves]).cpu()
    about = {"units": "1", "long_name": "share that is set to zero"}
    return xr.Dataset(
        {name: (dims, value.numpy(), {"units": "1", "long_name": text})
         for name, (dims, value, text) in _by_group(predicted, y, bias).items()},
        {"kappa": ("kappa", kappas, about)},
    )  # fmt: skip


def _by_group(predicted: Tensor, y: Tensor, bias: Tensor) -> dict[str, tuple]:
    """Dimensions, values and a text for each variable of `group_curves`."""
    groups = torch.stack([metrics.group_accuracies(labels, y, bias) for labels in predicted])
    right, (classes, biases) = (predicted == y).double(), groups.shape[1:]
    number = (y * biases + bias).bincount(minlength=classes * biases).view(classes, biases)
    worst = groups.nan_to_num(torch.inf).flatten(1).amin(1)
    aligned, conflicting = (right[:, some].mean(1) for some in (y == bias, y != bias))
    return {
        "group_accuracy": (("kappa", "class", "bias"), groups, "accuracy of each group"),
        "worst_group_accuracy": (("kappa",), worst, "lowest accuracy of a group"),
        "aligned_accuracy": (("kappa",), aligned, "accuracy on bias-aligned samples"),
        "conflicting_accuracy": (("kappa",), conflicting, "accuracy on bias-conflicting samples"),
        "samples": (("class", "bias"), number, "samples of each group"),
    }


def pruned_labels(
    networks: Sequence[nn.Module], split: Split, kappas: Sequence[float],
    method: str | Scores = "column", scope: str = "global", statistics: str = "running",
    recalibrate: Split | None = None, layer: str | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """Labels that pruned networks give, some networks x samples a time, kappas innermost."""
    kappas = check(kappas, method, scope)
    if len(split) == 0:
        raise ValueError("split holds 0 samples, expected at least 1")
    check_statistics(statistics, recalibrate)
    split = split.to(next(networks[0].parameters()).device).loaded()
    source = recalibrate if statistics == "recalibrated" else None
    renew = recalibration(networks[0], source) if source is not None else lambda net: net
    todo = [(k, kappa) for k in range(len(networks)) for kappa in kappas]
    if layer is None:  # anew: training may have changed what returns the logits
        layer = find(networks[0], split.inputs(split.x[:8]))
    mode = "batch" if statistics == "batch" else "running"
    for net in networks:
        not_nan(predict(net, split.take(torch.arange(min(2, len(split)))), mode))
        hand_on(networks[0], net)
    ranked = [rankings(net, method, scope, layer) for net in networks]
    at_once = _at_once(networks[0])
    # copies into which pruned weights are written, again and again
    place = _in_fast_layout(networks[0], split.inputs(split.x[:2]))
    places = [copy.deepcopy(place) for _ in range(min(at_once, len(todo)))]
    for some in (todo[i : i + at_once] for i in range(0, len(todo), at_once)):
        used = places[: len(some)]
        for place, (k, kappa) in zip(used, some, strict=True):
            with torch.no_grad():
                _copy(networks[k], place)
                set_to_zero(place, networks[k], kappa, ranked[k])
            renew(place)
        yield _labels(used, split, mode)


def _copy(source: nn.Module, target: nn.Module) -> None:
    """Give the target all parameters and buffers of the source.

    Not by load_state_dict, which fails after torch.nn.utils.remove_spectral_norm.
    """
    for one, other in ((source.parameters(), target.parameters()),
                       (source.buffers(), target.buffers())):  # fmt: skip
        for value, place in zip(one, other, strict=True):
            place.copy_(value)


def _at_once(net: nn.Module) -> int:
    """Pruned networks that are computed together: as many as _STACKED bytes of weights hold."""
    if linear_layers(net) is None:
        return 1
    return max(1, _STACKED // sum(p.numel() * p.element_size() for p in net.parameters()))


def _in_fast_layout(net: nn.Module, x: Tensor) -> nn.Module:
    """A copy, with its channels last where it takes inputs x so: fastest for images on CPUs.

    ValueError for a network that does not take x.
    """
    with input_errors(x), matmul_precision("fp32", x.device):
        fast = same_with_channels_last(net, x)
    plain = copied(net)
    return plain.to(memory_format=torch.channels_last) if fast else plain


@torch.no_grad()
def _labels(networks: list[nn.Module], split: Split, statistics: str) -> Tensor:
    """The labels that each network gives the samples of a split, on its device."""
    if len(networks) == 1:
        return predict(networks[0], split, statistics).argmax(1)[None]
    stack = Stack(networks)
    order = torch.arange(len(split)).split(pass_size(split.x.shape[1:]))
    with input_errors(split.x[:1]), matmul_precision("fp32", split.y.device):
        return torch.cat([stack.logits(x).argmax(2) for x in split.batches(order)], 1)
