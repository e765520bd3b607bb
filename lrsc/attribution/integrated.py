"""Integrated Gradients, and how far attributions are from what they should sum to.

The path is captum's. Linear layers that a network begins with run once for each sample here, not
once for each point: on the way from a baseline to a sample their outputs are interpolated. Measured
in benchmarks/attribution.py.
"""

import warnings

import torch
from torch import Tensor, nn

from lrsc.attribution.checks import inputs, labels, logits
from lrsc.models import as_taken, modes_kept

# points on paths that go through the network at a time with gradient, for inputs of so many values;
# larger inputs: fewer in proportion, as their maps are (benchmarks/attribution.py)
BATCH, VALUES = 400, 3 * 32 * 32

LINEAR = (nn.Flatten, nn.Identity, nn.Linear)  # exact types: subclasses may compute something else
CLOSE = 1e-4  # of the largest output: first layers that are off by more stay in the network


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
    sample is the logit at x minus that at b. steps: points of the Gauss-Legendre rule, whose
    weights captum rounds to single precision. batch: points in memory at a time; None: 400 for
    inputs of up to 32 x 32 pixels in colour, fewer for larger ones. baseline: broadcastable to x;
    None is 0, the mean image of standardised inputs. In eval mode; modes, gradients and weights
    stay as they were. Under torch.autocast the network runs in half precision.
    Raises ValueError for inputs that the model does not take and labels that it has no logit for.
    Sundararajan et al. 2017.
    """
    inputs(x, baseline, steps=steps, **({} if batch is None else {"batch": batch}))
    steps, batch = int(steps), None if batch is None else int(batch)
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
    """`integrated_gradients` of labels known to be valid, which are not checked."""
    with warnings.catch_warnings():  # of tqdm, which misses a notebook's widgets
        warnings.filterwarnings("ignore", message="IProgress not found")
        from captum.attr import IntegratedGradients
    batch = batch or _batch(x)
    found = []
    # also where the caller has switched gradients off
    with torch.inference_mode(False), torch.enable_grad(), modes_kept(model):
        first, rest = _apart(model.eval(), x)
        method = IntegratedGradients(
            lambda points, labels: _chosen(rest, points, labels), multiply_by_inputs=False
        )
        start = torch.zeros((), device=x.device) if baseline is None else baseline.detach()
        start, y = start.to(x).expand_as(x), y.clone()  # labels made in inference mode
        for some in torch.arange(len(x)).split(max(1, batch // steps)):
            at, away = x[some].detach().clone().requires_grad_(), start[some].clone()
            reached = first(as_taken(first, at))
            origin = first(as_taken(first, away)).detach()
            mean = method.attribute(
                reached.detach(), origin, additional_forward_args=y[some],
                n_steps=steps, method="gausslegendre", internal_batch_size=batch,
            )  # fmt: skip
            found.append(torch.autograd.grad(reached, at, mean)[0] * (at.detach() - away))
    return torch.cat(found)


@torch.no_grad()
def completeness_error(
    model: nn.Module, x: Tensor, y: Tensor, a: Tensor, baseline: Tensor | None = None
) -> Tensor:
    """|sum of attributions - (logit at x - logit at baseline)| of each sample: N values.

    In units of a logit. 0 for complete methods (`integrated_gradients`, `deeplift`), up to
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


def _chosen(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Logits of labels y."""
    found = logits(net, x.clone())  # an activation that works in place may come first
    if not found.requires_grad:
        raise ValueError(
            "the model's logits have no gradient: its forward pass must not run under "
            "torch.no_grad() or detach its inputs"
        )
    return found.gather(1, y[:, None])[:, 0]


def _apart(net: nn.Module, x: Tensor) -> tuple[nn.Module, nn.Module]:
    """(first, rest), whose logits are rest(first(x)): first has linear layers, or none."""
    nothing = nn.Identity(), net
    if type(net) is not nn.Sequential or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return nothing
    layers = list(net)
    n = next((i for i, layer in enumerate(layers) if not _is_linear(layer)), len(layers))
    first, rest = nn.Sequential(*layers[:n]), nn.Sequential(*layers[n:])
    gains = any(True for _ in first.parameters())
    return (first, rest) if gains and _holds(first, rest, net, x[:1].clone()) else nothing


def _is_linear(layer: nn.Module) -> bool:
    samples_kept = not isinstance(layer, nn.Flatten) or layer.start_dim == 1
    return type(layer) in LINEAR and samples_kept


@torch.no_grad()
def _holds(first: nn.Module, rest: nn.Module, net: nn.Module, x: Tensor) -> bool:
    """Whether values say the same, as hooks and other forward functions change what layers give."""
    start, middle, end = (first(as_taken(first, t * x)) for t in (0, 0.5, 1))
    off = (2 * middle - start - end).abs().max()
    linear = off <= CLOSE * torch.stack([start, end]).abs().max()
    found, expected = rest(end), logits(net, x)
    return bool(linear & ((found - expected).abs().max() <= CLOSE * expected.abs().max()))
