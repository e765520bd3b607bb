"""Corruptions by weather: fog, snow and frost."""

import math

import numpy as np
import torch
from torch import Tensor

from lrsc.datasets.corruptions.light import grey


def fog(x: Tensor, parameters: tuple, noise: Tensor) -> Tensor:
    strength, decay = parameters
    brightest = x.amax((1, 2, 3), keepdim=True)
    haze = plasma(2 * noise - 1, decay)[:, None, : x.shape[2], : x.shape[3]]
    return (x + strength * haze) * brightest / (brightest + strength)


def plasma(noise: Tensor, decay: float) -> Tensor:
    """Diamond-square height maps, each stretched to 0..1.

    noise: n x m x m in -1..1, m a power of two: a point's noise is the value at its own place,
    scaled by the square of a roughness that starts at 100 and is divided by decay at each level.
    """
    height = torch.zeros_like(noise)
    step, roughness = noise.shape[-1], 100.0

    def fill(rows: slice, columns: slice, total: Tensor) -> None:
        height[:, rows, columns] = total / 4 + roughness**2 * noise[:, rows, columns]

    while step >= 2:
        coarse, between = slice(None, None, step), slice(step // 2, None, step)
        corner = height[:, coarse, coarse]
        pair = corner + corner.roll(-1, 1)
        fill(between, between, pair + pair.roll(-1, 2))
        centre = height[:, between, between]
        fill(coarse, between, centre + centre.roll(1, 1) + corner + corner.roll(-1, 2))
        fill(between, coarse, centre + centre.roll(1, 2) + pair)
        step, roughness = step // 2, roughness / decay
    height -= height.amin((1, 2), keepdim=True)
    return height / height.amax((1, 2), keepdim=True)


def snow(x: Tensor, parameters: tuple, noise: Tensor, angle: Tensor) -> Tensor:
    mean, deviation, zoom, threshold, radius, sigma, kept = parameters
    flakes = noise * deviation + mean
    flakes = _zoom(x.shape[2], zoom, x) @ flakes @ _zoom(x.shape[3], zoom, x).T
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1).mul(255).floor()
    flakes = motion_blur(flakes, radius, sigma, -135 + 90 * angle).add(0.5).floor() / 255
    white = torch.maximum(x, grey(x)[:, None] * 1.5 + 0.5)
    return kept * x + (1 - kept) * white + (flakes + flakes.flip(1, 2))[:, None]


def _zoom(size: int, factor: float, like: Tensor) -> Tensor:
    """Matrix that enlarges the middle of a row of pixels to the whole row, linearly."""
    crop = math.ceil(size / factor)
    large = round(crop * factor)
    place = (np.arange(size) + (large - size) // 2) * (crop - 1) / (large - 1)
    columns = np.arange(size) - (size - crop) // 2
    weight = np.clip(1 - np.abs(place[:, None] - columns), 0, None)
    return torch.from_numpy(weight).to(like)


def motion_blur(layer: Tensor, radius: int, sigma: float, degrees: Tensor) -> Tensor:
    """One-sided Gaussian blur of n x H x W along a direction for each image, as ImageMagick's.

    The 2 radius + 1 taps are whole-pixel steps along the direction; outside is the nearest pixel.
    """
    height, width = layer.shape[1:]
    steps = torch.arange(2 * radius + 1, dtype=layer.dtype, device=layer.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    radians = torch.deg2rad(degrees)[:, None]
    down = torch.ceil(steps * torch.sin(radians) - 0.5).long()
    right = torch.ceil(steps * torch.cos(radians) - 0.5).long()
    rows = torch.arange(height, device=layer.device)
    columns = torch.arange(width, device=layer.device)
    flat, out = layer.flatten(1), torch.zeros_like(layer).flatten(1)
    place = torch.empty_like(layer, dtype=torch.int64)
    for i, share in enumerate((kernel / kernel.sum()).tolist()):
        row = (rows + down[:, i, None]).clamp(0, height - 1) * width
        column = (columns + right[:, i, None]).clamp(0, width - 1)
        torch.add(row[:, :, None], column[:, None], out=place)  # in place: half the time
        out.add_(flat.gather(1, place.flatten(1)), alpha=share)
    return out.view_as(layer)


def frost(x: Tensor, parameters: tuple, crops: Tensor) -> Tensor:
    return parameters[0] * x + parameters[1] * crops
