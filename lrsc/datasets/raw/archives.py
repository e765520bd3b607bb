"""Archives, read and unpacked so that nothing leaves its folder.

Nothing half-made is ever left under its own name: an archive unpacks into a hidden folder beside
its target, which is renamed when it is whole.
"""

import contextlib
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lrsc import files

_BLOCK = 2**16


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain, gz, xz, bz2) or zip into a new folder, whole or not at all.

    A single top folder of the target's name is taken off. Raises ValueError naming archive and
    member for an absolute path, '..', a link, a device or a file that comes twice; naming the
    archive if it is damaged or truncated; naming the folder if it exists.
    """
    with making(folder) as part:
        unpack(archive, part)
        top = part / folder.name
        if top.is_dir() and len(list(part.iterdir())) == 1:
            lifted = top.rename(part / f".{folder.name}.top")
            for path in list(lifted.iterdir()):
                path.rename(part / path.name)
            lifted.rmdir()


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` if nothing is raised, which must not exist."""
    if folder.exists():
        raise ValueError(f"{folder} exists already, not as published: move or delete it, run again")
    with files.making(folder) as part:
        yield part


def unpack(archive: Path, folder: Path, content: bytes | None = None) -> None:
    """Write the files of an archive below an existing folder; errors and content as `members`."""
    for name, data in members(archive, content):
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as out:
                out.write(data)
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(f"{archive}: member {name!r} comes twice, or in a file") from error


def members(archive: Path, content: bytes | None = None) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every file of a tar or zip in its order, read to the archive's end.

    A folder's files do as well, in the order of their names. content: the archive's own bytes
    where it lies inside another archive. One member at a time is held in memory. Raises ValueError
    as `extract` does.
    """
    if archive.is_dir():
        inside = sorted(path for path in archive.rglob("*") if path.is_file())
        yield from ((path.relative_to(archive).as_posix(), path.read_bytes()) for path in inside)
        return
    try:
        with io.BytesIO(content) if content is not None else archive.open("rb") as stream:
            is_zip = stream.read(2) == b"PK"
            stream.seek(0)
            yield from _zip_members(archive, stream) if is_zip else _tar_members(archive, stream)
    except (
        OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
        lzma.LZMAError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{archive} cannot be read to its end: {error}. It is truncated or damaged: delete it "
            "and fetch it again."
        ) from error


def decompress(packed: Path, target: Path) -> None:
    """Unpack a single .gz file into place. ValueError naming it if it is damaged."""
    try:
        with gzip.open(packed) as content, files.atomic(target) as part, part.open("wb") as out:
            shutil.copyfileobj(content, out, _BLOCK)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{packed} cannot be read to its end: {error}. Delete it.") from error


def _tar_members(archive: Path, raw: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=raw, mode="r:*") as tar:
        for member in tar:
            name = _inside(archive, member.name, member.isfile() or member.isdir())
            content = tar.extractfile(member)
            if content is not None:  # a file, not a folder
                yield name, content.read()
        # tarfile takes a damaged or cut header for the end, and never reads a stream's own sum
        stream: Any = tar.fileobj  # unpacked
        stream.seek(tar.offset)
        if stream.read(512) != bytes(512):
            raise tarfile.ReadError("the mark of the end is missing")
        while stream.read(_BLOCK):
            pass


def _zip_members(archive: Path, stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(stream) as packed:
        for member in listed(packed):
            kind = stat.S_IFMT(member.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            name = _inside(archive, member.filename, plain)
            if not member.is_dir():
                yield name, packed.read(member)  # checks its CRC


def listed(packed: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Members of a zip; BadZipFile where its end tells of more: a damaged list can hide some."""
    found, stream = packed.infolist(), packed.fp
    assert stream is not None
    stream.seek(max(0, stream.seek(0, io.SEEK_END) - 2**16 - 22))
    tail = stream.read()
    at = tail.rfind(b"PK\5\6") + 10
    count = int.from_bytes(tail[at : at + 2], "little")  # 0xFFFF: told elsewhere
    if not found or count not in (len(found), 0xFFFF):
        raise zipfile.BadZipFile("its list of members is not whole")
    return found


def _inside(archive: Path, name: str, plain: bool) -> str:
    if not plain:
        raise ValueError(
            f"{archive}: member {name!r} is a link or device, which no published archive of ours "
            "holds: not unpacked"
        )
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
        raise ValueError(
            f"{archive}: member {name!r} lies outside the archive's folder: not unpacked"
        )
    return "/".join(part for part in parts if part not in ("", "."))
