"""Pruning a trained network, and how much of its accuracy survives.

Both methods look at the same weights: those of all convolutions and linear layers except the
first convolution and the classifier (the last linear layer). `column` sets whole outputs to zero
(rows of a linear layer, filters of a convolution), the same share in every layer; `magnitude`
single weights, over all layers together (scope "global") or the same share in every layer
("layer"). The smallest L2 norms or absolute values go first, at a tie the first in order.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lrsc.datasets import Split
from lrsc.errors import check_names, is_number, plain
from lrsc.models import (
    Stack,
    as_taken,
    check_statistics,
    classifier,
    input_errors,
    linear_layers,
    matmul_precision,
    modes_kept,
    pass_size,
    predict,
    recalibration,
)
from lrsc.models import recalibrate as renewed

KAPPAS = tuple(k / 10 for k in range(1, 10))
METHODS = ("column", "magnitude")
SCOPES = ("global", "layer")
_STACKED = 2**21  # bytes of weights of pruned networks that are computed together

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """Weights that pruning may set to zero, by parameter name: the same for all methods.

    Raises ValueError where there is none, or where a weight is computed from other parameters.
    """
    return {f"{name}.weight": layer.weight for name, layer in _layers(model).items()}


def prune(
    model: nn.Module,
    kappa: float,
    method: str = "column",
    scope: str = "global",
    recalibrate: Split | None = None,
) -> nn.Module:
    """A copy of the model with round(kappa * n) of its n outputs or weights set to zero.

    kappa: share in [0, 1]; n counts outputs of each layer (column) or weights (magnitude). With an
    output goes its bias. Python's round: halves go to the even number. recalibrate: training
    samples, of which 2000 give batch normalisation new running statistics, since the old ones are
    of a network that is gone (`lrsc.models.recalibrate`: one forward pass, 1 to 2 s for ResNet18 on
    two cores); None leaves them. Raises ValueError for unknown methods and scopes, kappa out of
    range, and a model without prunable weights.
    """
    (kappa,) = _check([kappa], method, scope)
    pruned = copy.deepcopy(model)
    with torch.no_grad():
        _set_to_zero(pruned, model, kappa, method, _rankings(model, method, scope))
    return pruned if recalibrate is None else renewed(pruned, recalibrate)


def sparsity_of(model: nn.Module) -> float:
    """Share of exact zeros among the prunable weights, counted from the tensors."""
    weights = prunable(model).values()
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def prunability(
    model: nn.Module,
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str = "column",
    scope: str = "global",
    statistics: str = "running",
    recalibrate: Split | None = None,
) -> float:
    """Mean over kappas of the accuracy after pruning / the accuracy before; NaN if that is 0.

    Arguments and errors: as in `pruning_curve`.
    """
    kappas = _check(kappas, method, scope)
    asked = (0.0, *kappas)
    curve = pruning_curve(model, split, asked, method, scope, statistics, recalibrate)
    before, *after = curve.tolist()
    return sum(after) / len(after) / before if before else float("nan")


def pruning_curve(
    model: nn.Module,
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str = "column",
    scope: str = "global",
    statistics: str = "running",
    recalibrate: Split | None = None,
) -> Tensor:
    """Accuracy on a split (raw samples) after `prune`, one fraction (float64) for each kappa.

    Computed in eval mode on the model's device; the model is not changed. statistics: of batch
    normalisation, 'running', 'batch' (of fixed batches of 100 of the split) or 'recalibrated'
    (running ones, of each pruned network anew from 2000 training samples: `recalibrate`). Raises
    ValueError as `prune`, for an empty split or list of kappas, for inputs that the model does not
    take, and for 'recalibrated' without samples.
    """
    return pruning_curves([model], split, kappas, method, scope, statistics, recalibrate)[0]


def pruning_curves(
    networks: Sequence[nn.Module],
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str = "column",
    scope: str = "global",
    statistics: str = "running",
    recalibrate: Split | None = None,
) -> Tensor:
    """`pruning_curve` of several networks of one architecture: networks x kappas, float64.

    Small fully connected networks are computed together, over networks and kappas, in batched
    products. Nothing is copied to the host. Errors: as `pruning_curve`.
    """
    kappas = _check(kappas, method, scope)
    if len(split) == 0:
        raise ValueError("split holds 0 samples, expected at least 1")
    check_statistics(statistics, recalibrate)
    split = split.to(next(networks[0].parameters()).device).loaded()
    renew: Callable[[nn.Module], nn.Module] | None = None
    if statistics == "recalibrated" and recalibrate is not None:
        renew = recalibration(networks[0], recalibrate)
    todo = [(k, kappa) for k in range(len(networks)) for kappa in kappas]
    rankings = [_rankings(net, method, scope) for net in networks]
    at_once = _at_once(networks[0])
    # copies into which pruned weights are written, again and again
    place = _in_fast_layout(networks[0], split.inputs(split.x[:2]))
    places = [copy.deepcopy(place) for _ in range(min(at_once, len(todo)))]
    found = []
    for some in (todo[i : i + at_once] for i in range(0, len(todo), at_once)):
        used = places[: len(some)]
        for place, (k, kappa) in zip(used, some, strict=True):
            with torch.no_grad():
                place.load_state_dict(networks[k].state_dict())
                _set_to_zero(place, networks[k], kappa, method, rankings[k])
            if renew is not None:
                renew(place)
        found.append(_accuracies(used, split, "batch" if statistics == "batch" else "running"))
    return torch.cat(found).view(len(networks), len(kappas))


def _at_once(net: nn.Module) -> int:
    """Pruned networks that are computed together: as many as _STACKED bytes of weights hold."""
    if linear_layers(net) is None:
        return 1
    return max(1, _STACKED // sum(p.numel() * p.element_size() for p in net.parameters()))


def _in_fast_layout(net: nn.Module, x: Tensor) -> nn.Module:
    """A copy, with its channels last where it takes inputs x so: fastest for images on CPUs.

    A network that calls `view` on a map, say, does not.
    """
    plain = copy.deepcopy(net)
    if any(t.dim() > 4 for t in (*plain.parameters(), *plain.buffers())):
        return plain
    try:
        with torch.no_grad(), modes_kept(net):
            fast = copy.deepcopy(net).eval().to(memory_format=torch.channels_last)
            fast(as_taken(fast, x))
    except RuntimeError:  # also what is wrong with any layout, which is then said of the plain one
        return plain
    return plain.to(memory_format=torch.channels_last)


@torch.no_grad()
def _accuracies(networks: list[nn.Module], split: Split, statistics: str) -> Tensor:
    """Accuracy of each network on a split, float64, on its device."""
    if len(networks) == 1:
        return (predict(networks[0], split, statistics).argmax(1) == split.y).double().mean()[None]
    stack = Stack(networks)
    order = torch.arange(len(split)).split(pass_size(split.x.shape[1:]))
    with input_errors(split.x[:1]), matmul_precision("fp32", split.y.device):
        predicted = [stack.logits(x).argmax(2) for x in split.batches(order)]
    return (torch.cat(predicted, 1) == split.y).double().mean(1)


def _check(kappas: Sequence[float], method: str, scope: str = "global") -> list[float]:
    """The shares as Python's numbers; ValueError for what is none."""
    check_names("pruning method", [method], METHODS)
    check_names("pruning scope", [scope], SCOPES)
    if len(kappas) == 0:
        raise ValueError("kappas is empty: give at least one share in [0, 1]")
    for kappa in kappas:
        if not is_number(kappa) or not 0 <= kappa <= 1:
            raise ValueError(f"kappa must be a share in [0, 1], found {kappa!r}")
    return [plain(kappa) for kappa in kappas]


def _layers(model: nn.Module) -> dict[str, Layer]:
    """Convolutions and linear layers but the first convolution and the classifier, by name."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, Layer)}
    first = next((m for m in layers.values() if not isinstance(m, nn.Linear)), None)
    left_alone = (first, classifier(model))
    pruned = {name: m for name, m in layers.items() if m not in left_alone}
    if not pruned:
        raise ValueError(
            f"the model has nothing to prune: of its layers, {list(layers)}, the first convolution "
            "and the classifier are left alone; expected at least one more"
        )
    for name, layer in pruned.items():
        if "weight" not in dict(layer.named_parameters(recurse=False)):
            raise ValueError(
                f"the weight of layer {name!r} is computed from other parameters, expected a "
                "parameter; see torch.nn.utils.parametrize.remove_parametrizations"
            )
    return pruned


def _rankings(model: nn.Module, method: str, scope: str) -> dict[tuple[str, ...], Tensor]:
    """Names of the layers that are ranked together -> order of their units, smallest first."""
    scores: dict[tuple[str, ...], Tensor] = {}
    for name, layer in _layers(model).items():
        weight = layer.weight.detach().float()
        norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        scores[(name,)] = norms if method == "column" else weight.abs().flatten()
    if method == "magnitude" and scope == "global":
        scores = {sum(scores, ()): torch.cat(list(scores.values()))}
    return {names: score.argsort(stable=True) for names, score in scores.items()}


def _set_to_zero(
    pruned: nn.Module,
    model: nn.Module,
    kappa: float,
    method: str,
    rankings: dict[tuple[str, ...], Tensor],
) -> None:
    """Give the copy the model's weights, zero for the first round(kappa * n) of each ranking."""
    own, sources = _layers(pruned), _layers(model)
    for names, order in rankings.items():
        zero = torch.zeros_like(order, dtype=torch.bool)
        zero[order[: round(kappa * len(order))]] = True
        weights = [sources[name].weight for name in names]
        units = [len(w) if method == "column" else w.numel() for w in weights]
        for name, weight, mask in zip(names, weights, zero.split(units), strict=True):
            shape = weight.shape if method == "magnitude" else (-1,) + (1,) * (weight.dim() - 1)
            own[name].weight.copy_(weight).masked_fill_(mask.view(shape), 0)
            bias, source = own[name].bias, sources[name].bias
            if method == "column" and bias is not None and source is not None:
                bias.copy_(source).masked_fill_(mask, 0)
