"""Which image files a folder or zip holds: compact arrays of names, their checksum, the bytes."""

import dataclasses
import functools
import hashlib
import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lrsc.datasets.raw import archives
from lrsc.errors import DataMissing

_NO_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow only knows them by name
_log = logging.getLogger(__name__)


def is_image(name: str) -> bool:
    """Whether a file's suffix is that of an image format that Pillow reads."""
    return name[name.rfind(".") :].lower() in _suffixes()


@functools.cache
def _suffixes() -> frozenset[str]:
    from PIL import Image

    readable = Image.registered_extensions().items()
    return frozenset(s for s, kind in readable if kind in Image.OPEN and kind not in _NO_PIXELS)


def left_out(others: Sequence[str], place: Path) -> None:
    """Warn of files among the images of class folders that are none."""
    if others:
        _log.warning(
            "%d files in the class folders of %s are no images that Pillow reads, and are left "
            "out: %s%s", len(others), place, min(others), ", ..." if others[1:] else "",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Files:
    """Image files of one folder, or members of one zip, as compact arrays.

    names: N byte strings, relative to the folder, sorted as `listed` gives them. n_bytes: N int64,
    of the unpacked images. at: N x 4 int64 (offset, bytes, how packed, CRC-32), None in a folder.
    """

    place: str
    names: np.ndarray
    n_bytes: np.ndarray
    at: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: np.ndarray) -> "Files":
        """These rows, in their order."""
        at = None if self.at is None else self.at[rows]
        return Files(self.place, self.names[rows], self.n_bytes[rows], at)

    def select(self, names: np.ndarray, listed_in: str | Path) -> "Files":
        """The files of these names (byte strings), in their order; self as `listed` gave it.

        Raises DataMissing naming the first absent ones and the list that has them.
        """
        rows = np.searchsorted(self.names, names)
        found = self.names[np.minimum(rows, len(self) - 1)] == names if len(self) else names == b""
        if not found.all():
            first = ", ".join(os.fsdecode(n) for n in names[~found][:3])
            raise DataMissing(
                f"{np.count_nonzero(~found)} of {len(names)} images that {listed_in} lists are not "
                f"in {self.place}: {first}, ... Unpack the set again."
            )
        return self.take(rows)

    def read(self, row: int) -> tuple[str, bytes]:
        """Path and bytes of one file, read where it lies.

        Raises ValueError naming it if it cannot be read or its checksum in the zip is another.
        """
        name = Path(self.place, os.fsdecode(self.names[row]))
        try:
            if self.at is None:
                return str(name), name.read_bytes()
            with open(self.place, "rb") as archive:
                return str(name), _unpacked(archive, *self.at[row].tolist())
        except (OSError, EOFError, zlib.error, struct.error) as error:
            raise ValueError(f"{name} cannot be read: {error}. Fetch it again.") from error


def listed(place: Path, depth: int = 1, inside: str = "") -> Files:
    """The image files of a folder or zip, sorted by name.

    depth: levels of folders that are looked at. inside: in a zip, the folder that names are
    relative to. Hidden files are left out, and with a warning what is no image below the first
    level, where each file is a sample. Raises ValueError if a zip is damaged or compresses
    its members in a way other than deflate. Listing holds all names at once, and of a zip its
    directory (about 1 kB an image); afterwards some 100 bytes an image are held.
    """
    packed, others = place.is_file(), list[str]()
    try:
        rows = sorted(_in_zip(place, inside) if packed else _in_folder(place, "", depth, others))
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{place} cannot be listed: {error}. Fetch it again.") from error
    left_out(others, place)
    names = np.array([row[0] for row in rows], dtype=np.bytes_)
    numbers = np.array([row[1:] for row in rows], np.int64).reshape(len(rows), -1 if rows else 1)
    at = np.ascontiguousarray(numbers[:, 1:]) if packed else None
    return Files(str(place), names, numbers[:, 0].copy(), at)


def checksum(lists: Iterable[bytes], files: Iterable[Files]) -> str:
    """SHA-256 over the bytes of list files, and the names and sizes of the images, sorted.

    The images themselves are not read (ImageNet has 140 GB); a folder and a zip of it agree.
    """
    digest = hashlib.sha256()
    for content in lists:
        digest.update(f"{len(content)}\n".encode() + content)
    for found in files:
        order = np.argsort(found.names, kind="stable")
        for start in range(0, len(found), 10_000):
            part = order[start : start + 10_000]
            pairs = zip(found.names[part].tolist(), found.n_bytes[part].tolist(), strict=True)
            digest.update(b"".join(b"%s %d\n" % pair for pair in pairs))
    return digest.hexdigest()


def _in_folder(place: Path, prefix: str, depth: int, others: list[str]) -> Iterator[tuple]:
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if depth > 1:
                    inner = f"{prefix}{entry.name}/"
                    yield from _in_folder(Path(entry.path), inner, depth - 1, others)
            elif is_image(entry.name):
                yield os.fsencode(prefix + entry.name), entry.stat().st_size
            elif prefix:
                others.append(prefix + entry.name)


def _in_zip(place: Path, inside: str) -> Iterator[tuple]:
    with zipfile.ZipFile(place) as archive:
        members = archives.listed(archive)
    for m in members:
        name = m.filename.removeprefix("./")
        base = name.rpartition("/")[2]
        hidden = base.startswith(".") or name.startswith("__MACOSX")
        if hidden or not name.startswith(inside) or not is_image(base):
            continue
        if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or m.flag_bits & 1:
            raise ValueError(f"its member {m.filename} is encrypted or not packed by deflate")
        yield (
            os.fsencode(name.removeprefix(inside)), m.file_size, m.header_offset,
            m.compress_size, m.compress_type, m.CRC,
        )  # fmt: skip


def _unpacked(archive, offset: int, n_bytes: int, packed: int, crc: int) -> bytes:
    archive.seek(offset)
    head = archive.read(30)  # a member begins with a header of its own
    if head[:4] != b"PK\x03\x04":
        raise EOFError("the archive has no such member at the place its directory names")
    archive.seek(sum(struct.unpack("<HH", head[26:30])), os.SEEK_CUR)
    data = archive.read(n_bytes)
    if len(data) != n_bytes:
        raise EOFError(f"the archive ends after {len(data)} of {n_bytes} bytes")
    data = zlib.decompress(data, -15) if packed == zipfile.ZIP_DEFLATED else data
    if zlib.crc32(data) != crc:
        raise EOFError("its checksum (CRC-32) is not the one in the archive's directory")
    return data
