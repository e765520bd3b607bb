"""Which samples carry the loss: bias-aligned (BA) or bias-conflicting (BC).

losses are per-sample losses >= 0, shape (..., batch); conflicting is bool, of the same shape or
(batch,) for the same samples in every row. One value a row comes back, shape (...), computed
without a host synchronisation. NaN losses give NaN; infinite ones what the quotient gives. Both
raise ValueError for empty input, missing flags and shapes that do not match.
"""

import torch
from torch import Tensor

from lrsc.metrics.checks import tensor


def loss_ratio(losses: Tensor, conflicting: Tensor) -> Tensor:
    """BC loss / total loss, in [0, 1]; 0 where the total is 0."""
    losses, conflicting = _checked(losses, conflicting)
    total = losses.sum(-1)
    return torch.where(total == 0, 0.0, torch.where(conflicting, losses, 0.0).sum(-1) / total)


def loss_entropy(losses: Tensor) -> Tensor:
    """Entropy in nats of each row of losses divided by its sum: 0 to log(batch).

    Low where few samples carry the loss; it needs no bias labels. NaN for a row of zeros. The
    label-free counterpart of `loss_ratio` (fig. 13).
    """
    losses = _losses(losses)
    return torch.special.entr(losses / losses.sum(-1, keepdim=True)).sum(-1)


def _checked(losses: Tensor, conflicting: Tensor | None) -> tuple[Tensor, Tensor]:
    losses = _losses(losses)
    if conflicting is None:
        raise ValueError(
            "conflicting is None, expected a bool a sample (bias label differs from class label); "
            "give bias labels, as in Split(..., bias=...)"
        )
    if tensor("conflicting", conflicting).dtype != torch.bool:
        raise ValueError(f"conflicting holds {conflicting.dtype}, expected bool; use bias != y")
    if conflicting.shape not in (losses.shape, losses.shape[-1:]):
        raise ValueError(
            f"losses have shape {tuple(losses.shape)} and conflicting {tuple(conflicting.shape)}, "
            "expected (..., batch) and the same or (batch,); give losses with reduction='none'"
        )
    return losses, conflicting


def _losses(losses: Tensor) -> Tensor:
    if tensor("losses", losses).dim() == 0:
        raise ValueError(
            "losses has no axis, expected per-sample losses of shape (..., batch); compute them "
            "with reduction='none'"
        )
    return losses if losses.dtype == torch.float64 else losses.float()
