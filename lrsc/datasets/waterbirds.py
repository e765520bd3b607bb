"""Waterbirds (Sagawa et al. 2020): the kind of bird is the class, the background the bias."""

import dataclasses
from pathlib import Path

import numpy as np

from lrsc.datasets import natural
from lrsc.datasets.biased import BiasedDataset
from lrsc.datasets.raw import files
from lrsc.datasets.raw.sources import Source, located
from lrsc.datasets.standins import miniatures

VERSION = 2
FOLDER, LIST = "waterbird_complete95_forest2water2", "metadata.csv"
# where it lies under a data root: as fetched, as WILDS and as group_DRO lay it out
PLACES = (f"waterbirds/{FOLDER}", "waterbirds_v1.0", FOLDER)
N = 11_788  # images published
COLUMNS = {"y": 2, "split": 3, "place": 2}  # number of values


def find(root: Path, source: str) -> Source:
    """Waterbirds in one of the `PLACES`, or the miniature.

    Its checksum is the SHA-256 over what metadata.csv says that is used, and the images' names and
    sizes. Raises DataMissing for what is absent, ValueError naming file and line for what is
    damaged.
    """
    lists = [f"{place}/{LIST}" for place in PLACES]
    if not located("waterbirds", root, source, [lists]):
        root = miniatures.folder("waterbirds")
    path = next((root / name for name in lists if (root / name).exists()), root / lists[0])
    names, table = _metadata(path)
    chosen = files.listed(path.parent, depth=2).select(names, path)
    place = root / path.relative_to(root).parts[0]
    content = chosen, table, natural.masks(place, names, path)
    said = [table[column].tobytes() for column in COLUMNS]
    return natural.found("waterbirds", place, N, said, [chosen], content)


def build(
    source: Source,
    seed: int = 0,
    n_train: int | None = None,
    size: int = 224,
    cache: bool = False,
    augment: bool = True,
) -> BiasedDataset:
    """N x 3 x size x size uint8, streamed; y = 1 water bird, b = 1 water; splits as published.

    The test split holds each kind of bird on both backgrounds equally often. The miniature has
    masks: the bird is core, all else spurious. n_train: a subset, groups in proportion. cache:
    resized once into the cache folder. augment: training images are cropped (70 to 100 % of the
    area) and mirrored at random.
    """
    chosen, table, masks = source.content
    whole = natural.streamed(chosen, table["y"], table["place"], masks, size=size)
    if whole.core_mask is not None:
        whole = dataclasses.replace(whole, spurious_mask=~whole.core_mask)
    return natural.dataset(
        "waterbirds", source, natural.by_name(whole, table["split"]), ("landbird", "waterbird"),
        version=VERSION, seed=seed, n_train=n_train, cache=cache,
        augment=natural.crop_flip if augment else None,
    )  # fmt: skip


def _metadata(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Names, sorted, and the columns y, split and place as int64."""
    names: list[str] = []
    values: list[list[int]] = []
    lines = natural.fields(path)
    _, head = next(lines, (1, []))
    for wanted in ("img_filename", *COLUMNS):
        if wanted not in head:
            raise natural.damaged(path, 1, head, f"a column {wanted!r}")
    for line, found in lines:
        if len(found) != len(head):
            raise natural.damaged(path, line, found, f"{len(head)} fields")
        row = dict(zip(head, found, strict=True))
        names.append(row["img_filename"])
        values.append([natural.number(path, line, row[k], n, k) for k, n in COLUMNS.items()])
    if not names:
        raise natural.damaged(path, 2, "the end", "images")
    sorted_names, order = natural.in_order(path, names)
    table = np.array(values, np.int64)[order]
    return sorted_names, {name: table[:, k].copy() for k, name in enumerate(COLUMNS)}
