"""Losses of a classifier, and the gradients of L1 and L2 penalties of its parameters."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F


def classification(logits: Tensor, y: Tensor, focal_gamma: float = 0.0) -> Tensor:
    """Focal loss (1 - p_y)^gamma * (-log p_y) of each sample, in nat; gamma 0 is cross-entropy.

    logits: N x K, half precision is computed in float32; y: N classes. Returns N values. Loss and
    gradient are finite for any finite logits, even at p_y = 1. Raises ValueError for a negative
    gamma. Lin et al. 2017, equation 4, with softmax probabilities.
    """
    if not focal_gamma >= 0:
        raise ValueError(f"focal_gamma must be a number >= 0, found {focal_gamma!r}")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    entropy = F.cross_entropy(logits, y, reduction="none")
    if focal_gamma == 0:
        return entropy
    # 1 - p from the logarithm, without cancellation; at 0 its power has no finite slope
    rest = -torch.expm1(-entropy.clamp_min(torch.finfo(entropy.dtype).tiny))
    return rest**focal_gamma * entropy


@torch.no_grad()
def add_penalty_gradients(parameters: Iterable[Tensor], l1: float, l2: float) -> None:
    """Add the gradient of l1 * sum |w| + l2 / 2 * sum w^2 to every parameter's .grad.

    The subgradient of |w| at 0 is 0. Parameters without a gradient are skipped, as in torch's
    optimisers.
    """
    weights = [w for w in parameters if w.grad is not None]
    gradients = [w.grad for w in weights if w.grad is not None]
    if weights and l1:
        torch._foreach_add_(gradients, torch._foreach_sign(weights), alpha=l1)
    if weights and l2:
        torch._foreach_add_(gradients, weights, alpha=l2)
