"""Pruning a trained network, and how much of its accuracy survives (SPEC section 5).

Both methods look at the same weights: those of all convolutions and linear layers except the
first convolution and the classifier (the last linear layer). `column` sets whole outputs to zero
(rows of a linear layer, filters of a convolution), the same share in every layer; `magnitude`
single weights, over all layers together (scope "global") or the same share in every layer
("layer"). The smallest L2 norms or absolute values go first, at a tie the first in order.
"""

import copy
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lrsc.datasets import Split
from lrsc.errors import check_names
from lrsc.models import classifier

KAPPAS = tuple(k / 10 for k in range(1, 10))
METHODS = ("column", "magnitude")
SCOPES = ("global", "layer")
BATCH = 500  # samples a forward pass
ROOM = 2**30  # bytes of intermediate results that are kept while a network is pruned

_log = logging.getLogger(__name__)

_Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """Weights that pruning may set to zero, by parameter name: the same for all methods.

    Raises ValueError where there is none, or where a weight is computed from other parameters.
    SPEC section 5.
    """
    return {f"{name}.weight": layer.weight for name, layer in _layers(model).items()}


def prune(
    model: nn.Module, kappa: float, method: str = "column", scope: str = "global"
) -> nn.Module:
    """A copy of the model with round(kappa * n) of its n outputs or weights set to zero.

    kappa: share in [0, 1]; n counts outputs of each layer (column) or weights (magnitude). With an
    output goes its bias. Python's round: halves go to the even number. Raises ValueError for
    unknown methods and scopes, kappa out of range, and a model without prunable weights.
    SPEC section 5.
    """
    _check([kappa], method, scope)
    pruned = copy.deepcopy(model)
    with torch.no_grad():
        _set_to_zero(pruned, model, kappa, method, _rankings(model, method, scope))
    return pruned


def sparsity_of(model: nn.Module) -> float:
    """Share of exact zeros among the prunable weights, counted from the tensors."""
    weights = prunable(model).values()
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def prunability(
    model: nn.Module,
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str = "column",
    **options,
) -> float:
    """Mean over kappas of the accuracy after pruning / the accuracy before; NaN if that is 0.

    options and errors: as in `pruning_curve`. SPEC section 5.
    """
    _check(kappas, method)
    before, *after = pruning_curve(model, split, (0.0, *kappas), method, **options).tolist()
    return sum(after) / len(after) / before if before else float("nan")


def pruning_curve(
    model: nn.Module,
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str = "column",
    **options,
) -> Tensor:
    """Accuracy on a split (raw samples) after pruning, one fraction (float64) for each kappa.

    options and errors: as in `pruned_predictions`. SPEC section 5.
    """
    predicted = pruned_predictions(model, split, kappas, method, **options)
    return (predicted == split.y.to(predicted.device)).double().mean(1)


@torch.inference_mode()
def pruned_predictions(
    model: nn.Module,
    split: Split,
    kappas: Sequence[float] = KAPPAS,
    method: str = "column",
    *,
    scope: str = "global",
    batch_size: int = BATCH,
) -> Tensor:
    """Labels (len(kappas) x N) that the pruned networks predict for a split, for group accuracies.

    Computed in eval mode on the model's device; the model is not changed. The networks are those
    of `prune`, up to roundoff: outputs that are zero are not computed. Raises ValueError as
    `prune`, for an empty split or list of kappas, and for inputs that the model does not take.
    """
    _check(kappas, method, scope)
    if len(split) == 0 or batch_size < 1:
        raise ValueError(
            f"split holds {len(split)} samples and batch_size is {batch_size}, "
            "expected at least 1 of each"
        )
    rankings = _rankings(model, method, scope)
    split = split.to(next(model.parameters()).device)
    pruned = copy.deepcopy(model).eval()
    head, tail = _halves(
        pruned,
        split.inputs(split.x[:2]),
        lambda: _set_to_zero(pruned, model, 0.5, method, rankings),
    )
    found = torch.empty(len(kappas), len(split), dtype=torch.long, device=split.x.device)
    for part in _parts(split, head):
        batches = [head(split.inputs(x)) for x in split.x[part].split(batch_size)]
        for row, kappa in zip(found, kappas, strict=True):
            _set_to_zero(pruned, model, kappa, method, rankings)
            for layer in _layers(pruned).values():
                _skip_zeros(layer)
            row[part] = torch.cat([tail(*_copied(values)).argmax(1) for values in batches])
    return found


def _check(kappas: Sequence[float], method: str, scope: str = "global") -> None:
    check_names("pruning method", [method], METHODS)
    check_names("pruning scope", [scope], SCOPES)
    if len(kappas) == 0:
        raise ValueError("kappas is empty: give at least one share in [0, 1]")
    for kappa in kappas:
        if not 0 <= kappa <= 1:
            raise ValueError(f"kappa must be a share in [0, 1], found {kappa!r}")


def _layers(model: nn.Module) -> dict[str, _Layer]:
    """Convolutions and linear layers but the first convolution and the classifier, by name."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, _Layer)}
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


# What follows changes how soon a pruned network is evaluated, not what it computes. The gains in
# brackets are of CPU time, ResNet18 on 3 x 28 x 28 inputs.


def _halves(net: nn.Module, x: Tensor, prune_half: Callable) -> tuple[Callable, Callable]:
    """The network as tail(*head(x)), where the head is what comes before the first pruned layer.

    The head is the same for every kappa: it is computed once [1.5 x]. Networks that torch.fx
    cannot follow, or follows wrongly (tried on a pruned network), stay whole: an empty head.
    """
    try:
        net(x)
    except RuntimeError as error:
        raise ValueError(
            f"the model does not take the split's inputs of shape {tuple(x.shape[1:])}: {error}"
        ) from error
    try:
        head, tail = _cut(net)
        values = _copied(head(x))
        prune_half()
        if torch.allclose(tail(*values), net(x), rtol=1e-3, atol=1e-4, equal_nan=True):
            return head, tail
        reason = "it is followed wrongly"
    except Exception as error:  # whatever a forward raises when it is traced
        reason = str(error)
    _log.debug("the whole network is evaluated for every kappa: %s", reason)
    return (lambda x: (x,)), net


def _cut(net: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Head and tail as two modules that share the network's layers."""
    nodes = list(fx.symbolic_trace(net).graph.nodes)
    pruned = [f"{name}." for name in _layers(net)]

    def is_pruned(node: fx.Node) -> bool:  # a pruned layer, a module that holds one, its weight
        target = f"{node.target}."
        named = node.op in ("call_module", "get_attr")
        return named and any(p.startswith(target) or target.startswith(p) for p in pruned)

    first = [is_pruned(node) for node in nodes].index(True)
    crossing = [n for n in nodes[:first] if any(user in nodes[first:] for user in n.users)]
    head, tail = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes[:first]:
        copies[node] = head.node_copy(node, copies.__getitem__)
    head.output(tuple(copies[node] for node in crossing))
    copies = {node: tail.placeholder(node.name) for node in crossing}
    for node in nodes[first:]:
        copies[node] = tail.node_copy(node, copies.__getitem__)
    return fx.GraphModule(net, head), fx.GraphModule(net, tail)


def _copied(values: tuple) -> tuple:
    """The head's outputs, safe from what the tail does in place."""
    return tuple(v.clone() if isinstance(v, Tensor) else v for v in values)


def _parts(split: Split, head: Callable) -> list[slice]:
    """Slices of the split whose outputs of the head fit into ROOM."""
    values = head(split.inputs(split.x[:1]))
    size = max(1, ROOM // max(1, sum(v.nbytes for v in values if isinstance(v, Tensor))))
    return [slice(start, start + size) for start in range(0, len(split), size)]


def _skip_zeros(layer: _Layer) -> None:
    """Have the layer compute only outputs whose weights are not zero [1.6 x at kappa 0.5]."""
    if type(layer) is nn.Conv2d:  # no subclasses: they may compute something else
        known = layer.groups == 1 and layer.padding_mode == "zeros"
    else:
        known = type(layer) is nn.Linear
    if not known:
        return
    weight, bias = layer.weight, layer.bias
    used = (weight != 0).flatten(1).any(1)
    if bias is not None:
        used |= bias != 0
    used[0] |= ~used.any()  # convolutions want at least one output
    kept = used.nonzero().squeeze(1)
    if len(kept) < len(weight):
        weight, bias = weight[kept], None if bias is None else bias[kept]
    if isinstance(layer, nn.Conv2d):
        compute, axis = _convolution(layer, weight, bias), 1
    else:
        compute, axis = (lambda x: F.linear(x, weight, bias)), -1

    def forward(x: Tensor) -> Tensor:
        y = compute(x)
        if len(kept) == len(used):
            return y
        shape = list(y.shape)
        shape[axis] = len(used)
        return y.new_zeros(shape).index_copy_(axis, kept, y)

    layer.__dict__["forward"] = forward


def _convolution(layer: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> Callable:
    """The layer's convolution with these filters.

    On maps so small that the kernel covers them from every place (2 x 2 and 1 x 1 in ResNet18's
    last stages) it is one matrix product [1.3 x], with a matrix of at most twice the filters' size.
    """
    matrices: dict[tuple[int, ...], Tensor] = {}

    def compute(x: Tensor) -> Tensor:
        size = h, w = tuple(x.shape[2:])
        rows, columns = (_starts(layer, axis, size[axis]) for axis in (0, 1))
        if not 0 < len(rows) * len(columns) * h * w <= 2 * weight[0, 0].numel():
            return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation)
        if size not in matrices:
            seen = [weight[:, :, i : i + h, j : j + w] for i in rows for j in columns]
            matrices[size] = torch.stack(seen, 1).flatten(2).flatten(0, 1)
        y = (x.flatten(1) @ matrices[size].T).view(len(x), len(weight), len(rows), len(columns))
        return y if bias is None else y + bias[:, None, None]

    return compute


def _starts(layer: nn.Conv2d, axis: int, size: int) -> list[int]:
    """Where in the kernel the map begins, for each output place; empty if it is not covered."""
    if isinstance(layer.padding, str) or layer.dilation[axis] != 1:
        return []
    padding, stride, kernel = layer.padding[axis], layer.stride[axis], layer.kernel_size[axis]
    places = (size + 2 * padding - kernel) // stride + 1
    starts = [padding - place * stride for place in range(places)]
    return starts if all(0 <= start <= kernel - size for start in starts) else []
