"""Propositions 1 and 2 as things to compute: what scaled spurious logits do to loss and gradients.

Both take one mini-batch with bias-aligned (BA) and bias-conflicting (BC) samples, and a factor
alpha on the logits of the spurious rule.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lrsc.metrics import loss_ratio
from lrsc.metrics.checks import tensor

Numbers = Sequence[float] | np.ndarray | Tensor


def loss_rates(alphas: Numbers, margins: Tensor, conflicting: Tensor) -> dict[str, Tensor]:
    """Proposition 1: losses of a binary predictor that follows the spurious rule.

    Its logits are alpha * margin / 2 for the class that the bias says and the negative for the
    other, so that a sample's logits differ by alpha times its margin. margins: n values > 0;
    conflicting: n bools. Returns, one value an alpha (float64): `ba_loss`, `bc_loss` (means, nat)
    and `loss_ratio`, the BC share of the batch's loss, which tends to 1. Raises ValueError for
    margins that are not positive and batches without either kind.
    """
    margins, scale = tensor("margins", margins).double(), _alphas(alphas)
    if not bool((margins > 0).all()):
        raise ValueError("margins must be > 0: the predictor follows the spurious rule everywhere")
    if bool(conflicting.all()) or not bool(conflicting.any()):
        raise ValueError("conflicting holds one kind only, expected BA and BC samples in the batch")
    towards_bias = scale[:, None] * margins / 2
    logits = torch.stack([towards_bias, -towards_bias], -1)  # class 0 is what the bias says
    y = conflicting.long().expand(len(scale), -1)
    losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
    return {
        "ba_loss": losses[:, ~conflicting].mean(1),
        "bc_loss": losses[:, conflicting].mean(1),
        "loss_ratio": loss_ratio(losses, conflicting),
    }


def gradient_ratios(alphas: Numbers, seed: int = 0, n: int = 100) -> dict[str, Tensor]:
    """Proposition 2: gradient norms in a bias-decomposable network, at each alpha.

    The logits are core(x) + alpha * spurious(x) + remainder(x), each a two-layer ReLU network with
    inputs of its own. The core has converged: its scores are bounded and right. The spurious part
    says the bias of every sample. Only the spurious part is scaled. Returns `core` and `spurious`,
    Frobenius norms of the gradient of the batch's mean cross-entropy (float64), and their `ratio`.
    A tenth of the n samples conflict. Raises ValueError for fewer than 10 samples.
    """
    scale = _alphas(alphas)
    if n < 10:
        raise ValueError(f"n must be at least 10, so that a sample conflicts; found {n!r}")
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    conflicting = torch.arange(n) < n // 10
    bias = torch.where(conflicting, 1 - y, y)
    inputs = [_around(labels, generator) for labels in (y, bias, torch.zeros(n))]
    parts = [_part(x, says, generator) for x, says in zip(inputs, (y, bias, None), strict=True)]
    found: dict[str, list[Tensor]] = {"core": [], "spurious": []}
    for alpha in scale:
        core, spurious, remainder = (
            torch.relu(x @ first) @ second for x, (first, second) in zip(inputs, parts, strict=True)
        )
        loss = F.cross_entropy(core + alpha * spurious + 0.1 * remainder, y)
        for name, part in zip(found, parts, strict=False):
            gradients = torch.autograd.grad(loss, part, retain_graph=True)
            found[name].append(torch.stack([g.norm() for g in gradients]).norm())
    core, spurious = (torch.stack(found[name]) for name in ("core", "spurious"))
    return {"core": core, "spurious": spurious, "ratio": spurious / core}


def fitted_slope(x: Numbers, y: Numbers) -> float:
    """Least-squares slope of y over x; take logarithms first for the exponent of a power."""
    return float(np.polyfit(np.asarray(x, float), np.asarray(y, float), 1)[0])


def _part(x: Tensor, says: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights of two layers from three inputs to two classes; the first layer is random.

    The second is set by least squares, so that scores are near +1 for the label that it says and
    -1 for the other; random where it says none.
    """
    first, second = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 16), (16, 2))
    )
    if says is not None:
        wanted = 2.0 * F.one_hot(says, 2).double() - 1
        second = torch.linalg.lstsq(torch.relu(x @ first), wanted).solution.contiguous()
    return first.requires_grad_(), second.requires_grad_()


def _around(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Three inputs a sample: the label as -1 or +1, with little noise."""
    noise = torch.randn(len(labels), 3, generator=generator, dtype=torch.float64)
    return (2.0 * labels - 1)[:, None] + 0.1 * noise


def _alphas(alphas: Numbers) -> Tensor:
    scale = torch.as_tensor(np.asarray(alphas, float))
    if not len(scale) or not bool((scale.isfinite() & (scale > 0)).all()):
        raise ValueError(f"alphas must be finite numbers > 0, at least one; found {list(alphas)!r}")
    return scale
