"""Corrupted CIFAR-10 (after Nam et al. 2020): the object is the class, a corruption the bias."""

import functools
import hashlib
from pathlib import Path

import numpy as np
import torch

from lrsc.datasets import cifar
from lrsc.datasets.biased import BiasedDataset, compose
from lrsc.datasets.raw import cache
from lrsc.datasets.raw.sources import Source

VERSION = 1
find = functools.partial(cifar.find, "cifar10")


def build(
    source: Source,
    rho: float = 0.1,
    seed: int = 0,
    n_train: int | None = None,
    severity: int = 4,
    standardise: bool = True,
) -> BiasedDataset:
    """CIFAR-10 images with one of ten corruptions each, N x 3 x 32 x 32 uint8.

    Bias label k is the k-th of `corruptions.NAMES`. severity: 1 to 5. The images are kept in the
    cache folder: the next load with the same arguments reads them. Object and corruption share
    their pixels, so there are no masks. Hendrycks and Dietterich 2019.
    """
    images, y, images_test, y_test = source.content

    def paint(is_test, chosen, bias, rng):
        noise = int(rng.integers(2**31))
        drawn = hashlib.sha256(chosen.tobytes() + bias.tobytes()).hexdigest()[:16]
        key = f"corrupted_cifar10-{VERSION}-{source.checksum[:16]}-{severity}-{noise}-{drawn}"

        def make(folder: Path) -> None:
            clean = (images_test if is_test else images)[chosen]
            np.save(folder / "x.npy", _corrupt(clean, bias, severity, noise))

        return {"x": np.array(cache.arrays(key, make)["x"])}

    return compose(
        "corrupted_cifar10", source, (y, y_test), paint, rho=rho,
        rng=np.random.default_rng([VERSION, seed]), n_train=n_train, standardise=standardise,
        class_names=cifar.CIFAR10_NAMES,
    )  # fmt: skip


def _corrupt(clean: np.ndarray, bias: np.ndarray, severity: int, seed: int) -> np.ndarray:
    from lrsc.datasets import corruptions

    x = np.empty_like(clean)
    for k, name in enumerate(corruptions.NAMES):
        members = np.flatnonzero(bias == k)
        if len(members):
            part = torch.from_numpy(clean[members])
            x[members] = corruptions.corrupt(part, name, severity, seed + k).numpy()
    return x
