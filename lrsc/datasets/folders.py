"""Folders of image files, one a class, and the table of what is known of each file."""

import io
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from lrsc import errors
from lrsc.datasets import given, natural
from lrsc.datasets.raw import decoding
from lrsc.datasets.raw.files import Files
from lrsc.errors import DataMissing

FILE_COLUMNS = ("file_name", "filename", "file", "path", "img_filename", "image", "image_id")
_log = logging.getLogger(__name__)


def classes(place: Path) -> dict[str, list[str]]:
    """Names of the class folders of each split, which are the same in all."""
    found = {}
    for part in ("train", "test", "val"):
        if not (place / part).is_dir():
            if part != "val":
                raise DataMissing(
                    f"{place / part} is not there: expected the folders train and test in {place}, "
                    "in each a folder of images a class, as in train/cat/1.png"
                )
            continue
        found[part] = natural.class_folders(place / part)
        if not found[part]:
            raise ValueError(
                f"{place / part} has no class folders, and so no labels: put its images into one "
                f"folder a class, as in {part}/cat/1.png"
            )
        if len(found[part]) < 2:
            raise ValueError(
                f"{place / part} has one class folder, {found[part][0]!r}: a classifier needs two "
                "or more"
            )
        for one, other in (("train", part), (part, "train")):
            if only := sorted(set(found[one]) - set(found[other])):
                raise ValueError(
                    f"class folders differ: {one} has {', '.join(map(repr, only[:5]))}, {other} "
                    "does not. All splits need the same classes: add the folders, or take them out"
                )
    return found


def common_size(listed: Iterable[Files]) -> int:
    """The side of square images that are all of one size, by their headers."""
    from PIL import Image

    first: tuple[str, tuple[int, int]] | None = None
    for images in listed:
        for row in range(len(images)):
            name, data = images.read(row)
            try:
                with Image.open(io.BytesIO(data)) as image:
                    sides = image.size
            except Exception as error:  # a damaged file fails in whatever way Pillow's parsers do
                raise decoding.unreadable(name, error) from error
            first = first or (name, sides)
            if sides != first[1] or sides[0] != sides[1]:
                raise ValueError(
                    f"images differ in size or are not square: {first[0]} has {first[1][0]} x "
                    f"{first[1][1]} pixels, {name} {sides[0]} x {sides[1]}: say which size all are "
                    "to have, as in size=64"
                )
    return first[1][0] if first else 1


def bias(
    place: Path, metadata: str | Path | None, column: str, listed: Mapping[str, Files]
) -> dict[str, np.ndarray | None]:
    """Values of a column of a list of files for the images of each split; None where none is."""
    path = place / "metadata.csv" if metadata is None else errors.path("metadata", metadata)
    if not path.is_file():
        if metadata is not None:
            raise DataMissing(f"metadata={str(metadata)!r} is not a file")
        return dict.fromkeys(listed)
    values = _column(path, column)
    names = {
        part: [f"{part}/{os.fsdecode(name)}" for name in images.names.tolist()]
        for part, images in listed.items()
    }
    absent = sorted(values.keys() - {name for some in names.values() for name in some})
    if absent:
        raise ValueError(
            f"{path} names {len(absent)} files that are not in {place}, as {absent[0]!r}: names "
            "are relative to this folder, as in train/cat/1.png"
        )
    numeric = all(value.removesuffix(".0").isdecimal() for value in values.values() if value)
    found: dict[str, np.ndarray | None] = {}
    for part, some in names.items():
        texts = [values.get(name, "") for name in some]
        numbers = [int(float(v)) if v else given.UNKNOWN for v in texts] if numeric else texts
        found[part] = np.array(numbers) if any(texts) else None
        if unknown := texts.count(""):
            _log.info("%d of %d images in %s have no %s", unknown, len(texts), part, column)
    return found


def _column(path: Path, column: str) -> dict[str, str]:
    """File name -> value of a column of a CSV file."""
    rows = natural.fields(path)
    _, head = next(rows, (1, []))
    file = next((name for name in FILE_COLUMNS if name in head), None)
    if file is None or column not in head:
        raise ValueError(
            f"{path} must have a column {column!r} and one of files ({', '.join(FILE_COLUMNS)}), "
            f"found {', '.join(map(repr, head)) or 'nothing'}; column='...' names another"
        )
    found: dict[str, str] = {}
    for line, fields in rows:
        if len(fields) != len(head):
            raise ValueError(
                f"{path}, line {line}: found {len(fields)} fields, expected {len(head)}"
            )
        row = dict(zip(head, fields, strict=True))
        name = PurePosixPath(row[file].strip().replace("\\", "/")).as_posix()
        if name in found:
            raise ValueError(f"{path}, line {line}: {name} is listed a second time")
        found[name] = row[column].strip()
    return found
