"""Taking constant channels out of a network without changing what it computes.

A filter of zeros still sends a constant on: its BatchNorm's beta - gamma * mean / sqrt(var + eps),
through the activation. What the next layer makes of it goes into that layer's bias where every
output sees the constant from all taps: linear layers, convolutions without zero padding. Under
zero padding outputs at the border see less of it, so that no bias is exact. But all constant
channels that a padded convolution reads have the same border: one of them, with weights that add
up theirs times the ratio of the constants, stands for all. It is kept, as their carrier.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lrsc.pruning.channels import Channels, Norm

WEAKEST = 0.1  # a carrier's constant, as a share of the largest: roundoff grows by the inverse
STATE = ("weight", "bias", "running_mean", "running_var")  # tensors with an entry a channel


def removable(model: nn.Module, found: Channels) -> tuple[Tensor, int]:
    """Which channels can go (one bool each), and how many constant ones stay as carriers."""
    gone = ~found.fixed
    for name, numbers in found.inputs.items():
        gone[numbers[found.constants[name].isnan()]] = False
    carriers = 0
    for name, numbers in found.inputs.items():
        if _is_padded(model.get_submodule(name)):
            sent = found.constants[name].abs().masked_fill(found.constants[name].isnan(), 0)
            strongest = sent.masked_fill(~gone[numbers], 0)
            if sent.masked_fill(gone[numbers], 0).max() < WEAKEST * strongest.max():
                gone[numbers[strongest.argmax()]] = False
                carriers += 1
    for numbers in found.outputs.values():
        if gone[numbers].all():
            gone[numbers[0]] = False
    return gone, carriers


def remove(model: nn.Module, found: Channels, gone: Tensor) -> None:
    """Take these channels out of a model in place; without gradient."""
    for name, numbers in found.inputs.items():
        if gone[numbers].any():
            _drop_inputs(model.get_submodule(name), found.constants[name], gone[numbers])
    for name, numbers in found.outputs.items():
        if gone[numbers].any():
            _drop_outputs(model.get_submodule(name), gone[numbers])


def _drop_inputs(layer: Any, constants: Tensor, gone: Tensor) -> None:
    """Remove columns of the weight; what their constants gave goes to the bias or the carrier."""
    weight = layer.weight.detach().clone()
    constants, gone = constants.to(weight), gone.to(weight.device)
    given = weight[:, gone] * constants[gone].view(-1, *[1] * (weight.dim() - 2))
    if given.any() and _is_padded(layer):
        carrier = int(constants.abs().masked_fill(constants.isnan() | gone, 0).argmax())
        weight[:, carrier] += given.sum(1) / constants[carrier]
    elif given.any():
        total = given.flatten(1).sum(1)
        put(layer, "bias", total if layer.bias is None else layer.bias + total)
    put(layer, "weight", _laid_out(weight[:, ~gone], layer.weight))
    set_sizes(layer)


def _drop_outputs(module: Any, gone: Tensor) -> None:
    for key in STATE:
        old = getattr(module, key, None)
        if old is not None:
            put(module, key, _laid_out(old.detach()[~gone.to(old.device)], old))
    set_sizes(module)


def _is_padded(layer: Any) -> bool:
    """Whether some outputs of a layer see zeros in place of a constant channel."""
    if isinstance(layer, nn.Linear) or layer.padding_mode != "zeros" or layer.padding == "valid":
        return False
    if layer.padding == "same":
        return any(size > 1 for size in layer.kernel_size)
    return any(size > 0 for size in layer.padding)


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """In the memory format of another one: convolutions on a CPU are faster in channels_last."""
    last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
    return tensor.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def put(module: Any, key: str, value: Tensor) -> None:
    """Replace a parameter or buffer by one of another shape."""
    if key in module._buffers:
        module.register_buffer(key, value)
    else:
        module.register_parameter(key, nn.Parameter(value, module.weight.requires_grad))


def set_sizes(module: Any) -> None:
    """Make a layer's attributes say what the shapes of its tensors are."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, Norm):
        known = [t for t in (module.weight, module.running_mean) if t is not None]
        module.num_features = len(known[0]) if known else module.num_features
    else:
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
