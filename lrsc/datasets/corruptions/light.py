"""Corruptions of colour and light.

x is N x 3 x H x W float64 in 0..1, and so is each result (not clipped); so in every module here.
"""

import torch
from torch import Tensor


def brightness(x: Tensor, added: float) -> Tensor:
    """Value raised in HSV: with hue and saturation fixed that scales all three channels."""
    value = x.amax(1, keepdim=True)
    raised = (value + added).clamp(max=1)
    return torch.where(value > 0, x * (raised / value), raised)


def saturate(x: Tensor, parameters: tuple) -> Tensor:
    """Saturation s -> factor s + added in HSV: with hue and value fixed, distances to the value
    change in proportion. Grey has hue 0, so what is added to it is red, as in the original."""
    factor, added = parameters
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    red = torch.tensor([0, 1, 1]).to(x).view(3, 1, 1)
    distance = torch.where(chroma > 0, (value - x) / chroma, red)
    saturation = torch.where(value > 0, chroma / value, 0.0)
    return value * (1 - (saturation * factor + added).clamp(0, 1) * distance)


def contrast(x: Tensor, factor: float) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * factor + mean


def grey(x: Tensor) -> Tensor:
    return 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]


def colour(red: int, green: int, blue: int, like: Tensor) -> Tensor:
    return torch.tensor([red, green, blue]).to(like).view(3, 1, 1) / 255
