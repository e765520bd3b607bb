"""Published files: fetched by pooch from their mirrors, and verified.

Nothing half-made is ever left under its own name: a download grows in `<name>.part`, which is
renamed when it is whole.
"""

import collections
import dataclasses
import hashlib
import json
import logging
import os
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from lrsc import __version__
from lrsc.datasets.raw import archives
from lrsc.errors import DataMissing
from lrsc.files import atomic, locked

CHECKSUMS = "checksums.json"  # in the data root: path -> SHA-256 at the first verified download
TIMEOUT = 30  # seconds without an answer
TRIES = 3  # of one mirror, whose connection broke
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


def fetch(file: File, root: Path) -> Path:
    """Download a file to its place under the data root, from the first mirror that delivers it.

    It appears under its name only when size and digest agree; where no digest is published, an
    archive must be readable to its end. Its SHA-256 is recorded in the root's checksums.json and
    checked from then on. Raises DataMissing saying what each mirror answered and how to do
    without, ValueError if another process is fetching it.
    """
    target = root / file.path
    if not file.urls:
        raise DataMissing(_by_hand(file, root, "has to be fetched by hand"))
    part = target.with_name(target.name + ".part")
    answers = []
    with locked(part, remove=True) as mine:
        if not mine:
            raise ValueError(f"another process is fetching {target.name}: wait for it")
        for url in file.urls:
            trouble = _from_mirror(file, url, part, recorded(root).get(file.path, ""))
            if not trouble:
                os.replace(part, target)
                record(root, file)
                _log.info("%s: fetched and verified", target)
                return target
            _log.warning("%s: %s", url, trouble)
            answers.append(f"  {url}: {trouble}")
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
    made = hashlib.new(kind.replace("-", ""), usedforsecurity=False)
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: made).hexdigest()


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


def _from_mirror(file: File, url: str, part: Path, known: str) -> str:
    """Fill and verify the .part from one mirror; what went wrong, or ''."""
    import pooch

    def check(answer, **_) -> None:
        _only_tls(urllib.parse.urljoin(answer.url, answer.headers.get("Location", "")))
        offered = answer.headers.get("Content-Length")
        if answer.status_code == 200 and file.size and offered and int(offered) != file.size:
            raise OSError(f"the server offers {offered} bytes, published are {file.size}")

    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=TIMEOUT,
        hooks={"response": check},
        headers={"User-Agent": f"lrsc/{__version__}", "Accept-Encoding": "identity"},
    )  # fmt: skip
    trouble = ""
    for _ in range(TRIES):
        try:
            download(url, part, None)
            return problem(file, part, known)
        except (OSError, ValueError) as error:  # those of requests are OSErrors
            trouble = str(error)
        if not part.stat().st_size:  # nothing came
            break
    return trouble


def _by_hand(file: File, root: Path, why: str, answers: Sequence[str] = ()) -> str:
    where = [u for u in (file.page, *file.urls) if u]
    return "\n".join([
        f"{Path(file.path).name} {why}.",
        *answers,
        f"  Get it with a browser or on another machine from {' or '.join(where)}",
        f"  put it into {(root / file.path).parent} and run the same command again.",
        f"  Published: {file}.",
    ])  # fmt: skip


def _only_tls(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    own = parts.scheme == "http" and parts.hostname == "127.0.0.1"  # a server of this machine
    if parts.scheme != "https" and not own:
        raise ValueError(f"{url} is not an https address")
