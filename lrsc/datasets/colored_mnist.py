"""Colored MNIST (after Nam et al. 2020): the digit is the class, its colour the bias."""

from pathlib import Path

import numpy as np
import torch

from lrsc.datasets import sources
from lrsc.datasets.biased import BiasedDataset, Split, biased_labels, stratified, unbiased_labels
from lrsc.datasets.sources import Source

VERSION = 1
# Mean RGB of class 0..9, in 0..1 (Nam et al. 2020)
COLOURS = np.array([
    (0.984, 0.313, 0.169), (0.991, 0.916, 0.352), (0.673, 0.461, 0.580), (0.783, 0.832, 0.601),
    (0.088, 0.778, 0.982), (0.321, 0.961, 0.446), (0.025, 0.236, 0.759), (0.555, 0.102, 0.762),
    (0.208, 0.393, 0.019), (0.834, 0.202, 0.267),
])  # fmt: skip
COLOUR_NAMES = (
    "orange", "yellow", "mauve", "olive", "cyan", "green", "blue", "purple", "moss", "crimson",
)  # fmt: skip


def find(root: Path, source: str) -> Source:
    """MNIST under the data root, or the embedded digits."""
    if source == "real" or (source == "auto" and sources.has_mnist(root)):
        return sources.mnist(root)
    return sources.digits()


def build(
    source: Source,
    rho: float = 0.025,
    seed: int = 0,
    n_train: int | None = None,
    jitter: float = 0.005,
    standardise: bool = True,
) -> BiasedDataset:
    """Grey digits times one RGB colour each, N x 3 x 28 x 28 uint8.

    jitter: standard deviation of the colour per channel and image, in 0..1. standardise: inputs
    have the training set's per-channel mean 0 and deviation 1; False leaves pixels in 0..1.
    Digit and colour share their pixels, so there are no masks. SPEC section 2.
    """
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be in [0, 1), found {jitter!r}")
    grey, y, grey_test, y_test = source.content
    y, y_test = y.astype(np.int64), y_test.astype(np.int64)
    rng = np.random.default_rng([VERSION, seed])
    bias_test = unbiased_labels(y_test, 10, rng)
    x_test = _colour(grey_test, bias_test, jitter, rng)
    if n_train is not None:
        chosen = stratified(y, n_train, rng)
        grey, y = grey[chosen], y[chosen]
    bias = biased_labels(y, 10, rho, rng)
    x = _colour(grey, bias, jitter, rng)
    constants = _mean_std(x) if standardise else {}
    return BiasedDataset(
        "colored_mnist",
        _split(x, y, bias, constants),
        _split(x_test, y_test, bias_test, constants),
        10,
        source.source_id,
        source.checksum,
        class_names=tuple("0123456789"),
    )


def _colour(grey, bias, jitter, rng) -> np.ndarray:
    colour = COLOURS[bias] + rng.normal(0, jitter, (len(bias), 3))
    colour = np.clip(colour, 0, 1).astype(np.float32)[:, :, None, None]
    x = np.empty((len(grey), 3, *grey.shape[1:]), np.uint8)
    for start in range(0, len(grey), 500):  # in parts that fit the processor's cache
        part = slice(start, start + 500)
        np.rint(grey[part, None] * colour[part], out=x[part], casting="unsafe")
    return x


def _mean_std(x: np.ndarray) -> dict:
    counts = np.stack([np.bincount(x[:, c].reshape(-1), minlength=256) for c in range(3)])
    share, value = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = share @ value
    std = np.sqrt(share @ value**2 - mean**2)
    return {k: torch.tensor(v, dtype=torch.float32) for k, v in (("mean", mean), ("std", std))}


def _split(x, y, bias, constants) -> Split:
    return Split(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(bias), **constants)
