"""One update of a network: loss, gradients and optimiser as the config says."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrsc import losses, optimizers
from lrsc.config import TrainConfig
from lrsc.models import logits_of

Step = Callable[[Tensor, Tensor, Callable[[], None] | None], Tensor]
Gradients = Callable[[Tensor, Tensor], Tensor]
Zeros = Sequence[tuple[nn.Parameter, Tensor]]


def step(
    net: nn.Module,
    parallel: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    zeros: Zeros = (),
) -> Step:
    """step(inputs, y, look) -> logits before the update (detached, not in half precision).

    parallel: the network as it is called, which is the network itself in a single process. look,
    where it is given, is called before the update, when every parameter has its gradient. zeros:
    parameters and where they stay 0: without gradient there, neither momentum nor Adam moves them.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    whole = _gradients(parallel, optimizer, config)

    def gradients(x: Tensor, y: Tensor) -> Tensor:
        logits = whole(x, y)
        for p, zero in zeros:
            if p.grad is not None:
                p.grad.masked_fill_(zero, 0)
        return logits

    rho = config.asam_rho or config.sam_rho
    sharpness = optimizers.SharpnessAware(parameters, rho, bool(config.asam_rho)) if rho else None
    penalised = config.l1 > 0 or config.l2 > 0

    def take(x: Tensor, y: Tensor, look: Callable[[], None] | None = None) -> Tensor:
        # what works in place is not to change what the second pass is given
        logits = gradients(x if sharpness is None else x.clone(), y)
        if penalised:
            losses.add_penalty_gradients(parameters, config.l1, config.l2)
        if sharpness is not None:
            sharpness.ascend()
            with optimizers.frozen_statistics(net):
                gradients(x, y)
            if penalised:
                losses.add_penalty_gradients(parameters, config.l1, config.l2)
            sharpness.restore()
        if look is not None:
            look()
        optimizer.step()
        return logits

    return take


def zeros(net: nn.Module) -> Zeros:
    """Parameters with zeros that pruning may have set, and where: weights, and the biases beside
    outputs whose weights are all 0."""
    found = [(p, p.detach() == 0) for p in net.parameters() if p.dim() > 1]
    for module in net.modules():
        weight, bias = (module._parameters.get(name) for name in ("weight", "bias"))
        if weight is None or bias is None or weight.dim() < 2 or len(bias) != len(weight):
            continue
        found.append((bias, (bias.detach() == 0) & (weight.detach() == 0).flatten(1).all(1)))
    return [(p, zero) for p, zero in found if zero.any()]


def _gradients(
    net: nn.Module, optimizer, config: TrainConfig
) -> Callable[[Tensor, Tensor], Tensor]:
    """Gradients of the batch's mean loss; a batch in parts adds up those of the parts."""
    half, double = config.precision == "bf16", config.precision == "fp64"
    # several processes exchange gradients with the batch's last part
    alone: Any = getattr(net, "no_sync", contextlib.nullcontext)

    def forward(x: Tensor) -> Tensor:
        if not half:
            return logits_of(net(x.double() if double else x))
        # no cache: it would live as long as an autocast that the caller is in
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            return logits_of(net(x)).float()

    def whole(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        logits = forward(x)
        if config.focal_gamma:
            loss = losses.classification(logits, y, config.focal_gamma).mean()
        else:
            loss = F.cross_entropy(logits, y)
        loss.backward()
        return logits.detach()

    def parts(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        found = []
        pieces = x.chunk(config.accumulation)
        for i, (some, labels) in enumerate(zip(pieces, y.split(len(pieces[0])), strict=True)):
            with alone() if i < len(pieces) - 1 else contextlib.nullcontext():
                logits = forward(some)
                loss = losses.classification(logits, labels, config.focal_gamma).sum() / len(y)
                loss.backward()
            found.append(logits.detach())
        return torch.cat(found)

    return whole if config.accumulation == 1 else parts
