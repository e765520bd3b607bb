"""Parts of a network, by what they do in a pass: its classifier, and the layer before it.

The classifier is the module whose output is the logits, up to a factor and what is the same for
all classes, as a temperature or a softmax leaves it. The order of a network's modules says nothing
of it: heads may be made first, and there may be others beside it.
"""

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Callable, Container, Iterator

import torch
from torch import Tensor, nn

from lrsc.errors import unknown
from lrsc.models.calls import copied, input_errors, logits
from lrsc.models.normalisation import modes_kept
from lrsc.models.precision import matmul_precision

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Layer = Convolution | nn.Linear
_CLOSE = 1e-4  # of the largest difference between logits


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What a pass has shown: the classifier, the layers that ran, in the order of calls.

    idle: those that did not run and whose weights nothing used.
    """

    name: str
    classifier: weakref.ref[nn.Module]
    layers: tuple[str, ...]
    idle: frozenset[str]


_seen: weakref.WeakKeyDictionary[nn.Module, _Seen] = weakref.WeakKeyDictionary()


def find(net: nn.Module, x: Tensor) -> str:
    """Find the classifier's name by one pass of a few network inputs x, and remember it.

    Raises ValueError where no module, or more than one, returns the logits, and for outputs that
    are not finite.
    """
    calls: list[tuple[str, nn.Module, Tensor, int]] = []

    def note(module: nn.Module, _: object, out: object, name: str) -> None:
        if isinstance(out, Tensor):  # a copy: what follows may work in place
            calls.append((name, module, out.clone(), out.data_ptr()))

    hooks = [
        module.register_forward_hook(functools.partial(note, name=name))
        for name, module in net.named_modules()
        if _may_classify(module) and not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        with (
            torch.no_grad(), modes_kept(net), input_errors(x), matmul_precision("fp32", x.device),
        ):  # fmt: skip
            given = logits(net.eval(), x.clone())
    finally:
        for hook in hooks:
            hook.remove()
    found = {name: place for name, _, out, place in calls if are_logits(out, given)}
    if len(found) > 1:  # of a dead network all are zero
        exact = [name for name, place in found.items() if place == given.data_ptr()]
        found = dict.fromkeys(exact, 0) if len(exact) == 1 else found
    if not found and not given.isfinite().all():
        raise ValueError(
            f"this {type(net).__name__} returns NaN or infinity for finite inputs: it has "
            "diverged, or its weights are damaged"
        )
    if len(found) != 1:
        said = f"{', '.join(found)} do" if found else "no layer does"
        known = ", ".join(dict.fromkeys(n for n, *_ in calls))
        raise ValueError(
            f"the classifier of this {type(net).__name__} cannot be told: one layer must return "
            f"the logits, {said}; name the one whose input is the representation: "
            f"layer='...' ({known or 'no layer that is called is one'})"
        )
    (name,) = found
    ran = dict.fromkeys(n for n, m, *_ in calls if isinstance(m, Layer) or n == name)
    _seen[net] = _Seen(name, weakref.ref(net.get_submodule(name)), tuple(ran), _idle(net, ran, x))
    return name


def _idle(net: nn.Module, ran: Container[str], x: Tensor) -> frozenset[str]:
    """Layers that did not run and whose weights the logits do not depend on: NaN in them is not.

    Attention uses weights of a layer that it does not call, and others may.
    """
    names = [n for n, m in net.named_modules() if isinstance(m, Layer) and n not in ran]
    names = [n for n in names if not isinstance(next(_parents(net, n)), nn.MultiheadAttention)]

    @torch.no_grad()
    def unused(some: list[str]) -> bool:
        other = copied(net).eval()
        for name in some:
            for p in other.get_submodule(name).parameters():
                p.fill_(torch.nan)
        with contextlib.suppress(ValueError, RuntimeError):
            return not logits(other, x.clone()).isnan().any()
        return False

    all_unused = bool(names) and unused(names)
    return frozenset(n for n in names if all_unused or unused([n]))


def look_again(net: nn.Module, x: Callable[[], Tensor]) -> None:
    """Repeat `find`, on x(), for a network that has changed since its remembered pass."""
    if _seen.pop(net, None):
        with contextlib.suppress(ValueError):
            find(net, x())


def classifier_name(net: nn.Module, layer: str | None = None, x: Tensor | None = None) -> str:
    """Dotted name of the classifier: `layer` if given, else the one that a pass has shown.

    x: network inputs for that pass, if available. Without a pass, the classifier is known only if
    the order of layers is certain: the last linear layer. Raises ValueError for a layer that does
    not exist or has no input of its own, and where the classifier is not known.
    """
    if layer is not None:
        return _named(net, layer)
    if seen := _known(net):
        return seen.name
    if x is not None and x.device.type != "meta":
        return find(net, x[:8])
    linear = [name for name, m in net.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise ValueError("the model has no nn.Linear layer: its classifier cannot be found")
    chain = all(isinstance(m, nn.Sequential) for m in _parents(net, linear[-1]))
    known = type(net).__module__.startswith("torchvision.models.")
    if chain or known or len(linear) == 1:
        return linear[-1]
    raise ValueError(
        f"which layer of this {type(net).__name__} is its classifier is not known before it has "
        f"run: call lrsc.models.representation(model, x), or give layer='...' ({', '.join(linear)})"
    )


def classifier(net: nn.Module, layer: str | None = None, x: Tensor | None = None) -> nn.Module:
    """The module of `classifier_name`."""
    return net.get_submodule(classifier_name(net, layer, x))


def feeding(net: nn.Module) -> Layer:
    """The last linear layer or convolution that ran before the classifier.

    Its rows or filters are the penultimate neurons of the models here. Raises ValueError for a
    network of a single layer.
    """
    name, found, seen = classifier_name(net), layers(net), _known(net)
    order = list(seen.layers if seen else found)
    before = order[: order.index(name)]
    weight = getattr(net.get_submodule(name), "weight", None)
    if isinstance(weight, Tensor) and weight.dim() == 2:  # not another head
        before = [n for n in before if weight.shape[1] % len(found[n].weight) == 0]
    if not before:
        raise ValueError("the model has one layer only: no neurons come before its classifier")
    return found[before[-1]]


def layers(net: nn.Module) -> dict[str, Layer]:
    """Linear layers and convolutions, in the order in which they ran if a pass has shown it.

    Layers that were not called but whose weights others use, as in attention, come last; those that
    nothing uses, such as a pretraining head, are left out.
    """
    seen = _known(net)
    idle = seen.idle if seen else ()
    found = {n: m for n, m in net.named_modules() if isinstance(m, Layer) and n not in idle}
    order = [name for name in seen.layers if name in found] if seen else []
    return {name: found[name] for name in (*order, *found)}


def are_logits(out: Tensor, logits: Tensor) -> bool:
    """Whether `out` is `logits` up to a factor > 0 and an offset that a sample's classes share.

    If `logits` are probabilities (rows >= 0 of sum 1), their logarithms count as the logits.
    """
    same = logits.dim() == 2 and out.dim() > 0 and len(out) == len(logits) > 0
    if not same or out[0].numel() != logits[0].numel():
        return False
    a, b = (t.flatten(1).double() for t in (out, logits))
    if torch.equal(a, b):
        return True
    if bool((b >= 0).all() & ((b.sum(1) - 1).abs() < _CLOSE).all()):  # probabilities
        b = b.clamp_min(torch.finfo(logits.dtype).tiny).log()
    a, b = (t - t.mean(1, keepdim=True) for t in (a, b))
    if len(a) < 2:  # too few to tell a factor
        return False
    factor = (a * b).sum() / a.square().sum()
    size = b.abs().max()
    return bool((factor > 0) & (size > 0) & ((b - factor * a).abs().max() <= _CLOSE * size))


def _named(net: nn.Module, layer: str) -> str:
    modules = dict(net.named_modules(remove_duplicate=False))
    own = {n: m for n, m in modules.items() if _may_classify(m)}
    if layer in modules and layer not in own:
        raise ValueError(
            f"layer {layer!r} is a {type(modules[layer]).__name__}, expected a linear layer, "
            f"a convolution or a module with weights of its own: {', '.join(own)}"
        )
    if layer not in own:
        raise unknown("layer", layer, own)
    return layer


def _may_classify(module: nn.Module) -> bool:
    """Whether it is a layer, or a user's own kind of one: none of torch's, and with weights.

    Not a module around others that has weights beside them.
    """
    if isinstance(module, Layer):
        return True
    own = any(p.dim() > 1 for p in module.parameters(recurse=False))
    alone = all(not isinstance(m, Layer) for m in module.modules())
    return own and alone and not type(module).__module__.startswith("torch.nn.")


def hand_on(net: nn.Module, copy: nn.Module) -> None:
    """Pass on to a copy what is known about a network."""
    if seen := _known(net):
        _seen[copy] = dataclasses.replace(
            seen, classifier=weakref.ref(copy.get_submodule(seen.name))
        )


def _known(net: nn.Module) -> _Seen | None:
    """What a pass has shown, where the network has the same classifier and layers since."""
    seen, modules = _seen.get(net), dict(net.named_modules())
    if seen is None or modules.get(seen.name) is not seen.classifier():
        return None
    there = all(n == seen.name or isinstance(modules.get(n), Layer) for n in seen.layers)
    return seen if there else None


def _parents(net: nn.Module, name: str) -> Iterator[nn.Module]:
    while name:
        name = name.rpartition(".")[0]
        yield net.get_submodule(name)
