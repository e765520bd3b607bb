"""DeepLIFT (Shrikumar et al. 2017): contributions to the difference from a reference, by one pass.

The sample and its reference go through the network together. Where a layer is linear, multipliers
are its gradients; an activation has the rescale rule, out difference / in difference; max pooling
hands a window's difference to the largest place of the sample and that of the reference, as SHAP
does (Lundberg and Lee 2017), so that windows may overlap. Each call of a module keeps its own
values: modules that are used twice or work in place, as torchvision's ReLUs do, need no change.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lrsc.attribution.checks import inputs, labels
from lrsc.models import as_taken, copied, input_errors, logits_of

BATCH = 100  # samples that go through the network at a time, with as many references
NEAR = 1e-6  # in-difference below which an activation's multiplier is its gradient

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus,
    nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
)  # fmt: skip
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


def deeplift(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    batch: int = BATCH,
    baseline: Tensor | None = None,
) -> Tensor:
    """DeepLIFT, rescale rule, of the logits of labels y: signed, of the shape of network inputs x.

    A sample's values sum to its logit at x minus that at the baseline if everything non-linear in
    the network is a module in ACTIVATIONS or POOLS. Elsewhere (functions such as F.relu, attention,
    LayerNorm) multipliers are gradients, and `completeness_error` tells what is missing. batch,
    baseline: as in `integrated_gradients`; this takes a fiftieth of its time. In eval mode; the
    model is left as it was. Raises ValueError as `integrated_gradients` does.
    """
    inputs(x, baseline, batch=batch)
    batch = int(batch)
    net = _with_rules(model)
    y = labels(net, x, y)
    parts = []
    with torch.inference_mode(False), torch.enable_grad():
        start = torch.zeros((), device=x.device) if baseline is None else baseline.detach()
        start = start.to(x).expand_as(x)
        for some in torch.arange(len(x)).split(batch):
            at, away = x[some].detach(), start[some]
            both = torch.cat([at, away]).requires_grad_()
            with input_errors(x):
                logits = logits_of(net(as_taken(net, both.clone())))[: len(at)]
            (multiplier,) = torch.autograd.grad(logits.gather(1, y[some, None]).sum(), both)
            parts.append(multiplier[: len(at)] * (at - away))
    return torch.cat(parts)


def _with_rules(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose activations and max pools have DeepLIFT's rules."""
    net = copied(model).eval().requires_grad_(False)
    if isinstance(net, (*ACTIVATIONS, *POOLS)):
        return _Ruled(net)
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if isinstance(module, (*ACTIVATIONS, *POOLS)):
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, _Ruled(module))
    return net


class _Ruled(nn.Module):
    """A module whose backward pass has the rule of its kind."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        if hasattr(module, "inplace"):
            module.__dict__["inplace"] = False  # the values before it are needed

    def forward(self, x: Tensor) -> Tensor:
        return _Rule.apply(x, self.module).clone()  # what follows may change it in place


class _Rule(torch.autograd.Function):
    """A module's outputs; backwards, its multipliers for the samples, none for the references."""

    @staticmethod
    def forward(ctx, x: Tensor, module: nn.Module) -> Tensor:
        y = module(x)
        ctx.module = module
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g: Tensor):
        x, y = ctx.saved_tensors
        at, away = x.chunk(2)
        difference = at - away
        near = difference.abs() < NEAR
        apart = torch.where(near, 1.0, difference)
        g = (_of_pool if isinstance(ctx.module, POOLS) else _of_activation)(
            ctx.module, x, y, g.chunk(2)[0], near, apart
        )
        return torch.cat([g, torch.zeros_like(g)]), None


def _of_activation(function, x: Tensor, y: Tensor, g: Tensor, near: Tensor, apart: Tensor):
    """The rescale rule: out difference / in difference."""
    out, reference = y.chunk(2)
    multiplier = torch.where(near, _slope(function, x.chunk(2)[0]), (out - reference) / apart)
    return g * multiplier


def _of_pool(pool, x: Tensor, y: Tensor, g: Tensor, near: Tensor, apart: Tensor):
    """A window's difference, to the largest place of the sample and that of the reference."""
    out, reference = y.chunk(2)
    larger = torch.maximum(out, reference)
    given = torch.cat([g * (larger - reference), g * (out - larger)])
    ours, theirs = _slope(pool, x, given).chunk(2)
    return torch.where(near, 0.0, (ours + theirs) / apart)


def _slope(function: Callable[[Tensor], Tensor], x: Tensor, given: Tensor | None = None) -> Tensor:
    """The usual gradient of a function at x, times what is given for its outputs."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
    return torch.autograd.grad(y, x, torch.ones_like(y) if given is None else given)[0]
