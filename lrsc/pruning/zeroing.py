"""Pruning a trained network: which weights are set to zero.

All methods look at the same weights: those of all convolutions and linear layers except the
first convolution and the classifier (the layer whose output is the logits: lrsc.models.parts, or
`layer`, its dotted name). `column` sets whole outputs to zero
(rows of a linear layer, filters of a convolution), the same share in every layer; `magnitude`
single weights, over all layers together (scope "global") or the same share in every layer
("layer"). The smallest L2 norms or absolute values go first, at a tie the first in order. `random`
sets whole outputs to zero in a random order, the same in every call.

A method of one's own is a function of a layer, the network's own module, that returns scores, of
which the smallest go first: n of them, one an output of its n, prune as `column` does; scores of
the shape of its weight as `magnitude` does. Any number is a score, NaN is none.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from lrsc.datasets import Split
from lrsc.errors import check_names, is_number, plain, shown
from lrsc.models import Layer, classifier, copied, hand_on, layers
from lrsc.models import recalibrate as renewed

Scores = Callable[[nn.Module], Tensor]

KAPPAS = tuple(k / 10 for k in range(1, 10))
_SCORES: dict[str, Callable[[Tensor], Tensor]] = {  # of a layer's weight
    "column": lambda weight: torch.linalg.vector_norm(weight.flatten(1), dim=1),
    "magnitude": torch.abs,
    "random": lambda weight: torch.rand(len(weight), generator=torch.Generator().manual_seed(0)),
}
METHODS = ("column", "magnitude")  # of which results hold curves
SCOPES = ("global", "layer")


def prunable(model: nn.Module, layer: str | None = None) -> dict[str, Tensor]:
    """Weights that pruning may set to zero, by parameter name: the same for all methods.

    layer: name of the classifier, if it is not the one that a pass has shown. Raises ValueError
    where there is no such weight, where one is computed from other parameters, and where the
    classifier is not known.
    """
    return {f"{name}.weight": m.weight for name, m in _layers(model, layer).items()}


def prune(
    model: nn.Module,
    kappa: float,
    method: str | Scores = "column",
    scope: str = "global",
    recalibrate: Split | None = None,
    layer: str | None = None,
) -> nn.Module:
    """A copy of the model with round(kappa * n) of its n outputs or weights set to zero.

    kappa: share in [0, 1]; n counts outputs of each layer (column) or weights (magnitude). An
    output's bias goes with it. Python's round: halves go to the even number. method: 'column',
    'magnitude', 'random', or a function(layer) -> scores of its outputs (n) or of its weights
    (layer.weight's shape), smallest first. recalibrate: training samples, of which 2000 give batch
    normalisation new running statistics in place of those from before pruning
    (`lrsc.models.recalibrate`: 1 to 2 s for ResNet18 on two cores); None keeps those. layer and
    errors: as in `prunable`; also ValueError for unknown names, kappa out of range, and scores of
    another shape or with NaN.
    """
    (kappa,) = check([kappa], method, scope)
    ranked, pruned = rankings(model, method, scope, layer), copied(model)
    with torch.no_grad():
        set_to_zero(pruned, model, kappa, ranked)
    hand_on(model, pruned)
    return pruned if recalibrate is None else renewed(pruned, recalibrate)


def left_alone(model: nn.Module, layer: str | None = None) -> dict[str, Tensor]:
    """Weights of two or more dimensions outside the layers that pruning knows, by name.

    Examples: joint weights of query, key and value in nn.MultiheadAttention, and embeddings. Those
    of the first convolution and the classifier are not included.
    """
    known = {p for m in (*layers(model).values(), classifier(model, layer)) for p in m.parameters()}
    return {n: p for n, p in model.named_parameters() if p.dim() > 1 and p not in known}


def sparsity_of(model: nn.Module, layer: str | None = None) -> float:
    """Share of exact zeros among the prunable weights, counted from the tensors."""
    weights = prunable(model, layer).values()
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def check(kappas: Iterable[float], method: str | Scores, scope: str = "global") -> list[float]:
    """The shares as Python's numbers; ValueError for what is none."""
    if not callable(method):
        check_names("pruning method", [method], _SCORES)
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


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Layers whose units are ranked together: outputs or weights, the smallest first."""

    names: tuple[str, ...]
    outputs: bool
    order: Tensor


def rankings(
    model: nn.Module, method: str | Scores, scope: str, layer: str | None
) -> list[Ranking]:
    modules = _layers(model, layer)
    scores = {name: _scores(name, module, method) for name, module in modules.items()}
    outputs = {score.dim() == 1 for score in scores.values()}
    if len(outputs) > 1:
        raise ValueError(
            "method returned scores of outputs for some layers and of weights for others: one kind"
        )
    apart = outputs == {True} or scope == "layer"
    together = [(name,) for name in scores] if apart else [tuple(scores)]
    return [
        Ranking(
            names, outputs == {True},
            torch.cat([scores[name].flatten() for name in names]).argsort(stable=True),
        )
        for names in together
    ]  # fmt: skip


def _scores(name: str, module: Layer, method: str | Scores) -> Tensor:
    """One score an output, or one a weight in the weight's shape."""
    weight = module.weight.detach()
    if isinstance(method, str):
        return _SCORES[method](weight.float()).to(weight.device)
    found = method(module)
    shapes = f"({len(weight)},), one an output, or {tuple(weight.shape)}, one a weight"
    if not isinstance(found, Tensor) or found.shape not in (weight.shape[:1], weight.shape):
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else shown(found)
        raise ValueError(
            f"method must return a tensor of scores for layer {name!r}, of shape {shapes}; "
            f"found {what}"
        )
    if found.isnan().any():
        raise ValueError(
            f"method returned NaN among the scores of layer {name!r}: give every unit a number, "
            "infinity to what is to go last"
        )
    return found.detach().to(weight.device)


def set_to_zero(
    pruned: nn.Module, model: nn.Module, kappa: float, ranked: Sequence[Ranking]
) -> None:
    """Give the copy the model's weights, zero for the first round(kappa * n) of each ranking."""
    own, sources = (dict(net.named_modules()) for net in (pruned, model))
    for ranking in ranked:
        zero = torch.zeros_like(ranking.order, dtype=torch.bool)
        zero[ranking.order[: round(kappa * len(ranking.order))]] = True
        weights = [sources[name].weight for name in ranking.names]
        units = [len(w) if ranking.outputs else w.numel() for w in weights]
        for name, weight, mask in zip(ranking.names, weights, zero.split(units), strict=True):
            shape = (-1,) + (1,) * (weight.dim() - 1) if ranking.outputs else weight.shape
            own[name].weight.copy_(weight).masked_fill_(mask.view(shape), 0)
            bias, source = own[name].bias, sources[name].bias
            if ranking.outputs and bias is not None and source is not None:
                bias.copy_(source).masked_fill_(mask, 0)
