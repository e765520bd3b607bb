"""Waterbirds (Sagawa et al. 2020): the kind of bird is the class, the background the bias."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from lrsc.datasets import natural
from lrsc.datasets.biased import BiasedDataset
from lrsc.datasets.raw import files
from lrsc.datasets.raw.sources import Source
from lrsc.errors import DataMissing

VERSION = 1
FOLDER, LIST = "waterbird_complete95_forest2water2", "metadata.csv"
N = 11_788  # images published
COLUMNS = {"y": 2, "split": 3, "place": 2}  # number of values


def find(root: Path, source: str) -> Source:
    """Waterbirds under <root>/waterbirds, or the miniature.

    Its checksum is the SHA-256 over metadata.csv and the images' names and sizes. Raises
    DataMissing for what is absent, ValueError naming file and line for what is damaged.
    """
    place = natural.folder("waterbirds", root, source, ((f"{FOLDER}/{LIST}",),))
    path = place / FOLDER / LIST
    names, table = _metadata(path)
    chosen = files.listed(place / FOLDER, depth=2).select(names, path)
    content = chosen, table, natural.masks(place, names, path)
    return natural.found("waterbirds", place, N, [path], [chosen], content)


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
    names: list[bytes] = []
    values: list[list[int]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for wanted in ("img_filename", *COLUMNS):
                if wanted not in (reader.fieldnames or ()):
                    raise natural.damaged(path, 1, reader.fieldnames, f"a column {wanted!r}")
            for row in reader:
                line = reader.line_num
                if None in row.values() or None in row:
                    raise natural.damaged(
                        path, line, list(row.values()), f"{len(reader.fieldnames or ())} fields"
                    )
                names.append(row["img_filename"].encode())
                values.append(
                    [natural.number(path, line, row[k], n, k) for k, n in COLUMNS.items()]
                )
    except OSError as error:
        raise DataMissing(f"{path} cannot be read: {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}. Fetch it again.") from error
    if not names:
        raise natural.damaged(path, 2, "the end", "images")
    sorted_names, order = natural.in_order(path, names)
    table = np.array(values, np.int64)[order]
    return sorted_names, {name: table[:, k].copy() for k, name in enumerate(COLUMNS)}
