"""What CelebA, Waterbirds and ImageNet share: lists read with care, splits whose images stream."""

import codecs
import csv
import dataclasses
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from lrsc.datasets.augment import random_resized_crop_flip
from lrsc.datasets.biased import BiasedDataset, Split, stratified
from lrsc.datasets.images import Images
from lrsc.datasets.raw import files
from lrsc.datasets.raw.files import Files
from lrsc.datasets.raw.sources import Source, located
from lrsc.datasets.standins import miniatures
from lrsc.errors import DataMissing, is_whole, shown

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in units of 0..1
Labelled = tuple[Files, np.ndarray]  # images, their classes
Augment = Callable[[Tensor, torch.Generator], Tensor]
_log = logging.getLogger(__name__)


SPLITS = ("train", "val", "test")  # 0, 1, 2 in the lists of CelebA and Waterbirds


def folder(name: str, root: Path, source: str, needs: Sequence[Sequence[str]]) -> Path:
    """Where a set lies: <root>/<name>, or the miniature's folder; needs as in `located`."""
    is_there = located(name, root / name, source, needs)
    return (root if is_there else miniatures.folder(name)) / name


def found(
    name: str, place: Path, published: int, lists: Sequence[bytes], parts: Sequence[Files], content
) -> Source:
    """The source at a place: the published set, unless a mark says that it is a miniature.

    Its checksum is over what the lists say, and the names and sizes of the images in all parts.
    """
    checksum = files.checksum(lists, parts)
    if (place / miniatures.MARK).is_file():
        return Source(f"miniature-{name}", checksum, content)
    n = sum(map(len, parts))
    if n != published:
        _log.warning("%s in %s has %d images, the published set %d", name, place, n, published)
    return Source(name, checksum, content)


def damaged(path: Path, line: int, has: object, expected: str) -> ValueError:
    """The error for a bad line of a list."""
    return ValueError(
        f"{path}, line {line}: found {shown(has)}, expected {expected}. The file is damaged: fetch "
        "it again."
    )


def rows(path: Path) -> list[str]:
    """Lines of a list, without a byte order mark; DataMissing if it cannot be read."""
    try:
        data = path.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as Excel saves text
        return data.decode("utf-16" if wide else "utf-8-sig").rstrip().splitlines()
    except OSError as error:
        raise DataMissing(f"{path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}. Fetch it again.") from error


def fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line of a list, by commas, semicolons, tabs or blanks."""
    lines = rows(path)
    separator = next((s for s in ",;\t" if any(s in line for line in lines[:2])), None)
    if separator is None:
        split: Iterable[list[str]] = map(str.split, lines)
    else:
        split = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        for line, found in enumerate(split, 1):
            yield line, found or [""]
    except csv.Error as error:
        raise ValueError(f"{path} is damaged: {error}. Fetch it again.") from error


def number(path: Path, line: int, text: str, n: int, what: str, first: int = 0) -> int:
    """A whole number in first, ..., first + n - 1 from a list; the error names file and line.

    So is 1.0, as pandas writes it.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (first <= value < first + n and value.is_integer()):
        raise damaged(path, line, text, f"{what}, a number from {first} to {first + n - 1}")
    return int(value)


def in_order(path: Path, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Names as bytes, sorted, and their rows in the list; ValueError for one that comes twice."""
    names = np.array([os.fsencode(name) for name in texts])
    rows = np.argsort(names)
    found = names[rows]
    twice = found[1:][found[1:] == found[:-1]]
    if len(twice):
        raise ValueError(f"{path} lists {twice[0].decode(errors='replace')} more than once")
    return found, rows


def class_folders(place: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are left out."""
    with os.scandir(place) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def by_folder(place: Path, names: list[str]) -> Labelled:
    """The images of class folders of these names, and their classes, numbered in this order.

    ValueError for a folder of another name, one without images, and images outside all.
    """
    found = files.listed(place, depth=2)
    classes = [name.rpartition(b"/")[0] for name in found.names.tolist()]
    if b"" in classes:
        loose = os.fsdecode(found.names[classes.index(b"")])
        raise ValueError(f"{place / loose} lies in no class folder: move it into one, or away")
    known = {os.fsencode(name): k for k, name in enumerate(names)}
    for folder in sorted({*classes, *map(os.fsencode, class_folders(place))}):
        if folder not in known:
            raise ValueError(
                f"{place / os.fsdecode(folder)} holds images of a class that train does not have"
            )
    empty = sorted(known.keys() - set(classes))
    if empty:
        raise ValueError(
            f"{place / os.fsdecode(empty[0])} holds no image: each class needs some. Unpack the "
            "set again, or take the class's folder out of all splits."
        )
    return found, np.array([known[name] for name in classes], np.int64)


def masks(place: Path, names: np.ndarray, listed_in: Path) -> Files | None:
    """The masks of a miniature's images, which the published sets do not have."""
    if not (place / "masks").is_dir():
        return None
    pngs = np.array([name.rpartition(b".")[0] + b".png" for name in names.tolist()])
    return files.listed(place / "masks", depth=2).select(pngs, listed_in)


def streamed(
    found: Files, y: np.ndarray, bias: np.ndarray | None = None, masks: Files | None = None, *,
    size: int, short: int | None = None,
) -> Split:  # fmt: skip
    """A split whose images stay on disk, with its labels and the masks of the core.

    size, short: as in `decode`.
    """
    if not is_whole(size, 1):
        raise ValueError(f"size must be a whole number of pixels >= 1, found {size!r}")
    return Split(
        Images(found, size, short),
        torch.from_numpy(y),
        None if bias is None else torch.from_numpy(bias),
        core_mask=None if masks is None else _masks(Images(masks, size, short)),
        mean=torch.tensor(MEAN),
        std=torch.tensor(STD),
    )


def by_name(whole: Split, of: np.ndarray) -> dict[str, Split]:
    """The splits, where the one that each row is of is given as 0, 1, 2."""
    rows = (torch.from_numpy(np.flatnonzero(of == k)) for k in range(len(SPLITS)))
    return dict(zip(SPLITS, map(whole.take, rows), strict=True))


def dataset(
    name: str,
    source: Source,
    parts: Mapping[str, Split],
    class_names: tuple[str, ...],
    *,
    version: int,
    seed: int = 0,
    n_train: int | None = None,
    cache: bool = False,
    augment: Augment | None = None,
) -> BiasedDataset:
    """A data set of streamed images from its parts 'train', 'test' and perhaps 'val'.

    n_train: a subset, (class, bias) groups in proportion. cache: each split is resized once into
    a memory-mapped file of the cache folder. augment: of the training split, on the device. Raises
    ValueError for a class without images in the training or test split.
    """
    for split in ("train", "test"):
        empty = torch.bincount(parts[split].y, minlength=len(class_names)) == 0
        if empty.any():
            k, images = int(empty.nonzero()[0]), cast(Images, parts[split].x)
            raise ValueError(
                f"class {k} ({class_names[k]}) of {name} has no image in the {split} split "
                f"({cast(Files, images.source).place})"
            )
    splits = {split: part for split, part in parts.items() if len(part)}
    if n_train is not None:
        train = splits["train"]
        groups = train.y if train.bias is None else train.y * (train.bias.max() + 1) + train.bias
        chosen = stratified(groups.numpy(), n_train, np.random.default_rng([version, seed]))
        splits["train"] = train.take(torch.from_numpy(chosen))
    if cache:
        size = splits["train"].x.shape[-1]
        key = f"{name}-{{}}-{version}-{size}-{source.checksum[:16]}"
        splits = {split: _cached(part, key.format(split)) for split, part in splits.items()}
    training = dataclasses.replace(splits["train"], augment=augment)
    return BiasedDataset(
        name, training, splits["test"], len(class_names), source.source_id,
        source.checksum, val=splits.get("val"), class_names=class_names,
    )  # fmt: skip


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """70 to 100 % of each image's area, mirrored at random (as Sagawa et al. 2020 augment)."""
    return random_resized_crop_flip(x, generator, scale=(0.7, 1.0))


def _cached(split: Split, key: str) -> Split:
    x = cast(Images, split.x)  # a subset has an entry of its own
    names = cast(Files, x.source).names[x.rows.numpy()].tobytes()
    own = hashlib.sha256(names + f"{x.short}".encode()).hexdigest()
    return dataclasses.replace(split, x=Images(x.cached(f"{key}-{own[:16]}")))


def _masks(images: Images) -> Tensor:
    """N x 1 x S x S bool, resized and cropped as the images are: at least half inside."""
    parts = images.batches(torch.arange(len(images)).split(64), workers=0)  # few and small
    return torch.cat([batch[:, :1] >= 128 for batch in parts])
