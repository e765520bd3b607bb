"""CelebA (Liu et al. 2015): blond hair is the class, gender the bias; splits as published."""

from pathlib import Path

import numpy as np

from lrsc.datasets import natural
from lrsc.datasets.biased import BiasedDataset
from lrsc.datasets.raw import files
from lrsc.datasets.raw.sources import Source
from lrsc.errors import check_names

VERSION = 1
TARGET, SPURIOUS = "Blond_Hair", "Male"
ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
IMAGES = ("img_align_celeba", "img_align_celeba.zip")
N = 202_599  # images published


def find(root: Path, source: str) -> Source:
    """CelebA under <root>/celeba, or the miniature.

    content: all images in the order of their names, the attributes, N x A bool whether an image
    has them, the split of each (0, 1, 2), and the masks of the hair or None. Its checksum is the
    SHA-256 over the two lists and the images' names and sizes. Raises DataMissing for what is
    absent, ValueError naming file and line for what is damaged.
    """
    place = natural.folder("celeba", root, source, (IMAGES, (ATTRIBUTES,), (PARTITION,)))
    names, attributes, has = _attributes(place / ATTRIBUTES)
    split = _partition(place / PARTITION, names)
    images = next(place / form for form in IMAGES if (place / form).exists())
    chosen = files.listed(images, inside=f"{IMAGES[0]}/").select(names, place / ATTRIBUTES)
    masks = natural.masks(place, names, place / ATTRIBUTES)
    content = chosen, attributes, has, split, masks
    lists = [place / ATTRIBUTES, place / PARTITION]
    return natural.found("celeba", place, N, lists, [chosen], content)


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
    """Names (sorted), attributes, N x A bool. Line 1 is the count, line 2 the attributes."""
    lines = natural.rows(path)
    if len(lines) < 3:
        raise natural.damaged(path, len(lines) + 1, "the end", "a count, attributes and images")
    count = natural.number(path, 1, lines[0], 10**9, "the number of images")
    attributes = tuple(lines[1].decode(errors="replace").split())
    expected = f"a file name and {len(attributes)} values -1 or 1"
    names, has = [], np.empty((len(lines) - 2, len(attributes)), bool)
    for i, line in enumerate(lines[2:]):
        name, *values = line.split() or [b""]
        if len(values) != len(attributes) or not {b"1", b"-1"}.issuperset(values):
            raise natural.damaged(path, i + 3, line, expected)
        names.append(name)
        has[i] = [value == b"1" for value in values]
    if count != len(names):
        raise natural.damaged(path, 1, count, f"{len(names)}, the images that are listed")
    sorted_names, order = natural.in_order(path, names)
    return sorted_names, attributes, has[order]


def _partition(path: Path, names: np.ndarray) -> np.ndarray:
    """Split (0, 1, 2) of each of the sorted names."""
    known = {name: row for row, name in enumerate(names.tolist())}
    split = np.full(len(names), -1, np.int8)
    for line, text in enumerate(natural.rows(path), 1):
        name, *values = text.split() or [b""]
        if len(values) != 1:
            raise natural.damaged(path, line, text, "a file name and its split")
        if name not in known:
            raise natural.damaged(path, line, name, f"an image that {ATTRIBUTES} lists")
        split[known[name]] = natural.number(path, line, values[0], len(natural.SPLITS), "the split")
    if (split < 0).any():
        name = names[split < 0][0].decode(errors="replace")
        raise ValueError(
            f"{path} has no split for {name}, which {ATTRIBUTES} lists; fetch it again"
        )
    return split
