"""Data sets with a known spurious correlation: `load(name, ...) -> BiasedDataset`."""

import functools
import inspect
import logging
from collections.abc import Callable
from pathlib import Path

from lrsc.config import SOURCES
from lrsc.datasets import (
    celeba,
    cifar10,
    cifar100,
    colored_mnist,
    corrupted_cifar10,
    double_mnist,
    imagenet,
    mnist_cifar,
    moon_star,
    parity,
    waterbirds,
)
from lrsc.datasets.biased import BiasedDataset, Split
from lrsc.datasets.sources import Source, data_root, is_stand_in
from lrsc.errors import check_names

__all__ = [
    "BiasedDataset", "Split", "data_root", "is_stand_in", "load", "names", "options", "resolve",
    "version",
]  # fmt: skip

MODULES = {
    "parity": parity,
    "moon_star": moon_star,
    "colored_mnist": colored_mnist,
    "double_mnist": double_mnist,
    "mnist_cifar": mnist_cifar,
    "corrupted_cifar10": corrupted_cifar10,
    "celeba": celeba,
    "waterbirds": waterbirds,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "imagenet": imagenet,
}
_COMMON = ("rho", "seed", "n_train")
_log = logging.getLogger(__name__)


def names() -> list[str]:
    """Names of the data sets."""
    return list(MODULES)


def options(name: str) -> dict:
    """Options of `load` for this data set beyond root and source, with their defaults."""
    return {k: p.default for k, p in inspect.signature(_builder(name)).parameters.items()
            if k != "source"}  # fmt: skip


def version(name: str) -> int:
    """Integer version of the data set's code: part of every run's name."""
    check_names("data set", [name], MODULES)
    return MODULES[name].VERSION


def load(
    name: str,
    rho: float | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    source: str = "auto",
    n_train: int | None = None,
    **other,
) -> BiasedDataset:
    """Build a data set with exact bias counts; the same arguments give the same bytes.

    rho: share of bias-conflicting training samples, in [0, 1]; None is the data set's default.
    seed: data seed (allocation, colours, order). root: data root, else $LRSC_DATA, else the
    user's data folder. source: 'real', 'embedded' or 'auto' (real if present). n_train: a subset
    of the training samples, classes in proportion. other: `datasets.options(name)`.
    Raises ValueError for an unknown name or option or a value out of range, DataMissing if real
    data are asked for and absent, ValueError if a file is damaged.
    """
    builder = _builder(name)
    given = {k: v for k, v in zip(_COMMON, (rho, seed, n_train), strict=True) if v is not None}
    check_names(f"option of data set {name!r}", given | other, options(name))
    if rho is not None and not (isinstance(rho, int | float) and 0 <= rho <= 1):
        raise ValueError(f"rho must be a share in [0, 1], found {rho!r}")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number >= 0, found {seed!r}")
    if n_train is not None and (not isinstance(n_train, int) or n_train < 1):
        raise ValueError(f"n_train must be a whole number >= 1, found {n_train!r}")
    return builder(resolve(name, root, source), **given, **other)


def resolve(name: str, root: str | Path | None = None, source: str = "auto") -> Source:
    """Which raw data `load` would use: its source_id, the checksum of its content, the content."""
    check_names("data set", [name], MODULES)
    check_names("source", [source], SOURCES)
    return _resolve(name, data_root(root), source)


@functools.lru_cache(maxsize=4)
def _resolve(name: str, root: Path, source: str) -> Source:
    found = MODULES[name].find(root, source)
    if source == "auto" and is_stand_in(found.source_id):
        _log.warning(
            "%s: real data not found under %s; using the embedded stand-in %r "
            "(pass source='real' to insist)", name, root, found.source_id,
        )  # fmt: skip
    return found


def _builder(name: str) -> Callable[..., BiasedDataset]:
    check_names("data set", [name], MODULES)
    return MODULES[name].build
