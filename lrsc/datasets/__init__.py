"""Data sets with a known spurious correlation: `load(name, ...) -> BiasedDataset`."""

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
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
from lrsc.datasets.own import from_arrays, from_folder, from_torch
from lrsc.datasets.raw.sources import Source, data_root, is_stand_in
from lrsc.errors import LARGEST, check_names, is_number, is_whole, plain, shown

__all__ = [
    "BiasedDataset", "Split", "check_options", "data_root", "from_arrays", "from_folder",
    "from_torch", "is_stand_in", "load", "names", "options", "resolve", "version",
]  # fmt: skip

MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        parity, moon_star, colored_mnist, double_mnist, mnist_cifar, corrupted_cifar10, celeba,
        waterbirds, cifar10, cifar100, imagenet,
    )
}  # fmt: skip
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
    given = {k: plain(v) for k, v in (given | other).items()}
    check_options(name, given)
    return builder(resolve(name, root, source), **given)


def check_options(name: str, given: Mapping) -> None:
    """Raise ValueError for options that `load` does not have for this data set, or of other types.

    Ranges that only one data set knows are checked when it is loaded.
    """
    known = options(name)
    check_names(f"option of data set {name!r}", given, known)
    for key, value in given.items():
        usual = known[key]
        whole = is_whole(value, -LARGEST)
        if key == "rho":
            fits, expected = is_number(value) and 0 <= value <= 1, "a share in [0, 1]"
        elif key in ("seed", "n_train"):
            least = 0 if key == "seed" else 1
            fits = (whole and value >= least) or (key == "n_train" and value is None)
            expected = f"a whole number >= {least} and at most 2^53"
        elif isinstance(usual, bool):
            fits, expected = isinstance(value, bool), "True or False"
        elif isinstance(usual, int):
            fits, expected = whole, "a whole number"
        elif isinstance(usual, float):
            fits, expected = is_number(value), "a finite number"
        else:
            fits = isinstance(value, str) or (usual is None and value is None)
            expected = "a name"
        if not fits:
            raise ValueError(f"{key} must be {expected}, found {shown(value)}")


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
