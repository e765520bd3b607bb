"""What the functions of this package check alike."""

import torch
from torch import Tensor, nn

from lrsc.errors import is_whole
from lrsc.metrics import checks
from lrsc.models import as_taken, input_errors, logits_of, modes_kept, not_nan


def inputs(x: Tensor, baseline: Tensor | None, **counts: int) -> None:
    """Raise ValueError for network inputs, a baseline or whole numbers >= 1 that are none."""
    checks.tensor("x", x)
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(
            f"x holds {x.dtype} of shape {tuple(x.shape)}, expected the floating-point inputs that "
            "the network sees, N x C x H x W or N x d; use split.inputs(split.x[:n])"
        )
    for name, value in counts.items():
        if not is_whole(value, 1):
            raise ValueError(f"{name} must be a whole number >= 1, found {value!r}")
    if baseline is not None:
        broadcasts("baseline", checks.tensor("baseline", baseline), x, "x")


def labels(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Labels on x's device; ValueError for those that the model has no logit for, and NaN."""
    y = checks.labels("y", y, len(x)).to(x.device)
    with torch.no_grad(), modes_kept(model):
        classes = not_nan(logits(model.eval(), x[:1].clone())).shape[1]
    lowest, highest = torch.stack([y.min(), y.max()]).tolist()
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"y holds labels from {lowest} to {highest}, expected labels from 0 to {classes - 1}: "
            f"the model returns {classes} logits"
        )
    return y


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """N x K; ValueError for inputs that the model does not take and other shapes."""
    with input_errors(x):
        found = logits_of(model(as_taken(model, x)))
    if found.dim() != 2 or len(found) != len(x):
        raise ValueError(
            f"the model returns shape {tuple(found.shape)} for {len(x)} samples, expected "
            f"({len(x)}, classes): one logit a class"
        )
    return found


def broadcasts(name: str, given: Tensor, to: Tensor, other: str) -> None:
    """Raise ValueError for a tensor that does not broadcast to another."""
    try:
        fits = torch.broadcast_shapes(given.shape, to.shape) == to.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {tuple(given.shape)}, expected one that broadcasts to that of "
            f"{other}, {tuple(to.shape)}"
        )
