"""Models of the paper, by name, and the representation that the metrics look at."""

import contextlib
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from lrsc.config import STATISTICS
from lrsc.datasets import BiasedDataset, Split, imports
from lrsc.errors import check_names, is_whole, shown, unknown
from lrsc.models import own
from lrsc.models.architectures import BUILDERS, MOST
from lrsc.models.calls import (
    as_taken,
    check_training,
    copied,
    input_errors,
    is_out_of_memory,
    logits,
    logits_of,
    not_nan,
    same_with_channels_last,
)
from lrsc.models.convolution import SmallMapConv2d
from lrsc.models.normalisation import (
    alone,
    batch_norms,
    batches,
    check_statistics,
    evaluating,
    in_batches,
    modes_kept,
    recalibrate,
    recalibration,
    settled,
    with_statistics_of,
)
from lrsc.models.parts import (
    Layer,
    are_logits,
    classifier,
    classifier_name,
    feeding,
    find,
    hand_on,
    layers,
    look_again,
)
from lrsc.models.precision import matmul_precision, with_gradients
from lrsc.models.stacking import Stack, linear_layers, unbind

# raised when the code changes what a seed trains; and those of models that users register
VERSIONS = {
    "fcn": 1, "cnn": 1, "resnet18": 1, "resnet50": 1, "wide_resnet101_2": 1, "swin_t": 1,
}  # fmt: skip
NORMALISED = ("resnet18", "resnet50", "wide_resnet101_2")  # those with batch normalisation
_OURS = frozenset(BUILDERS)
FACTORIES: dict[str, Callable[..., nn.Module]] = {}  # that users have registered
BATCH = 500  # samples a forward pass without gradient

_FCN_HIDDEN = {  # where it is not the default
    "parity": (200, 200),
    "moon_star": (200, 200),
    "mnist_cifar": (2048, 2048),
    "corrupted_cifar10": (2048, 2048),
}


def register_model(name: str, factory: Callable[..., nn.Module], version: int = 1) -> None:
    """Give your own model a name, which then works wherever the library's names do.

    factory: a function of input_shape ((C, H, W) or (d,)), n_classes and options with defaults that
    returns a new nn.Module. It may leave out what it does not need and may call n_classes
    num_classes, the name by which a factory that takes any **options receives it. Weights must come
    from torch's current generator, as those of torch's layers do. version: a whole number >= 1,
    part of every run's name: raise it when the code changes. Other processes import the factory, so
    it must be in a module if they are to train. An import path, package.module:function, does the
    same without registration (its version is the module's VERSION, or 1 if it has none).
    Registering a name again replaces it. Raises ValueError for a library name, and for a factory
    with further arguments without default.
    """
    imports.check_new("model", name, factory, _OURS)
    _register(name, factory, imports.check_version(version))


def _register(name: str, factory: Callable[..., nn.Module], version: int) -> None:
    BUILDERS[name] = own.entry(name, factory)
    VERSIONS[name] = version
    FACTORIES[name] = factory


def check_name(name: str) -> None:
    """Raise ValueError unless it is a model's name or an import path, which is imported here."""
    if imports.is_path(name) and name not in BUILDERS:
        factory = imports.found("model", name)
        _register(name, factory, imports.version(factory))
    if not isinstance(name, str) or name not in BUILDERS:
        raise ValueError(f"{unknown('model', name, BUILDERS)}{imports.own('model')}")


def is_ours(name: str) -> bool:
    """Whether a name is one of the library's."""
    return name in _OURS


def is_own(name: object) -> bool:
    """Whether a name was registered in this process or is an import path."""
    return isinstance(name, str) and name not in _OURS and (":" in name or name in BUILDERS)


def build(name: str, input_shape: tuple[int, ...], n_classes: int, **options) -> nn.Module:
    """A model by name for inputs of `input_shape` (C, H, W) or (d,), without the batch axis.

    fcn: ReLU, no biases, torch's default initialisation; option hidden=(1024, 1024).
    cnn: VGG11's convolutions, global average pool, one linear layer; no biases, no batch norm;
    images of at least 16 pixels per side, without the first pool below 32.
    resnet18, resnet50, wide_resnet101_2, swin_t: torchvision's, with a first convolution for C
    channels and a head for n_classes; swin_t takes at least 4 pixels per side. Option weights: None
    is random; 'imagenet' torchvision's IMAGENET1K_V1, for 3 channels, read from torch.hub's folder
    or `weights` in the data root and never downloaded; or the path of a state_dict file, which then
    enters the run's name. A head whose number of classes is not the file's is random. The ResNets'
    option init, 'torchvision' or 'torch', is how their convolutions are initialised.

    Random weights come from torch's current generator. Raises ValueError for an unknown name or
    option, an empty, non-positive or too small shape, fewer than two classes, and weights that are
    absent (DataMissing), damaged or of another model.
    """
    check_name(name)
    builder, defaults = BUILDERS[name]
    check_options(name, options)
    sizes = list(input_shape) if isinstance(input_shape, list | tuple) else []
    if not sizes or any(not is_whole(n, 1) or n > MOST for n in sizes):
        raise ValueError(f"input_shape must hold sizes >= 1, found {shown(input_shape)}")
    if not is_whole(n_classes, 2) or n_classes > MOST:
        raise ValueError(
            f"n_classes must be >= 2, a whole number at most {MOST}, found {shown(n_classes)}"
        )
    return builder(tuple(map(int, sizes)), int(n_classes), **(defaults | options))


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise ValueError for an option that a model does not take; with **options it takes any."""
    if name not in FACTORIES or not imports.takes_any(FACTORIES[name]):
        check_names(f"option of model {name!r}", options, BUILDERS[name][1])


def options_for(name: str, dataset: str) -> dict:
    """The options that the paper uses for this model on this data set (widths of the FCN)."""
    check_name(name)
    return {"hidden": _FCN_HIDDEN[dataset]} if name == "fcn" and dataset in _FCN_HIDDEN else {}


@torch.no_grad()
def evaluate(net: nn.Module, x: Tensor, statistics: str = "running") -> Tensor:
    """Logits of network inputs x in eval mode, without TF32; modes are left as they were.

    statistics: of batch normalisation (lrsc.models.normalisation), 'running' or 'batch'.
    """
    with evaluating(net, statistics) as by_batch, matmul_precision("fp32", x.device):
        if by_batch:
            return in_batches(lambda parts: [logits(net, x[p]) for p in parts], len(x))
        return logits(net, x.clone())  # what works in place is not to change the caller's


def representation(
    net: nn.Module, x: Tensor, layer: str | None = None, statistics: str = "running"
) -> Tensor:
    """Post-activation values of the penultimate layer, N x d, for network inputs x (eval mode).

    layer, statistics: as in `penultimate`.
    """
    return penultimate(net, x, layer, statistics=statistics)[0]


def penultimate(
    net: nn.Module,
    x: Tensor,
    layer: str | None = None,
    gradients: bool = False,
    statistics: str = "running",
) -> tuple[Tensor, Tensor]:
    """Representation (N x d, input of the classifier) and logits (N x K), in eval mode.

    x are network inputs, already standardised. layer: dotted module name of the layer whose input
    is the representation, if that is not the one that returns the logits (lrsc.models.parts);
    more than two dimensions are flattened to N x d. Takes one forward pass, preceded by one of 8
    samples if the classifier is not yet known; the model stays in its mode. gradients: whether the
    result can be differentiated, where gradients are enabled. statistics: of batch normalisation,
    'running', or 'batch', those of fixed batches of 100. Raises ValueError for a layer that is
    absent, without weights or not used, where no layer returns the logits, for one sample with
    batch statistics, and for running statistics that a layer does not keep.
    """
    net = getattr(net, "_orig_mod", net)  # of torch.compile, whose layers are not called
    with alone(net):
        return _penultimate(net, x, layer, gradients, statistics)


def _penultimate(
    net: nn.Module, x: Tensor, layer: str | None, gradients: bool, statistics: str
) -> tuple[Tensor, Tensor]:
    """`penultimate`, with no other thread at this network."""
    seen: list[tuple[Tensor, Tensor]] = []  # inputs and outputs of the classifier's calls
    last = classifier(net, layer, x)
    hook = last.register_forward_hook(
        lambda module, args, named, out: seen.append(((*args, *named.values())[0], out)),
        with_kwargs=True,
    )

    def both(some: Tensor) -> tuple[Tensor, Tensor]:
        found = logits(net, some)
        if not seen:
            raise ValueError(
                f"layer {layer!r} is not called in the model's forward pass; name another one"
            )
        z = seen[-1][0]
        if len(seen) > 1:  # a comparison waits for the device
            told = [z for z, out in seen if isinstance(out, Tensor) and are_logits(out, found)]
            z = told[-1] if told else z
        seen.clear()
        return z.flatten(1), found

    try:
        with (
            torch.set_grad_enabled(gradients),
            evaluating(net, statistics) as by_batch,
            matmul_precision("fp32", x.device),
        ):
            if not by_batch:
                return both(x.clone())  # a network may work in place
            parts = batches(len(x))
            z, found = map(torch.cat, zip(*(both(x[part]) for part in parts), strict=True))
            order = torch.cat(parts).argsort().to(x.device)
            return z[order], found[order]
    finally:
        hook.remove()


def pass_size(input_shape: Iterable[int], most: int = BATCH) -> int:
    """Samples per forward pass without gradient: at most `most`, fewer if images are large.

    2^24 input values per pass: 111 images of 224 x 224, whose feature maps take some hundred MB.
    """
    return max(1, min(most, 2**24 // math.prod(input_shape)))


def predict(net: nn.Module, split: Split, statistics: str = "running") -> Tensor:
    """Logits (N x K) of all samples of a split, in eval mode; model and split are on one device.

    statistics: of batch normalisation, 'running', or 'batch', those of fixed batches of 100.
    Raises ValueError for inputs that the model does not take.
    """
    with evaluating(net, statistics) as by_batch, torch.no_grad():
        found = lambda parts: [_logits(net, x) for x in split.batches(parts)]  # noqa: E731
        if by_batch:
            return in_batches(found, len(split))
        return torch.cat(found(torch.arange(len(split)).split(pass_size(split.x.shape[1:]))))


def check(net: nn.Module, dataset: BiasedDataset, batch: int | None = None) -> None:
    """Run a forward pass of two samples; ValueError if the model does not fit the data.

    batch: use this many samples, and add a pass in training mode; for a network that is not needed
    afterwards.
    """
    if not isinstance(net, nn.Module):
        raise ValueError(f"the model must be an nn.Module, found {type(net).__name__}")
    first = next(net.parameters(), None)
    if first is None:
        raise ValueError(f"the model {type(net).__name__} has no parameters")
    x = dataset.train.inputs(dataset.train.x[: 2 if batch is None else batch]).to(first.device)
    with modes_kept(net), torch.no_grad():
        found = _logits(net.eval(), x)
        with contextlib.suppress(ValueError):  # then it has to be named where it is needed
            classifier_name(net, None, x)
        if batch is not None:
            check_training(net, x)
    if found.shape != (len(x), dataset.n_classes):
        raise ValueError(
            f"the model returns shape {tuple(found.shape)} for {len(x)} samples, expected "
            f"{(len(x), dataset.n_classes)}: one logit a class"
        )


def _logits(net: nn.Module, x: Tensor) -> Tensor:
    """Of network inputs, in the mode that the network is in."""
    with input_errors(x), matmul_precision("fp32", x.device):
        return logits(net, x)
