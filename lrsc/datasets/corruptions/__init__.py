"""The ten image corruptions of Corrupted CIFAR-10, for whole batches on one device.

Definitions and parameters: Hendrycks and Dietterich 2019, the tables for 32 x 32 images (those of
CIFAR-10-C), which Nam et al. 2020 use. Knowingly different from theirs:

- frost: their five photographs are not shipped; the textures are generated from the seed;
- spatter, severity 3: a drop's grey level stays at 255 where theirs overflows to near 0;
- elastic: positions are not rounded to 1/32 pixel;
- jpeg: real arithmetic where libjpeg has 13 binary places, so that a coefficient that lies
  halfway between two levels may fall to the other one;
- whole numbers come out whole: theirs truncates 127.99999, which 128 became in HSV, to 127.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lrsc.datasets.corruptions.coding import jpeg, pixelate
from lrsc.datasets.corruptions.fields import NAMES, part_size, random_fields
from lrsc.datasets.corruptions.geometry import elastic
from lrsc.datasets.corruptions.light import brightness, contrast, saturate
from lrsc.datasets.corruptions.liquid import spatter
from lrsc.datasets.corruptions.weather import fog, frost, snow
from lrsc.errors import check_names

__all__ = ["NAMES", "PARAMETERS", "corrupt"]
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "snow": snow, "frost": frost, "fog": fog, "brightness": brightness, "contrast": contrast,
    "spatter": spatter, "elastic": elastic, "jpeg": jpeg, "pixelate": pixelate,
    "saturate": saturate,
}  # fmt: skip
# One entry a severity, 1 to 5. Lengths are in pixels, elastic's in shares of the shorter side.
PARAMETERS: dict[str, tuple] = {
    # mean and deviation of the flakes, zoom, threshold, radius and sigma of the motion, whiteness
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),  # image, texture
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),  # strength, roughness's decay
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    # mean and deviation of the liquid, its sigma, threshold, then water: strength, mud: sigma
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, "water"), (0.65, 0.1, 0.8, 0.7, 0.5, "water"),
        (0.65, 0.3, 1, 0.69, 0.5, "water"), (0.65, 0.1, 0.7, 0.69, 0.6, "mud"),
        (0.65, 0.1, 0.5, 0.68, 0.6, "mud"),
    ),
    # amplitude and sigma of the displacement, spread of the affine map's corners
    "elastic": (
        (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03),
    ),
    "jpeg": (80, 65, 58, 50, 40),  # quality
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # share of the side that is kept
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),  # factor, added
}  # fmt: skip


def corrupt(images: Tensor, name: str, severity: int = 4, seed: int = 0) -> Tensor:
    """The images under one corruption, on their own device.

    images: N x 3 x H x W uint8 RGB, H and W at least 8. name: one of NAMES. severity: 1 to 5.
    Returns a new tensor of the same shape and type. Image i depends on (images[i], i, H, W, name,
    severity, seed) alone, so a shorter batch gives the same first images; random fields come from
    the CPU whatever the device, and every severity sees the same ones. The same call gives the
    same bytes in any process on one machine; other devices differ by rounding, which shows where
    a threshold is crossed. Works in parts: whatever N, it needs beside the result at most 50 MB at
    32 x 32 and 150 MB at 256 x 256. Raises ValueError for an unknown name, a severity outside 1
    to 5, a negative seed, and images of another type or shape.
    """
    _check(images, name, severity, seed)
    parameters = PARAMETERS[name][severity - 1]
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    size = part_size(*images.shape[2:])
    for part, start in enumerate(range(0, len(images), size)):
        x = images[start : start + size]
        n = len(x)
        # every part is full, so that neither the draws nor the rounding depend on N
        x = torch.cat([x, x[-1:].expand(size - n, -1, -1, -1)]).double().div_(255)
        fields = random_fields(name, x.shape[2], x.shape[3], seed, part)
        levels = _FUNCTIONS[name](x, parameters, *(field.to(x.device) for field in fields))
        # truncated, as in the original; 1e-3 keeps a whole number whole whatever its rounding
        out[start : start + n] = levels.clamp(0, 1).mul_(255).add_(1e-3)[:n].to(torch.uint8)
    return out


def _check(images: Tensor, name: str, severity: int, seed: int) -> None:
    check_names("corruption", [name], NAMES)
    if type(severity) is not int or not 1 <= severity <= 5:
        raise ValueError(f"severity must be a whole number from 1 to 5, found {severity!r}")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, found {seed!r}")
    expected = "images must be a uint8 tensor of N x 3 x H x W, H and W at least 8"
    if not isinstance(images, Tensor):
        raise ValueError(f"{expected}; found {type(images).__name__}: torch.from_numpy converts")
    shape = tuple(images.shape)
    if images.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or min(shape[2:]) < 8:
        raise ValueError(f"{expected}; found {images.dtype} of shape {shape}")
