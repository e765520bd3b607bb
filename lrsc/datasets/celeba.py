"""CelebA (Liu et al. 2015): blond hair is the class, gender the bias; splits as published."""

import os
from pathlib import Path

import numpy as np

from lrsc.datasets import natural
from lrsc.datasets.biased import BiasedDataset
from lrsc.datasets.raw import files
from lrsc.datasets.raw.sources import Source
from lrsc.errors import check_names

VERSION = 2
TARGET, SPURIOUS = "Blond_Hair", "Male"
# as published, and as Kaggle has them
ATTRIBUTES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
PARTITION = ("list_eval_partition.txt", "list_eval_partition.csv")
IMAGES = ("img_align_celeba", "img_align_celeba.zip")
N = 202_599  # images published


def find(root: Path, source: str) -> Source:
    """CelebA under <root>/celeba, or the miniature.

    content: all images in the order of their names, the attributes, N x A bool whether an image
    has them, the split of each (0, 1, 2), and the masks of the hair or None. Its checksum is the
    SHA-256 over what the two lists say, and the images' names and sizes. Raises DataMissing for
    what is absent, ValueError naming file and line for what is damaged.
    """
    place = natural.folder("celeba", root, source, (IMAGES, ATTRIBUTES, PARTITION))
    listed_in = _first(place, ATTRIBUTES)
    names, attributes, has = _attributes(listed_in)
    split = _partition(_first(place, PARTITION), names, listed_in.name)
    chosen = images(place).select(names, listed_in)
    content = chosen, attributes, has, split, natural.masks(place, names, listed_in)
    said = [" ".join(attributes).encode(), has.tobytes(), split.tobytes()]
    return natural.found("celeba", place, N, said, [chosen], content)


def images(place: Path) -> files.Files:
    """The images of a folder `celeba`: one level down, as published, or two, as Kaggle has them."""
    top = _first(place, IMAGES)
    nested = top / IMAGES[0]
    return files.listed(nested if nested.is_dir() else top, inside=f"{IMAGES[0]}/")


def _first(place: Path, forms: tuple[str, ...]) -> Path:
    return next((place / form for form in forms if (place / form).exists()), place / forms[0])


def build(
    source: Source,
    seed: int = 0,
    n_train: int | None = None,
    target: str = TARGET,
    spurious: str = SPURIOUS,
    size: int = 224,
    cache: bool = False,
    augment: bool = True,
) -> BiasedDataset:
    """N x 3 x size x size uint8, streamed: the middle square of the aligned faces.

    target, spurious: attributes; y = 1 where the target is present. b is coded so that b = y is
    the majority pairing of the training set: b = not male for blond hair. The miniature has masks:
    the hair is core. n_train: a subset, groups in proportion. cache: resized once into the cache
    folder. augment: training images are cropped (70 to 100 % of the area) and mirrored at random.
    """
    chosen, attributes, has, split, masks = source.content
    check_names("attribute for target", [target], attributes)
    check_names("attribute for spurious", [spurious], attributes)
    if target == spurious:
        raise ValueError(f"target and spurious must be two attributes, found {target!r} twice")
    y, bias = (has[:, attributes.index(name)].astype(np.int64) for name in (target, spurious))
    train = split == 0
    if (target, spurious) == (TARGET, SPURIOUS) or np.mean(y[train] == bias[train]) < 0.5:
        bias = 1 - bias
    masks = masks if target == TARGET else None  # they are the hair's
    whole = natural.streamed(chosen, y, bias, masks, size=size, short=size)
    shown = target.lower().replace("_", " ")
    return natural.dataset(
        "celeba", source, natural.by_name(whole, split), (f"not {shown}", shown),
        version=VERSION, seed=seed, n_train=n_train, cache=cache,
        augment=natural.crop_flip if augment else None,
    )  # fmt: skip


def _attributes(path: Path) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Names (sorted), attributes, N x A bool.

    As published line 1 is the count and line 2 the attributes; as CSV a line of columns goes first.
    """
    lines = natural.fields(path)
    line, head = next(lines, (1, []))
    count = None
    if len(head) == 1:
        count = natural.number(path, 1, head[0], 10**9, "the number of images")
        line, head = next(lines, (2, []))
    start = _after_name(head)
    attributes = tuple(head[start:])
    expected = f"a file name and {len(attributes)} values -1 or 1"
    names, has = [], bytearray()
    for line, found in lines:
        values = found[max(start, 1) :]
        if len(values) != len(attributes) or not _HAS.keys() >= set(values):
            raise natural.damaged(path, line, " ".join(found), expected)
        names.append(found[max(start, 1) - 1])
        has += bytes([_HAS[value] for value in values])
    if not names:
        raise natural.damaged(path, line + bool(head), "the end", "attributes and images")
    if count not in (None, len(names)):
        raise natural.damaged(path, 1, count, f"{len(names)}, the images that are listed")
    sorted_names, order = natural.in_order(path, names)
    table = np.frombuffer(has, bool).reshape(len(names), len(attributes))
    return sorted_names, attributes, table[order]


_HAS = {"1": True, "-1": False, "1.0": True, "-1.0": False}


def _after_name(head: list[str]) -> int:
    """Of a line of columns, the first one after the images' names; 0 for one without names."""
    return head.index("image_id") + 1 if "image_id" in head else 0


def _partition(path: Path, names: np.ndarray, listed_in: str) -> np.ndarray:
    """Split (0, 1, 2) of each of the sorted names."""
    known = {os.fsdecode(name): row for row, name in enumerate(names.tolist())}
    split = np.full(len(names), -1, np.int8)
    start = 0
    for line, found in natural.fields(path):
        if line == 1 and (start := _after_name(found)):
            continue
        name, *values = found[max(start, 1) - 1 :] or [""]
        if len(values) != 1:
            raise natural.damaged(path, line, " ".join(found), "a file name and its split")
        if name not in known:
            raise natural.damaged(path, line, name, f"an image that {listed_in} lists")
        split[known[name]] = natural.number(path, line, values[0], len(natural.SPLITS), "the split")
    if (split < 0).any():
        name = os.fsdecode(names[split < 0][0])
        raise ValueError(f"{path} has no split for {name}, which {listed_in} lists; fetch it again")
    return split
