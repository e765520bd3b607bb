"""Data sets with a known spurious correlation: `load(name, ...) -> BiasedDataset`."""

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lrsc.config import SOURCES
from lrsc.datasets import (
    celeba,
    cifar10,
    cifar100,
    colored_mnist,
    corrupted_cifar10,
    double_mnist,
    imagenet,
    imports,
    mnist_cifar,
    moon_star,
    parity,
    waterbirds,
)
from lrsc.datasets.biased import BiasedDataset, Split
from lrsc.datasets.own import Own, from_arrays, from_folder, from_torch
from lrsc.datasets.raw.sources import SINGLE, Source, data_root, is_stand_in
from lrsc.errors import LARGEST, check_names, is_number, is_whole, plain, shown, unknown

__all__ = [
    "SINGLE", "BiasedDataset", "Split", "check_name", "check_options", "data_root", "from_arrays",
    "from_folder", "from_torch", "is_ours", "is_own", "is_stand_in", "load", "names", "options",
    "register_dataset", "resolve", "version",
]  # fmt: skip

MODULES: dict[str, Any] = {  # and those that users register
    module.__name__.rpartition(".")[2]: module
    for module in (
        parity, moon_star, colored_mnist, double_mnist, mnist_cifar, corrupted_cifar10, celeba,
        waterbirds, cifar10, cifar100, imagenet,
    )
}  # fmt: skip
_OURS = frozenset(MODULES)
_COMMON = ("rho", "seed", "n_train")
_log = logging.getLogger(__name__)


def register_dataset(name: str, loader: Callable[..., BiasedDataset], version: int = 1) -> None:
    """Give your own data set a name, which then works wherever the library's names do.

    loader: a function that returns a `BiasedDataset`. Its arguments, including rho, seed and
    n_train if it has them, are the data set's options: numbers, names or lists of these. They enter
    a run's name, with a digest of what the loader returns (for images on disk, of their names and
    sizes) and the version, a whole number >= 1: raise it when the code changes. Other processes
    import the loader, so it must be in a module if they are to train. An import path,
    package.module:function, does the same without registration (its version is the module's
    VERSION, or 1 if it has none). Registering a name again replaces it. Raises ValueError for a
    library name.
    """
    imports.check_new("data set", name, loader, _OURS)
    MODULES[name] = Own(name, loader, imports.check_version(version))


def check_name(name: str) -> None:
    """Raise ValueError unless it is a data set's name or an import path, which is imported here."""
    if imports.is_path(name) and name not in MODULES:
        loader = imports.found("data set", name)
        MODULES[name] = Own(name, loader, imports.version(loader))
    if not isinstance(name, str) or name not in MODULES:
        raise ValueError(f"{unknown('data set', name, MODULES)}{imports.own('dataset')}")


def is_ours(name: str) -> bool:
    """Whether a name is one of the library's."""
    return name in _OURS


def is_own(name: object) -> bool:
    """Whether a name was registered in this process or is an import path."""
    return isinstance(name, str) and name not in _OURS and (":" in name or name in MODULES)


def names() -> list[str]:
    """Names of the data sets."""
    return list(MODULES)


def options(name: str) -> dict:
    """Options of `load` for this data set beyond root and source, with their defaults.

    For your own data sets, options without a default have `inspect.Parameter.empty`.
    """
    check_name(name)
    if isinstance(own := MODULES[name], Own):
        return own.options
    return {k: p.default for k, p in inspect.signature(own.build).parameters.items()
            if k != "source"}  # fmt: skip


def version(name: str) -> int:
    """Integer version of the data set's code: part of every run's name."""
    check_name(name)
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
    user's data folder. source: 'real', 'embedded' or 'auto' (real if present). n_train: size of a
    subset of the training samples, with classes in proportion. other: `datasets.options(name)`.
    Raises ValueError for an unknown name or option or a value out of range, DataMissing if real
    data are asked for and absent, ValueError if a file is damaged.
    """
    known = options(name)  # which checks the name
    given = {k: v for k, v in zip(_COMMON, (rho, seed, n_train), strict=True)
             if v is not None and (k in known or k != "seed" or v)}  # fmt: skip
    given = {k: plain(v) for k, v in (given | other).items()}
    check_options(name, given)
    if isinstance(module := MODULES[name], Own):
        return module.build(given)
    return module.build(resolve(name, root, source), **given)


def check_options(name: str, given: Mapping) -> None:
    """Raise ValueError for options that `load` lacks for this data set, or of the wrong type.

    Ranges that only one data set has are checked when it is loaded.
    """
    known = options(name)
    check_names(f"option of data set {name!r}", given, known)
    if isinstance(MODULES[name], Own):
        return  # the loader knows the rest
    for key, value in given.items():
        fits, expected = _expected(key, value, known[key])
        if not fits:
            raise ValueError(f"{key} must be {expected}, found {shown(value)}")


def _expected(key: str, value: Any, usual: object) -> tuple[bool, str]:
    """Whether a value is of the kind that an option takes, and which that is."""
    if key == "rho":
        return is_number(value) and 0 <= value <= 1, "a share in [0, 1]"
    if key in ("seed", "n_train"):
        least = 0 if key == "seed" else 1
        fits = is_whole(value, least) or (key == "n_train" and value is None)
        return fits, f"a whole number >= {least} and at most 2^53"
    if isinstance(usual, bool):
        return isinstance(value, bool), "True or False"
    if isinstance(usual, int):
        return is_whole(value, -LARGEST), "a whole number"
    if isinstance(usual, float):
        return is_number(value), "a finite number"
    return isinstance(value, str) or (usual is None and value is None), "a name"


def resolve(
    name: str, root: str | Path | None = None, source: str = "auto",
    options: Mapping | None = None,
) -> Source:  # fmt: skip
    """The raw data that `load` would use: source_id, checksum of the content, and the content.

    options: those of your own data set, whose content depends on them.
    """
    check_name(name)
    check_names("source", [source], SOURCES)
    if isinstance(own := MODULES[name], Own):
        return own.find(options or {})
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
