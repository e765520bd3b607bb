"""Results of many runs in a few files that travel: zip archives, and a manifest.

Each archive stands alone: runs/<run_id>.nc as the results folder has them, and pieces of the
checkpoints of runs that were cut off.
"""

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lrsc import errors, results
from lrsc.errors import shown
from lrsc.files import atomic

FILES, FILE_BYTES, ALL_BYTES = 5, 16 * 2**20, 60 * 2**20
MANIFEST = "manifest.json"
MOST_BYTES = 2**31  # of a checkpoint
_MARGIN = 64 * 1024  # of a file, for the archive's own tables
_PIECE = 4 * 2**20
_RUN = re.compile(r"runs/[0-9a-f]{16}\.nc")
_CHECKPOINT = re.compile(r"checkpoints/[0-9a-f]{16}/[\w.+-]+\.pt/\d{3}-of-\d{3}-[0-9a-f]{64}")


def prepare(out: str | Path) -> Path:
    """The folder for packs, made and tried; ValueError where nothing can be written."""
    folder = errors.path("out", out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror or error}") from error
    return folder


def write(
    folder: Path,
    root: Path,
    names: Sequence[str],
    light: bool = False,
    end: float = float("inf"),
    about: Mapping | None = None,
) -> list[Path]:
    """Pack the results of runs, and checkpoints of those that are not done, in the order of names.

    At most FILES archives of at most FILE_BYTES, ALL_BYTES together, and a manifest: which run is
    in which file, what is cut off, what is left out for lack of room or time (end, by
    time.monotonic()). light: results without raw material. Older packs in the folder are replaced.
    Raises OSError where they cannot be written.
    """
    bins = _Bins(folder)
    manifest: dict = {"about": dict(about or {}), "runs": {}, "cut_off": {}, "left_out": []}
    done = [n for n in names if results.run_path(n, root).is_file()]
    for name in done:
        content = _content(results.run_path(name, root), light) if time.monotonic() < end else None
        place = content and bins.put({f"runs/{name}.nc": content})
        if place:
            manifest["runs"][name] = place[0]
        else:
            manifest["left_out"].append(name)
    for name in dict.fromkeys(names):
        for path in sorted(results.checkpoints_path(name, root).glob("*.pt")):
            if name in done:
                continue
            # half a second for 10 MB
            late = time.monotonic() + path.stat().st_size / 20e6 > end
            place = None if late else bins.put(_pieces(name, path))
            if place:
                manifest["cut_off"][name] = place
            else:
                manifest["left_out"].append(name)
    files = bins.close()
    manifest["files"] = {path.name: _digest(path.read_bytes()) for path in files}
    path = folder / MANIFEST
    with atomic(path) as part:
        part.write_text(json.dumps(manifest, indent=1))
    return [*files, path]


@contextlib.contextmanager
def unpacked(archives: Sequence[Path], folder: Path) -> Iterator[Path]:
    """A results folder with what some packs hold, for as long as it is needed.

    Raises ValueError for a file that is no pack, or damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".packs-", dir=folder) as name:
        place = Path(name)
        (place / "runs").mkdir()
        for path in archives:
            try:
                with zipfile.ZipFile(path) as archive:
                    _unpack(archive, path, place)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
                raise ValueError(f"{path} is no pack of results, or damaged: {error}") from error
        _join(place)
        yield place


def _unpack(archive: zipfile.ZipFile, path: Path, place: Path) -> None:
    for member in archive.infolist():
        if not (_RUN.fullmatch(member.filename) or _CHECKPOINT.fullmatch(member.filename)):
            raise ValueError(f"{path} is no pack of results: it holds {shown(member.filename)}")
        if member.file_size > FILE_BYTES:
            raise ValueError(f"{path} is damaged: {member.filename} is larger than a whole pack")
        target = place / member.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file)


def _join(place: Path) -> None:
    """Checkpoints from their pieces; those that are not whole are left out."""
    for folder in (p for p in place.glob("checkpoints/*/*.pt") if p.is_dir()):
        pieces = sorted(folder.iterdir())
        _, _, count, digest = pieces[0].name.split("-")
        content = b"".join(piece.read_bytes() for piece in pieces)
        shutil.rmtree(folder)
        if len(pieces) == int(count) and _digest(content) == digest:
            folder.write_bytes(zlib.decompressobj().decompress(content, MOST_BYTES))


def _pieces(name: str, path: Path) -> dict[str, bytes]:
    """A checkpoint, compressed and cut: name in the archive -> content."""
    content = zlib.compress(path.read_bytes(), 1)
    parts = [content[i : i + _PIECE] for i in range(0, len(content), _PIECE)]
    digest = _digest(content)
    return {
        f"checkpoints/{name}/{path.name}/{i:03d}-of-{len(parts):03d}-{digest}": part
        for i, part in enumerate(parts)
    }


def _content(path: Path, light: bool) -> bytes | None:
    """The file of a result, without its raw material where that is asked; None if damaged."""
    found = results.load_run(path)
    if found is None or not light:
        return None if found is None else path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / path.name
        results.save(results.without_raw(found), small)
        return small.read_bytes()


class _Bins:
    """Archives that are filled in turn: a member goes into the first that has room."""

    def __init__(self, folder: Path) -> None:
        for path in folder.glob("pack-*.zip"):
            path.unlink()
        self.folder, self.sizes = folder, list[int]()

    def put(self, members: Mapping[str, bytes]) -> list[str]:
        """Where the members went, all of them; nowhere if there is no room for all."""
        sizes, places = list(self.sizes), []
        for content in members.values():
            # stored: results are compressed already, and so are pieces
            size = len(content) + 512
            k = next((k for k, s in enumerate(sizes) if s + size <= FILE_BYTES - _MARGIN), None)
            if k is None:
                k = len(sizes)
                sizes.append(0)
            sizes[k] += size
            places.append(k)
        if len(sizes) > FILES or sum(sizes) > ALL_BYTES:
            return []
        self.sizes = sizes
        for (name, content), k in zip(members.items(), places, strict=True):
            with zipfile.ZipFile(self._path(k), "a", zipfile.ZIP_STORED) as archive:
                archive.writestr(name, content)
        return list(dict.fromkeys(self._path(k).name for k in places))

    def _path(self, k: int) -> Path:
        return self.folder / f"pack-{k + 1}.zip"

    def close(self) -> list[Path]:
        """The archives."""
        return [self._path(k) for k in range(len(self.sizes))]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
