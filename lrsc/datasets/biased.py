"""A data set with bias labels, and the exact allocation of bias values to samples."""

import copy
import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from lrsc.datasets import given
from lrsc.datasets.images import Images, batches
from lrsc.datasets.raw.sources import Source
from lrsc.errors import is_whole, plain, shown

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Split:
    """Samples of one split, with the constants that standardise them.

    x: N x C x H x W, or N x d: uint8, uint16, floats or other real numbers; a tensor, an array, a
    nested list, or `Images` that are read on demand. y, bias: one whole number >= 0 per sample, of
    any type, kept as int64 (bias None if unknown). bias_unknown: the value of bias, such as -1 or
    NaN, that marks a sample whose bias is unknown; such samples are in no group. core_mask,
    spurious_mask: bool, broadcastable to x, or None where the regions are not separate pixels.
    mean, std: one value per channel in units of 0..1, where 1 is the largest value of uint8 and
    uint16, and floats are not scaled. None: floats and other integers are used as they are.
    augment: (raw samples, generator) -> raw samples, for training only, or None. Raises ValueError
    for anything else, for NaN and infinity, and for a std of 0.
    """

    x: Tensor | Images  # what is given may be an array or a list as well
    y: Tensor
    bias: Tensor | None = None
    core_mask: Tensor | None = None
    spurious_mask: Tensor | None = None
    mean: Tensor | None = None
    std: Tensor | None = None
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    bias_unknown: float | None = None

    def __post_init__(self) -> None:
        keep = functools.partial(object.__setattr__, self)  # the class is frozen
        keep("x", given.samples(self.x))
        for name in ("y", "bias"):
            if (labels := getattr(self, name)) is not None or name == "y":
                unknown = self.bias_unknown if name == "bias" else None
                keep(name, given.labels(name, labels, len(self.x), unknown))
        if self.bias_unknown is not None:
            keep("bias_unknown", given.UNKNOWN)
        for name in ("core_mask", "spurious_mask"):
            if (mask := getattr(self, name)) is not None:
                keep(name, given.mask(name, mask, self.x))
        if self.mean is not None or self.std is not None:
            mean, std = given.constants(self.mean, self.std, self.x)
            keep("mean", mean), keep("std", std)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def conflicting(self) -> Tensor:
        """One bool per sample: its bias label is known and differs from the class label."""
        return (self.bias != self.y) & self.known

    @property
    def aligned(self) -> Tensor:
        """One bool per sample: its bias label is known and equals the class label."""
        return (self.bias == self.y) & self.known

    @property
    def known(self) -> Tensor:
        """One bool per sample: its bias label is known. ValueError without bias."""
        if self.bias is None:
            raise ValueError("bias labels are missing in this split: give Split(..., bias=...)")
        return self.bias >= 0

    @property
    def regions(self) -> dict[str, Tensor]:
        """Masks of the known regions, core and spurious, and of the rest, `noise`."""
        masks = {"core": self.core_mask, "spurious": self.spurious_mask}
        known = {name: mask for name, mask in masks.items() if mask is not None}
        if known:
            known["noise"] = ~functools.reduce(torch.bitwise_or, known.values())
        return known

    def inputs(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Raw samples (any subset of x's rows) -> the standardised float32 a network sees.

        out: a float32 tensor of the same shape to write them to, where there is one already.
        """
        found = x.to(torch.float32, copy=True) if out is None else out.copy_(x)
        scale = 1 / given.LARGEST.get(x.dtype, 1)
        if self.mean is None or self.std is None:
            return found if scale == 1 else found.mul_(scale)
        shape = (-1,) + (1,) * (x.dim() - 2)
        factor = (scale / self.std).view(shape)
        return found.mul_(factor).sub_((self.mean / self.std).view(shape))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """The network's inputs at each tensor of indices; images on disk are decoded ahead."""
        return map(self.inputs, batches(self.x, indices))

    def take(self, indices: Tensor) -> "Split":
        """The split restricted to these sample indices, in their order."""

        def chosen(t):
            return t.take(indices) if isinstance(t, Images) else t[indices.to(t.device)]

        return self._map(chosen, lambda t: t)

    def loaded(self, most: int = 2**29) -> "Split":
        """The split with its images in memory, if they are on disk and take at most `most` bytes.

        For samples that are looked at many times: they are decoded once.
        """
        if not isinstance(self.x, Images) or math.prod(self.x.shape) > most:
            return self
        parts = torch.arange(len(self)).split(256)
        return self._with(x=torch.cat([*batches(self.x, parts)]))

    def to(self, device: torch.device | str) -> "Split":
        """The split on another device."""
        move = lambda t: t.to(device)  # noqa: E731
        return self._map(move, move)

    def _map(self, per_sample, constant) -> "Split":
        changed = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None or field.name in ("augment", "bias_unknown"):
                continue
            mask = field.name.endswith("_mask")
            rows = field.name in ("x", "y", "bias") or (mask and len(value) == len(self.x) > 1)
            changed[field.name] = (per_sample if rows else constant)(value)
        return self._with(**changed)

    def _with(self, **changed) -> "Split":
        """A copy with these fields, which come from checked ones and are not checked again."""
        found = copy.copy(self)
        for name, value in changed.items():
            object.__setattr__(found, name, value)
        return found


@dataclasses.dataclass(frozen=True)
class BiasedDataset:
    """Training split (spurious), test split (unbiased), and where the raw data came from.

    class_names, bias_names: what each label k means, if known; else empty.
    """

    name: str
    train: Split
    test: Split
    n_classes: int
    source_id: str = "own"
    checksum: str = ""
    options: tuple = ()
    val: Split | None = None
    class_names: tuple[str, ...] = ()
    bias_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_whole(n := plain(self.n_classes), 2):
            raise ValueError(f"n_classes must be a whole number >= 2, found {shown(n)}")
        object.__setattr__(self, "n_classes", n)
        for part in ("train", "test", "val"):
            split = getattr(self, part)
            if split is None and part == "val":
                continue
            if not isinstance(split, Split):
                raise ValueError(f"{part} must be a Split, found {shown(split)}")
            if split.x.shape[1:] != self.train.x.shape[1:]:
                raise ValueError(
                    f"samples of the {part} split have shape {tuple(split.x.shape[1:])}, those of "
                    f"the train split {self.input_shape}"
                )
            if split.bias is not None:
                given.biases(part, split.bias, len(split) + len(self.train))
            ways = [(s.x.dtype in given.LARGEST, s.mean is not None) for s in (split, self.train)]
            if ways[0] != ways[1]:
                told = [
                    f"{s.x.dtype} {'without' if s.mean is None else 'with'} mean and std"
                    for s in (split, self.train)
                ]
                raise ValueError(
                    f"samples of the {part} split are {told[0]}, those of the train split {told[1]}"
                    ": a network would see them on different scales; give both in one way"
                )
            # of a set of the library's own, read in part, classes may be missing
            whole = part == "train" and self.source_id == "own"
            given.classes(part, split.y, n, whole)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (C, H, W) or (d,)."""
        return tuple(self.train.x.shape[1:])

    @property
    def rho(self) -> float:
        """Share of bias-conflicting samples among the training samples of known bias, as counted.

        NaN without bias labels.
        """
        known = 0 if self.train.bias is None else int(self.train.known.sum())
        return int(self.train.conflicting.sum()) / known if known else math.nan


def biased_labels(y: np.ndarray, n_bias: int, rho: float, rng: np.random.Generator) -> np.ndarray:
    """Bias labels with exactly round(rho * n_c) conflicting samples in every class.

    They are spread over the other bias values as evenly as whole numbers allow; which samples
    conflict is random. Counts, not coin flips. Where rho * n_c is not whole in
    every class, the share that the counts give is logged.
    """
    bias = y.copy()
    for c in np.unique(y):
        members = np.flatnonzero(y == c)
        conflicting = rng.permutation(members)[: round(rho * len(members))]
        others = np.array([b for b in range(n_bias) if b != c])
        # start the round at another value for each class, so that remainders even out
        bias[conflicting] = np.roll(others, -int(c))[np.arange(len(conflicting)) % len(others)]
    met = float((bias != y).mean()) if len(y) else rho
    if abs(met - rho) > 1e-12:
        _log.info(
            "rho = %g asked for: the nearest counts of %d samples give %.6g", rho, len(y), met
        )
    return bias


def unbiased_labels(y: np.ndarray, n_bias: int, rng: np.random.Generator) -> np.ndarray:
    """Bias labels independent of y: every class sees each value equally often, to one sample."""
    bias = np.empty_like(y)
    start = 0
    for c in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == c))
        bias[members] = (start + np.arange(len(members))) % n_bias
        start += len(members)
    return bias


def stratified(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of n samples, random within classes, classes in proportion to their counts."""
    if n > len(y):
        raise ValueError(f"n_train must be at most {len(y)}, the samples there are; found {n}")
    classes, counts = np.unique(y, return_counts=True)
    share = counts * n / len(y)
    take = np.floor(share).astype(int)
    largest_rest = np.argsort(-(share - take), kind="stable")[: n - take.sum()]
    take[largest_rest] += 1
    chosen = [
        rng.permutation(np.flatnonzero(y == c))[:k] for c, k in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def partners(wanted: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each wanted class, the index of a pool sample of that class.

    Samples of a class come in random order, each once before any comes again, so that counts can
    always be met. Raises ValueError for a wanted class without samples in the pool.
    """
    chosen = np.empty(len(wanted), np.int64)
    for c in np.unique(wanted):
        places, members = np.flatnonzero(wanted == c), np.flatnonzero(pool == c)
        if not len(members):
            raise ValueError(f"class {c} has no sample to draw from")
        rounds = -(-len(places) // len(members))
        order = np.concatenate([rng.permutation(members) for _ in range(rounds)])
        chosen[places] = order[: len(places)]
    return chosen


Painter = Callable[[bool, np.ndarray, np.ndarray, np.random.Generator], dict[str, np.ndarray]]


def compose(
    name: str,
    source: Source,
    labels: tuple[np.ndarray, np.ndarray],
    paint: Painter,
    *,
    rho: float,
    rng: np.random.Generator,
    n_train: int | None = None,
    n_classes: int = 10,
    standardise: bool = True,
    class_names: tuple[str, ...] = (),
) -> BiasedDataset:
    """A data set whose images are painted from core images and bias labels.

    labels: class of each core image of the training and of the test set. paint(is_test, chosen,
    bias, rng) gives x (N x C x H x W uint8), and core_mask and spurious_mask where there are
    regions, for the core images at the indices `chosen`. standardise: inputs have the training
    set's per-channel mean 0 and deviation 1; False leaves pixels in 0..1.
    """
    y, y_test = (np.asarray(part, np.int64) for part in labels)
    bias_test = unbiased_labels(y_test, n_classes, rng)
    test = paint(True, np.arange(len(y_test)), bias_test, rng)
    chosen = np.arange(len(y)) if n_train is None else stratified(y, n_train, rng)
    bias = biased_labels(y[chosen], n_classes, rho, rng)
    train = paint(False, chosen, bias, rng)
    constants = mean_std(train["x"]) if standardise else {}

    def split(painted, y, bias) -> Split:
        arrays = painted | {"y": y, "bias": bias}
        tensors: dict = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Split(**tensors | constants)

    return BiasedDataset(
        name, split(train, y[chosen], bias), split(test, y_test, bias_test), n_classes,
        source.source_id, source.checksum, class_names=class_names,
    )  # fmt: skip


def mean_std(x: np.ndarray) -> dict[str, Tensor]:
    """Mean and standard deviation of each channel of N x C x H x W uint8, in units of 0..1."""
    total = square = np.zeros(x.shape[1])
    for start in range(0, len(x), 100):  # in parts that fit the processor's cache
        part = x[start : start + 100].astype(np.float32)
        # exact: at most 2^24 in the sums of rows, and whole numbers below 2^53 in the rest
        total = total + part.sum(3, dtype=np.float32).sum((0, 2), dtype=np.float64)
        square = square + np.einsum("nchw,nchw->nch", part, part).sum((0, 2), dtype=np.float64)
    n = x.size / x.shape[1]
    mean = total / (255 * n)
    std = np.sqrt(square / (255**2 * n) - mean**2)
    return {k: torch.tensor(v, dtype=torch.float32) for k, v in (("mean", mean), ("std", std))}
