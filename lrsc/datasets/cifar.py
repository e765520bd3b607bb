"""CIFAR's images from the published python batches, or from folders of image files."""

import hashlib
import io
import logging
import pickle
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from lrsc.datasets.raw import archives, cache, decoding, files
from lrsc.datasets.raw.download import digest
from lrsc.datasets.raw.sources import Source, check_md5, content_checksum, located
from lrsc.datasets.standins import miniatures

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
    folder = BATCHES[name][0]
    images = [f"{IMAGES}{suffix}" for suffix in SUFFIXES if name == "cifar10"]
    if not located(name, root, source, [[folder, *images]]):
        return miniature(name)
    if (root / folder).is_dir():
        return batches(name, root)
    return from_image_files(next(root / form for form in images if (root / form).exists()))


def batches(name: str, root: Path) -> Source:
    """The python batches of a published archive, each checked by its MD5 before it is unpickled.

    Where no file is a published one they are a set of one's own in that form, with a warning and
    the source_id own-<name>; beside the mark of a miniature they are that miniature.
    """
    folder, published = BATCHES[name]
    located(name, root / folder, "real", [[file] for file in published])
    data = {root / folder / file: (root / folder / file).read_bytes() for file in published}
    source_id = _source_id(name, data)
    parts: dict[bool, list] = {True: [], False: []}
    for path, content in data.items():
        if source_id == name:
            check_md5(path, content, published[path.name])
        parts[path.name.startswith("test")].append(_batch(path, content, CLASSES[name]))
    arrays = []
    for is_test in (False, True):
        images, labels = zip(*parts[is_test], strict=True)
        arrays += [np.concatenate(images), np.concatenate(labels)]
    return Source(source_id, content_checksum(arrays), tuple(arrays))


def _source_id(name: str, data: dict[Path, bytes]) -> str:
    """Whose batches these are: published ones, though some may be damaged, drawn or one's own."""
    folder, published = next(iter(data)).parent, BATCHES[name][1]
    if (folder / miniatures.MARK).is_file():
        return f"miniature-{name}"
    md5s = (hashlib.md5(content, usedforsecurity=False).hexdigest() for content in data.values())
    if set(md5s) & set(published.values()):
        return name
    _log.warning("no batch in %s is a published one (MD5): they are read as own-%s", folder, name)
    return f"own-{name}"


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


def _batch(path: Path, data: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _OnlyArrays(io.BytesIO(data), encoding="latin1").load()
        images = np.asarray(batch["data"], np.uint8).reshape(-1, 3, SIDE, SIDE)
        labels = np.asarray(batch["labels" if "labels" in batch else "fine_labels"])
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a batch of CIFAR images: {error}") from error
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"{path}: label out of range, found {labels.min()} to {labels.max()}, "
            f"expected 0 to {classes - 1}"
        )
    if len(labels) != len(images):
        raise ValueError(f"{path} holds {len(images)} images and {len(labels)} labels")
    return images, labels.astype(np.uint8)


def from_image_files(path: Path) -> Source:
    """Images `train/<class>/*.jpg|png|...` and `test/...` of a folder, tar or zip, decoded once.

    They are kept as one array in the cache folder: the data root is only read. The ten class names
    are CIFAR-10's, in alphabetical order. Raises ValueError naming the file for an image that
    cannot be read or is not 32 x 32, a class that is missing or empty, and unsafe names.
    """
    stored = cache.arrays(f"{IMAGES}-{_identity(path)}", lambda folder: _decode_all(path, folder))
    arrays = tuple(stored[k] for k in ("train_x", "train_y", "test_x", "test_y"))
    return Source(IMAGES, str(stored["checksum"]), arrays)


def _identity(path: Path) -> str:
    """Of an archive its SHA-256; of a folder that of its sorted names, sizes and times."""
    if not path.is_dir():
        return digest(path)[:32]
    names = hashlib.sha256(b"of every suffix")
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        stat = file.stat()
        name = file.relative_to(path).as_posix()
        names.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return names.hexdigest()[:32]


def _decode_all(path: Path, folder: Path) -> None:
    found: dict[str, list[tuple[str, bytes]]] = {"train": [], "test": []}
    others: list[str] = []
    for name, data in archives.members(path):
        split, class_name, file = ("", "", *PurePosixPath(name).parts)[-3:]
        if split in found and files.is_image(file):
            found[split].append((f"{class_name}/{file}", data))
        elif split in found and not file.startswith("."):
            others.append(name)
    files.left_out(others, path)
    classes = sorted({n.split("/")[0] for part in found.values() for n, _ in part})
    if tuple(classes) != CIFAR10_NAMES:
        raise ValueError(
            f"{path}: the classes are {classes}, expected folders {list(CIFAR10_NAMES)} in train "
            "and test"
        )
    arrays: dict[str, np.ndarray] = {}
    for split, images in found.items():
        images.sort()
        labels = np.array([classes.index(n.split("/")[0]) for n, _ in images], np.uint8)
        empty = sorted(set(range(10)) - set(labels.tolist()))
        if empty:
            raise ValueError(f"{path}: {split}/{classes[empty[0]]} holds no image")
        pixels = np.stack([_decode(f"{path}: {split}/{n}", data) for n, data in images])
        arrays |= {f"{split}_x": pixels, f"{split}_y": labels}
    arrays["checksum"] = np.array(content_checksum(arrays.values()))
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    _log.info("%s: decoded %d images into %s", path, sum(map(len, found.values())), folder.parent)


def _decode(name: str, data: bytes) -> np.ndarray:
    from PIL import Image

    pixels = decoding.decode(data, SIDE, SIDE, name)
    with Image.open(io.BytesIO(data)) as image:
        if image.size != (SIDE, SIDE):
            raise ValueError(f"{name} has {image.size} pixels, expected ({SIDE}, {SIDE})")
    return pixels
