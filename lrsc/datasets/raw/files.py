"""Which image files a folder, zip or tar holds: compact arrays of names, and their checksum."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lrsc.datasets.raw import archives, decoding
from lrsc.datasets.raw.decoding import Member
from lrsc.errors import DataMissing

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True, eq=False)
class Files:
    """Image files of one folder, or members of one zip or uncompressed tar, as compact arrays.

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

    def members(self, rows: np.ndarray) -> list[Member]:
        """What `decoding.contents` needs to read these rows."""
        at = [(-1, 0, 0, 0)] * len(rows) if self.at is None else self.at[rows].tolist()
        return [(os.fsdecode(n), *m) for n, m in zip(self.names[rows], at, strict=True)]


def listed(place: Path, depth: int = 1, inside: str = "") -> Files:
    """The JPEG and PNG files of a folder, zip or uncompressed tar, sorted by name.

    depth: levels of folders that are looked at. inside: in an archive, the folder that names are
    relative to. Hidden files are left out. Raises ValueError if an archive is damaged or compresses
    its members in a way other than deflate. Listing holds all names at once, and of a zip its
    directory (about 1 kB an image); afterwards some 100 bytes an image are held.
    """
    read = {".zip": _in_zip, ".tar": _in_tar}.get(place.suffix if place.is_file() else "")
    try:
        rows = sorted(read(place, inside) if read else _in_folder(place, "", depth))
    except (OSError, ValueError, EOFError, RuntimeError) as error:  # zipfile's are RuntimeErrors
        raise ValueError(f"{place} cannot be listed: {error}. Fetch it again.") from error
    names = np.array([row[0] for row in rows], dtype=np.bytes_)
    numbers = np.array([row[1:] for row in rows], np.int64).reshape(len(rows), -1 if rows else 1)
    at = np.ascontiguousarray(numbers[:, 1:]) if read else None
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


def _in_folder(place: Path, prefix: str, depth: int) -> Iterator[tuple]:
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if depth > 1:
                    yield from _in_folder(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)
            elif entry.name.lower().endswith(SUFFIXES):
                yield os.fsencode(prefix + entry.name), entry.stat().st_size


def _in_zip(place: Path, inside: str) -> Iterator[tuple]:
    import zipfile

    try:
        with zipfile.ZipFile(place) as archive:
            members = archives.listed(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    for m in members:
        if name := _relative(m.filename, inside):
            if m.compress_type not in (decoding.STORED, decoding.DEFLATED) or m.flag_bits & 1:
                raise ValueError(f"its member {m.filename} is encrypted or not packed by deflate")
            yield name, m.file_size, m.header_offset, m.compress_size, m.compress_type, m.CRC


def _in_tar(place: Path, inside: str) -> Iterator[tuple]:
    import tarfile

    try:
        with tarfile.open(place, "r:") as archive:
            while (m := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined] # else one object a member is kept
                if m.isfile() and (name := _relative(m.name, inside)):
                    yield name, m.size, m.offset_data, m.size, decoding.TAR, 0
    except tarfile.TarError as error:
        raise ValueError(f"{error} (a tar must not be compressed)") from error


def _relative(name: str, inside: str) -> bytes | None:
    name = name.removeprefix("./")
    base = name.rpartition("/")[2]
    if not name.startswith(inside) or base.startswith(".") or name.startswith("__MACOSX"):
        return None
    return os.fsencode(name.removeprefix(inside)) if base.lower().endswith(SUFFIXES) else None
