"""Published files: fetched with resume and verified.

Nothing half-made is ever left under its own name: a download grows in `<name>.part`, which is
renamed when it is whole.
"""

import collections
import contextlib
import dataclasses
import hashlib
import http.client
import json
import logging
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrsc import __version__
from lrsc.datasets.raw import archives
from lrsc.errors import DataMissing
from lrsc.files import atomic, locked

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
            collections.deque(archives.members(path), maxlen=0)
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
    with locked(root / f".{CHECKSUMS}.lock", wait=True, remove=True):
        known = recorded(root)
        names = [f.path for f in files if not f.sha256 and f.path not in known]
        if names:
            with atomic(root / CHECKSUMS) as part:
                known |= {name: digest(root / name) for name in names}
                part.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


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
    with locked(part) as mine:
        if not mine:
            raise ValueError(f"another process is fetching {part.stem}: wait for it")
        try:
            yield
        finally:
            if part.exists() and not _size(part):
                part.unlink()


def _md5():
    return hashlib.md5(usedforsecurity=False)
