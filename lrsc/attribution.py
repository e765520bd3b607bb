"""Which inputs a network's logits come from: attributions, and what is read off them (SPEC 5).

Attributions are signed and have the shape of the inputs, N x C x H x W or N x d. `entropy` and
`share` look at maps: the sum over channels of an image (of vectors, the features themselves), and
of that the absolute value. Maps that are zero everywhere, or not finite, give NaN.
"""

import numpy as np
import torch
from torch import Tensor, nn

from lrsc.metrics import checks
from lrsc.models import input_errors, modes_kept

BATCH = 100  # points on paths that go through the network at a time, with gradient


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int = 50,
    batch: int = BATCH,
    baseline: Tensor | None = None,
) -> Tensor:
    """Integrated Gradients of the logits of labels y, signed, of the shape of network inputs x.

    (x - b) times the mean gradient on the straight path from the baseline b to x; their sum over a
    sample is the logit at x minus that at b. steps: points of the Gauss-Legendre rule (captum's
    default). batch: points in memory at a time. baseline: broadcastable to x; None is 0, the mean
    image of standardised inputs. In eval mode; modes, gradients and weights stay as they were.
    Raises ValueError for inputs that the model does not take and labels that it has no logit for.
    Sundararajan et al. 2017 (SPEC section 5).
    """
    _check_inputs(x, steps, batch, baseline)
    y = checks.labels("y", y, len(x)).to(x.device)
    with torch.no_grad(), modes_kept(model):
        classes = _logits(model.eval(), x[:1]).shape[1]
    lowest, highest = torch.stack([y.min(), y.max()]).tolist()
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"y holds labels from {lowest} to {highest}, expected labels from 0 to {classes - 1}: "
            f"the model returns {classes} logits"
        )
    return path_integral(model, x, y, steps, batch, baseline)


def path_integral(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int = 50,
    batch: int = BATCH,
    baseline: Tensor | None = None,
) -> Tensor:
    """`integrated_gradients` of labels known to be right: no host synchronisation."""
    samples = max(1, batch // steps)
    points = max(1, batch // samples)
    # also where the caller has switched gradients off
    with torch.inference_mode(False), torch.enable_grad(), modes_kept(model):
        model.eval()
        start = torch.zeros((), device=x.device) if baseline is None else baseline.detach()
        start = start.to(x).expand_as(x)
        way = x.detach() - start
        mean = torch.zeros_like(way)
        rule = [part.split(points) for part in _gauss_legendre(steps, x)]
        for first in range(0, len(x), samples):
            some = slice(first, first + samples)
            for places, weights in zip(*rule, strict=True):
                path = (start[some] + places * way[some]).flatten(0, 1)
                gradient = _gradient(model, path.requires_grad_(), y[some].repeat(len(places)))
                mean[some] += (weights * gradient.view(len(places), *way[some].shape)).sum(0)
        return mean * way


def entropy(a: Tensor) -> Tensor:
    """Entropy in nats of each sample's map divided by its sum: 0 (one place) to log(places).

    a: attributions, N x C x H x W or N x d; N values in a's precision (at least float32). NaN for
    a map of zeros. SPEC section 5.
    """
    return torch.special.entr(_shares(a)).sum(1).to(_precision(a))


def share(a: Tensor, mask: Tensor | None) -> Tensor:
    """Share of each sample's map inside a region, in [0, 1].

    a: attributions, N x C x H x W or N x d; mask: bool, broadcastable to a, the same for all
    channels. N values in a's precision (at least float32). NaN for a map of zeros. Raises
    ValueError for a mask that is missing, not bool or of another shape. SPEC section 5.
    """
    return (_shares(a) * _region(mask, a)).sum(1).to(_precision(a))


def _check_inputs(x: Tensor, steps: int, batch: int, baseline: Tensor | None) -> None:
    checks.tensor("x", x)
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(
            f"x holds {x.dtype} of shape {tuple(x.shape)}, expected the floating-point inputs that "
            "the network sees, N x C x H x W or N x d; use split.inputs(split.x[:n])"
        )
    for name, value in (("steps", steps), ("batch", batch)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number >= 1, found {value!r}")
    if baseline is not None:
        _check_broadcast("baseline", checks.tensor("baseline", baseline), x, "x")


def _check_broadcast(name: str, given: Tensor, to: Tensor, other: str) -> None:
    try:
        fits = torch.broadcast_shapes(given.shape, to.shape) == to.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {tuple(given.shape)}, expected one that broadcasts to that of "
            f"{other}, {tuple(to.shape)}"
        )


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    with input_errors(x):
        logits = model(x)
    if logits.dim() != 2 or len(logits) != len(x):
        raise ValueError(
            f"the model returns shape {tuple(logits.shape)} for {len(x)} samples, expected "
            f"({len(x)}, classes): one logit a class"
        )
    return logits


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each sample's logit of its label with respect to that sample."""
    logits = _logits(model, x)
    if not logits.requires_grad:
        raise ValueError(
            "the model's logits have no gradient: its forward pass must not run under "
            "torch.no_grad() or detach its inputs"
        )
    return torch.autograd.grad(logits.gather(1, y[:, None]).sum(), x)[0]


def _gauss_legendre(steps: int, x: Tensor) -> Tensor:
    """Places in (0, 1), and weights that sum to 1, on x's device: 2 x steps x (1 for each axis)."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    rule = torch.tensor(np.stack([places / 2 + 0.5, weights / 2]), dtype=x.dtype)
    return rule.to(x.device, non_blocking=True).view(2, steps, *(1 for _ in x.shape))


def _shares(a: Tensor) -> Tensor:
    """Maps divided by their sums, N x places, in float64: neither sums nor small maps are lost."""
    checks.tensor("a", a)
    if a.dim() not in (2, 4):
        raise ValueError(
            f"a has shape {tuple(a.shape)}, expected attributions of images, N x C x H x W, or of "
            "vectors, N x d; for one sample take a[None]"
        )
    a = a.double()
    size = (a.sum(1) if a.dim() == 4 else a).abs().flatten(1)
    return size / size.sum(1, keepdim=True)


def _region(mask: Tensor | None, a: Tensor) -> Tensor:
    """The mask without its channel axis, (1 or N) x places."""
    if mask is None:
        raise ValueError(
            "mask is None, expected a bool tensor that broadcasts to the attributions; the split "
            "has no such region: Split(..., core_mask=..., spurious_mask=...)"
        )
    if checks.tensor("mask", mask).dtype != torch.bool:
        raise ValueError(f"mask holds {mask.dtype}, expected bool; use mask > 0")
    _check_broadcast("mask", mask, a, "a")
    mask = mask.to(a.device).reshape((1,) * (a.dim() - mask.dim()) + mask.shape)
    if a.dim() == 2:
        return mask.expand(-1, a.shape[1])
    if mask.shape[1] > 1 and bool((mask != mask[:, :1]).any()):
        raise ValueError(
            "mask differs between channels, expected the same region in all: maps are summed over "
            "channels; use mask.any(1, keepdim=True)"
        )
    return mask[:, 0].expand(-1, *a.shape[2:]).flatten(1)


def _precision(a: Tensor) -> torch.dtype:
    return torch.float64 if a.dtype == torch.float64 else torch.float32
