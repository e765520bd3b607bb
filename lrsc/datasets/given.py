"""What a user gives a split, checked and brought to the types that training takes."""

import math

import numpy as np
import torch
from torch import Tensor

from lrsc.datasets.images import Images
from lrsc.errors import is_number, shown

# integer images that say what their largest value is, and so what lies between 0 and 1
LARGEST = {torch.uint8: 255, torch.uint16: 65535}
LEAST_STD = 1e-30  # of a smaller one inputs overflow
UNKNOWN = -1  # the bias label, inside, of a sample whose bias is unknown


def tensor(name: str, values: object) -> Tensor:
    """A tensor, array or nested list of real numbers as a tensor."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} is an array with masked values, of which a mask says nothing here: leave them "
            "out, or fill them"
        )
    if not isinstance(values, Tensor):
        try:
            array = np.asarray(values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be an array of numbers: {error}") from error
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise ValueError(
                f"{name} must hold numbers, found {shown(values)} (type {array.dtype})"
            )
        # torch takes neither a foreign byte order nor negative strides
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        values = torch.from_numpy(array if array.flags.writeable else array.copy())
    if values.is_complex() or values.layout != torch.strided:
        raise ValueError(
            f"{name} must hold real numbers, found {values.dtype} ({values.layout}): make it dense"
        )
    return values


def labels(name: str, values: object, n: int, unknown: float | None = None) -> Tensor:
    """Labels of any number type, whole and >= 0 -> int64; `unknown` among them becomes UNKNOWN."""
    given = tensor(name, values)
    if given.shape != (n,):
        raise ValueError(
            f"{name} must hold one label a sample, shape ({n},), found {tuple(given.shape)}"
        )
    if not given.is_floating_point():
        given = given.to(torch.int64)
    absent = torch.zeros_like(given, dtype=torch.bool)
    if unknown is not None and not (is_number(unknown) or unknown != unknown):
        raise ValueError(f"bias_unknown must be a number or NaN, found {shown(unknown)}")
    if unknown is not None:
        absent = given.isnan() if math.isnan(unknown) else given == unknown
        given = given.masked_fill(absent, 0)
    wrong = ~given.isfinite() | (given != given.round()) if given.is_floating_point() else absent
    found = given.to(torch.int64)
    wrong = (wrong & ~absent) | (found < 0)
    if wrong.any():
        where = int(wrong.int().argmax())
        advice = "" if name != "bias" else (
            "; where the bias of a sample is unknown, say which value means it: bias_unknown=-1"
        )  # fmt: skip
        raise ValueError(
            f"{name} must hold whole numbers >= 0, found {given[where].item():g} at sample {where}"
            f"{advice}"
        )
    return found.masked_fill(absent, UNKNOWN)


def samples(values: object) -> Tensor | Images:
    """Samples of any real type, N x C x H x W or N x d, all finite."""
    if isinstance(values, Images):
        return values
    x = tensor("x", values)
    if x.dim() < 2:
        raise ValueError(f"x must be N x d or N x C x H x W, found shape {tuple(x.shape)}")
    if x.is_floating_point() and not x.sum().isfinite():  # the sum is quick, and finite mostly
        bad = ~x.isfinite().flatten(1).all(1)
        if bad.any():
            raise ValueError(
                f"x holds NaN or infinity in {int(bad.sum())} of {len(x)} samples, the first "
                f"is sample {int(bad.int().argmax())}: leave them out or replace the values"
            )
    if x.dtype == torch.float64 and x.numel() and x.abs().max() > torch.finfo(torch.float32).max:
        raise ValueError("x holds values beyond single precision, in which networks run: scale it")
    return x


def constants(mean: object, std: object, x: Tensor | Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, one value a channel of x, in units of 0..1."""
    if mean is None or std is None:
        raise ValueError("mean and std go together: give both, or neither")
    channels, found = x.shape[1], []
    for name, values in (("mean", mean), ("std", std)):
        given = tensor(name, values).float()
        if given.numel() not in (1, channels) or given.dim() > 1:
            raise ValueError(
                f"{name} must hold one value for each of {channels} channels, found {shown(values)}"
            )
        given = given.expand(channels).clone()
        bad = ~given.isfinite() if name == "mean" else ~(given.isfinite() & (given > LEAST_STD))
        if x.dtype in LARGEST:
            bad |= given > 1
        if bad.any():
            where = int(bad.int().argmax())
            expected = "finite" if name == "mean" else "> 0"
            if 1 < given[where] < torch.inf:
                expected = f"in units of 0..1, where {LARGEST[x.dtype]} is 1: divide by it"
            raise ValueError(f"{name} of channel {where} must be {expected}, found {given[where]}")
        found.append(given)
    if not (x.dtype in LARGEST or x.dtype.is_floating_point):
        raise ValueError(
            f"x holds {x.dtype}, of which the value of white is not known: with mean and std give "
            "uint8, uint16 or floats in 0..1"
        )
    return found[0], found[1]


def mask(name: str, values: object, x: Tensor | Images) -> Tensor:
    """A mask of 0 and 1 or of truth values that fits x."""
    given = tensor(name, values)
    if given.dtype != torch.bool and not ((given == 0) | (given == 1)).all():
        raise ValueError(f"{name} must hold truth values, or 0 and 1, found {shown(values)}")
    try:
        fits = torch.broadcast_shapes(given.shape, x.shape) == tuple(x.shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} must be broadcastable to x, shape {tuple(x.shape)}, found {tuple(given.shape)}"
        )
    return given.bool().reshape((1,) * (len(x.shape) - given.dim()) + tuple(given.shape))


def biases(part: str, bias: Tensor, n: int) -> None:
    """Check that bias labels are no ids, of which each would be a group."""
    if len(bias) and int(bias.max()) > 10 * n:
        raise ValueError(
            f"bias of the {part} split goes up to {int(bias.max())} in {n} samples: map the values "
            "to 0, 1, ..., as np.unique(bias, return_inverse=True)[1] does, in all splits alike"
        )


def classes(part: str, y: Tensor, n_classes: int, whole: bool) -> None:
    """Check that labels are below n_classes and, if whole, that none is left out."""
    if len(y) and int(y.max()) > 10 * len(y) + n_classes:  # too many to count
        y = y.unique(return_inverse=True)[1] + n_classes
    counts = torch.bincount(y) if len(y) else torch.zeros(1, dtype=torch.int64)
    if len(counts) <= n_classes and not (whole and (counts == 0).any() and len(y)):
        return
    there = counts.nonzero().flatten().tolist()
    to = ", ".join(f"{old} -> {new}" for new, old in enumerate(there[:4]))
    raise ValueError(
        f"labels y of the {part} split must be 0 to {n_classes - 1} (n_classes={n_classes}) "
        f"without gaps, found {shown(there)}: map them ({to}{', ...' if len(there) > 4 else ''}), "
        "as np.unique(y, return_inverse=True)[1] does, in all splits alike"
    )
