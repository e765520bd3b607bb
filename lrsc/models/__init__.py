"""Models of the paper, by name, and the representation that the metrics look at."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lrsc.config import STATISTICS
from lrsc.datasets import BiasedDataset, Split
from lrsc.errors import check_names, is_whole, shown, unknown
from lrsc.models.architectures import BUILDERS, MOST
from lrsc.models.convolution import SmallMapConv2d
from lrsc.models.normalisation import (
    as_taken,
    batch_norms,
    batches,
    check_statistics,
    evaluating,
    in_batches,
    input_errors,
    modes_kept,
    recalibrate,
    recalibration,
    settled,
    with_statistics_of,
)
from lrsc.models.precision import matmul_precision, with_gradients
from lrsc.models.stacking import Stack, linear_layers, unbind

VERSIONS = {  # raised when the code changes what a seed trains
    "fcn": 1, "cnn": 1, "resnet18": 1, "resnet50": 1, "wide_resnet101_2": 1, "swin_t": 1,
}  # fmt: skip
NORMALISED = ("resnet18", "resnet50", "wide_resnet101_2")  # those with batch normalisation
BATCH = 500  # samples a forward pass without gradient

_FCN_HIDDEN = {  # where it is not the default
    "parity": (200, 200),
    "moon_star": (200, 200),
    "mnist_cifar": (2048, 2048),
    "corrupted_cifar10": (2048, 2048),
}


def build(name: str, input_shape: tuple[int, ...], n_classes: int, **options) -> nn.Module:
    """A model by name for inputs of `input_shape` (C, H, W) or (d,), without the batch axis.

    fcn: ReLU, no biases, torch's default initialisation; option hidden=(1024, 1024).
    cnn: VGG11's convolutions, global average pool, one linear layer; no biases, no batch norm;
    images from 16 pixels a side on, without the first pool below 32.
    resnet18, resnet50, wide_resnet101_2, swin_t: torchvision's, with a first convolution for C
    channels and a head for n_classes; swin_t from 4 pixels a side on. Option weights: None is
    random; 'imagenet' torchvision's IMAGENET1K_V1, for 3 channels, read from torch.hub's folder or
    `weights` in the data root and never downloaded; or the path of a state_dict file, which names
    the run too. A head of another number of classes than the file's is random. The ResNets' option
    init: 'torchvision' or 'torch', how their convolutions start.

    Random weights come from torch's current generator. Raises ValueError for an unknown name or
    option, an empty, non-positive or too small shape, fewer than two classes, and weights that are
    absent (DataMissing), damaged or of another model.
    """
    check_names("model", [name], BUILDERS)
    builder, defaults = BUILDERS[name]
    check_names(f"option of model {name!r}", options, defaults)
    sizes = list(input_shape) if isinstance(input_shape, list | tuple) else []
    if not sizes or any(not is_whole(n, 1) or n > MOST for n in sizes):
        raise ValueError(f"input_shape must hold sizes >= 1, found {shown(input_shape)}")
    if not is_whole(n_classes, 2) or n_classes > MOST:
        raise ValueError(
            f"n_classes must be >= 2, a whole number at most {MOST}, found {shown(n_classes)}"
        )
    return builder(tuple(map(int, sizes)), int(n_classes), **(defaults | options))


def options_for(name: str, dataset: str) -> dict:
    """The options that the paper uses for this model on this data set (widths of the FCN)."""
    check_names("model", [name], BUILDERS)
    return {"hidden": _FCN_HIDDEN[dataset]} if name == "fcn" and dataset in _FCN_HIDDEN else {}


def classifier(model: nn.Module, layer: str | None = None) -> nn.Linear:
    """The linear layer of this dotted module name; the last in module order if none is given.

    Raises ValueError if there is no linear layer, none of this name, or another kind of layer.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    linear = {name: m for name, m in modules.items() if isinstance(m, nn.Linear)}
    if not linear:
        raise ValueError("the model has no nn.Linear layer: its classifier cannot be found")
    if layer is None:
        return [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    if layer in modules and layer not in linear:
        raise ValueError(
            f"layer {layer!r} is a {type(modules[layer]).__name__}, expected an nn.Linear: "
            f"{', '.join(linear)}"
        )
    if layer not in linear:
        raise unknown("linear layer", layer, linear)
    return linear[layer]


@torch.no_grad()
def evaluate(net: nn.Module, x: Tensor, statistics: str = "running") -> Tensor:
    """Logits of network inputs x in eval mode, without TF32; modes are left as they were.

    statistics: of batch normalisation (lrsc.models.normalisation), 'running' or 'batch'.
    """
    with evaluating(net, statistics) as by_batch, matmul_precision("fp32", x.device):
        if by_batch:
            return in_batches(lambda parts: [net(as_taken(net, x[p])) for p in parts], len(x))
        return net(as_taken(net, x))


def representation(
    net: nn.Module, x: Tensor, layer: str | None = None, statistics: str = "running"
) -> Tensor:
    """Post-activation values of the penultimate layer, N x d, for network inputs x (eval mode).

    layer, statistics: as in `penultimate`.
    """
    return penultimate(net, x, layer, statistics=statistics)[0]


def feeding(net: nn.Module) -> nn.Linear | nn.Conv2d:
    """The last linear layer or convolution before the classifier, in module order.

    Its rows or filters are the penultimate neurons of the models here. Raises ValueError for a
    network of a single layer.
    """
    last = classifier(net)
    with_weights = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    before = with_weights[: with_weights.index(last)]
    if not before:
        raise ValueError("the model has one layer only: no neurons come before its classifier")
    return before[-1]


def penultimate(
    net: nn.Module,
    x: Tensor,
    layer: str | None = None,
    gradients: bool = False,
    statistics: str = "running",
) -> tuple[Tensor, Tensor]:
    """Representation (N x d, input of the last linear layer) and logits (N x K), in eval mode.

    x are network inputs, already standardised. layer: dotted module name of the linear layer whose
    input is the representation, where it is not the last one; more than two dimensions are
    flattened to N x d. One forward pass; the model is left in the mode it was in. gradients:
    whether gradients can be taken of what comes back, where they are enabled. statistics: of batch
    normalisation, 'running', or 'batch', those of fixed batches of 100. Raises ValueError for a
    layer that is absent, not linear or not used, for one sample with batch statistics, and for
    running statistics that a layer does not keep.
    """
    seen: list[Tensor] = []
    hook = classifier(net, layer).register_forward_pre_hook(
        lambda module, args, named: seen.append(args[0] if args else named["input"]),
        with_kwargs=True,
    )

    def both(some: Tensor) -> tuple[Tensor, Tensor]:
        logits = net(as_taken(net, some))
        if not seen:
            which = "the model's last nn.Linear layer" if layer is None else f"layer {layer!r}"
            raise ValueError(
                f"{which} is not called in its forward pass; name another one: layer='...'"
            )
        return seen[-1].flatten(1), logits

    try:
        with (
            torch.set_grad_enabled(gradients),
            evaluating(net, statistics) as by_batch,
            matmul_precision("fp32", x.device),
        ):
            if not by_batch:
                return both(x)
            parts = batches(len(x))
            z, logits = map(torch.cat, zip(*(both(x[part]) for part in parts), strict=True))
            order = torch.cat(parts).argsort().to(x.device)
            return z[order], logits[order]
    finally:
        hook.remove()


def pass_size(input_shape: Iterable[int], most: int = BATCH) -> int:
    """Samples a forward pass without gradient: at most `most`, fewer where images are large.

    2^24 input values a pass: 111 images of 224 x 224, whose maps take some hundred MB.
    """
    return max(1, min(most, 2**24 // math.prod(input_shape)))


def predict(net: nn.Module, split: Split, statistics: str = "running") -> Tensor:
    """Logits (N x K) of all samples of a split, in eval mode; both on one device.

    statistics: of batch normalisation, 'running', or 'batch', those of fixed batches of 100.
    Raises ValueError for inputs that the model does not take.
    """
    with evaluating(net, statistics) as by_batch, torch.no_grad():
        logits = lambda parts: [_logits(net, x) for x in split.batches(parts)]  # noqa: E731
        if by_batch:
            return in_batches(logits, len(split))
        return torch.cat(logits(torch.arange(len(split)).split(pass_size(split.x.shape[1:]))))


def check(net: nn.Module, dataset: BiasedDataset) -> None:
    """One forward pass of two samples: a model that does not fit the data is a ValueError."""
    if not isinstance(net, nn.Module):
        raise ValueError(f"the model must be an nn.Module, found {type(net).__name__}")
    device = next(net.parameters()).device
    x = dataset.train.inputs(dataset.train.x[:2]).to(device)
    with modes_kept(net), torch.no_grad():
        logits = _logits(net.eval(), x)
    if logits.shape != (len(x), dataset.n_classes):
        raise ValueError(
            f"the model returns shape {tuple(logits.shape)} for {len(x)} samples, expected "
            f"{(len(x), dataset.n_classes)}: one logit a class"
        )


def _logits(net: nn.Module, x: Tensor) -> Tensor:
    """Of network inputs, in the mode that the network is in."""
    with input_errors(x), matmul_precision("fp32", x.device):
        return net(as_taken(net, x))
