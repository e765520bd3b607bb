"""Models of the paper, by name, and the representation that the metrics look at."""

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lrsc.datasets import BiasedDataset, Split
from lrsc.errors import check_names

VERSIONS = {"fcn": 1, "resnet18": 1}  # raised when the code changes what a seed trains
BATCH = 500  # samples a forward pass without gradient


def build(name: str, input_shape: tuple[int, ...], n_classes: int, **options) -> nn.Module:
    """A model by name for inputs of `input_shape` (C, H, W) or (d,), without the batch axis.

    fcn: ReLU, no biases, torch's default initialisation; option hidden=(1024, 1024).
    resnet18: torchvision's, random weights, with a first convolution for C channels and a head
    for n_classes. Weights come from torch's current generator. Raises ValueError for an unknown
    name or option, an empty or non-positive shape, or fewer than two classes. SPEC section 3.
    """
    check_names("model", [name], BUILDERS)
    builder, defaults = BUILDERS[name]
    check_names(f"option of model {name!r}", options, defaults)
    if not input_shape or any(int(n) < 1 for n in input_shape):
        raise ValueError(f"input_shape must hold sizes >= 1, found {tuple(input_shape)!r}")
    if n_classes < 2:
        raise ValueError(f"n_classes must be >= 2, found {n_classes!r}")
    return builder(tuple(input_shape), n_classes, **(defaults | options))


def options_for(name: str, dataset: str) -> dict:
    """The options that the paper uses for this model on this data set (widths of the FCN)."""
    check_names("model", [name], BUILDERS)
    return {"hidden": (200, 200)} if name == "fcn" and dataset == "parity" else {}


def classifier(model: nn.Module) -> nn.Linear:
    """The last linear layer in module order; ValueError if there is none."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ValueError("the model has no nn.Linear layer: its classifier cannot be found")
    return layers[-1]


@torch.no_grad()
def evaluate(net: nn.Module, x: Tensor) -> Tensor:
    """Logits of network inputs x in eval mode; the model is left in the mode it was in."""
    was_training = net.training
    net.eval()
    try:
        return net(x)
    finally:
        net.train(was_training)


def penultimate(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Representation (N x d, input of the last linear layer) and logits (N x K), in eval mode.

    x are network inputs, already standardised. One forward pass; the model is left in the mode
    it was in. SPEC section 3.
    """
    seen: list[Tensor] = []
    hook = classifier(net).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        logits = evaluate(net, x)
    finally:
        hook.remove()
    if not seen:
        raise ValueError("the model's last nn.Linear layer is not used in its forward pass")
    return seen[-1].flatten(1), logits


def predict(net: nn.Module, split: Split) -> Tensor:
    """Logits (N x K) of all samples of a split, in eval mode; both on one device.

    Raises ValueError for inputs that the model does not take.
    """
    order = torch.arange(len(split)).split(BATCH)
    return torch.cat([_logits(net, x) for x in split.batches(order)])


def check(net: nn.Module, dataset: BiasedDataset) -> None:
    """One forward pass of two samples: a model that does not fit the data is a ValueError."""
    if not isinstance(net, nn.Module):
        raise ValueError(f"the model must be an nn.Module, found {type(net).__name__}")
    device = next(net.parameters()).device
    x = dataset.train.inputs(dataset.train.x[:2].to(device))
    logits = _logits(net, x)
    if logits.shape != (len(x), dataset.n_classes):
        raise ValueError(
            f"the model returns shape {tuple(logits.shape)} for {len(x)} samples, expected "
            f"{(len(x), dataset.n_classes)}: one logit a class"
        )


def _logits(net: nn.Module, x: Tensor) -> Tensor:
    try:
        return evaluate(net, x)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"the model does not take inputs of shape {tuple(x.shape[1:])}: {error}"
        ) from error


def representation(net: nn.Module, x: Tensor) -> Tensor:
    """Post-activation values of the penultimate layer, N x d, for network inputs x (eval mode)."""
    return penultimate(net, x)[0]


def _fcn(input_shape: tuple[int, ...], n_classes: int, hidden) -> nn.Module:
    if not hidden or any(not isinstance(n, int) or n < 1 for n in hidden):
        raise ValueError(f"hidden must list widths >= 1, as in (1024, 1024), found {hidden!r}")
    widths = [math.prod(input_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for wide, narrow in itertools.pairwise(widths):
        layers += [nn.Linear(wide, narrow, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_classes, bias=False))


def _resnet18(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    import torchvision

    if len(input_shape) != 3:
        raise ValueError(
            f"resnet18 takes images (C, H, W), found shape {input_shape}; use model 'fcn'"
        )
    net = torchvision.models.resnet18(weights=None, num_classes=n_classes)
    if input_shape[0] != 3:
        net.conv1 = nn.Conv2d(input_shape[0], 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    for module in net.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = SmallMapConv2d  # same parameters, same state_dict
    return net


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d that multiplies on the CPU only with the weights that meet its input.

    On maps that the kernel covers from every output place (2 x 2 and 1 x 1 in ResNet18's last
    stages, for inputs of 28 x 28) most taps of a 3 x 3 kernel see padding only: what is left is
    one matrix product. Equal to nn.Conv2d up to roundoff; benchmarks/train_step.py has the gain.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.dim() != 4 or self.groups != 1:
            return super().forward(x)
        h, w = x.shape[2:]
        rows, columns = self._starts(0, h), self._starts(1, w)
        if not 0 < len(rows) * len(columns) * h * w <= 2 * self.weight[0, 0].numel():
            return super().forward(x)
        seen = [self.weight[:, :, i : i + h, j : j + w] for i in rows for j in columns]
        matrix = torch.stack(seen, 1).flatten(2).flatten(0, 1)
        y = (x.flatten(1) @ matrix.T).view(-1, self.out_channels, len(rows), len(columns))
        return y if self.bias is None else y + self.bias[:, None, None]

    def _starts(self, axis: int, size: int) -> list[int]:
        """Where in the kernel the map begins, for each output place; empty if it is not covered."""
        if isinstance(self.padding, str) or self.padding_mode != "zeros" or self.dilation[axis] > 1:
            return []
        padding, stride, kernel = self.padding[axis], self.stride[axis], self.kernel_size[axis]
        places = (size + 2 * padding - kernel) // stride + 1
        starts = [padding - place * stride for place in range(places)]
        return starts if all(0 <= start <= kernel - size for start in starts) else []


BUILDERS: Mapping[str, tuple] = {
    "fcn": (_fcn, {"hidden": (1024, 1024)}),
    "resnet18": (_resnet18, {}),
}
