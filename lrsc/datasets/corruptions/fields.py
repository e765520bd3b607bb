"""All that is random in the corruptions: fields from the seed, and the textures of frost."""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lrsc.datasets.corruptions.light import colour

NAMES = (  # the order is that of the bias labels, and seeds the fields
    "snow", "frost", "fog", "brightness", "contrast",
    "spatter", "elastic", "jpeg", "pixelate", "saturate",
)  # fmt: skip
_PART_PIXELS = 2**16  # 64 images of 32 x 32 at a time, which fit the processor's cache
_TEXTURES = 5


def part_size(height: int, width: int) -> int:
    """Number of images of this size that are corrupted at a time."""
    return max(1, _PART_PIXELS // (height * width))


def random_fields(name: str, height: int, width: int, seed: int, part: int) -> list[Tensor]:
    """All that is random in one part: float64 tensors on the CPU, one row an image.

    Uniform fields are in 0..1, normal ones standard. Those of frost are crops of its textures.
    """
    draw = _draws(part_size(height, width), seed, NAMES.index(name), part)

    if name == "snow":
        return [draw(torch.randn, height, width), draw(torch.rand)]
    if name == "frost":
        return [_crops(frost_textures(seed, max(256, 2 * height, 2 * width)), draw, height, width)]
    if name == "fog":
        side = 2 ** math.ceil(math.log2(max(height, width)))
        return [draw(torch.rand, side, side)]
    if name == "spatter":
        return [draw(torch.randn, height, width)]
    if name == "elastic":
        return [draw(torch.rand, 3, 2), draw(torch.rand, 2, height, width)]
    return []


def _draws(n: int, *key: int) -> Callable[..., Tensor]:
    """draw(torch.rand or torch.randn, *shape) -> n x shape float64 from a generator of this key."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    generator = torch.Generator("cpu").manual_seed(int(state[0]))
    return lambda random, *shape: random(
        n, *shape, generator=generator, dtype=torch.float64, device="cpu"
    )


def _crops(textures: Tensor, draw: Callable, height: int, width: int) -> Tensor:
    """A random window of a random texture for each image of a part, n x 3 x H x W."""
    size = textures.shape[-1]
    limits = torch.tensor([len(textures), size - height, size - width])
    which, top, left = (draw(torch.rand, 3) * limits).long().unbind(1)
    rows = (top[:, None] + torch.arange(height))[:, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None]
    return textures[which[:, None, None], :, rows, columns].movedim(-1, 1)


@functools.lru_cache(maxsize=2)
def frost_textures(seed: int, size: int) -> Tensor:
    """Five pictures of frosted glass made from the seed, 5 x 3 x size x size float64 in 0..1.

    They stand in for the published photographs, which are not shipped.
    """
    return torch.cat([_texture(_draws(1, seed, i), size) for i in range(_TEXTURES)])


def _texture(draw: Callable[..., Tensor], size: int) -> Tensor:
    """A fractal cover of rime with bright ridges, and needles of ice in three directions on it."""
    frequency = torch.fft.fftfreq(size, dtype=torch.float64, device="cpu")
    fy, fx = frequency[:, None], frequency[None]
    radius = torch.hypot(fy, fx).clamp(min=1 / size)

    def filtered(field: Tensor, response: Tensor) -> Tensor:
        field = torch.fft.ifft2(torch.fft.fft2(field) * response).real
        return (field - field.mean()) / field.std()

    cover = filtered(draw(torch.randn, size, size), radius**-1.6)
    ridges = filtered(draw(torch.randn, size, size), radius**-1.2)
    first = math.pi * float(draw(torch.rand))
    needles = torch.zeros_like(cover)
    for angle in (first, first + math.pi / 3, first + 2 * math.pi / 3):
        along = fx * math.cos(angle) + fy * math.sin(angle)
        across = fy * math.cos(angle) - fx * math.sin(angle)
        line = torch.exp(-2 * math.pi**2 * ((5 * along) ** 2 + (0.5 * across) ** 2))
        seeds = draw(torch.rand, size, size) < 0.01
        needles = torch.maximum(needles, filtered(seeds.to(cover), line))
    ice = 0.26 + 0.15 * cover + 0.18 * needles * torch.sigmoid(2 * cover)
    ice = (ice + 0.25 * torch.exp(-4 * ridges.abs())).clamp(0, 1)[:, None]
    return (1 - ice) * colour(26, 43, 64, ice) + ice * colour(242, 250, 255, ice)
