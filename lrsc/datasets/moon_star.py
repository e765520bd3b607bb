"""Moons and stars (after Geirhos et al. 2020): the shape is the class, its diagonal the bias."""

import functools

import numpy as np

from lrsc.datasets.biased import BiasedDataset, compose
from lrsc.datasets.raw.sources import Source, generated

VERSION = 1
find = generated
SIZE = 10_000  # samples of each split
SIDE = 64  # pixels of an image; a quadrant has 32
FINE = 4  # points a pixel and axis at which a shape is sampled


def build(
    source: Source,
    rho: float = 0.1,
    seed: int = 0,
    n_train: int | None = None,
    radius: float = 10.0,
    vary_size: float = 0.0,
    vary_angle: bool = False,
    standardise: bool = True,
) -> BiasedDataset:
    """White shapes on black, N x 1 x 64 x 64 uint8: y = 0 moon, 1 star; 10 000 of each split.

    b = 1 where the shape lies in the upper right or lower left quadrant, 0 in the other two; the
    place within the quadrant is random and the whole shape inside. radius: of the shape's circle,
    in pixels, at most 16. vary_size: largest share by which a shape's radius is smaller at random.
    vary_angle: shapes are turned at random. core_mask is the shape's pixels; the bias is a place,
    so there is no spurious_mask.
    """
    if not 1 <= radius <= SIDE / 4:
        raise ValueError(f"radius must be in [1, {SIDE // 4}] pixels, found {radius!r}")
    if not 0 <= vary_size < 1:
        raise ValueError(f"vary_size must be a share in [0, 1), found {vary_size!r}")
    rng = np.random.default_rng([VERSION, seed])
    y, y_test = (rng.permutation(np.arange(SIZE) % 2) for _ in range(2))

    def paint(is_test, chosen, bias, rng):
        kinds = (y_test if is_test else y)[chosen]
        x = np.zeros((len(kinds), 1, SIDE, SIDE), np.uint8)
        radii = radius * (1 - vary_size * rng.random(len(kinds)))
        angles = 2 * np.pi * rng.random(len(kinds)) * vary_angle
        lower, place = rng.integers(0, 2, len(kinds)), rng.random((len(kinds), 2))
        for i, key in enumerate(zip(kinds.tolist(), radii.tolist(), angles.tolist(), strict=True)):
            shape = _shape(*key)
            size = len(shape)
            # the right half where (upper and b = 1) or (lower and b = 0)
            quadrant = np.array([lower[i], bias[i] ^ lower[i]]) * (SIDE // 2)
            top, left = quadrant + np.floor(place[i] * (SIDE // 2 - size + 1)).astype(int)
            x[i, 0, top : top + size, left : left + size] = shape
        return {"x": x, "core_mask": x > 0}

    return compose(
        "moon_star", source, (y, y_test), paint, rho=rho, rng=rng, n_train=n_train, n_classes=2,
        standardise=standardise, class_names=("moon", "star"),
    )  # fmt: skip


@functools.lru_cache(maxsize=2)  # without variation all shapes of a kind are one
def _shape(kind: int, radius: float, angle: float) -> np.ndarray:
    """A moon (0) or star (1) in the square around its circle, uint8, with smooth edges."""
    size = min(int(np.ceil(2 * radius)), SIDE // 2)
    at = (np.arange(size * FINE) + 0.5) / FINE - size / 2
    across, down = at[None, :] / radius, at[:, None] / radius
    u = across * np.cos(angle) + down * np.sin(angle)
    v = down * np.cos(angle) - across * np.sin(angle)
    inside = _star(u, v) if kind else _moon(u, v)
    fine = inside.reshape(size, FINE, size, FINE).mean((1, 3))
    return np.round(255 * fine).astype(np.uint8)


def _moon(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The unit disc without a smaller one at its side."""
    return (u**2 + v**2 <= 1) & ((u - 0.45) ** 2 + v**2 > 0.75**2)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A five-pointed star in the unit circle, one point up: within one of five equal triangles."""
    fifth = 2 * np.pi / 5
    angle = (np.arctan2(u, -v) + fifth / 2) % fifth - fifth / 2  # from the nearest point's ray
    inner = np.cos(fifth) / np.cos(fifth / 2)  # radius at which two points meet
    # the edge from (1, 0) to the inner corner, in the point's own coordinates
    along, across = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.abs(np.sin(angle))
    corner = inner * np.cos(fifth / 2), inner * np.sin(fifth / 2)
    return (along - 1) * corner[1] - across * (corner[0] - 1) <= 0
