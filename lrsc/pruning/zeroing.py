"""Pruning a trained network, and how much of its accuracy survives.

Both methods look at the same weights: those of all convolutions and linear layers except the
first convolution and the classifier (the layer whose output is the logits: lrsc.models.parts, or
`layer`, its dotted name). `column` sets whole outputs to zero
(rows of a linear layer, filters of a convolution), the same share in every layer; `magnitude`
single weights, over all layers together (scope "global") or the same share in every layer
("layer"). The smallest L2 norms or absolute values go first, at a tie the first in order.
"""

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from lrsc.datasets import Split
from lrsc.errors import check_names, is_number, plain
from lrsc.models import (
    Layer,
    Stack,
    check_statistics,
    classifier,
    copied,
    find,
    hand_on,
    input_errors,
    layers,
    linear_layers,
    matmul_precision,
    not_nan,
    pass_size,
    predict,
    recalibration,
    same_with_channels_last,
)
from lrsc.models import recalibrate as renewed

KAPPAS = tuple(k / 10 for k in range(1, 10))
METHODS = ("column", "magnitude")
SCOPES = ("global", "layer")
_STACKED = 2**21  # bytes of weights of pruned networks that are computed together


def prunable(model: nn.Module, layer: str | None = None) -> dict[str, Tensor]:
    """Weights that pruning may set to zero, by parameter name: the same for all methods.

    layer: name of the classifier, where it is not the one that a pass has shown. Raises ValueError
    where there is no such weight, where one is computed from other parameters, and where the
    classifier is not known.
    """
    return {f"{name}.weight": m.weight for name, m in _layers(model, layer).items()}


def prune(
    model: nn.Module,
    kappa: float,
    method: str = "column",
    scope: str = "global",
    recalibrate: Split | None = None,
    layer: str | None = None,
) -> nn.Module:
    """A copy of the model with round(kappa * n) of its n outputs or weights set to zero.

    kappa: share in [0, 1]; n counts outputs of each layer (column) or weights (magnitude). With an
    output goes its bias. Python's round: halves go to the even number. recalibrate: training
    samples, of which 2000 give batch normalisation new running statistics, since the old ones are
    of a network that is gone (`lrsc.models.recalibrate`: one forward pass, 1 to 2 s for ResNet18 on
    two cores); None leaves them. layer: as in `prunable`, whose errors it has; ValueError for
    unknown methods and scopes and kappa out of range.
    """
    (kappa,) = _check([kappa], method, scope)
    rankings = _rankings(model, method, scope, layer)
    pruned = copied(model)
    with torch.no_grad():
        _set_to_zero(pruned, model, kappa, method, rankings)
    hand_on(model, pruned)
    return pruned if recalibrate is None else renewed(pruned, recalibrate)


def left_alone(model: nn.Module, layer: str | None = None) -> dict[str, Tensor]:
    """Weights of two or more dimensions that are in no layer of which pruning knows, by name.

    As the joint weights of query, key and value in nn.MultiheadAttention, and embeddings. Those
    of the first convolution and of the classifier are not among them.
    """
    known = {p for m in (*layers(model).values(), classifier(model, layer)) for p in m.parameters()}
    return {n: p for n, p in model.named_parameters() if p.dim() > 1 and p not in known}


def sparsity_of(model: nn.Module, layer: str | None = None) -> float:
    """Share of exact zeros among the prunable weights, counted from the tensors."""
    weights = prunable(model, layer).values()
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def prunability(
    model: nn.Module,
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str = "column",
    scope: str = "global",
    statistics: str = "running",
    recalibrate: Split | None = None,
    layer: str | None = None,
) -> float:
    """Mean over kappas of the accuracy after pruning / the accuracy before; NaN if that is 0.

    Arguments and errors: as in `pruning_curve`.
    """
    kappas = _check(kappas, method, scope)
    asked = (0.0, *kappas)
    curve = pruning_curve(model, split, asked, method, scope, statistics, recalibrate, layer)
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
    layer: str | None = None,
) -> Tensor:
    """Accuracy on a split (raw samples) after `prune`, one fraction (float64) for each kappa.

    Computed in eval mode on the model's device; the model is not changed. statistics: of batch
    normalisation, 'running', 'batch' (of fixed batches of 100 of the split) or 'recalibrated'
    (running ones, of each pruned network anew from 2000 training samples: `recalibrate`). layer:
    the classifier's name, where it is not the layer whose output is the logits. Raises ValueError
    as `prune`, for an empty split or list of kappas, for inputs that the model does not
    take, and for 'recalibrated' without samples.
    """
    return pruning_curves([model], split, kappas, method, scope, statistics, recalibrate, layer)[0]


def pruning_curves(
    networks: Sequence[nn.Module],
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str = "column",
    scope: str = "global",
    statistics: str = "running",
    recalibrate: Split | None = None,
    layer: str | None = None,
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
    if layer is None:  # anew: training may have changed what returns the logits
        layer = find(networks[0], split.inputs(split.x[:8]))
    mode = "batch" if statistics == "batch" else "running"
    for net in networks:
        not_nan(predict(net, split.take(torch.arange(min(2, len(split)))), mode))
        hand_on(networks[0], net)
    rankings = [_rankings(net, method, scope, layer) for net in networks]
    at_once = _at_once(networks[0])
    # copies into which pruned weights are written, again and again
    place = _in_fast_layout(networks[0], split.inputs(split.x[:2]))
    places = [copy.deepcopy(place) for _ in range(min(at_once, len(todo)))]
    found = []
    for some in (todo[i : i + at_once] for i in range(0, len(todo), at_once)):
        used = places[: len(some)]
        for place, (k, kappa) in zip(used, some, strict=True):
            with torch.no_grad():
                _copy(networks[k], place)
                _set_to_zero(place, networks[k], kappa, method, rankings[k])
            if renew is not None:
                renew(place)
        found.append(_accuracies(used, split, mode))
    return torch.cat(found).view(len(networks), len(kappas))


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
def _accuracies(networks: list[nn.Module], split: Split, statistics: str) -> Tensor:
    """Accuracy of each network on a split, float64, on its device."""
    if len(networks) == 1:
        return (predict(networks[0], split, statistics).argmax(1) == split.y).double().mean()[None]
    stack = Stack(networks)
    order = torch.arange(len(split)).split(pass_size(split.x.shape[1:]))
    with input_errors(split.x[:1]), matmul_precision("fp32", split.y.device):
        predicted = [stack.logits(x).argmax(2) for x in split.batches(order)]
    return (torch.cat(predicted, 1) == split.y).double().mean(1)


def _check(kappas: Iterable[float], method: str, scope: str = "global") -> list[float]:
    """The shares as Python's numbers; ValueError for what is none."""
    check_names("pruning method", [method], METHODS)
    check_names("pruning scope", [scope], SCOPES)
    kappas = list(kappas) if isinstance(kappas, Iterable) else [kappas]
    if len(kappas) == 0:
        raise ValueError("kappas is empty: give at least one share in [0, 1]")
    for kappa in kappas:
        if not is_number(kappa) or not 0 <= kappa <= 1:
            raise ValueError(f"kappa must be a share in [0, 1], found {kappa!r}")
    return [plain(kappa) for kappa in kappas]


def _layers(model: nn.Module, layer: str | None) -> dict[str, Layer]:
    """Convolutions and linear layers but the first convolution and the classifier, by name."""
    last = classifier(model, layer)  # first, since it may be told by a pass
    found = layers(model)
    first = next((m for m in found.values() if not isinstance(m, nn.Linear)), None)
    # another layer may share their weights
    kept = {id(p) for m in (first, last) if m is not None for p in m.parameters() if p.dim() > 1}
    pruned = {
        name: m for name, m in found.items()
        if m is not first and m is not last and kept.isdisjoint(map(id, m.parameters()))
    }  # fmt: skip
    if not pruned:
        raise ValueError(
            f"the model has nothing to prune: of its layers, {list(found)}, the first convolution "
            "and the classifier are left alone; expected at least one more"
        )
    for name, module in pruned.items():
        if "weight" not in module._parameters:
            own = {*module._parameters, *module._buffers, ""}
            way = next(way for key, way in _REMOVED_BY.items() if key in own)
            raise ValueError(
                f"the weight of layer {name!r} is computed from other parameters, expected a "
                f"parameter: call {way.format(f'model.get_submodule({name!r})')} before"
            )
    return pruned


# the parameter or buffer by which a computed weight is known -> the call that ends it
_REMOVED_BY = {
    "weight_g": "torch.nn.utils.remove_weight_norm({})",
    "weight_u": "torch.nn.utils.remove_spectral_norm({})",
    "weight_mask": "torch.nn.utils.prune.remove({}, 'weight')",
    "": "torch.nn.utils.parametrize.remove_parametrizations({}, 'weight')",
}


def _rankings(
    model: nn.Module, method: str, scope: str, layer: str | None
) -> dict[tuple[str, ...], Tensor]:
    """Names of the layers that are ranked together -> order of their units, smallest first."""
    scores: dict[tuple[str, ...], Tensor] = {}
    for name, module in _layers(model, layer).items():
        weight = module.weight.detach().float()
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
    own, sources = (dict(net.named_modules()) for net in (pruned, model))
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
