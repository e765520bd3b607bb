"""CIFAR-10 (Krizhevsky 2009): ten kinds of objects, no bias labels."""

import functools

import numpy as np
import torch

from lrsc.datasets import cifar
from lrsc.datasets.biased import BiasedDataset, Split, stratified
from lrsc.datasets.raw.sources import Source
from lrsc.errors import check_names

VERSION = 1
HALVES = ("A", "B")
MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
find = functools.partial(cifar.find, "cifar10")


def build(
    source: Source, seed: int = 0, n_train: int | None = None, half: str | None = None
) -> BiasedDataset:
    """N x 3 x 32 x 32 uint8, 50 000 + 10 000, standardised by fixed constants.

    half: 'A' or 'B' of the training samples, which `n_train` has chosen; drawn at random within
    classes, so that what one half teaches can be tried on the other.
    """
    constants, names = (MEAN, STD), cifar.CIFAR10_NAMES
    return plain("cifar10", source, constants, names, seed, n_train, VERSION, half)


def plain(name, source, constants, class_names, seed, n_train, version, half) -> BiasedDataset:
    """A data set of images without bias labels."""
    x, y, x_test, y_test = source.content
    mean, std = (torch.tensor(values) for values in constants)
    if n_train is not None:
        chosen = stratified(y, n_train, np.random.default_rng([version, seed]))
        x, y = x[chosen], y[chosen]
    if half is not None:
        check_names("half", [half], HALVES)
        chosen = halves(y, seed, version)[HALVES.index(half)]
        x, y = x[chosen], y[chosen]
    train, test = (
        Split(torch.from_numpy(np.array(a)), torch.from_numpy(b.astype(np.int64)),
              mean=mean, std=std)
        for a, b in ((x, y), (x_test, y_test))
    )  # fmt: skip
    return BiasedDataset(
        name, train, test, len(class_names), source.source_id, source.checksum,
        class_names=class_names,
    )  # fmt: skip


def halves(y: np.ndarray, seed: int = 0, version: int = VERSION) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the halves A and B of training samples with these labels."""
    first = stratified(y, (len(y) + 1) // 2, np.random.default_rng([version, seed, 1]))
    return first, np.setdiff1d(np.arange(len(y)), first)
