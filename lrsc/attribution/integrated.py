"""Integrated Gradients, and how far attributions are from what they should sum to."""

import numpy as np
import torch
from torch import Tensor, nn

from lrsc.attribution.checks import inputs, labels, logits
from lrsc.attribution.fast import prepared
from lrsc.models import modes_kept

# points on paths that go through the network at a time with gradient, for inputs of so many values;
# larger inputs: fewer in proportion, as their maps are (benchmarks/attribution.py)
BATCH, VALUES = 400, 3 * 32 * 32


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int = 50,
    batch: int | None = None,
    baseline: Tensor | None = None,
) -> Tensor:
    """Integrated Gradients of the logits of labels y, signed, of the shape of network inputs x.

    (x - b) times the mean gradient on the straight path from the baseline b to x; their sum over a
    sample is the logit at x minus that at b. steps: points of the Gauss-Legendre rule (captum's
    default). batch: points in memory at a time; None: 400 up to 32 x 32 pixels in colour, and fewer
    of larger inputs. baseline: broadcastable to x; None is 0, the mean image of standardised
    inputs. In eval mode; modes, gradients and weights stay as they were. Under torch.autocast the
    network runs in half precision.
    Raises ValueError for inputs that the model does not take and labels that it has no logit for.
    Sundararajan et al. 2017.
    """
    inputs(x, baseline, steps=steps, **({} if batch is None else {"batch": batch}))
    y = labels(model, x, y)
    return path_integral(model, x, y, steps, batch, baseline)


def path_integral(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int = 50,
    batch: int | None = None,
    baseline: Tensor | None = None,
) -> Tensor:
    """`integrated_gradients` of labels known to be right: no host synchronisation."""
    batch = batch or _batch(x)
    samples = max(1, batch // steps)
    points = max(1, batch // samples)
    found = []
    # also where the caller has switched gradients off
    with torch.inference_mode(False), torch.enable_grad(), modes_kept(model):
        parts, y = prepared(model.eval(), x), y.clone()  # labels made in inference mode
        start = torch.zeros((), device=x.device) if baseline is None else baseline.detach()
        start = start.to(x).expand_as(x)
        rule = [part.split(points) for part in _gauss_legendre(steps, x)]
        for first in range(0, len(x), samples):
            some = slice(first, first + samples)
            at = x[some].detach().clone().requires_grad_()
            net, offset, slope = parts.on_the_way(start[some], at)
            mean = torch.zeros_like(slope)
            for places, weights in zip(*rule, strict=True):
                mean += _weighted(net, offset, slope.detach(), places, weights, y[some])
            found.append(torch.autograd.grad(slope, at, mean)[0] * (at.detach() - start[some]))
    return torch.cat(found)


@torch.no_grad()
def completeness_error(
    model: nn.Module, x: Tensor, y: Tensor, a: Tensor, baseline: Tensor | None = None
) -> Tensor:
    """|sum of attributions - (logit at x - logit at baseline)| of each sample: N values.

    In units of a logit. Complete methods (`integrated_gradients`, `deeplift`) have 0 up to
    quadrature and roundoff. Sundararajan et al. 2017, axiom of completeness.
    """
    inputs(x, baseline)
    y = labels(model, x, y)
    start = torch.zeros_like(x) if baseline is None else baseline.to(x).expand_as(x)
    with modes_kept(model):
        model.eval()
        sizes = torch.arange(len(x)).split(_batch(x))
        ends = [torch.cat([logits(model, v[some]) for some in sizes]) for v in (x, start)]
    at, away = (end.double().gather(1, y[:, None])[:, 0] for end in ends)
    return (a.double().flatten(1).sum(1) - (at - away)).abs()


def _batch(x: Tensor) -> int:
    return max(1, min(BATCH, BATCH * VALUES // max(1, x[:1].numel())))


def _weighted(
    net: nn.Module, offset: Tensor, slope: Tensor, places: Tensor, weights: Tensor, y: Tensor
) -> Tensor:
    """Sum over points of weight x gradient of the logits of labels y at offset + place x slope."""
    slope = slope.requires_grad_()
    shape = (len(places), *(1 for _ in slope.shape))
    found = logits(net, (offset + places.view(shape) * slope).flatten(0, 1))
    if not found.requires_grad:
        raise ValueError(
            "the model's logits have no gradient: its forward pass must not run under "
            "torch.no_grad() or detach its inputs"
        )
    # the derivative with respect to the slope has the place as a factor
    ours = found.view(len(places), len(y), -1).gather(2, y.expand(len(places), -1)[..., None])
    return torch.autograd.grad((ours[..., 0] * (weights / places)[:, None]).sum(), slope)[0]


def _gauss_legendre(steps: int, x: Tensor) -> Tensor:
    """Places in (0, 1), and weights that sum to 1, on x's device: 2 x steps."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    rule = torch.tensor(np.stack([places / 2 + 0.5, weights / 2]), dtype=x.dtype)
    return rule.to(x.device, non_blocking=True)
