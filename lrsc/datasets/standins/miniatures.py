"""Stand-ins for published image sets: small drawn sets in exactly the published layouts.

They let every pipeline run without a download, and are never evidence: a file MINIATURE.json
beside the images gives them the source_id 'miniature-<name>'.
"""

import io
import json
import struct
from pathlib import Path

import numpy as np

from lrsc.datasets.biased import biased_labels, unbiased_labels
from lrsc.datasets.raw import cache
from lrsc.datasets.standins import drawing
from lrsc.errors import check_names, is_whole

VERSION = 1
SIDE, CIFAR_SIDE = 64, 32  # pixels
MARK = "MINIATURE.json"
# name -> (folder under the data root, training images, share that conflicts)
SETS: dict[str, tuple[str, int, float | None]] = {
    "celeba": ("celeba", 800, 0.1),
    "waterbirds": ("waterbirds", 800, 0.05),
    "imagenet": ("imagenet", 1000, None),
    "cifar10": ("cifar-10-batches-py", 2000, None),
    "cifar100": ("cifar-100-python", 2000, None),
}
CELEBA_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair "
    "Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
)


def folder(name: str) -> Path:
    """A data root in the cache folder that holds the miniature of a set; drawn once (seconds)."""
    check_names("miniature", [name], SETS)
    key = f"miniature-{name}-{VERSION}"
    cache.arrays(key, lambda part: make(name, part))
    return cache.folder() / key


def make(
    name: str, folder: Path, n: int | None = None, rho: float | None = None, seed: int = 0
) -> Path:
    """Draw the miniature of a set below a data root, as published; its folder there.

    name: celeba, waterbirds (n training images, n / 4 of validation and n / 2 of test, in which
    every group is equally large; masks of hair and birds in a folder `masks`), imagenet (10
    classes; n, and n / 2 of validation), cifar10, cifar100 (n, and n / 2 of test). rho: share of
    conflicting training images, exact to one a class, for the first two. Natural ones have 64 x 64
    pixels. The same arguments give the same bytes. Raises ValueError if the folder is there.
    """
    check_names("miniature", [name], SETS)
    top, usual_n, usual_rho = SETS[name]
    n, rho = usual_n if n is None else n, usual_rho if rho is None else rho
    least = 100 if name == "cifar100" else 20
    if not is_whole(n, least):
        raise ValueError(f"n must be a whole number of images >= {least}, found {n!r}")
    if rho is not None and (usual_rho is None or not 0 <= rho <= 1):
        raise ValueError(f"rho must be a share in [0, 1], and None for {name}; found {rho!r}")
    target = Path(folder) / top
    if target.exists():
        raise ValueError(f"{target} is there already: a miniature never writes over data")
    target.mkdir(parents=True)
    about = {"name": name, "n": n, "rho": rho, "seed": seed, "version": VERSION}
    (target / MARK).write_text(json.dumps(about | {"drawn": "not photographs"}) + "\n")
    rng = np.random.default_rng([VERSION, list(SETS).index(name), seed])
    if name in ("celeba", "waterbirds"):
        _biased(name, target, n, float(rho or 0), rng)
    elif name == "imagenet":
        _imagenet(target, n, rng)
    else:
        _cifar(target, n, 100 if name == "cifar100" else 10, rng)
    return target


def _biased(name: str, target: Path, n: int, rho: float, rng: np.random.Generator) -> None:
    sizes = (n, n // 4, n // 2)
    split = np.repeat([0, 1, 2], sizes)
    ys = [rng.permutation(np.arange(size) % 2) for size in sizes]
    biases = [biased_labels(ys[0], 2, rho, rng), *(unbiased_labels(y, 2, rng) for y in ys[1:])]
    y, bias = np.concatenate(ys), np.concatenate(biases)
    draw, write = {
        "celeba": (drawing.faces, _celeba_lists), "waterbirds": (drawing.birds, _waterbirds_list)
    }[name]  # fmt: skip
    names, images, masks = write(target, y, bias, split)
    for part in np.array_split(np.arange(len(y)), -(-len(y) // 200)):
        picture, mask = draw(y[part], bias[part], SIDE, rng)
        for i, pixels, inside in zip(part, drawing.to_uint8(picture), mask, strict=True):
            _save(images / names[i], pixels)
            _save((masks / names[i]).with_suffix(".png"), inside.astype(np.uint8) * 255)


def _celeba_lists(target: Path, y, bias, split) -> tuple[list[str], Path, Path]:
    names = [f"{i + 1:06d}.jpg" for i in range(len(y))]
    attributes = CELEBA_ATTRIBUTES.split()
    values = np.full((len(y), len(attributes)), -1)
    values[:, attributes.index("Blond_Hair")] = 2 * y - 1
    values[:, attributes.index("Male")] = 1 - 2 * bias
    rows = [
        name + "".join(f" {v:2d}" for v in row) for name, row in zip(names, values, strict=True)
    ]
    lines = [str(len(y)), CELEBA_ATTRIBUTES + " ", *rows]
    (target / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    lines = [f"{name} {part}" for name, part in zip(names, split, strict=True)]
    (target / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return names, target / "img_align_celeba", target / "masks"


def _waterbirds_list(target: Path, y, bias, split) -> tuple[list[str], Path, Path]:
    images = target / "waterbird_complete95_forest2water2"
    species = ("001.Land_bird", "002.Water_bird")
    names = [f"{species[k]}/{species[k][4:]}_{i + 1:04d}.jpg" for i, k in enumerate(y)]
    place = [f"/{'bo'[b]}/{('bamboo_forest', 'ocean')[b]}/{i:08d}.jpg" for i, b in enumerate(bias)]
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for i in sorted(range(len(y)), key=lambda i: names[i]):
        lines.append(f"{len(lines)},{names[i]},{y[i]},{split[i]},{bias[i]},{place[i]}")
    images.mkdir()
    (images / "metadata.csv").write_text("\n".join(lines) + "\n")
    return names, images, target / "masks"


def _imagenet(target: Path, n: int, rng: np.random.Generator) -> None:
    classes = len(drawing.SHAPES)
    wnids = [f"n{90_000_000 + k}" for k in range(classes)]
    for split, size in (("train", n), ("val", n // 2)):
        y = rng.permutation(np.arange(size) % classes)
        picture, _ = drawing.objects(y, y, SIDE, rng)
        for i, pixels in enumerate(drawing.to_uint8(picture)):
            file = f"{wnids[y[i]]}_{i}" if split == "train" else f"ILSVRC2012_val_{i + 1:08d}"
            _save(target / split / wnids[y[i]] / f"{file}.JPEG", pixels)
    devkit = target / "ILSVRC2012_devkit_t12" / "data"
    devkit.mkdir(parents=True)
    number = rng.permutation(classes) + 1  # as published, labels are not in the order of wnids
    (devkit / "meta.mat").write_bytes(meta_mat(wnids, number, drawing.SHAPES))
    truth = "".join(f"{number[k]}\n" for k in y)
    (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


def meta_mat(wnids, number, words) -> bytes:
    """The development kit's meta.mat: a label (1, 2, ...), wnid and name of every class."""
    import scipy.io  # type: ignore[import-untyped]

    fields = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    rows = [(float(i), w, name, 0.0) for i, w, name in zip(number, wnids, words, strict=True)]
    rows = [*sorted(rows), (float(len(rows) + 1), "n99999999", "object", float(len(rows)))]
    table = np.array(rows, dtype=[(field, object) for field in fields])[:, None]
    out = io.BytesIO()
    scipy.io.savemat(out, {"synsets": table})
    return b"MATLAB 5.0 MAT-file, drawn miniature".ljust(116) + out.getvalue()[116:]  # no date


def _cifar(target: Path, n: int, classes: int, rng: np.random.Generator) -> None:
    parts = {}
    for split, size in (("train", n), ("test", n // 2)):
        y = rng.permutation(np.arange(size) % classes)
        shape, hue = (y, y) if classes == 10 else (y // 10, y % 10)
        picture, _ = drawing.objects(shape, hue, CIFAR_SIDE, rng)
        parts[split] = drawing.to_uint8(picture).transpose(0, 3, 1, 2).reshape(size, -1), y
    if classes == 100:
        fine = [f"{h}_{s}" for s in drawing.SHAPES for h in drawing.HUES]
        coarse = [f"{'warm' if k % 2 == 0 else 'cold'}_{drawing.SHAPES[k // 2]}" for k in range(20)]
        files = {split: _batch(f"{split}ing batch 1 of 1", split, *parts[split], coarse=True)
                 for split in parts}  # fmt: skip
        files["meta"] = {"fine_label_names": fine, "coarse_label_names": coarse}
    else:
        rows = np.array_split(np.arange(n), 5)
        x, y = parts["train"]
        files = {f"data_batch_{k + 1}": _batch(f"training batch {k + 1} of 5", "train", x[r], y[r])
                 for k, r in enumerate(rows)}  # fmt: skip
        files["test_batch"] = _batch("testing batch 1 of 1", "test", *parts["test"])
        files["batches.meta"] = {
            "num_cases_per_batch": len(rows[0]), "label_names": list(drawing.SHAPES),
            "num_vis": 3072,
        }  # fmt: skip
    for file, content in files.items():
        (target / file).write_bytes(b"\x80\x02" + _python2(content) + b".")


def _batch(label: str, split: str, x: np.ndarray, y: np.ndarray, coarse: bool = False) -> dict:
    batch = {"data": x, "batch_label": label}
    batch["filenames"] = [f"{split}_{i:06d}.png" for i in range(len(y))]
    if coarse:
        return batch | {"fine_labels": y.tolist(), "coarse_labels": (y // 5).tolist()}
    return batch | {"labels": y.tolist()}


def _python2(value) -> bytes:
    """A value as Python 2 pickled it (protocol 2, byte strings), as in the published batches."""
    if isinstance(value, str):
        return b"T" + struct.pack("<I", len(value)) + value.encode()
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, dict):
        pairs = (_python2(k) + _python2(v) for k, v in value.items())
        return b"}(" + b"".join(pairs) + b"u"
    value = np.ascontiguousarray(value, np.uint8)
    u1 = b"cnumpy\ndtype\n(" + _python2("u1") + b"K\x00K\x01tR"
    u1 += b"(K\x03" + _python2("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(_python2, value.shape)) + b"t"
    data = b"T" + struct.pack("<I", value.nbytes) + value.tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + _python2("b")
    return empty + b"tR(K\x01" + shape + u1 + b"\x89" + data + b"tb"


def _save(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict = {} if path.suffix == ".png" else {"format": "JPEG", "quality": 92}
    Image.fromarray(pixels).save(path, **options)
