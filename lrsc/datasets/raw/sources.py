"""Where raw data come from: the data root, published files with checksums, embedded digits."""

import dataclasses
import gzip
import hashlib
import os
from collections.abc import Sequence
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
        """How the data enter a run's name: 'source_id:checksum'."""
        return f"{self.source_id}:{self.checksum}"


# sources of data that are the same in every profile: generated, and of a user's own
SINGLE = ("generated", "own")


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
    if os.environ.get("LRSC_DATA"):
        return path("LRSC_DATA", os.environ["LRSC_DATA"])
    return user_folder("data") / "data"


# File -> (magic number, MD5 of the uncompressed file); MD5s as distributed with the IDX files.
MNIST_FILES = {
    "train-images-idx3-ubyte": (2051, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (2049, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (2051, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (2049, "27ae3e4e09519cfbb04c329615203637"),
}


def located(name: str, place: Path, source: str, needs: Sequence[Sequence[str]]) -> bool:
    """Whether a published set lies in the folder `place`; if not, its stand-in is to be taken.

    needs: what must be there, each as a few forms any one of which does. With 'auto', a folder
    that holds none of them is as good as absent; one that holds some is not. Raises DataMissing
    naming what is absent.
    """
    absent = [forms for forms in needs if not any((place / form).exists() for form in forms)]
    if source == "embedded" or (source == "auto" and len(absent) == len(needs)):
        return False
    if absent:
        found = ", ".join(" or ".join(forms) for forms in absent)
        raise DataMissing(
            f"{name} is not complete: {found} not found in {place}. Get it with: lrsc data get "
            f"{name.lower()}; or set $LRSC_DATA to a folder that holds it; or pass "
            "source='embedded'."
        )
    return True


def mnist(root: Path, source: str = "real") -> Source:
    """The published MNIST (60 000 + 10 000 digits, N x 28 x 28 uint8), each file checked.

    In torchvision's layout, plain or packed; else the embedded digits. content: (train images,
    train labels, test images, test labels). Raises DataMissing if a file is absent, ValueError
    naming file, found and expected if its checksum is another.
    """
    folder = root / "MNIST" / "raw"
    if not located("MNIST", folder, source, [(name, f"{name}.gz") for name in MNIST_FILES]):
        return digits()
    arrays = [_read_idx(folder / name, md5) for name, (_, md5) in MNIST_FILES.items()]
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


def _read_idx(path: Path, md5: str) -> np.ndarray:
    packed = path.with_name(f"{path.name}.gz")
    try:
        data = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError) as error:
        raise ValueError(f"{packed} cannot be read: {error}. Fetch it again.") from error
    check_md5(path, data, md5)
    shape = np.frombuffer(data, ">i4", data[3], offset=4)  # the fourth byte is their number
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def check_md5(path: Path, data: bytes, md5: str) -> None:
    """Raise ValueError naming file, found and expected for content that is not the published."""
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(
            f"checksum of {path} is wrong ({len(data)} bytes): MD5 found {found}, expected {md5}. "
            "The file is truncated or altered; delete it and fetch it again: lrsc data get"
        )
