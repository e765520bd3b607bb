"""Checks that the metrics share: what they take, or a ValueError that says what to give."""

import torch
from torch import Tensor


def values(name: str, z: Tensor, dims: str) -> Tensor:
    """z in float32 (float64 stays), finite, with as many axes as one of `dims` ("n x d, d")."""
    z = tensor(name, z)
    if z.dim() not in {len(shape.split(" x ")) for shape in dims.split(", ")}:
        raise ValueError(
            f"{name} has shape {tuple(z.shape)}, expected {dims}; "
            "flatten further axes with .flatten(1)"
        )
    if z.is_complex():
        raise ValueError(f"{name} is complex, expected real numbers; take .abs() first")
    z = z if z.dtype == torch.float64 else z.float()
    bad = int((~z.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{name} holds NaN or infinity ({bad} of {z.numel()} values), expected finite numbers; "
            "has the network diverged? Leave such runs out"
        )
    return z


def labels(name: str, y: Tensor | None, n: int) -> Tensor:
    """One whole-number label (int64) for each of n samples; None is said to be missing."""
    if y is None:
        raise ValueError(
            f"{name} is None, expected one whole-number label a sample; "
            "this measure needs them (a split's bias labels: Split(..., bias=...))"
        )
    y = tensor(name, y)
    if y.is_floating_point() or y.is_complex():
        raise ValueError(f"{name} holds {y.dtype}, expected whole-number labels; use .long()")
    if y.shape != (n,):
        raise ValueError(
            f"{name} has shape {tuple(y.shape)}, expected one label a sample, ({n},); "
            "for logits take .argmax(1)"
        )
    return y.long()


def tensor(name: str, x: Tensor) -> Tensor:
    """x itself, if it is a tensor with at least one element."""
    if not isinstance(x, Tensor):
        raise ValueError(
            f"{name} is a {type(x).__name__}, expected a torch.Tensor; use torch.as_tensor"
        )
    if x.numel() == 0:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}, expected at least one value")
    return x
