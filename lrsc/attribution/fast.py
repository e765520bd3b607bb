"""A network in parts whose gradients at inputs cost less on the CPU, with the same outputs.

The first layers are affine: on the way from a baseline to a sample their outputs are interpolated,
and their Jacobian is the same everywhere, so that they run forward and backward once for each
sample, not for each point. Convolutions lie in the memory layout that the CPU's kernels want, and
batch normalisation, which in eval mode is linear, is folded into the convolution before it.
Measured in benchmarks/attribution.py.
"""

import copy
import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lrsc.attribution.convolution import FixedConv2d
from lrsc.models import SmallMapConv2d

# of the largest output: a folded network, first layers or parts that are off by more are not used
CLOSE = 1e-4

STEM = ("conv1", "bn1", "relu", "maxpool")  # of torchvision's ResNets
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


# exact types: subclasses may compute something else
AFFINE = (nn.Conv2d, FixedConv2d, nn.Linear, nn.Flatten, nn.Identity)


@dataclasses.dataclass(frozen=True)
class Parts:
    """Logits of a network in eval mode are rest(pool(first(x))).

    first: affine, or no layers. pool: max pooling, which may stand after an activation in the
    network, or nn.Identity.
    """

    first: nn.Module
    pool: nn.Module
    rest: nn.Module

    def logits(self, x: Tensor) -> Tensor:
        return self.rest(self.pool(self.first(x)))

    def on_the_way(self, start: Tensor, x: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
        """(net, offset, slope): the logits at start + t (x - start) are net(offset + t slope).

        For 0 < t < 1. The max pool of offset + t slope is offset + t pool(slope) where the offset
        is constant over each map, as that of a baseline of zeros; else the pool stays in the net.
        """
        with torch.no_grad():
            offset = self.first(start)
        slope = self.first(x) - offset
        if isinstance(self.pool, nn.Identity):
            return self.rest, offset, slope
        if bool((offset == offset[..., :1, :1]).all()):
            return self.rest, self.pool(offset), self.pool(slope)
        return nn.Sequential(self.pool, self.rest), offset, slope


def prepared(model: nn.Module, x: Tensor) -> Parts:
    """Parts of the network, or of a faster copy of one with convolutions, for images on the CPU.

    nn.Sequential and torchvision's ResNets are taken apart, outside torch.autocast. Other networks,
    those with hooks, which may change what layers give, and all on other devices or for inputs
    other than N x C x H x W are all rest. model: in eval mode.
    """
    net = model
    if x.device.type == "cpu" and x.dim() == 4:
        if any(isinstance(m, nn.Conv2d) for m in model.modules()):
            net = _faster_copy(model, x)
        parts = None if torch.is_autocast_enabled("cpu") else _apart(net)
        if parts is not None and _holds(parts, net, x[:1]):
            return parts
    return Parts(nn.Identity(), nn.Identity(), net)


def _apart(net: nn.Module) -> Parts | None:
    """None where the network is of another kind or may do more than its layers do."""
    if type(net) is nn.Sequential:
        layers = list(net)
    elif (type(net).__module__, type(net).__name__) == ("torchvision.models.resnet", "ResNet"):
        layers = [*map(net.get_submodule, STEM), _after_the_stem(net)]
    else:
        return None
    for module in net.modules():
        if {"forward", "_forward_impl"} & vars(module).keys():
            return None  # replaced on the module itself
        if any(getattr(module, kind, None) for kind in HOOKS):
            return None
    n = next((i for i, m in enumerate(layers) if not _is_affine(m)), len(layers))
    first, rest = layers[:n], layers[n:]
    pool: nn.Module = nn.Identity()
    relu = rest[:1] if rest and type(rest[0]) is nn.ReLU else []  # may as well come after the pool
    after = rest[len(relu) :]
    if after and type(after[0]) is nn.MaxPool2d and not after[0].return_indices:
        pool, rest = after[0], relu + after[1:]
    return Parts(nn.Sequential(*first), pool, nn.Sequential(*rest))


def _after_the_stem(net: nn.Module) -> nn.Module:
    """torchvision's ResNet without what comes before its stages."""
    rest = copy.copy(net)
    rest._modules = net._modules | dict.fromkeys(STEM, nn.Identity())
    return rest


def _is_affine(layer: nn.Module) -> bool:
    samples_kept = not isinstance(layer, nn.Flatten) or layer.start_dim == 1
    return type(layer) in AFFINE and samples_kept


def _holds(parts: Parts, net: nn.Module, x: Tensor) -> bool:
    """A last look at values, for what cannot be seen of modules, as global hooks."""
    with torch.no_grad():
        start, middle, end = (parts.first(t * x) for t in (0, 0.5, 1))
        off = (2 * middle - start - end).abs().max()
        affine = off <= CLOSE * torch.stack([start, end]).abs().max()
        found, expected = parts.logits(x), net(x)
    return bool(affine & ((found - expected).abs().max() <= CLOSE * expected.abs().max()))


def _faster_copy(model: nn.Module, x: Tensor) -> nn.Module:
    net = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        before, pairs = _follow(net, x[:1])
        folded = copy.deepcopy(net)
        _fold(folded, pairs)
        same = (folded(x[:1]) - before).abs().max() <= CLOSE * before.abs().max()
    net = folded if bool(same) else net
    # equal up to roundoff by construction, as its tests say: not looked at again
    for module in net.modules():
        if type(module) is SmallMapConv2d:
            FixedConv2d.take_over(module)
    return net


def _follow(net: nn.Module, x: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """Logits, and names of convolutions whose output is what a batch normalisation takes."""
    names = {module: name for name, module in net.named_modules()}
    made: list[tuple[nn.Module, Tensor]] = []
    pairs: list[tuple[nn.Module, nn.Module]] = []

    def look(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made.append((module, out))
        else:
            pairs.extend((conv, module) for conv, value in made if value is given[0])

    hooks = [
        module.register_forward_hook(look)
        for module in names
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    logits = net(x)
    for hook in hooks:
        hook.remove()
    calls = [conv for conv, _ in made]
    once = [
        (a, b)
        for a, b in pairs
        if calls.count(a) == 1 and getattr(b, "running_var", None) is not None
    ]
    return logits, [(names[a], names[b]) for a, b in once]


def _fold(net: nn.Module, pairs: list[tuple[str, str]]) -> None:
    for conv_name, norm_name in pairs:
        conv, norm = net.get_submodule(conv_name), net.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)  # _follow says so
        fused = fuse_conv_bn_eval(conv, norm)
        _replace(net, conv_name, fused.to(memory_format=torch.channels_last))
        _replace(net, norm_name, nn.Identity())


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, module)
