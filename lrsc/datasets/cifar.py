"""CIFAR's images from the published python batches, or from folders of image files."""

import hashlib
import io
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from lrsc.datasets.raw import archives, cache
from lrsc.datasets.raw.sources import Source, content_checksum
from lrsc.datasets.standins import miniatures
from lrsc.errors import DataMissing

# Folder of the published archive, and file -> MD5 as torchvision checks it
BATCHES = {
    "cifar10": ("cifar-10-batches-py", {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }),
    "cifar100": ("cifar-100-python", {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    }),
}  # fmt: skip
CLASSES = {"cifar10": 10, "cifar100": 100}
CIFAR10_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
IMAGES = "cifar10-jpeg"  # name of the folder or archive of image files, and its source_id
SUFFIXES = ("", ".tar", ".tar.xz", ".tar.gz", ".tgz", ".zip")
SIDE = 32

_log = logging.getLogger(__name__)


def find(name: str, root: Path, source: str) -> Source:
    """The published batches under the data root, else image files, else the miniature.

    content: (train images N x 3 x 32 x 32 uint8, train labels, test images, test labels). Raises
    DataMissing if real data are asked for and absent, ValueError if a file is damaged.
    """
    if source != "embedded":
        if (root / BATCHES[name][0]).is_dir():
            return batches(name, root)
        images = image_files(root) if name == "cifar10" else None
        if images is not None:
            return from_image_files(images)
        if source == "real":
            raise DataMissing(
                f"{name} was not found: looked for {root / BATCHES[name][0]}"
                + (f" and {root / IMAGES}[.tar.xz, .zip, ...]" if name == "cifar10" else "")
                + f". Get it with: lrsc data get {name} --data-root {root}; or set $LRSC_DATA to "
                "the folder that holds it; or pass source='embedded'."
            )
    return miniature(name)


def batches(name: str, root: Path) -> Source:
    """The python batches of a published archive, each checked by its MD5 before it is unpickled.

    Batches beside the mark of a miniature have no published MD5, and its source_id.
    """
    folder, files = BATCHES[name]
    missing = [file for file in files if not (root / folder / file).is_file()]
    if missing:
        raise DataMissing(
            f"{name} is not complete: {', '.join(missing)} not found in {root / folder}. "
            f"Get it with: lrsc data get {name}"
        )
    drawn = (root / folder / miniatures.MARK).is_file()
    parts: dict[bool, list] = {True: [], False: []}
    for file, md5 in files.items():
        part = _batch(root / folder / file, "" if drawn else md5, CLASSES[name])
        parts[file.startswith("test")].append(part)
    arrays = []
    for is_test in (False, True):
        images, labels = zip(*parts[is_test], strict=True)
        arrays += [np.concatenate(images), np.concatenate(labels)]
    source_id = f"miniature-{name}" if drawn else name
    return Source(source_id, content_checksum(arrays), tuple(arrays))


def miniature(name: str) -> Source:
    """The procedurally drawn stand-in, in the published layout."""
    return batches(name, miniatures.folder(name))


class _OnlyArrays(pickle.Unpickler):
    """Admits what CIFAR's batches hold: containers, numbers, strings and NumPy arrays."""

    ADMITTED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    }  # fmt: skip

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted in a data file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _batch(path: Path, md5: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    data = path.read_bytes()
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 and found != md5:
        raise ValueError(
            f"checksum of {path} is wrong ({len(data)} bytes): MD5 found {found}, expected {md5}. "
            "The file is truncated or altered; delete it and fetch it again: lrsc data get"
        )
    try:
        batch = _OnlyArrays(io.BytesIO(data), encoding="latin1").load()
        images = np.asarray(batch["data"], np.uint8).reshape(-1, 3, SIDE, SIDE)
        labels = np.asarray(batch["labels" if "labels" in batch else "fine_labels"])
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a batch of CIFAR images: {error}") from error
    _check_labels(path, labels, classes)
    if len(labels) != len(images):
        raise ValueError(f"{path} holds {len(images)} images and {len(labels)} labels")
    return images, labels.astype(np.uint8)


def _check_labels(path: Path, labels: np.ndarray, classes: int) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"{path}: label out of range, found {labels.min()} to {labels.max()}, "
            f"expected 0 to {classes - 1}"
        )


def image_files(root: Path) -> Path | None:
    """The folder or archive `cifar10-jpeg` under the data root, if it is there."""
    paths = (root / f"{IMAGES}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def from_image_files(path: Path) -> Source:
    """Images `train/<class>/*.jpg|png` and `test/...` of a folder, tar or zip, decoded once.

    They are kept as one array in the cache folder: the data root is only read. The ten class names
    are CIFAR-10's, in alphabetical order. Raises ValueError naming the file for an image that
    cannot be read or is not 32 x 32, a class that is missing or empty, and unsafe names.
    """
    stored = cache.arrays(f"{IMAGES}-{_identity(path)}", lambda folder: _decode_all(path, folder))
    arrays = tuple(stored[k] for k in ("train_x", "train_y", "test_x", "test_y"))
    return Source(IMAGES, str(stored["checksum"]), arrays)


def _identity(path: Path) -> str:
    """Of an archive its SHA-256; of a folder that of its sorted names, sizes and times."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            stat = file.stat()
            name = file.relative_to(path).as_posix()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    else:
        with path.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()[:32]


def _decode_all(path: Path, folder: Path) -> None:
    found: dict[str, list[tuple[str, bytes]]] = {"train": [], "test": []}
    for name, data in _members(path):
        split, class_name, file = _place(name)
        if split in found:
            found[split].append((f"{class_name}/{file}", data))
    classes = sorted({n.split("/")[0] for part in found.values() for n, _ in part})
    if tuple(classes) != CIFAR10_NAMES:
        raise ValueError(
            f"{path}: the classes are {classes}, expected folders {list(CIFAR10_NAMES)} in train "
            "and test"
        )
    arrays: dict[str, np.ndarray] = {}
    for split, files in found.items():
        files.sort()
        labels = np.array([classes.index(n.split("/")[0]) for n, _ in files], np.uint8)
        empty = sorted(set(range(10)) - set(labels.tolist()))
        if empty:
            raise ValueError(f"{path}: {split}/{classes[empty[0]]} holds no image")
        images = np.stack([_decode(f"{path}: {split}/{n}", data) for n, data in files])
        arrays |= {f"{split}_x": images, f"{split}_y": labels}
    checksum = content_checksum(arrays[k] for k in ("train_x", "train_y", "test_x", "test_y"))
    for name, array in (arrays | {"checksum": np.array(checksum)}).items():
        np.save(folder / f"{name}.npy", array)
    _log.info("%s: decoded %d images into %s", path, sum(map(len, found.values())), folder.parent)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Files of a folder, tar or zip as (path inside, content)."""
    if not path.is_dir():
        yield from archives.members(path)
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file.relative_to(path).as_posix(), file.read_bytes()


def _place(name: str) -> tuple[str, str, str]:
    """(split, class, file) of a member; ('', '', '') for what is no image."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or not name.lower().endswith((".jpg", ".jpeg", ".png")):
        return "", "", ""
    return parts[-3], parts[-2], parts[-1]


def _decode(name: str, data: bytes) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as an image: {error}") from error
    if image.size != (SIDE, SIDE):
        raise ValueError(f"{name} has {image.size} pixels, expected ({SIDE}, {SIDE})")
    return np.asarray(image).transpose(2, 0, 1)
