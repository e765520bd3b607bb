"""CIFAR-100 (Krizhevsky 2009): a hundred kinds of objects, no bias labels."""

import functools

from lrsc.datasets import cifar, cifar10
from lrsc.datasets.biased import BiasedDataset
from lrsc.datasets.raw.sources import Source

VERSION = 1
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
find = functools.partial(cifar.find, "cifar100")


def build(
    source: Source, seed: int = 0, n_train: int | None = None, half: str | None = None
) -> BiasedDataset:
    """N x 3 x 32 x 32 uint8, 50 000 + 10 000, fine labels; half as in CIFAR-10."""
    names = tuple(f"class {i}" for i in range(100))
    return cifar10.plain("cifar100", source, (MEAN, STD), names, seed, n_train, VERSION, half)
