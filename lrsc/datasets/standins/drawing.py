"""Small pictures drawn from a random generator: an object with a known mask on a texture.

They stand in for photographs where there are none. Pictures are N x S x S x 3 float32 in 0..1,
masks N x S x S bool. Nothing of a published image is in them.
"""

from collections.abc import Callable

import numpy as np


def _within(u: np.ndarray, v: np.ndarray, side: float = 0.85) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) <= side


_SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda u, v: u**2 + v**2 <= 0.85,
    "square": lambda u, v: _within(u, v, 0.8),
    "triangle": lambda u, v: (v <= 0.75) & (np.abs(u) <= (v + 0.95) * 0.55),
    "cross": lambda u, v: _within(u, v) & (np.minimum(np.abs(u), np.abs(v)) <= 0.25),
    "ring": lambda u, v: (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.4),
    "star": lambda u, v: u**2 + v**2 <= (0.68 + 0.32 * np.cos(5 * np.arctan2(u, -v))) ** 2,
    "crescent": lambda u, v: (u**2 + v**2 <= 1) & ((u - 0.45) ** 2 + v**2 >= 0.55),
    "bars": lambda u, v: _within(u, v) & (np.floor((v + 0.85) / 0.34) % 2 == 0),
    "hourglass": lambda u, v: _within(u, v) & (np.abs(u) <= np.abs(v) + 0.08),
    "arrow": lambda u, v: (
        (np.abs(v) <= 0.22) & (np.abs(u) <= 0.9) | (u >= 0.1) & (u + np.abs(v) <= 0.95)
    ),
}
SHAPES = tuple(_SHAPES)
HUES = (
    "red", "orange", "yellow", "lime", "green", "teal", "sky", "blue", "violet", "pink",
)  # fmt: skip

Picture = tuple[np.ndarray, np.ndarray]


def birds(y: np.ndarray, place: np.ndarray, size: int, rng: np.random.Generator) -> Picture:
    """Land birds (y = 0: round, short beak) and water birds (1: long neck) before a place.

    place 0 is land (upright stripes of green and brown), 1 water (level stripes of blue). Both
    kinds of bird have any colour.
    """
    n = len(y)
    land = texture(n, size, (16, 3), ((0.16, 0.34, 0.10), (0.46, 0.42, 0.20)), rng)
    water = texture(n, size, (3, 16), ((0.10, 0.28, 0.52), (0.50, 0.70, 0.86)), rng)
    picture = np.where(place[:, None, None, None] == 0, land, water)
    u, v = coordinates(n, size, rng, scale=(0.30, 0.42), shift=0.12)
    body = np.where(
        y[:, None, None] == 0,
        _ellipse(u, v, 0, 0.1, 0.62, 0.5)
        | _ellipse(u, v, 0.5, -0.42, 0.32, 0.32)
        | _line(u, v, (-0.5, 0.1), (-1.05, -0.15), 0.14)
        | _line(u, v, (0.8, -0.4), (1.02, -0.36), 0.08),
        _ellipse(u, v, -0.1, 0.3, 0.85, 0.34)
        | _line(u, v, (0.55, 0.2), (0.62, -0.75), 0.12)
        | _ellipse(u, v, 0.66, -0.82, 0.18, 0.16)
        | _line(u, v, (0.8, -0.82), (1.3, -0.74), 0.06),
    )
    return _paint(picture, body, rng.uniform(0.1, 0.95, (n, 3)), rng), body


def faces(y: np.ndarray, bias: np.ndarray, size: int, rng: np.random.Generator) -> Picture:
    """Faces with blond (y = 1) or other hair; b = 1 has red lips, b = 0 a beard. Mask: the hair.

    Hair of any other colour is dark, brown, red-brown or grey; how bright the light is varies, so
    that it takes more than brightness to know blond hair.
    """
    n = len(y)
    picture = texture(n, size, (4, 4), (rng.uniform(0, 1, (n, 3)), rng.uniform(0, 1, (n, 3))), rng)
    u, v = coordinates(n, size, rng, scale=(0.40, 0.46), shift=0.04)
    face = _ellipse(u, v, 0, 0.15, 0.58, 0.78)
    hair = _ellipse(u, v, 0, -0.12, 0.82, 0.92) & ~_ellipse(u, v, 0, 0.25, 0.55, 0.72) & (v < 0.6)
    skin = np.array([0.45, 0.30, 0.22]) + rng.uniform(0, 1, (n, 1)) * [0.47, 0.45, 0.42]
    other = np.array([(0.16, 0.12, 0.10), (0.66, 0.50, 0.36), (0.62, 0.36, 0.24), (0.62, 0.6, 0.6)])
    colour = np.where(y[:, None] == 1, [0.85, 0.72, 0.42], other[rng.integers(0, 4, n)])
    picture = _paint(picture, face, skin, rng)
    picture = _paint(picture, hair, colour + rng.normal(0, 0.06, (n, 3)), rng)
    for side in (-0.22, 0.22):
        picture = _paint(picture, _ellipse(u, v, side, 0.1, 0.09, 0.06), np.full((n, 3), 0.1), rng)
    mouth = _ellipse(u, v, 0, 0.52, 0.24, 0.1)
    beard = _ellipse(u, v, 0, 0.55, 0.52, 0.40) & face & ~mouth & ~hair
    picture = _paint(picture, beard & (bias[:, None, None] == 0), skin * 0.25, rng)
    lips = np.where(bias[:, None] == 1, [0.80, 0.12, 0.18], skin * 0.8)
    bright = rng.uniform(0.5, 1.1, (n, 1, 1, 1)).astype(np.float32)
    return _paint(picture, mouth, lips, rng) * bright, hair


def objects(shape: np.ndarray, hue: np.ndarray, size: int, rng: np.random.Generator) -> Picture:
    """Objects of one of ten SHAPES and ten HUES, anywhere, on greyish textures."""
    n = len(shape)
    grey = rng.uniform(0.1, 0.9, (n, 2, 1)) + rng.normal(0, 0.06, (n, 2, 3))
    picture = texture(n, size, (6, 6), (grey[:, 0], grey[:, 1]), rng)
    u, v = coordinates(n, size, rng, scale=(0.26, 0.42), shift=0.15)
    mask = np.zeros((n, size, size), bool)
    for k in np.unique(shape):
        of = shape == k
        mask[of] = _SHAPES[SHAPES[k]](u[of], v[of])
    angle = 2 * np.pi * (hue / len(HUES) + rng.normal(0, 0.06, n))
    third = 2 * np.pi / 3
    colour = 0.5 + 0.45 * np.cos(angle[:, None] - third * np.arange(3))
    return _paint(picture, mask, colour * rng.uniform(0.75, 1.05, (n, 1)), rng), mask


def texture(n: int, size: int, cells, colours, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise between two colours (3 or N x 3 values each), `cells` (across, down) blobs."""
    low, high = (np.asarray(c, np.float32).reshape(-1, 1, 1, 3) for c in colours)
    return low + (high - low) * _noise(n, size, cells, rng)


def coordinates(
    n: int, size: int, rng: np.random.Generator, scale: tuple[float, float], shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """u, v (N x S x S) of an object's own frame: its radius is a share `scale` of the side.

    The centre lies within `shift` sides of the middle; half of the objects are mirrored.
    """
    at = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    radius = rng.uniform(*scale, (n, 1, 1)).astype(np.float32)
    centre = rng.uniform(-shift, shift, (2, n, 1, 1)).astype(np.float32)
    mirrored = rng.integers(0, 2, (n, 1, 1)).astype(np.float32) * 2 - 1
    u = (at[None, None, :] - centre[0]) / radius * mirrored
    v = (at[None, :, None] - centre[1]) / radius
    return np.broadcast_to(u, (n, size, size)), np.broadcast_to(v, (n, size, size))


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """0..1 -> 0..255."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _paint(picture, mask, colour, rng) -> np.ndarray:
    """Fill each mask with its colour (N x 3), with some light and shade."""
    n, size = mask.shape[:2]
    light = np.float32(0.8) + np.float32(0.35) * _noise(n, size, (5, 5), rng)
    image, row, column = np.nonzero(mask)
    picture = picture.copy()
    picture[image, row, column] = np.asarray(colour, np.float32)[image] * light[image, row, column]
    return picture


def _noise(n: int, size: int, cells, rng: np.random.Generator) -> np.ndarray:
    """N x S x S x 1 in 0..1: random values at the cells and at twice as many, interpolated."""
    mix = np.zeros((n, size, size), np.float32)
    for octave, weight in ((1, np.float32(0.7)), (2, np.float32(0.3))):
        across, down = (min(c * octave, size) for c in cells)
        values = rng.random((n, down, across), np.float32)
        mix += weight * (_interpolation(size, down) @ values @ _interpolation(size, across).T)
    return mix[..., None]


def _interpolation(size: int, cells: int) -> np.ndarray:
    """size x cells: linear interpolation between the centres of the cells."""
    at = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    return np.clip(1 - np.abs(at[:, None] - np.arange(cells)), 0, 1).astype(np.float32)


def _ellipse(u, v, x: float, y: float, a: float, b: float) -> np.ndarray:
    return ((u - x) / a) ** 2 + ((v - y) / b) ** 2 <= 1


def _line(u, v, start, end, half_width: float) -> np.ndarray:
    along = np.subtract(end, start)
    share = ((u - start[0]) * along[0] + (v - start[1]) * along[1]) / (along**2).sum()
    share = np.clip(share, 0, 1)
    away = (u - start[0] - share * along[0]) ** 2 + (v - start[1] - share * along[1]) ** 2
    return away <= half_width**2
