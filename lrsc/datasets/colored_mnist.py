"""Colored MNIST (after Nam et al. 2020): the digit is the class, its colour the bias."""

import numpy as np

from lrsc.datasets.biased import BiasedDataset, compose
from lrsc.datasets.raw import sources

VERSION = 1
find = sources.mnist
# Mean RGB of class 0..9, in 0..1 (Nam et al. 2020)
COLOURS = np.array([
    (0.984, 0.313, 0.169), (0.991, 0.916, 0.352), (0.673, 0.461, 0.580), (0.783, 0.832, 0.601),
    (0.088, 0.778, 0.982), (0.321, 0.961, 0.446), (0.025, 0.236, 0.759), (0.555, 0.102, 0.762),
    (0.208, 0.393, 0.019), (0.834, 0.202, 0.267),
])  # fmt: skip


def build(
    source: sources.Source,
    rho: float = 0.025,
    seed: int = 0,
    n_train: int | None = None,
    jitter: float = 0.005,
    standardise: bool = True,
) -> BiasedDataset:
    """Grey digits times one RGB colour each, N x 3 x 28 x 28 uint8.

    jitter: standard deviation of the colour per channel and image, in 0..1. standardise: inputs
    have the training set's per-channel mean 0 and deviation 1; False leaves pixels in 0..1.
    Digit and colour share their pixels, so there are no masks.
    """
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be in [0, 1), found {jitter!r}")
    grey, y, grey_test, y_test = source.content

    def paint(is_test, chosen, bias, rng):
        return {"x": _colour((grey_test if is_test else grey)[chosen], bias, jitter, rng)}

    return compose(
        "colored_mnist", source, (y, y_test), paint, rho=rho,
        rng=np.random.default_rng([VERSION, seed]), n_train=n_train, standardise=standardise,
        class_names=tuple("0123456789"),
    )  # fmt: skip


def _colour(grey, bias, jitter, rng) -> np.ndarray:
    colour = COLOURS[bias] + rng.normal(0, jitter, (len(bias), 3))
    colour = np.clip(colour, 0, 1).astype(np.float32)[:, :, None, None]
    x = np.empty((len(grey), 3, *grey.shape[1:]), np.uint8)
    for start in range(0, len(grey), 500):  # in parts that fit the processor's cache
        part = slice(start, start + 500)
        np.rint(grey[part, None] * colour[part], out=x[part], casting="unsafe")
    return x
