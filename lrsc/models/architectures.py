"""The paper's models, by name; weights come from torch's current generator."""

import functools
import itertools
import math
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from lrsc.errors import check_names, is_whole, plain, shown
from lrsc.models.convolution import SmallMapConv2d
from lrsc.models.weights import load

MOST = 10**6  # neurons of a layer, inputs along an axis, classes
INITS = ("torchvision", "torch")
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # VGG11's filters, a pool after each


def fcn(input_shape: tuple[int, ...], n_classes: int, hidden) -> nn.Module:
    """ReLU layers of the widths `hidden`, no biases, torch's default initialisation."""
    listed = list(hidden) if isinstance(hidden, Iterable) and not isinstance(hidden, str) else []
    widths = [plain(n) for n in listed if is_whole(n, 1) and n <= MOST]
    if not widths or len(widths) < len(listed):
        raise ValueError(
            f"hidden must list widths >= 1 and at most {MOST}, as in (1024, 1024), found "
            f"{shown(hidden)}"
        )
    widths = [math.prod(input_shape), *widths]
    layers: list[nn.Module] = [nn.Flatten()]
    for wide, narrow in itertools.pairwise(widths):
        layers += [nn.Linear(wide, narrow, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_classes, bias=False))


def cnn(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """VGG11's convolutions without batch norm and biases, global average pool, linear 512 -> K.

    Weights of the convolutions are drawn from N(0, 2 / (9 c_out)). Below 32 pixels the first pool
    is left out, so that the others do not collapse the map. Raises ValueError below 16 pixels.
    """
    channels, height, width = _image_shape("cnn", input_shape, least=2 ** (len(STAGES) - 1))
    pools = [min(height, width) >= 2 ** len(STAGES), *[True] * (len(STAGES) - 1)]
    layers: list[nn.Module] = []
    for filters, pool in zip(STAGES, pools, strict=True):
        for c_out in filters:
            layers += [nn.Conv2d(channels, c_out, 3, padding=1, bias=False), nn.ReLU()]
            channels = c_out
        if pool:
            layers.append(nn.MaxPool2d(2))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    head = nn.Linear(channels, n_classes, bias=False)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def resnet(
    name: str, input_shape: tuple[int, ...], n_classes: int, weights, init: str
) -> nn.Module:
    """torchvision's ResNet of this name with a new head, and a first convolution for C channels.

    init: of the convolutions, "torchvision" N(0, 2 / (taps c_out)), or "torch" uniform with
    variance 1 / (3 taps c_in), torch's default for a layer of its own.
    """
    import torchvision

    channels = _image_shape(name, input_shape)[0]
    check_names("init", [init], INITS)
    if weights is not None and init != INITS[0]:
        raise ValueError(f"init={init!r} does nothing with weights={weights!r}: leave one out")
    net = getattr(torchvision.models, name)(weights=None, num_classes=n_classes)
    if channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    for module in net.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = SmallMapConv2d  # same parameters, same state_dict
            if init == "torch":
                module.reset_parameters()
    return _pretrained(net, name, channels, weights)


def swin_t(input_shape: tuple[int, ...], n_classes: int, weights) -> nn.Module:
    """torchvision's Swin-T with a new head, and a new patch embedding where C is not 3.

    Images from 4 pixels a side on: patches are 4 x 4, and rows and columns beyond the last whole
    patch are not seen; maps are padded to whole windows of 7 x 7 patches, so that below 224 pixels
    much of the work is padding.
    """
    from torchvision.models import swin_t as torchvisions

    channels = _image_shape("swin_t", input_shape, least=4)[0]
    net = torchvisions(weights=None, num_classes=n_classes)
    if channels != 3:
        net.features[0][0] = nn.Conv2d(channels, 96, kernel_size=4, stride=4)
    return _pretrained(net, "swin_t", channels, weights)


_OF_RESNETS = {"weights": None, "init": "torchvision"}
# name -> (builder, its options with their defaults)
BUILDERS: dict[str, tuple] = {
    "fcn": (fcn, {"hidden": (1024, 1024)}),
    "cnn": (cnn, {}),
    "resnet18": (functools.partial(resnet, "resnet18"), _OF_RESNETS),
    "resnet50": (functools.partial(resnet, "resnet50"), _OF_RESNETS),
    "wide_resnet101_2": (functools.partial(resnet, "wide_resnet101_2"), _OF_RESNETS),
    "swin_t": (swin_t, {"weights": None}),
}


def _pretrained(net: nn.Module, name: str, channels: int, weights: str | Path | None) -> nn.Module:
    if weights is None:
        return net
    if weights == "imagenet" and channels != 3:
        raise ValueError(
            f"weights='imagenet' take images of 3 channels, found {channels}: repeat the channel "
            "in the data, or use weights=None"
        )
    load(net, name, weights)
    return net


def _image_shape(name: str, shape: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
    if len(shape) != 3:
        raise ValueError(f"{name} takes images (C, H, W), found shape {shape}; use model 'fcn'")
    if min(shape[1:]) < least:
        raise ValueError(
            f"{name} takes images of at least {least} x {least} pixels, found "
            f"{shape[1]} x {shape[2]}; enlarge them, or use model 'fcn'"
        )
    return shape
