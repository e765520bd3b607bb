"""What is read off attributions: the entropy of their maps, and shares of regions."""

import torch
from torch import Tensor

from lrsc.attribution.checks import broadcasts
from lrsc.metrics import checks


def normalised_maps(a: Tensor) -> Tensor:
    """Signed maps divided by their largest absolute values: N x H x W for images, or N x d.

    Channels are summed. NaN for a map of zeros.
    """
    summed = _summed(a)
    largest = summed.abs().flatten(1).amax(1)
    return (summed / largest.view(-1, *(1 for _ in summed.shape[1:]))).to(_precision(a))


def entropy(a: Tensor) -> Tensor:
    """Entropy in nats of each sample's map divided by its sum: 0 (one place) to log(places).

    a: attributions, N x C x H x W or N x d; N values in a's precision (at least float32). NaN for
    a map of zeros.
    """
    return torch.special.entr(_shares(a)).sum(1).to(_precision(a))


def share(a: Tensor, mask: Tensor | None) -> Tensor:
    """Share of each sample's map inside a region, in [0, 1].

    a: attributions, N x C x H x W or N x d; mask: bool, broadcastable to a, the same for all
    channels. N values in a's precision (at least float32). NaN for a map of zeros. Raises
    ValueError for a mask that is missing, not bool or of another shape.
    """
    return (_shares(a) * _region(mask, a)).sum(1).to(_precision(a))


def _shares(a: Tensor) -> Tensor:
    """Maps divided by their sums, N x places, in float64: neither sums nor small maps are lost."""
    size = _summed(a).abs().flatten(1)
    return size / size.sum(1, keepdim=True)


def _summed(a: Tensor) -> Tensor:
    """Signed maps in float64, summed over channels."""
    checks.tensor("a", a)
    if a.dim() not in (2, 4):
        raise ValueError(
            f"a has shape {tuple(a.shape)}, expected attributions of images, N x C x H x W, or of "
            "vectors, N x d; for one sample take a[None]"
        )
    return a.double().sum(1) if a.dim() == 4 else a.double()


def _region(mask: Tensor | None, a: Tensor) -> Tensor:
    """The mask without its channel axis, (1 or N) x places."""
    if mask is None:
        raise ValueError(
            "mask is None, expected a bool tensor that broadcasts to the attributions; the split "
            "has no such region: Split(..., core_mask=..., spurious_mask=...)"
        )
    if checks.tensor("mask", mask).dtype != torch.bool:
        raise ValueError(f"mask holds {mask.dtype}, expected bool; use mask > 0")
    broadcasts("mask", mask, a, "a")
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
