"""ImageNet-1k (Russakovsky et al. 2015), no bias labels: training set, and validation as test."""

from pathlib import Path

import numpy as np

from lrsc.datasets import natural
from lrsc.datasets.augment import random_resized_crop_flip
from lrsc.datasets.biased import BiasedDataset
from lrsc.datasets.raw import files
from lrsc.datasets.raw.files import Files
from lrsc.datasets.raw.sources import Source
from lrsc.errors import DataMissing

VERSION = 2
N = 1_281_167 + 50_000  # images published
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
DEVKIT = ("ILSVRC2012_devkit_t12/data", "", "val")  # where these two are looked for


def find(root: Path, source: str) -> Source:
    """ImageNet under <root>/imagenet, or the miniature of ten classes.

    train/<wnid>/*.JPEG; val in the same form, or flat (val/ILSVRC2012_val_*.JPEG). The flat form
    needs the development kit's ground truth and its meta.mat (read with scipy): the labels 1 to
    1000 in the former are not in the order of the wnids, and only the latter says which is which.
    Classes are numbered in the order of their wnids. The checksum is the SHA-256 over the ground
    truth where it is used, and the images' names and sizes. Raises DataMissing for what is absent,
    ValueError naming file and line for what is damaged.
    """
    place = natural.folder("imagenet", root, source, (("train",), ("val",)))
    wnids = natural.class_folders(place / "train")
    if not wnids:
        raise DataMissing(
            f"{place / 'train'} holds no folders, expected one a class: n01440764 ..."
        )
    parts = {"train": natural.by_folder(place / "train", wnids)}
    lists = []
    if natural.class_folders(place / "val"):
        parts["test"] = natural.by_folder(place / "val", wnids)
    else:
        truth = _devkit(place, TRUTH)
        parts["test"] = _flat(place / "val", wnids, truth, synsets(_devkit(place, META)))
        lists = [truth.read_bytes()]
    content = parts, _class_names(place, wnids)
    images = [found for found, _ in parts.values()]
    return natural.found("imagenet", place, N, lists, images, content)


def build(
    source: Source,
    seed: int = 0,
    n_train: int | None = None,
    size: int = 224,
    cache: bool = False,
    augment: bool = True,
) -> BiasedDataset:
    """N x 3 x size x size uint8, streamed; the 50 000 validation images are the test split.

    n_train: a subset, classes in proportion. cache: resized once into the cache folder (200 GB at
    224). augment: training images are cropped (8 to 100 % of the area) and mirrored at random.
    """
    parts, class_names = source.content
    splits = {name: natural.streamed(*part, size=size) for name, part in parts.items()}
    return natural.dataset(
        "imagenet", source, splits, class_names, version=VERSION, seed=seed, n_train=n_train,
        cache=cache,
        augment=random_resized_crop_flip if augment else None,
    )  # fmt: skip


def synsets(path: Path) -> dict[int, tuple[str, str]]:
    """Label (1, 2, ...) -> (wnid, name) from meta.mat; leaves only, as the labels are."""
    import scipy.io  # type: ignore[import-untyped]

    try:
        table = np.atleast_1d(scipy.io.loadmat(path, squeeze_me=True)["synsets"])
        leaves = table[[int(row["num_children"]) == 0 for row in table]]
        rows = {
            int(row["ILSVRC2012_ID"]): (str(row["WNID"]), str(row["words"]).split(",")[0])
            for row in leaves
        }
        if len(rows) != len(leaves) or sorted(rows) != list(range(1, len(rows) + 1)):
            raise ValueError(f"its {len(leaves)} classes are not numbered 1 to {len(leaves)}")
        return rows
    except Exception as error:  # a damaged file fails in whatever way the parser does
        raise ValueError(
            f"{path} cannot be read as the development kit's meta.mat: {error!r}. Fetch it again."
        ) from error


def _flat(
    place: Path, wnids: list[str], truth: Path, meta: dict[int, tuple[str, str]]
) -> natural.Labelled:
    known = {wnid: k for k, wnid in enumerate(wnids)}
    y = []
    for line, text in enumerate(natural.rows(truth), 1):
        wnid = meta[natural.number(truth, line, text, len(meta), "the label", first=1)][0]
        if wnid not in known:
            raise natural.damaged(truth, line, f"{text} ({wnid})", "a class in train")
        y.append(known[wnid])
    found: Files = files.listed(place)
    if len(found) > len(y):
        raise ValueError(f"{truth} has {len(y)} labels for the {len(found)} images in {place}")
    names = np.array([b"ILSVRC2012_val_%08d.JPEG" % (i + 1) for i in range(len(y))], np.bytes_)
    return found.select(names, truth), np.array(y, np.int64)


def _devkit(place: Path, name: str) -> Path:
    path = _in_devkit(place, name)
    if path is None:
        raise DataMissing(
            f"{name} was not found: {place / 'val'} holds images without class folders, which "
            f"need {TRUTH} and {META} of ILSVRC2012_devkit_t12.tar.gz. Unpack it in {place}."
        )
    return path


def _in_devkit(place: Path, name: str) -> Path | None:
    paths = [place / where / name for where in DEVKIT]
    return next((path for path in paths if path.is_file()), None)


def _class_names(place: Path, wnids: list[str]) -> tuple[str, ...]:
    """Names in words where the development kit is there, else the wnids."""
    path = _in_devkit(place, META)
    words = dict(synsets(path).values()) if path else {}
    return tuple(words.get(wnid, wnid) for wnid in wnids)
