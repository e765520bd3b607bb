"""Data sets of one's own: from arrays, from folders of images, from torch's Datasets."""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrsc import errors
from lrsc.config import pairs
from lrsc.datasets import folders, given, imports, natural
from lrsc.datasets.biased import BiasedDataset, Split, mean_std
from lrsc.datasets.images import Images
from lrsc.datasets.raw import files
from lrsc.datasets.raw.files import Files
from lrsc.datasets.raw.sources import Source
from lrsc.errors import shown

CHANNELS = (1, 2, 3, 4)  # of images, by which the axis of channels is told from height and width
SOME = 2000  # training images on disk from which mean and std are taken


def from_arrays(
    train: Sequence, test: Sequence, val: Sequence | None = None, *, name: str = "own",
    class_names: Sequence[str] = (), bias_unknown: float | None = None, mean: Any = None,
    std: Any = None, augment: Callable | None = None,
) -> BiasedDataset:  # fmt: skip
    """A data set from (x, y) or (x, y, bias) of each split; without bias, or None, it is unknown.

    x: N x d vectors, or images N x C x H x W, N x H x W x C, or N x H x W grey (uint8): arrays,
    tensors or lists. y: whole numbers 0 ... K - 1. bias: whole numbers, where value k goes with
    class k; or names, of which each gets the number of the class of that name or, if there is none,
    of the class in whose training samples it is most frequent. bias_unknown: the value that marks
    an unknown bias. mean, std: one value per channel, in units of 0..1; give those that a network
    was trained with. By default uint8 images use the training set's, and other inputs are used as
    they are. augment: (raw samples, generator) -> raw samples, for the training split.

    Measures that need bias labels are left out where there are none. Raises ValueError for a split
    without class labels, and for what `Split` and `BiasedDataset` refuse.
    """
    parts = {"train": train, "test": test} | ({} if val is None else {"val": val})
    read = {part: _arrays(part, arrays) for part, arrays in parts.items()}
    first, y = read["train"][0], {part: of[1] for part, of in read.items()}
    x = {part: _channels_first(of[0], first) for part, of in read.items()}
    bias = {part: of[2] for part, of in read.items()}
    n_classes = len(class_names) or max(2, int(y["train"].max()) + 1 if len(y["train"]) else 2)
    bias, bias_names = _numbered(bias, y, n_classes, class_names)
    if mean is None and std is None and first.dim() > 2 and first.dtype == torch.uint8:
        mean, std = _constants(x["train"])
    splits = {
        part: Split(
            x[part], y[part], bias[part], mean=mean, std=std, bias_unknown=bias_unknown,
            augment=augment if part == "train" else None,
        )
        for part in parts
    }  # fmt: skip
    return _dataset(name, splits, n_classes, class_names, bias_names)


def from_folder(
    path: str | Path, *, size: int | None = None, metadata: str | Path | None = None,
    column: str = "group", channels: int = 3, mean: Any = None, std: Any = None,
    augment: Callable | None = None, name: str | None = None,
) -> BiasedDataset:  # fmt: skip
    """A data set from image files: train/<class>/..., test/<class>/... and perhaps val/<class>/...

    Classes are numbered in the order of their folders' names. size: pixels per side: the shorter
    side of each image is resized to it and the centre is cropped; None if all are square and of one
    size. channels: 3, or 1 for grey; files of either kind are converted. Images stay on disk if
    they take more than 512 MB.

    metadata: a CSV file, default <path>/metadata.csv if there is one, with a column of files
    (file_name, as in train/cat/1.png) and `column`, the value of the spurious feature: a number or
    a name, as in `from_arrays`, empty if unknown. An image that is not listed is of unknown bias.
    mean, std, augment: as in `from_arrays`; those of images on disk use 2000 of them.

    Raises ValueError for class folders that differ between splits, images without class folders,
    sizes that differ, and a metadata file that lacks a column or names an absent image; DataMissing
    for a folder that is not there.
    """
    place = errors.path("path", path)
    if channels not in (1, 3):
        raise ValueError(f"channels must be 3 (colour) or 1 (grey), found {shown(channels)}")
    classes = folders.classes(place)
    listed = {part: natural.by_folder(place / part, classes["train"]) for part in classes}
    if size is None:
        size = folders.common_size(images for images, _ in listed.values())
    elif not errors.is_whole(size, 1):
        raise ValueError(f"size must be a whole number of pixels >= 1, found {shown(size)}")
    bias = folders.bias(place, metadata, column, {part: f for part, (f, _) in listed.items()})
    labels = {part: torch.from_numpy(y) for part, (_, y) in listed.items()}
    names = classes["train"]
    numbers, bias_names = _numbered(bias, labels, len(names), names)
    x = {part: Images(found, size, size, channels=channels) for part, (found, _) in listed.items()}
    if mean is None and std is None:
        mean, std = _constants(x["train"])
    splits = {
        part: Split(
            x[part], labels[part], numbers[part], mean=mean, std=std, bias_unknown=given.UNKNOWN,
            augment=augment if part == "train" else None,
        ).loaded()
        for part in classes
    }  # fmt: skip
    return _dataset(name or place.resolve().name, splits, len(names), names, bias_names)


def from_torch(
    train: Any, test: Any, val: Any = None, *, bias: Any = None, name: str | None = None,
    class_names: Sequence[str] = (), bias_unknown: float | None = None, mean: Any = None,
    std: Any = None, augment: Callable | None = None,
) -> BiasedDataset:  # fmt: skip
    """A data set from map-style torch Datasets, whose samples are (x, y) or (x, y, metadata).

    Each sample is read once and kept in memory; a random transform would be drawn only once: give
    it as `augment`. x: tensors, arrays or PIL images, as in `from_arrays`, all of one shape. bias,
    if known: a column of the metadata, by number or by name (from `metadata_fields`, as in WILDS,
    or from a mapping); a function metadata -> value; or {"train": values, "test": values}. None:
    the metadata if they are a single number, else unknown. Other arguments and errors: as in
    `from_arrays`; ValueError also for samples that differ in shape, and for a test set whose
    samples are not pairs, such as one without labels.
    """
    parts = {"train": train, "test": test} | ({} if val is None else {"val": val})
    if isinstance(bias, Mapping):
        errors.check_names("split in bias", bias, parts)
    arrays = {part: _read(part, dataset, bias) for part, dataset in parts.items()}
    return from_arrays(
        arrays["train"], arrays["test"], arrays.get("val"), name=name or type(train).__name__,
        class_names=class_names or _class_names(train), bias_unknown=bias_unknown, mean=mean,
        std=std, augment=augment,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Own:
    """A data set that a user has registered, with the interface of the library's own."""

    name: str
    loader: Callable[..., BiasedDataset]
    VERSION: int

    def find(self, options: Mapping) -> Source:
        """Its source: a digest of what the loader returns for these options."""
        return Source("own", _checksum(self, self._pairs(options)), None)

    def build(self, options: Mapping) -> BiasedDataset:
        """What the loader returns, with the digest of its content; the last result is kept."""
        return _loaded(self, self._pairs(options))

    @functools.cached_property
    def options(self) -> dict:
        """The loader's arguments with their defaults, `inspect.Parameter.empty` without one."""
        return imports.options("data set", self.loader)

    def _pairs(self, options: Mapping) -> tuple:
        own = self.options
        for name, default in own.items():
            if default is inspect.Parameter.empty and name not in options:
                raise ValueError(
                    f"option {name!r} of data set {self.name!r} has no default: give it, as in "
                    f"data={{{name!r}: ...}} or --data {name}=..."
                )
        return pairs("data", {k: v for k, v in options.items() if v != own[k]})


@functools.lru_cache(maxsize=1)
def _loaded(own: Own, options: tuple) -> BiasedDataset:
    found = own.loader(**dict(options))
    if not isinstance(found, BiasedDataset):
        raise ValueError(
            f"the loader of data set {own.name!r} must return a BiasedDataset, as of "
            f"lrsc.datasets.from_arrays, found {shown(found)}"
        )
    return dataclasses.replace(
        found, name=own.name, source_id="own", checksum=checksum(found), options=options
    )


@functools.lru_cache(maxsize=1000)
def _checksum(own: Own, options: tuple) -> str:
    return _loaded(own, options).checksum


def checksum(dataset: BiasedDataset) -> str:
    """SHA-256 over all that a data set holds: samples, labels, masks, constants.

    Of images on disk, over their names and sizes.
    """
    digest = hashlib.sha256(f"{dataset.n_classes}".encode())
    for split in filter(None, (dataset.train, dataset.test, dataset.val)):
        augment = getattr(split.augment, "__qualname__", type(split.augment).__name__)
        digest.update(f"split {augment}".encode())
        for field in ("x", "y", "bias", "core_mask", "spurious_mask", "mean", "std"):
            value = getattr(split, field)
            if isinstance(value, Images) and isinstance(value.source, Files):
                names = files.checksum([], [value.source.take(value.rows.numpy())])
                digest.update(f"{tuple(value.shape)} {value.short} {names}".encode())
            elif value is not None:
                held = value[:].cpu().contiguous()
                digest.update(f"{field} {held.dtype} {tuple(held.shape)}".encode())
                digest.update(held.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _dataset(name, splits: dict[str, Split], n_classes: int, *names) -> BiasedDataset:
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a name, found {shown(name)}")
    train, test, val = splits["train"], splits["test"], splits.get("val")
    found = BiasedDataset(name, train, test, n_classes, "own", "", (), val, *map(tuple, names))
    object.__setattr__(found, "checksum", checksum(found))
    return found


def _arrays(part: str, arrays: Any) -> tuple[Tensor, Tensor, Any]:
    """Samples, class labels and bias, as given, of a split."""
    if not isinstance(arrays, Sequence) or len(arrays) not in (2, 3):
        held = f"{len(arrays)} arrays" if isinstance(arrays, Sequence) else type(arrays).__name__
        raise ValueError(f"{part} must be (x, y) or (x, y, bias), found {held}")
    x, y, bias = (*arrays, None)[:3]
    if y is None:
        raise ValueError(f"the {part} split has no class labels y: all measures compare with them")
    samples = given.tensor(f"x of the {part} split", x)
    return samples, given.labels(f"y of the {part} split", y, len(samples)), bias


def _channels_first(x: Tensor, first: Tensor) -> Tensor:
    """Images as N x C x H x W; first: the training images, which say how all lie."""
    if x.dim() == first.dim() == 4:
        if first.shape[3] in CHANNELS and first.shape[1] not in CHANNELS:
            return x.permute(0, 3, 1, 2).contiguous()
    elif x.dim() == first.dim() == 3 and x.dtype == torch.uint8:
        return x[:, None]
    return x


def _constants(x: Tensor | Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel; 1 for one that is the same everywhere."""
    if isinstance(x, Images):
        rows = torch.linspace(0, len(x) - 1, min(SOME, len(x))).long()
        x = torch.cat([*x.batches(rows.split(256))])
    found = mean_std(x.numpy())
    std = found["std"].nan_to_num()
    return found["mean"], torch.where(std > 1e-6, std, 1.0)


def _numbered(
    bias: Mapping[str, Any], y: Mapping[str, Tensor], n_classes: int, class_names: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Bias labels as numbers, and names of these; ValueError for groups of class and feature."""
    held, numbers = {}, {}
    for part, values in bias.items():
        if values is not None:
            held[part] = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
            if held[part].shape != (len(y[part]),):
                raise ValueError(
                    f"bias of the {part} split must hold one label a sample, shape "
                    f"({len(y[part])},), found {held[part].shape}"
                )
    if any(values.dtype.kind in "OSU" for values in held.values()):
        held = {part: values.astype(str) for part, values in held.items()}
        numbers = _by_class(held, y, n_classes, class_names)
        told = np.vectorize((numbers | {"": given.UNKNOWN}).__getitem__, otypes=[np.int64])
        held = {part: told(texts) for part, texts in held.items()}
    if {"train", "test"} <= held.keys():
        _check_apart(held, y, n_classes)
    of = {number: name for name, number in numbers.items()}
    named = [of.get(k, str(k)) for k in range(max(of, default=-1) + 1)]
    return {part: held.get(part) for part in bias}, named


def _check_apart(bias: Mapping[str, np.ndarray], y: Mapping[str, Tensor], n_classes: int) -> None:
    """Raise ValueError for bias labels that are groups of class and spurious feature."""
    pairs = {p for k, v in bias.items() for p in zip(v.tolist(), y[k].tolist(), strict=True)}
    values = {value for value, _ in pairs if value >= 0}
    if len(values) > n_classes and len(values) == sum(value >= 0 for value, _ in pairs):
        raise ValueError(
            f"each of the {len(values)} bias values is found in one class only: they seem to name "
            "class and spurious feature together; give the feature alone"
        )


def _by_class(
    names: Mapping[str, np.ndarray], y: Mapping[str, Tensor], n_classes: int,
    class_names: Sequence[str],
) -> dict[str, int]:  # fmt: skip
    """Names of bias values -> numbers: that of the class which each goes with, then the next."""
    all_names = sorted({name for part in names.values() for name in part.tolist()} - {""})
    if set(all_names) <= set(class_names):
        return {name: list(class_names).index(name) for name in all_names}
    part = "train" if "train" in names else next(iter(names))
    counts = np.zeros((len(all_names), n_classes))
    for name, label in zip(names[part].tolist(), y[part].tolist(), strict=True):
        if name:
            counts[all_names.index(name), label] += 1
    share = counts / np.maximum(counts.sum(0), 1)
    found: dict[str, int] = {}
    for flat in np.argsort(-share, axis=None, kind="stable").tolist():
        row, label = divmod(flat, n_classes)
        if all_names[row] not in found and label not in found.values():
            found[all_names[row]] = label
    left = [name for name in all_names if name not in found]
    return found | {name: n_classes + k for k, name in enumerate(left)}


def _class_names(dataset: Any) -> Sequence[str]:
    """Those that torchvision's Datasets have, else none."""
    own = getattr(dataset, "classes", ())
    return own if isinstance(own, Sequence) and all(isinstance(c, str) for c in own) else ()


def _checked(sample: Any, what: str) -> Sequence:
    if not isinstance(sample, tuple | list) or len(sample) not in (2, 3) or sample[1] is None:
        raise ValueError(
            f"{what} must be (x, y) or (x, y, metadata), found {_kind(sample)}: without labels y "
            "nothing can be measured"
        )
    return sample


def _read(part: str, dataset: Any, bias: Any) -> tuple[Tensor, list[int], Any]:
    """All samples of a torch Dataset, its labels, and their bias where it is known."""
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and len(dataset)):
        raise ValueError(
            f"{part} must be a map-style Dataset, with a length > 0 and an index, found "
            f"{type(dataset).__name__}"
        )
    x, y, values = torch.empty(0), [], []
    for row in range(len(dataset)):
        one = _sample((sample := _checked(dataset[row], f"sample {row} of {part}"))[0])
        x = torch.empty(len(dataset), *one.shape, dtype=one.dtype) if row == 0 else x
        if one.shape != x.shape[1:]:
            raise ValueError(
                f"samples of {part} differ in shape: the first has {tuple(x.shape[1:])}, sample "
                f"{row} {tuple(one.shape)}; bring all to one in the Dataset's transform"
            )
        x[row] = one
        y.append(sample[1])
        values.append((*sample, None)[2])
    return x, [errors.plain(label) for label in y], _bias(part, dataset, values, bias)


def _kind(sample: Any) -> str:
    if isinstance(sample, tuple | list):
        return f"{len(sample)} values ({', '.join(type(v).__name__ for v in sample)})"
    return f"a {type(sample).__name__}"


def _sample(x: Any) -> Tensor:
    """One sample as a tensor, of an image of Pillow its pixels."""
    if hasattr(x, "convert") and hasattr(x, "mode"):
        x = x.convert("L" if x.mode in ("1", "L", "LA") else "RGB")
    return given.tensor("x", x)


def _bias(part: str, dataset: Any, metadata: list, bias: Any) -> Any:
    """Bias labels of a Dataset's samples, as `from_torch` is told where they are."""
    if isinstance(bias, Mapping):
        return bias.get(part)
    known = all(value is not None for value in metadata)
    if bias is None:
        single = known and all(_size(value) == 1 for value in metadata)
        return [_single(value) for value in metadata] if single else None
    if not known:
        raise ValueError(f"bias={shown(bias)}: samples of {part} have no metadata, only (x, y)")
    if callable(bias):
        return [_single(bias(value)) for value in metadata]
    if isinstance(bias, str) and not isinstance(metadata[0], Mapping):
        fields = list(getattr(dataset, "metadata_fields", ()))
        errors.check_names("column of the metadata", [bias], fields)
        bias = fields.index(bias)
    try:
        rows = (m if isinstance(m, Mapping) else np.atleast_1d(m) for m in metadata)
        return [_single(row[bias]) for row in rows]
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"bias={shown(bias)} is no column of the metadata of {part}, as {shown(metadata[0])}"
        ) from error


def _size(value: Any) -> int:
    return 1 if isinstance(value, str) else np.asarray(value).size


def _single(value: Any) -> Any:
    """The one number or name that a value holds."""
    if isinstance(value, str):
        return value
    held = np.asarray(value)
    if held.size != 1 or held.dtype == object:
        raise ValueError(
            f"the bias of a sample must be one number or name, found {shown(value)}: name a column "
            "of the metadata, bias=0, or give a function of them"
        )
    return held.reshape(-1)[0].item()
