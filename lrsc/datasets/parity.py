"""Parity (after Qiu et al. 2024): the label is the parity of many bits, the bias that of few."""

import numpy as np
import torch

from lrsc.datasets.biased import BiasedDataset, Split, biased_labels, stratified, unbiased_labels
from lrsc.datasets.raw.sources import Source, generated
from lrsc.errors import is_whole

VERSION = 1
find = generated
MOST_BITS = 10_000  # of a kind: an array of 0.4 GB a split
SIZE = 10_000  # samples of each split (paper, supplement C)


def build(
    source: Source,
    rho: float = 0.1,
    seed: int = 0,
    n_train: int | None = None,
    n_core: int = 4,
    n_spurious: int = 1,
    n_noise: int = 38,
) -> BiasedDataset:
    """Bits -1 and +1, N x (n_core + n_spurious + n_noise) float32, in this order of regions.

    y is 1 where the core bits hold an odd number of +1, b the same for the spurious bits. The
    bits of each part are uniform given their parity.
    """
    for name, value, least in (
        ("n_core", n_core, 1), ("n_spurious", n_spurious, 1), ("n_noise", n_noise, 0),
    ):  # fmt: skip
        if not is_whole(value, least) or value > MOST_BITS:
            raise ValueError(
                f"{name} must be a whole number >= {least} and at most {MOST_BITS}, found {value!r}"
            )
    if n_spurious >= n_core:
        raise ValueError(f"n_spurious must be < n_core = {n_core}, found {n_spurious}")
    widths = (n_core, n_spurious, n_noise)
    rng = np.random.default_rng([VERSION, seed])
    # both splits are drawn in full first, so that n_train takes a subset of the same samples
    y = rng.permutation(np.arange(SIZE) % 2)
    bias = biased_labels(y, 2, rho, rng)
    train = _split(y, bias, widths, rng)
    groups = y * 2 + bias
    y = rng.permutation(np.arange(SIZE) % 2)
    test = _split(y, unbiased_labels(y, 2, rng), widths, rng)
    if n_train is not None:
        # whole (class, bias) groups in proportion keep rho exact in the subset as well
        train = train.take(torch.from_numpy(stratified(groups, n_train, rng)))
    return BiasedDataset(
        "parity", train, test, 2, source.source_id, source.checksum, class_names=("even", "odd")
    )


def _split(y, bias, widths, rng) -> Split:
    n_core, n_spurious, n_noise = widths
    noise = rng.integers(0, 2, (len(y), n_noise))
    bits = np.hstack([_bits(y, n_core, rng), _bits(bias, n_spurious, rng), noise])
    region = np.repeat([0, 1, 2], widths)[None]
    return Split(
        x=torch.from_numpy(bits * 2 - 1).float(),
        y=torch.from_numpy(y.astype(np.int64)),
        bias=torch.from_numpy(bias.astype(np.int64)),
        core_mask=torch.from_numpy(region == 0),
        spurious_mask=torch.from_numpy(region == 1),
    )


def _bits(parity: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n random bits 0 or 1 a row whose sum has the given parity: the last one settles it."""
    free = rng.integers(0, 2, (len(parity), n - 1))
    return np.hstack([free, (parity[:, None] + free.sum(1, keepdims=True)) % 2])
