"""A copy of a network whose gradients at inputs cost less on the CPU, with the same outputs.

Convolutions in the memory layout that the CPU's kernels want, and batch normalisation, which in
eval mode is linear, folded into the convolution before it. Measured in benchmarks/attribution.py.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CLOSE = 1e-4  # of the largest logit: outputs of the folded network that differ by more are refused


def prepared(model: nn.Module, x: Tensor) -> nn.Module:
    """The network itself, or for convolutions on the CPU a copy in eval mode that is faster."""
    convolutional = any(isinstance(m, nn.Conv2d) for m in model.modules())
    if x.device.type != "cpu" or x.dim() != 4 or not convolutional:
        return model
    net = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        before, pairs = _follow(net, x[:1])
        folded = copy.deepcopy(net)
        _fold(folded, pairs)
        same = (folded(x[:1]) - before).abs().max() <= CLOSE * before.abs().max()
    return folded if bool(same) else net


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
