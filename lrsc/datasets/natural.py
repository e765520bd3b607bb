"""What CelebA, Waterbirds and ImageNet share: lists read with care, splits whose images stream."""

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
from lrsc.errors import DataMissing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in units of 0..1
Augment = Callable[[Tensor, torch.Generator], Tensor]
_log = logging.getLogger(__name__)


SPLITS = ("train", "val", "test")  # 0, 1, 2 in the lists of CelebA and Waterbirds


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One split: its image files, labels and bias labels (N int64, or None), masks of the core."""

    files: Files
    y: np.ndarray
    bias: np.ndarray | None = None
    masks: Files | None = None

    def take(self, rows: np.ndarray) -> "Part":
        """These rows, in their order."""
        bias = None if self.bias is None else self.bias[rows]
        masks = None if self.masks is None else self.masks.take(rows)
        return Part(self.files.take(rows), self.y[rows], bias, masks)

    def split(self, of: np.ndarray) -> dict[str, "Part"]:
        """The splits by name, where the one that each row is of is given as 0, 1, 2."""
        return {name: self.take(np.flatnonzero(of == k)) for k, name in enumerate(SPLITS)}


def folder(name: str, root: Path, source: str, needs: Sequence[Sequence[str]]) -> Path:
    """Where a set lies: <root>/<name>, or the miniature's folder; needs as in `located`."""
    is_there = located(name, root / name, source, needs)
    return (root if is_there else miniatures.folder(name)) / name


def found(
    name: str, place: Path, published: int, lists: Sequence[Path], parts: Sequence[Files], content
) -> Source:
    """The source at a place: the published set, unless a mark says that it is a miniature.

    Its checksum is over the list files, and the names and sizes of the images in all parts.
    """
    checksum = files.checksum([path.read_bytes() for path in lists], parts)
    if (place / miniatures.MARK).is_file():
        return Source(f"miniature-{name}", checksum, content)
    n = sum(map(len, parts))
    if n != published:
        _log.warning("%s in %s has %d images, the published set %d", name, place, n, published)
    return Source(name, checksum, content)


def damaged(path: Path, line: int, has: object, expected: str) -> ValueError:
    """The error for a bad line of a list; bytes are shown as text, cut where they are long."""
    shown = has.decode(errors="replace")[:80] if isinstance(has, bytes) else has
    return ValueError(
        f"{path}, line {line}: found {shown!r}, expected {expected}. The file is damaged: fetch it "
        "again."
    )


def rows(path: Path) -> list[bytes]:
    """Lines of a list without the line ends; DataMissing if it cannot be read."""
    try:
        return path.read_bytes().rstrip().splitlines()
    except OSError as error:
        raise DataMissing(f"{path} cannot be read: {error}") from error


def number(path: Path, line: int, text: bytes | str, n: int, what: str, first: int = 0) -> int:
    """A whole number in first, ..., first + n - 1 from a list; the error names file and line."""
    try:
        value = int(text)
    except ValueError:
        value = first - 1
    if not first <= value < first + n:
        raise damaged(path, line, text, f"{what}, a number from {first} to {first + n - 1}")
    return value


def in_order(path: Path, names: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Names of a list sorted, and their rows in it; ValueError for one that it holds twice."""
    rows = np.argsort(np.array(names))
    found = np.array(names)[rows]
    twice = found[1:][found[1:] == found[:-1]]
    if len(twice):
        raise ValueError(f"{path} lists {twice[0].decode(errors='replace')} more than once")
    return found, rows


def masks(place: Path, names: np.ndarray, listed_in: Path) -> Files | None:
    """The masks of a miniature's images, which the published sets do not have."""
    if not (place / "masks").is_dir():
        return None
    pngs = np.array([name.rpartition(b".")[0] + b".png" for name in names.tolist()])
    return files.listed(place / "masks", depth=2).select(pngs, listed_in)


def dataset(
    name: str,
    source: Source,
    parts: Mapping[str, Part],
    class_names: tuple[str, ...],
    *,
    version: int,
    size: int,
    short: int | None = None,
    seed: int = 0,
    n_train: int | None = None,
    cache: bool = False,
    augment: Augment | None = None,
    rest_is_spurious: bool = False,
) -> BiasedDataset:
    """A data set of streamed images from its parts 'train', 'test' and perhaps 'val'.

    n_train: a subset, (class, bias) groups in proportion. size, short: as in `decode`. cache: each
    split is resized once into a memory-mapped file of the cache folder. augment: of the training
    split, on the device. rest_is_spurious: all that is outside the masks of the core. Raises
    ValueError for a class without images in the training or test split.
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a whole number of pixels >= 1, found {size!r}")
    for split in ("train", "test"):
        empty = np.flatnonzero(np.bincount(parts[split].y, minlength=len(class_names)) == 0)
        if len(empty):
            raise ValueError(
                f"class {empty[0]} ({class_names[empty[0]]}) of {name} has no image in the "
                f"{split} split ({parts[split].files.place})"
            )
    parts = dict(parts)
    if n_train is not None:
        train = parts["train"]
        groups = train.y if train.bias is None else train.y * (train.bias.max() + 1) + train.bias
        rng = np.random.default_rng([version, seed])
        parts["train"] = train.take(stratified(groups, n_train, rng))
    key = f"{name}-{{}}-{version}-{size}-{source.checksum[:16]}"
    splits = {
        split: _split(part, size, short, key.format(split) if cache else "", rest_is_spurious)
        for split, part in parts.items()
        if len(part.files)
    }
    training = dataclasses.replace(splits["train"], augment=augment)
    return BiasedDataset(
        name, training, splits["test"], len(class_names), source.source_id,
        source.checksum, val=splits.get("val"), class_names=class_names,
    )  # fmt: skip


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """70 to 100 % of each image's area, mirrored at random (as Sagawa et al. 2020 augment)."""
    return random_resized_crop_flip(x, generator, scale=(0.7, 1.0))


def _split(part: Part, size: int, short: int | None, key: str, rest_is_spurious: bool) -> Split:
    x = Images(part.files, size, short)
    if key:  # a subset has an entry of its own
        names = hashlib.sha256(part.files.names.tobytes() + f"{x.short}".encode()).hexdigest()
        x = Images(x.cached(f"{key}-{names[:16]}"))
    core = None if part.masks is None else _masks(part.masks, size, short)
    return Split(
        x,
        torch.from_numpy(part.y),
        None if part.bias is None else torch.from_numpy(part.bias),
        core_mask=core,
        spurious_mask=~core if rest_is_spurious and core is not None else None,
        mean=torch.tensor(MEAN),
        std=torch.tensor(STD),
    )


def _masks(found: Files, size: int, short: int | None) -> Tensor:
    """N x 1 x S x S bool, resized and cropped as the images are: at least half inside."""
    images = Images(found, size, short)
    parts = images.batches(torch.arange(len(images)).split(64), workers=0)  # few and small
    return torch.cat([batch[:, :1] >= 128 for batch in parts])
