"""Published files: fetched with resume, verified, and unpacked so that nothing leaves its folder.

Nothing half-made is ever left under its own name: a download grows in `<name>.part`, an archive
unpacks into a hidden folder beside its target, and both are renamed when they are whole.
"""

import bz2
import collections
import contextlib
import dataclasses
import gzip
import hashlib
import http.client
import io
import json
import logging
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lrsc import __version__
from lrsc.errors import DataMissing
from lrsc.results import atomic

CHECKSUMS = "checksums.json"  # in the data root: path -> SHA-256 at the first verified download
_BLOCK = 2**16
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class File:
    """A published file: its place under the data root, where to get it, how to know it.

    urls: mirrors of the same bytes, tried in turn; none where it has to be fetched by hand.
    page: where a person finds it. size: bytes. source: who states size, md5 and sha256.
    into: what it unpacks to, under the data root, and unpack: how ('' stays as it is).
    """

    path: str
    urls: tuple[str, ...] = ()
    page: str = ""
    size: int | None = None
    md5: str = ""
    sha256: str = ""
    source: str = ""
    into: str = ""
    unpack: str = ""

    def __post_init__(self) -> None:
        if (self.md5 or self.sha256 or self.size is not None) and not self.source:
            raise ValueError(f"{self.path}: a size or digest needs its source: File(source=...)")
        for url in self.urls:
            _only_tls(url)

    def __str__(self) -> str:
        facts = [f"{self.size} bytes"] if self.size is not None else []
        facts += [f"{k} {v}" for k, v in (("MD5", self.md5), ("SHA-256", self.sha256)) if v]
        return f"{Path(self.path).name}, {', '.join(facts) or 'without size and digest'}"


def fetch(file: File, root: Path, timeout: float = 30) -> Path:
    """Download a file to its place under the data root, resuming what an earlier call left.

    It appears under its name only when size and digest agree; where no digest is published, an
    archive must be readable to its end. Its SHA-256 is recorded in the root's checksums.json and
    checked from then on. timeout: seconds without an answer. Raises DataMissing saying what each
    mirror answered and how to do without, ValueError if another process is fetching it.
    """
    target = root / file.path
    if not file.urls:
        raise DataMissing(_by_hand(file, root, "has to be fetched by hand"))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    answers = []
    with _alone(part):
        for url in file.urls:
            trouble = _from_mirror(file, url, part, recorded(root).get(file.path, ""), timeout)
            if not trouble:
                os.replace(part, target)
                record(root, file)
                _log.info("%s: fetched and verified", target)
                return target
            _log.warning("%s: %s", url, trouble)
            answers.append(f"  {url}: {trouble}")
        if _size(part):
            answers.append(f"  {_size(part)} bytes are kept in {part.name}: they will be resumed.")
    raise DataMissing(_by_hand(file, root, "could not be fetched", answers))


def problem(file: File, path: Path, known: str = "") -> str:
    """What is wrong with a file on disk, or ''. known: its SHA-256 as recorded earlier.

    Without any digest an archive is read to its end: its own sums tell of damage.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} bytes, expected {file.size}"
    expected = [("MD5", file.md5, ""), ("SHA-256", known, ", as recorded at its first download")]
    if file.sha256:  # then nothing weaker is needed
        expected = [("SHA-256", file.sha256, "")]
    for kind, value, said in expected:
        if value and (found := digest(path, kind)) != value:
            return f"{kind} found {found}, expected {value}{said}"
    if file.unpack and not (file.md5 or file.sha256 or known):
        try:
            collections.deque(members(path), maxlen=0)
        except ValueError as error:
            return str(error)
    return ""


def digest(path: Path, kind: str = "SHA-256") -> str:
    """MD5 or SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as content:
        made = {"SHA-256": hashlib.sha256, "MD5": _md5}[kind]
        return hashlib.file_digest(content, made).hexdigest()


def recorded(root: Path) -> dict[str, str]:
    """Path under the data root -> SHA-256 recorded there. ValueError if the list is damaged."""
    path = root / CHECKSUMS
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Mend or delete it.") from error


def record(root: Path, *files: File) -> None:
    """Keep the SHA-256 of verified files where none is published; once kept it never changes."""
    with _locked(root):
        known = recorded(root)
        names = [f.path for f in files if not f.sha256 and f.path not in known]
        if names:
            with atomic(root / CHECKSUMS) as part:
                known |= {name: digest(root / name) for name in names}
                part.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


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
    """Yield an empty hidden folder beside `folder`; it becomes `folder` if nothing is raised."""
    if folder.exists():
        raise ValueError(f"{folder} exists already, not as published: move or delete it, run again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield part
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


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

    content: the archive's own bytes where it lies inside another archive. One member at a time is
    held in memory. Raises ValueError as `extract` does.
    """
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
        with gzip.open(packed) as content, atomic(target) as part, part.open("wb") as out:
            shutil.copyfileobj(content, out, _BLOCK)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{packed} cannot be read to its end: {error}. Delete it.") from error


def _from_mirror(file: File, url: str, part: Path, known: str, timeout: float) -> str:
    """Complete and verify the .part from one mirror; what went wrong, or ''."""
    while True:
        had = _size(part)
        if file.size is not None and had > file.size:
            _discard(part, f"it holds {had} bytes, published are {file.size}")
            had = 0
        try:
            _continue(url, part, file.size, timeout)
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            if _size(part) > had:
                continue  # what came is kept: ask for the rest
            return _said(error)
        wrong = problem(file, part, known)
        if not wrong:
            return ""
        _discard(part, wrong)
        if not had:  # all of it came from this mirror
            return wrong


def _continue(url: str, part: Path, size: int | None, timeout: float) -> None:
    """Add to the .part what it lacks; from the start where the server does not resume."""
    have = _size(part)
    if have and have == size:
        return
    asked = {"User-Agent": f"lrsc/{__version__}", "Accept-Encoding": "identity"}
    if have:
        asked["Range"] = f"bytes={have}-"
    try:
        answer = _opener().open(urllib.request.Request(url, headers=asked), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # it is whole already
        _discard(part, "the server has no such range")
        return _continue(url, part, size, timeout)
    with answer:
        start, total = _extent(answer)
        if size is not None and total is not None and total != size:
            raise OSError(f"the server offers {total} bytes, published are {size}")
        if start not in (0, have):
            raise OSError(f"the server answers from byte {start}, asked for {have}")
        _copy(answer, part, start, total)
    if total is not None and _size(part) != total:
        raise OSError(f"the connection closed after {_size(part)} of {total} bytes")


def _extent(answer) -> tuple[int, int | None]:
    """First byte of an answer, and the size of the whole file if the server says it."""
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if found is None:
            raise OSError("the server answers with a part of the file and does not say which")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = answer.headers.get("Content-Length")
    return 0, int(length) if length else None


def _copy(answer, part: Path, start: int, total: int | None) -> None:
    from tqdm import tqdm

    bar: Any = tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, leave=False,
        disable=None,  # quiet when not a terminal
    )  # fmt: skip
    with bar, part.open("r+b") as out:
        out.seek(start)
        out.truncate()
        while block := answer.read(_BLOCK):
            out.write(block)
            bar.update(len(block))
        out.flush()
        os.fsync(out.fileno())


def _said(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return str(error)
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def _discard(part: Path, why: str) -> None:
    _log.warning("%s is discarded: %s", part, why)
    with part.open("r+b") as out:  # kept as an empty file: this process holds its lock
        out.truncate()


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _by_hand(file: File, root: Path, why: str, answers: list[str] | None = None) -> str:
    where = [u for u in (file.page, *file.urls) if u]
    return "\n".join([
        f"{Path(file.path).name} {why}.",
        *(answers or []),
        f"  Get it with a browser or on another machine from {' or '.join(where)}",
        f"  put it into {(root / file.path).parent} and run the same command again.",
        f"  Published: {file}.",
    ])  # fmt: skip


def _only_tls(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    own = parts.scheme == "http" and parts.hostname == "127.0.0.1"  # a server of this machine
    if parts.scheme != "https" and not own:
        raise ValueError(f"{url} is not an https address")


class _TlsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https addresses only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        try:
            _only_tls(newurl)
        except ValueError as error:
            raise urllib.error.URLError(f"redirected, and {error}") from error
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_TlsOnly)


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Hold the .part for this process; an empty one is removed in the end."""
    import fcntl

    with part.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another process is fetching {part.stem}: wait for it") from error
        try:
            yield
        finally:
            if part.exists() and not _size(part):
                part.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import fcntl

    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _md5():
    return hashlib.md5(usedforsecurity=False)


def _tar_members(archive: Path, raw: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    stream = _Remembering(_decompressed(raw))
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
        for member in tar:
            if not (member.isfile() or member.isdir()):
                raise ValueError(
                    f"{archive}: member {member.name!r} is a link or device, which no published "
                    "archive of ours holds: not unpacked"
                )
            name = _inside(archive, member.name)
            content = tar.extractfile(member)
            if content is not None:  # a file, not a folder
                yield name, content.read()
    # tarfile takes a damaged or cut header for the end, and never reads a compressed stream's sum
    if stream.last != bytes(512):
        raise tarfile.ReadError("the mark of the end is missing")
    while stream.read(_BLOCK):
        pass


def _zip_members(archive: Path, stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(stream) as packed:
        for member in packed.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(
                    f"{archive}: member {member.filename!r} is a link or device, which no "
                    "published archive of ours holds: not unpacked"
                )
            name = _inside(archive, member.filename)
            if not member.is_dir():
                yield name, packed.read(member)  # checks its CRC


def _inside(archive: Path, name: str) -> str:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
        raise ValueError(
            f"{archive}: member {name!r} lies outside the archive's folder: not unpacked"
        )
    return "/".join(part for part in parts if part not in ("", "."))


def _decompressed(raw: IO[bytes]) -> Any:
    start = raw.read(6)
    raw.seek(0)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\0", lzma.open), (b"BZh", bz2.open)):
        if start.startswith(magic):
            return opener(raw)
    return raw


class _Remembering:
    """A stream for tarfile that remembers the last block read."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        self.last = self.stream.read(size)
        return self.last

    def seek(self, *where: int) -> int:
        return self.stream.seek(*where)

    def tell(self) -> int:
        return self.stream.tell()
