"""Corruption by liquid: drops of water or mud."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lrsc.datasets.corruptions.geometry import gaussian
from lrsc.datasets.corruptions.light import colour


def spatter(x: Tensor, parameters: tuple, noise: Tensor) -> Tensor:
    mean, deviation, sigma, threshold, last, kind = parameters
    liquid = _smooth(noise * deviation + mean, sigma)
    liquid = torch.where(liquid < threshold, 0.0, liquid)
    if kind == "water":
        film = _water(liquid) * last
        return x + film * colour(175, 238, 238, x)  # pale turquoise
    mud = _smooth((liquid > threshold).to(x.dtype), last)[:, None]
    mud = torch.where(mud < 0.8, 0.0, mud)
    return x * (1 - mud) + mud * colour(63, 42, 20, x)  # brown


def _smooth(layer: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of n x H x W; outside is the nearest pixel."""
    rows, columns = (gaussian(size, sigma, 4, False, layer) for size in layer.shape[1:])
    return rows @ layer @ columns.T


def _water(liquid: Tensor) -> Tensor:
    """Film of water in 0..1, n x 1 x H x W: bright by the distance to the drops' edges, embossed.

    Rounds to whole grey levels where the original, which works on 8-bit pictures, does.
    """
    liquid = (liquid * 255).floor().clamp(max=255)
    distance = equalise(_box(edge_distance(canny(liquid, 50, 150), 20)).floor().long())
    emboss = [(0, 0, -2), (0, 1, -1), (1, 0, -1), (1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2)]
    film = _weighted(distance, emboss).clamp(0, 255)
    film = liquid * _box(film).add(0.5).floor()
    highest = film.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, film / highest, 0.0)[:, None]


def _weighted(layer: Tensor, taps: list[tuple]) -> Tensor:
    """Sum of 3 x 3 neighbours (row, column, weight), reflected about the border pixels."""
    near = _around(layer, 1, mode="reflect")
    return torch.stack([weight * near(r - 1, c - 1) for r, c, weight in taps]).sum(0)


def _box(layer: Tensor) -> Tensor:
    return _weighted(layer, [(r, c, 1) for r in range(3) for c in range(3)]) / 9


def _around(layer: Tensor, reach: int, **border) -> Callable[[int, int], Tensor]:
    """near(down, right): the neighbour so many pixels away of every pixel of n x H x W."""
    height, width = layer.shape[1:]
    wide = F.pad(layer, [reach] * 4, **border)
    return lambda down, right: wide[:, reach + down :, reach + right :][:, :height, :width]


def canny(levels: Tensor, low: float, high: float) -> Tensor:
    """Canny's edges of n x H x W grey levels, bool: Sobel, L1 norm, thinning, hysteresis."""
    near = _around(levels, 1, mode="replicate")
    n, s, w, e = near(-1, 0), near(1, 0), near(0, -1), near(0, 1)
    nw, ne, sw, se = near(-1, -1), near(-1, 1), near(1, -1), near(1, 1)
    gx = ne + 2 * e + se - nw - 2 * w - sw
    gy = sw + 2 * s + se - nw - 2 * n - ne
    size = gx.abs() + gy.abs()
    near = _around(size, 1)
    flat = gy.abs() < math.tan(math.pi / 8) * gx.abs()
    steep = gy.abs() > math.tan(3 * math.pi / 8) * gx.abs()
    falling = gx * gy < 0
    before = torch.where(falling, near(-1, 1), near(-1, -1))
    after = torch.where(falling, near(1, -1), near(1, 1))
    peak = (size > before) & (size > after)
    peak = torch.where(steep, (size > near(-1, 0)) & (size >= near(1, 0)), peak)
    peak = torch.where(flat, (size > near(0, -1)) & (size >= near(0, 1)), peak)
    candidate = peak & (size > low)
    edge, grown = candidate & (size > high), torch.zeros_like(candidate)
    while not torch.equal(edge, grown):  # weak edges that touch strong ones
        grown, edge = edge, candidate & F.max_pool2d(edge.float(), 3, 1, 1).bool()
    return edge


def edge_distance(edges: Tensor, limit: int) -> Tensor:
    """Distance of each pixel of n x H x W to the nearest True, at most the limit.

    Lengths of steps are those of OpenCV's 5 x 5 mask, in its 1/65536: a step to the side, across
    a corner, and a knight's move.
    """
    reach = range(-2, 3)
    steps = [(y, x) for y in reach for x in reach if y * y + x * x in (1, 2, 5)]
    length = {1: 1.0, 2: 91750 / 65536, 5: 143976 / 65536}
    out, last = torch.where(edges, 0.0, float(limit)).double(), None
    while last is None or not torch.equal(out, last):
        last, near = out, _around(out, 2, value=limit)
        for y, x in steps:
            out = torch.minimum(out, near(y, x) + length[y * y + x * x])
    return out


def equalise(levels: Tensor) -> Tensor:
    """Grey levels 0..255 of n x H x W (int64) spread so that their cumulative count is linear."""
    n, total = len(levels), levels[0].numel()
    flat = levels.flatten(1)
    counts = torch.zeros(n, 256, dtype=torch.int64, device=levels.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    first = counts.gather(1, flat.amin(1, keepdim=True))  # the darkest level becomes 0
    scaled = (counts.cumsum(1) - first).clamp(min=0).double() * 255 / (total - first).clamp(min=1)
    spread = scaled.round().gather(1, flat)
    return torch.where(first == total, flat, spread).view(levels.shape)
