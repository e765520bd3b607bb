"""Corruptions by coding: coarse pixels and JPEG."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lrsc.datasets.corruptions.light import grey


def pixelate(x: Tensor, kept: float) -> Tensor:
    """Box-filtered down and up again by Pillow, on the CPU whatever the device."""
    height, width = x.shape[2:]
    pixels = x.mul(255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    out = np.empty_like(pixels)
    for i, image in enumerate(map(Image.fromarray, pixels)):
        small = image.resize((int(width * kept), int(height * kept)), Image.Resampling.BOX)
        out[i] = small.resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(out).permute(0, 3, 1, 2).to(x) / 255


_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
)  # fmt: skip


def jpeg(x: Tensor, quality: int) -> Tensor:
    """JPEG's round trip with 4:2:0 chroma, rounding where libjpeg does (baseline, JFIF colours).

    All but the entropy coding, which loses nothing.
    """
    height, width = x.shape[2:]
    # whole 16 x 16 blocks, but chroma's rows are filled up after they are halved
    x = F.pad(x * 255, (0, -width % 16, 0, height % 2), mode="replicate")
    red, _, blue = x.unbind(1)
    luma = grey(x)
    chroma = torch.stack([(blue - luma) / 1.772 + 128, (red - luma) / 1.402 + 128], 1)
    bias = torch.tensor([1, 2]).to(x).repeat(x.shape[3] // 4)  # libjpeg rounds up every other one
    chroma = (F.avg_pool2d(chroma.add(0.5).floor(), 2) * 4 + bias).div(4).floor()
    chroma = F.pad(chroma, (0, 0, 0, -chroma.shape[2] % 8), mode="replicate")
    luma = F.pad(luma.add(0.5).floor()[:, None], (0, 0, 0, -x.shape[2] % 8), mode="replicate")
    luma = _quantise(luma, _LUMINANCE, quality)[:, 0, :height, :width]
    chroma = _quantise(chroma, _CHROMINANCE, quality)
    chroma = _upsample(chroma[:, :, : -(-height // 2), : -(-width // 2)])
    cb, cr = (chroma[:, :, :height, :width] - 128).unbind(1)
    green = luma - (0.114 * 1.772 * cb + 0.299 * 1.402 * cr) / 0.587
    rgb = torch.stack([luma + 1.402 * cr, green, luma + 1.772 * cb], 1)
    return rgb.add(0.5).floor() / 255


def _quantise(planes: Tensor, table: tuple, quality: int) -> Tensor:
    """8 x 8 cosine transform of n x c x H x W, rounded to multiples of the table, and back.

    Each pass over rows or columns is sqrt(8) times the orthonormal transform, and keeps as many
    binary places as libjpeg's integer arithmetic: with them halves round as they do there.
    """
    k = np.arange(8)
    waves = math.sqrt(2) * np.cos((2 * k + 1) * k[:, None] * math.pi / 16)
    waves[0] = 1
    cosine = torch.from_numpy(waves).to(planes)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    step = 8 * torch.tensor(table).mul(scale).add(50).div(100).floor().clamp(1, 255)
    step = step.view(8, 8).to(planes)
    n, c, height, width = planes.shape
    blocks = planes.view(n, c, height // 8, 8, width // 8, 8).transpose(3, 4) - 128
    levels = _rounded(cosine @ _rounded(blocks @ cosine.T, 4), 1) / step
    levels = levels.abs().add(0.5).floor().copysign(levels)
    blocks = _rounded(cosine.T @ (levels * step / 8), 4) @ cosine
    blocks = _rounded(blocks / 8, 1).add(128).clamp(0, 255)
    return blocks.transpose(3, 4).reshape(planes.shape)


def _rounded(x: Tensor, parts: int) -> Tensor:
    return (x * parts + 0.5).floor() / parts


def _upsample(planes: Tensor) -> Tensor:
    """Twice the size, libjpeg's "fancy" way: each value 3/4 the nearest, 1/4 the next sample."""
    wide = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    middle = 3 * wide[:, :, 1:-1]
    rows = torch.stack([middle + wide[:, :, :-2], middle + wide[:, :, 2:]], 3).flatten(2, 3)
    middle = 3 * rows[..., 1:-1]
    left, right = middle + rows[..., :-2] + 8, middle + rows[..., 2:] + 7
    return torch.stack([left, right], 4).flatten(3, 4).div(16).floor()
