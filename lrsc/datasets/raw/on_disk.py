"""What there is of the published data sets under a data root: `listing`, `check` and `get`."""

import collections
import dataclasses
import logging
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lrsc.datasets import celeba, imagenet, natural
from lrsc.datasets.raw import archives, download, files
from lrsc.datasets.raw.download import File
from lrsc.datasets.raw.published import FORMS, TABLE, DataSet, Images
from lrsc.errors import DataMissing, check_names

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Finding:
    """State of one file or folder: 'verified', 'missing' or 'wrong', and by what or why."""

    path: str
    state: str
    detail: str


def raw_sets(name: str, root: Path) -> list[str]:
    """The sets of files behind a data set: itself, what it is made from, or none if generated.

    Of several forms of one set it is the first that is complete under the root, else the first.
    Raises ValueError for an unknown name.
    """
    check_names("data set", [name], TABLE)
    if not TABLE[name].needs:
        return [name] if TABLE[name].pieces else []
    forms = [FORMS.get(need, (need,)) for need in TABLE[name].needs]
    return [next((f for f in some if present(f, root) == "yes"), some[0]) for some in forms]


def present(name: str, root: Path) -> str:
    """Whether a data set's files are there, unverified: yes, partly, no, or generated."""
    check_names("data set", [name], TABLE)
    dataset = TABLE[name]
    if dataset.needs:
        states = {present(raw, root) for raw in raw_sets(name, root)}
        return states.pop() if len(states) == 1 else "partly"
    if not dataset.pieces:
        return "generated"
    there = [any(_forms_there(piece, root)) for piece in dataset.pieces]
    begun = [p for f in dataset.fetched for p in (f.path, f"{f.path}.part") if (root / p).exists()]
    return "yes" if all(there) else "partly" if any(there) or begun else "no"


def listing(root: Path) -> list[dict]:
    """One row a data set: name, present, size to fetch in bytes, licence, source, needs."""
    rows = []
    for name, dataset in TABLE.items():
        sizes = [f.size for f in dataset.fetched if f.size is not None]
        rows.append({
            "name": name,
            "present": present(name, root),
            "size": sum(sizes) or None,
            "licence": dataset.licence,
            "source": dataset.homepage,
            "needs": list(dataset.needs),
            "citation": dataset.citation,
        })  # fmt: skip
    return rows


def check(name: str, root: Path) -> Iterator[Finding]:
    """Verify what there is of a data set: files by digest, folders of images by their headers.

    Nothing is written. What is absent is 'missing'. Raises ValueError for an unknown name.
    """
    for raw in raw_sets(name, root):
        known = download.recorded(root)
        forms = [form for piece in TABLE[raw].pieces for form in piece]
        for piece in TABLE[raw].pieces:
            there = list(_forms_there(piece, root))
            if not there:
                yield Finding(piece[0].path, "missing", f"not found in {root}")
            for form, path in there:
                yield _verified(form, path, root, known)
        for file in TABLE[raw].fetched:
            if file not in forms and (root / file.path).is_file():
                yield _verified(file, root / file.path, root, known)


def get(name: str, root: Path) -> list[Finding]:
    """Fetch, verify and lay out what a data set lacks under the root; the state it is then in.

    Files that came whole are kept, so that a call that stopped goes on with the next. Archives that
    were fetched are removed once unpacked and verified. Raises DataMissing naming what could not be
    fetched and what to do, ValueError for a damaged archive or an unknown name.
    """
    return [finding for raw in raw_sets(name, root) for finding in _get(raw, root)]


def _get(name: str, root: Path) -> list[Finding]:
    found = list(check(name, root))
    lacking = [f.path for f in found if f.state != "verified"]
    if not lacking:
        return found
    wanted = [f for f in TABLE[name].fetched if _gives(f, lacking)]
    if not wanted:
        raise DataMissing(f"{name} has no fixed address: put {' and '.join(lacking)} into {root}.")
    absent = {}
    for file in wanted:
        try:
            _ensure(file, root)
        except DataMissing as error:
            absent[file] = str(error)
    blocked = {file.into for file in absent}
    for file in wanted:
        if file.unpack and file.into not in blocked:
            _log.info("%s is unpacked to %s", root / file.path, root / file.into)
            _UNPACK[file.unpack](root / file.path, root / file.into)
    if absent:
        raise DataMissing("\n".join(absent.values()))
    found = list(check(name, root))
    if all(f.state == "verified" for f in found):
        _conclude(TABLE[name], root)
    return [f for f in found if f.state == "missing" or (root / f.path).exists()]


def _gives(file: File, lacking: list[str]) -> bool:
    own = {file.path, file.into}
    return any(p in own or (file.into and p.startswith(f"{file.into}/")) for p in lacking)


def _ensure(file: File, root: Path) -> None:
    path = root / file.path
    if path.is_file():
        wrong = download.problem(file, path, download.recorded(root).get(file.path, ""))
        if not wrong:
            return
        if not file.urls:
            raise ValueError(f"{path} is wrong: {wrong}. Delete it, get it again from {file.page}")
        _log.warning("%s is wrong and fetched again: %s", path, wrong)
    download.fetch(file, root)


def _conclude(dataset: DataSet, root: Path) -> None:
    """Record the SHA-256 of what has no published one, then remove unpacked archives."""
    single = [f for piece in dataset.pieces for f in piece if isinstance(f, File)]
    there = [f for f in {*single, *dataset.fetched} if (root / f.path).is_file()]
    download.record(root, *there)
    for file in there:
        if file.urls and file.unpack:
            (root / file.path).unlink()


def _forms_there(piece: tuple, root: Path) -> Iterator[tuple[File | Images, Path]]:
    for form in piece:
        packed = form.packed if isinstance(form, Images) else ()
        for path in (root / f"{form.path}{suffix}" for suffix in ("", *packed)):
            if path.exists():
                yield form, path


def _verified(form: File | Images, path: Path, root: Path, known: dict[str, str]) -> Finding:
    if isinstance(form, Images):
        wrong, by = _images_problem(form, path)
    elif path.suffix == ".csv" and form.path not in known:
        wrong, by = _listed_problem(path), "every image that it lists is there"
    else:
        wrong = download.problem(form, path, known.get(form.path, ""))
        by = "SHA-256" if form.sha256 or form.path in known else "MD5" if form.md5 else "readable"
    name = path.relative_to(root).as_posix()
    return Finding(name, "wrong" if wrong else "verified", wrong or by)


def _listed_problem(table: Path) -> str:
    """What is wrong with a table of images for which no digest is published, or ''."""
    try:
        rows = natural.fields(table)
        _, head = next(rows, (0, []))
        name = next((n for n in ("img_filename", "image_id") if n in head), "")
        names = [dict(zip(head, row, strict=False)).get(name, "") for _, row in rows]
        is_celeba = name == "image_id"
        found = celeba.images(table.parent) if is_celeba else files.listed(table.parent, depth=2)
    except ValueError as error:
        return str(error)
    there = {os.fsdecode(n) for n in found.names.tolist()}
    missing = [name for name in names if name not in there]
    if missing or not names:
        return f"{len(missing)} of {len(names)} images that it lists are missing: {missing[:1]}"
    return ""


def _images_problem(form: Images, path: Path) -> tuple[str, str]:
    """What is wrong with the images, or ''; and what was verified."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    bad, is_folder = [], path.is_dir()
    try:
        for name in _image_names(path):
            *folders, _ = name.removeprefix(f"{PurePosixPath(form.path).name}/").split("/")
            split = folders.pop(0) if form.splits[0][0] and folders else ""
            counts[split]["/".join(folders)] += 1
            if is_folder and not _has_header(path / name):
                bad.append(name)
    except ValueError as error:  # a damaged archive
        return str(error), ""
    for split, n, classes in form.splits:
        loose = counts[split].pop("", 0)
        flat = not classes or (form.flat and not counts[split])
        found, some = loose if flat else counts[split].total(), len(counts[split])
        if found != n or (some != classes and not flat):
            where = f"{split}: " if split else ""
            return f"{where}{found} images in {some} folders, expected {n} in {classes}", ""
    if bad:
        return f"{len(bad)} files cannot be read as images, the first is {bad[0]}", ""
    how = "every header read" if is_folder else "read to the archive's end"
    return "", f"{sum(n for _, n, _ in form.splits)} images, {how}"


def _image_names(path: Path) -> Iterator[str]:
    if path.is_dir():
        names = (p.relative_to(path).as_posix() for p in sorted(path.rglob("*")) if p.is_file())
    else:
        names = (name for name, _ in archives.members(path))
    return filter(files.is_image, names)


def _has_header(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return min(image.size) > 0
    except (OSError, ValueError, SyntaxError):
        return False


def _unpack_classes(archive: Path, folder: Path) -> None:
    """An archive of one archive a class: one folder a class."""
    with archives.making(folder) as part:
        for name, content in archives.members(archive):
            inner = part / PurePosixPath(name).stem
            inner.mkdir()
            archives.unpack(archive / name, inner, content)


def _unpack_validation(archive: Path, folder: Path) -> None:
    """ImageNet's flat validation images: one folder a class, by the development kit's labels."""
    wnids = _validation_wnids(archive.with_name("ILSVRC2012_devkit_t12.tar.gz"))
    with archives.making(folder) as part:
        for name, content in archives.members(archive):
            number = PurePosixPath(name).stem.rpartition("_")[2]
            if not number.isdecimal() or not 1 <= int(number) <= len(wnids):
                raise ValueError(f"{archive}: {name!r} is no image 1 to {len(wnids)}")
            path = part / wnids[int(number) - 1] / PurePosixPath(name).name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def _validation_wnids(devkit: Path) -> list[str]:
    """WordNet ID of every validation image; the kit is unpacked beside its archive and stays."""
    folder = devkit.with_name(imagenet.DEVKIT[0].partition("/")[0])
    if not folder.exists():
        archives.extract(devkit, folder)
    classes = imagenet.synsets(folder / "data" / imagenet.META)
    labels = (folder / "data" / imagenet.TRUTH).read_text().split()
    try:
        return [classes[int(label)][0] for label in labels]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{folder}: {imagenet.TRUTH} has the label {error}") from error


_UNPACK = {
    "gz": archives.decompress,
    "archive": archives.extract,
    "archive of archives": _unpack_classes,
    "imagenet val": _unpack_validation,
}
