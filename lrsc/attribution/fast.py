"""A network in parts whose gradients at inputs cost less on the CPU, with the same outputs.

The first layer is affine: on the way from a baseline to a sample its outputs are interpolated, and
its Jacobian is the same everywhere, so that it runs forward and backward once for each sample, not
for each point. Max pooling after it joins it (`Parts.on_the_way`). In the rest, batch
normalisation, linear in eval mode, is folded into the convolution before it, and memory lies as
the CPU's kernels want it. Measured in benchmarks/attribution.py.
"""

import collections
import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lrsc.models import SmallMapConv2d, trace

# of the largest logit, and of the gradient's norm: parts that differ by more are not used
CLOSE, ALIKE = 1e-4, 1e-2

CONVOLUTIONS = (nn.Conv2d, SmallMapConv2d)  # themselves: heirs may compute something else
AFFINE = (*CONVOLUTIONS, nn.Conv1d, nn.Linear, nn.Flatten, nn.Identity)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclasses.dataclass(frozen=True)
class Parts:
    """Logits of a network in eval mode are rest(pool(first(x))); first is affine.

    pool: max pooling, or nn.Identity.
    """

    first: nn.Module
    pool: nn.Module
    rest: nn.Module

    def logits(self, x: Tensor) -> Tensor:
        return self.rest(self.pool(self.first(x)))

    def on_the_way(self, start: Tensor, x: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
        """(net, a, b): at start + t (x - start), 0 < t < 1, the logits are net(a + t b).

        Pooling a + t b gives a + t pool(b) where a is constant over each map, as that of a baseline
        of zeros is; otherwise the pool stays in the net. a and b are in full precision, also under
        torch.autocast.
        """
        with torch.autocast(x.device.type, enabled=False):
            a = self.first(start).detach()
            b = self.first(x) - a
            if isinstance(self.pool, nn.Identity):
                return self.rest, a, b
            if bool((a == a[..., :1, :1]).all()):
                return self.rest, self.pool(a), self.pool(b)
        return nn.Sequential(self.pool, self.rest), a, b


def prepared(model: nn.Module, x: Tensor) -> Parts:
    """Parts of a copy, for images on the CPU and models that torch.fx can trace.

    Otherwise all of it is the rest.

    Networks with hooks, which may change what layers give, are not taken apart.
    """
    if x.device.type != "cpu" or x.dim() != 4:
        return _whole(model)
    net = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    if any(getattr(module, kind) for module in net.modules() for kind in HOOKS):
        return _whole(net)
    try:
        parts = _parts(fx.GraphModule(net, trace(net)))
        found = _at(parts.logits, x[:1])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever the model's own code raises for symbols
        return _whole(net)
    return parts if _same(found, _at(net, x[:1])) else _whole(net)


def _at(net: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of their squares: zeros where there is none."""
    x = x.detach().clone().requires_grad_()
    logits = net(x + 0)  # which may be overwritten
    if not logits.requires_grad:
        return logits, torch.zeros_like(x)
    return logits.detach(), torch.autograd.grad(logits.square().sum(), x)[0]


def _same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    (logits, gradient), (logits_, gradient_) = found, expected
    return bool(
        ((logits - logits_).abs().max() <= CLOSE * logits_.abs().max())
        & ((gradient - gradient_).norm() <= ALIKE * gradient_.norm())
    )


def _whole(net: nn.Module) -> Parts:
    return Parts(nn.Identity(), nn.Identity(), net)


def _parts(net: fx.GraphModule) -> Parts:
    _fold(net)
    start = next(iter(net.graph.nodes))
    first = []
    while (node := _only_call(net, start, AFFINE)) is not None:
        first.append(_taken_out(net, node, start))
    relu = _only_call(net, start, (nn.ReLU,))  # may as well come after the pool
    pool = _only_call(net, relu or start, (nn.MaxPool2d,))
    taken = nn.Identity() if pool is None else _taken_out(net, pool, relu or start)
    _fix(net)
    net.delete_all_unused_submodules()
    net.recompile()
    return Parts(nn.Sequential(*first), taken, net)


def _fold(net: fx.GraphModule) -> None:
    """Batch normalisations into the convolutions before them that nothing else uses."""
    calls = collections.Counter(node.target for node in net.graph.nodes)
    for conv in list(net.graph.nodes):
        node = _only_call(net, conv, (nn.BatchNorm2d,))
        if node is None or conv.op != "call_module" or calls[conv.target] > 1:
            continue
        layer, norm = net.get_submodule(str(conv.target)), net.get_submodule(str(node.target))
        assert isinstance(norm, nn.BatchNorm2d)
        if type(layer) in CONVOLUTIONS and norm.running_var is not None:
            assert isinstance(layer, nn.Conv2d)
            _put(net, conv, fuse_conv_bn_eval(layer, norm).to(memory_format=torch.channels_last))
            _taken_out(net, node, conv)


def _fix(net: fx.GraphModule) -> None:
    for node in net.graph.nodes:
        layer = net.get_submodule(str(node.target)) if node.op == "call_module" else None
        if type(layer) is SmallMapConv2d:
            fixed = copy.copy(layer)
            fixed.__class__ = _Fixed
            assert isinstance(fixed, _Fixed)
            if layer.kernel_size == (1, 1) and layer.padding == (0, 0):
                fixed.places, fixed.stride = layer.stride, (1, 1)
            _put(net, node, fixed)


class _Fixed(SmallMapConv2d):
    """A convolution whose weights stay: it makes its matrix once.

    places: one in so many rows and columns is looked at, instead of the stride of 1 x 1 kernels.
    """

    places: tuple[int, ...] = (1, 1)
    kept: tuple[tuple, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[..., :: self.places[0], :: self.places[1]])

    def matrix(self, *where) -> Tensor:
        if self.kept is None or self.kept[0] != where:
            self.kept = where, super().matrix(*where)
        return self.kept[1]


def _only_call(net: fx.GraphModule, node: fx.Node, kinds: tuple[type, ...]) -> fx.Node | None:
    """The only node that uses another's value, if it calls a module of one of these kinds on it."""
    user = next(iter(node.users)) if len(node.users) == 1 else None
    if user is None or user.op != "call_module" or user.args != (node,) or user.kwargs:
        return None
    return user if type(net.get_submodule(str(user.target))) in kinds else None


def _taken_out(net: fx.GraphModule, node: fx.Node, before: fx.Node) -> nn.Module:
    """The module that a node calls; the node goes, and what used it uses the one before it."""
    node.replace_all_uses_with(before)
    net.graph.erase_node(node)
    return net.get_submodule(str(node.target))


def _put(net: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    parent, _, own = str(node.target).rpartition(".")
    setattr(net.get_submodule(parent), own, module)
