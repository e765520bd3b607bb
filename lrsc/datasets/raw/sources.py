"""Where raw data come from: the data root, published files with checksums, embedded digits."""

import dataclasses
import gzip
import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from lrsc.errors import DataMissing, path
from lrsc.files import user_folder


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Raw data: source_id, SHA-256 of the decoded content, and the content."""

    source_id: str
    checksum: str
    content: Any

    @property
    def key(self) -> str:
        """What a run's name holds of the data: 'source_id:checksum'."""
        return f"{self.source_id}:{self.checksum}"


def generated(root: Path, source: str) -> Source:
    """`find` of a generated set: whatever is asked for, this is the real thing."""
    return Source("generated", "", None)


def is_stand_in(source_id: str) -> bool:
    """Whether a source only stands in for published data: its results are never evidence."""
    parts = source_id.split("+")
    return any(part == "digits" or part.startswith("miniature-") for part in parts)


def data_root(root: str | Path | None = None) -> Path:
    """The data root: the argument, else $LRSC_DATA, else the user's data folder; only read."""
    if root is not None:
        return path("root", root)
    if "LRSC_DATA" in os.environ:
        return Path(os.environ["LRSC_DATA"])
    return user_folder("data") / "data"


# File -> (magic number, MD5 of the uncompressed file); MD5s as distributed with the IDX files.
MNIST_FILES = {
    "train-images-idx3-ubyte": (2051, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (2049, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (2051, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (2049, "27ae3e4e09519cfbb04c329615203637"),
}


def mnist_folder(root: Path) -> Path:
    """Folder of the four IDX files, in torchvision's layout."""
    return root / "MNIST" / "raw"


def has_mnist(root: Path) -> bool:
    """Whether any of the four files is there: a partial set is an error, not an absence."""
    return any(_mnist_path(root, name).is_file() for name in MNIST_FILES)


def mnist(root: Path) -> Source:
    """The published MNIST (60 000 + 10 000 digits, N x 28 x 28 uint8), each file checked.

    content: (train images, train labels, test images, test labels). Raises DataMissing if a file
    is absent, ValueError naming file, found and expected if its checksum is another.
    """
    missing = [name for name in MNIST_FILES if not _mnist_path(root, name).is_file()]
    if missing:
        raise DataMissing(
            f"MNIST is not complete: {', '.join(missing)} not found in {mnist_folder(root)} "
            f"(plain or .gz). Get it with: lrsc data get mnist --data-root {root}; or set "
            "$LRSC_DATA to a folder that holds MNIST/raw; or pass source='embedded'."
        )
    arrays = [_read_idx(_mnist_path(root, name), *MNIST_FILES[name]) for name in MNIST_FILES]
    return Source("mnist", content_checksum(arrays), tuple(arrays))


def digits() -> Source:
    """scikit-learn's 1797 handwritten digits (8 x 8), enlarged to 28 x 28: a stand-in for MNIST.

    content as in `mnist`: the first 120 of every class train, the rest (54 to 63) test.
    Alpaydin and Kaynak 1998, UCI repository.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = _enlarge(bunch.images / 16), bunch.target.astype(np.uint8)
    rank = np.empty(len(labels), int)
    for c in range(10):
        rank[labels == c] = np.arange((labels == c).sum())
    train = rank < 120
    arrays = [images[train], labels[train], images[~train], labels[~train]]
    return Source("digits", content_checksum(arrays), tuple(arrays))


def content_checksum(arrays) -> str:
    """SHA-256 over dtype, shape and bytes of decoded arrays: packed and raw files agree."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _enlarge(images: np.ndarray) -> np.ndarray:
    """N x 8 x 8 in 0..1 -> N x 28 x 28 uint8: bilinear to 20 x 20, a border of 4, as in MNIST."""
    at = (np.arange(20) + 0.5) * 8 / 20 - 0.5
    low = np.clip(np.floor(at).astype(int), 0, 7)
    high = np.minimum(low + 1, 7)
    weight = np.clip(at - low, 0, 1)
    rows = images[:, low] * (1 - weight)[:, None] + images[:, high] * weight[:, None]
    whole = rows[..., low] * (1 - weight) + rows[..., high] * weight
    padded = np.pad(whole, ((0, 0), (4, 4), (4, 4)))
    return np.round(padded * 255).astype(np.uint8)


def _mnist_path(root: Path, name: str) -> Path:
    plain = mnist_folder(root) / name
    packed = plain.with_name(name + ".gz")
    return packed if packed.is_file() and not plain.is_file() else plain


def _read_idx(path: Path, magic: int, md5: str) -> np.ndarray:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Fetch it again.") from error
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(
            f"checksum of {path} is wrong ({len(data)} bytes): MD5 found {found}, expected {md5}. "
            "The file is truncated or altered; delete it and fetch it again: "
            "lrsc data get mnist"
        )
    (first,) = struct.unpack(">i", data[:4])
    dims = first & 0xFF
    shape = struct.unpack(f">{dims}i", data[4 : 4 + 4 * dims])
    if first != magic:
        raise ValueError(f"{path}: magic number {first}, expected {magic}")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)
