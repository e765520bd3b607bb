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

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lrsc.errors import check_names

NAMES = (
    "snow", "frost", "fog", "brightness", "contrast",
    "spatter", "elastic", "jpeg", "pixelate", "saturate",
)  # fmt: skip
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
_PART_PIXELS = 2**16  # 64 images of 32 x 32 at a time, which fit the processor's cache
_TEXTURES = 5


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


# Colour and light. x is always N x 3 x H x W float64 in 0..1, and so is the result (not clipped).


def _brightness(x: Tensor, added: float) -> Tensor:
    """Value raised in HSV: with hue and saturation fixed that scales all three channels."""
    value = x.amax(1, keepdim=True)
    raised = (value + added).clamp(max=1)
    return torch.where(value > 0, x * (raised / value), raised)


def _saturate(x: Tensor, parameters: tuple) -> Tensor:
    """Saturation s -> factor s + added in HSV: with hue and value fixed, distances to the value
    change in proportion. Grey has hue 0, so what is added to it is red, as in the original."""
    factor, added = parameters
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    red = torch.tensor([0, 1, 1]).to(x).view(3, 1, 1)
    distance = torch.where(chroma > 0, (value - x) / chroma, red)
    saturation = torch.where(value > 0, chroma / value, 0.0)
    return value * (1 - (saturation * factor + added).clamp(0, 1) * distance)


def _contrast(x: Tensor, factor: float) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * factor + mean


def _grey(x: Tensor) -> Tensor:
    return 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]


# Weather


def _fog(x: Tensor, parameters: tuple, noise: Tensor) -> Tensor:
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


def _snow(x: Tensor, parameters: tuple, noise: Tensor, angle: Tensor) -> Tensor:
    mean, deviation, zoom, threshold, radius, sigma, kept = parameters
    flakes = noise * deviation + mean
    flakes = _zoom(x.shape[2], zoom, x) @ flakes @ _zoom(x.shape[3], zoom, x).T
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1).mul(255).floor()
    flakes = motion_blur(flakes, radius, sigma, -135 + 90 * angle).add(0.5).floor() / 255
    white = torch.maximum(x, _grey(x)[:, None] * 1.5 + 0.5)
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


def _frost(x: Tensor, parameters: tuple, crops: Tensor) -> Tensor:
    return parameters[0] * x + parameters[1] * crops


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
    return (1 - ice) * _colour(26, 43, 64, ice) + ice * _colour(242, 250, 255, ice)


# Liquid


def _spatter(x: Tensor, parameters: tuple, noise: Tensor) -> Tensor:
    mean, deviation, sigma, threshold, last, kind = parameters
    liquid = _smooth(noise * deviation + mean, sigma)
    liquid = torch.where(liquid < threshold, 0.0, liquid)
    if kind == "water":
        film = _water(liquid) * last
        return x + film * _colour(175, 238, 238, x)  # pale turquoise
    mud = _smooth((liquid > threshold).to(x.dtype), last)[:, None]
    mud = torch.where(mud < 0.8, 0.0, mud)
    return x * (1 - mud) + mud * _colour(63, 42, 20, x)  # brown


def _colour(red: int, green: int, blue: int, like: Tensor) -> Tensor:
    return torch.tensor([red, green, blue]).to(like).view(3, 1, 1) / 255


def _smooth(layer: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of n x H x W; outside is the nearest pixel."""
    rows, columns = (_gaussian(size, sigma, 4, False, layer) for size in layer.shape[1:])
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
    height, width = layer.shape[1:]
    wide = F.pad(layer, (1, 1, 1, 1), mode="reflect")
    parts = [weight * wide[:, r : r + height, c : c + width] for r, c, weight in taps]
    return torch.stack(parts).sum(0)


def _box(layer: Tensor) -> Tensor:
    return _weighted(layer, [(r, c, 1) for r in range(3) for c in range(3)]) / 9


def canny(levels: Tensor, low: float, high: float) -> Tensor:
    """Canny's edges of n x H x W grey levels, bool: Sobel, L1 norm, thinning, hysteresis."""
    height, width = levels.shape[1:]

    def around(wide: Tensor, down: int, right: int) -> Tensor:
        return wide[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    wide = F.pad(levels, (1, 1, 1, 1), mode="replicate")
    n, s, w, e = (around(wide, *at) for at in ((-1, 0), (1, 0), (0, -1), (0, 1)))
    nw, ne, sw, se = (around(wide, *at) for at in ((-1, -1), (-1, 1), (1, -1), (1, 1)))
    gx = ne + 2 * e + se - nw - 2 * w - sw
    gy = sw + 2 * s + se - nw - 2 * n - ne
    size = gx.abs() + gy.abs()
    wide = F.pad(size, (1, 1, 1, 1))
    flat = gy.abs() < math.tan(math.pi / 8) * gx.abs()
    steep = gy.abs() > math.tan(3 * math.pi / 8) * gx.abs()
    falling = gx * gy < 0
    before = torch.where(falling, around(wide, -1, 1), around(wide, -1, -1))
    after = torch.where(falling, around(wide, 1, -1), around(wide, 1, 1))
    peak = (size > before) & (size > after)
    peak = torch.where(steep, (size > around(wide, -1, 0)) & (size >= around(wide, 1, 0)), peak)
    peak = torch.where(flat, (size > around(wide, 0, -1)) & (size >= around(wide, 0, 1)), peak)
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
    height, width = edges.shape[1:]
    out, last = torch.where(edges, 0.0, float(limit)).double(), None
    while last is None or not torch.equal(out, last):
        last, wide = out, F.pad(out, (2, 2, 2, 2), value=limit)
        for y, x in steps:
            near = wide[:, 2 + y : 2 + y + height, 2 + x : 2 + x + width]
            out = torch.minimum(out, near + length[y * y + x * x])
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


# Geometry


def _elastic(x: Tensor, parameters: tuple, corners: Tensor, shifts: Tensor) -> Tensor:
    """A random affine map of the image, then smooth random displacements of its pixels."""
    height, width = x.shape[2:]
    amplitude, sigma, spread = (min(height, width) * p for p in parameters)
    square = min(height, width) // 3
    signs = torch.tensor([[1, 1], [1, -1], [-1, -1]]).to(x)
    source = signs * square + torch.tensor([width // 2, height // 2]).to(signs)
    target = source + spread * (2 * corners - 1)
    to_source = torch.linalg.solve(F.pad(target, (0, 1), value=1.0), source)  # n x 3 x 2
    rows, columns = (torch.arange(size).to(signs) for size in (height, width))
    place = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    x = _sample(x, F.pad(place, (0, 1), value=1.0).flatten(0, 1) @ to_source, True)
    vertical, horizontal = (_gaussian(size, sigma, 3, True, x) for size in (height, width))
    shift = amplitude * (vertical @ (2 * shifts - 1) @ horizontal.T)
    return _sample(x, place + shift.movedim(1, -1), False)


def _sample(x: Tensor, place: Tensor, about_centres: bool) -> Tensor:
    """Bilinear values at n x H x W x (column, row) in pixels; outside the image is reflected,
    about the centres of the border pixels or about their outer edges."""
    size = torch.tensor([x.shape[3], x.shape[2]]).to(x)
    place = place.view(len(x), *x.shape[2:], 2)
    grid = 2 * place / (size - 1) - 1 if about_centres else (2 * place + 1) / size - 1
    return F.grid_sample(x, grid, "bilinear", "reflection", align_corners=about_centres)


def _gaussian(size: int, sigma: float, truncate: int, reflect: bool, like: Tensor) -> Tensor:
    """Matrix of a Gaussian blur of a row of pixels, cut at truncate sigmas; beyond the border is
    the row reflected (about the outer edge) or its nearest pixel."""
    reach = int(truncate * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    taps = np.exp(-0.5 * (offsets / max(sigma, 1e-9)) ** 2)
    place = np.arange(size)[:, None] + offsets
    if reflect:
        place = place % (2 * size)
        place = np.minimum(place, 2 * size - 1 - place)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], place.clip(0, size - 1)), taps / taps.sum())
    return torch.from_numpy(matrix).to(like)


# Coding


def _pixelate(x: Tensor, kept: float) -> Tensor:
    """Box-filtered down and up again, rounded after each pass over one axis, as PIL does."""
    height, width = x.shape[2:]
    x = x * 255
    for size in ((int(height * kept), int(width * kept)), (height, width)):
        rows, columns = (_box_filter(x.shape[2 + i], size[i], x) for i in (0, 1))
        x = (x @ columns.T + 0.5).floor()
        x = (rows @ x + 0.5).floor()
    return x / 255


def _box_filter(size: int, result: int, like: Tensor) -> Tensor:
    """Matrix that resizes a row of pixels: means of the pixels whose centres lie in each box."""
    scale = size / result
    centre = (np.arange(result)[:, None] + 0.5) * scale
    offset = (np.arange(size) + 0.5 - centre) / max(scale, 1)
    inside = (offset > -0.5) & (offset <= 0.5)
    return torch.from_numpy(inside / inside.sum(1, keepdims=True)).to(like)


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


def _jpeg(x: Tensor, quality: int) -> Tensor:
    """JPEG's round trip with 4:2:0 chroma, rounding where libjpeg does (baseline, JFIF colours).

    All but the entropy coding, which loses nothing.
    """
    height, width = x.shape[2:]
    # whole 16 x 16 blocks, but chroma's rows are filled up after they are halved
    x = F.pad(x * 255, (0, -width % 16, 0, height % 2), mode="replicate")
    red, _, blue = x.unbind(1)
    luma = _grey(x)
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


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "snow": _snow, "frost": _frost, "fog": _fog, "brightness": _brightness, "contrast": _contrast,
    "spatter": _spatter, "elastic": _elastic, "jpeg": _jpeg, "pixelate": _pixelate,
    "saturate": _saturate,
}  # fmt: skip
