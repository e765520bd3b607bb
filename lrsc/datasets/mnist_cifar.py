"""MNIST-CIFAR (after Shah et al. 2020): the CIFAR image is the class, a digit over it the bias."""

from pathlib import Path

import numpy as np

from lrsc.datasets import cifar
from lrsc.datasets.biased import BiasedDataset, compose, partners
from lrsc.datasets.raw import sources
from lrsc.errors import DataMissing

VERSION = 1
SIDE = 32


def find(root: Path, source: str) -> sources.Source:
    """MNIST and CIFAR-10 under the data root; stand-ins for both where one is absent."""
    if source != "embedded":
        try:
            return _both(sources.mnist(root, "real"), cifar.find("cifar10", root, "real"))
        except DataMissing:
            if source == "real":
                raise
    return _both(sources.digits(), cifar.miniature("cifar10"))


def _both(digits: sources.Source, images: sources.Source) -> sources.Source:
    name = f"{digits.source_id}+{images.source_id}"
    checksum = f"{digits.checksum}+{images.checksum}"
    return sources.Source(name, checksum, (digits.content, images.content))


def build(
    source: sources.Source,
    rho: float = 0.1,
    seed: int = 0,
    n_train: int | None = None,
    standardise: bool = True,
) -> BiasedDataset:
    """A digit, padded to 32 x 32, on top of a CIFAR-10 image: N x 3 x 64 x 32 uint8.

    The digit is drawn from its class in the same split of MNIST, each image once before any comes
    again. core_mask is the lower half, spurious_mask the upper one.
    """
    (grey, digit, grey_test, digit_test), (images, y, images_test, y_test) = source.content

    def paint(is_test, chosen, bias, rng):
        top, labels = (grey_test, digit_test) if is_test else (grey, digit)
        digits = np.pad(top, ((0, 0), (2, 2), (2, 2)))[partners(bias, labels, rng)]
        x = np.empty((len(chosen), 3, 2 * SIDE, SIDE), np.uint8)
        x[:, :, :SIDE] = digits[:, None]
        x[:, :, SIDE:] = (images_test if is_test else images)[chosen]
        upper = np.arange(2 * SIDE)[None, None, :, None] < SIDE
        upper = np.broadcast_to(upper, (1, 1, 2 * SIDE, SIDE)).copy()
        return {"x": x, "core_mask": ~upper, "spurious_mask": upper}

    return compose(
        "mnist_cifar", source, (y, y_test), paint, rho=rho,
        rng=np.random.default_rng([VERSION, seed]), n_train=n_train, standardise=standardise,
        class_names=cifar.CIFAR10_NAMES,
    )  # fmt: skip
