"""What representations z (n x d, one row a sample) say about labels.

Bias selectivity is `class_selectivity(z, bias)`; a network's CSI is the mean of
`class_selectivity(z, y)` over `active_neurons(z)`. Labels are whole numbers, n of them; classes
are the values that occur. All raise ValueError for empty input, z that is not finite, and shapes
that do not match.
"""

import torch
from torch import Tensor

from lrsc.metrics.checks import labels, values


def class_separation(z: Tensor, y: Tensor) -> Tensor:
    """R2 = 1 - (mean distance within classes) / (mean distance overall), cosine distances.

    Every pair of classes has the same weight; pairs of a sample with itself are included. O(n d):
    the mean similarity of two classes is the inner product of the means of their normalised rows. A
    zero row has similarity 0 to everything, including itself. 0 where all samples point the same
    way, and for a single class. Raises ValueError where each class has one sample.
    Computed in float64, returned 0-dimensional in z's precision (at least float32). Kornblith et
    al. 2021.
    """
    z = values("z", z, "n x d")
    _, *groups = labels("y", y, len(z)).unique(return_inverse=True, return_counts=True)
    if groups[1].max() < 2:
        raise ValueError(
            "y holds one sample of each class, expected two of one at least: distances within "
            "classes are compared with those between them"
        )
    means = _group_means(_unit_rows(z.double()), *groups)
    within = 1 - means.square().sum(1).mean()
    overall = 1 - means.mean(0).square().sum()
    # below 1e-12 the distances are roundoff: the classes coincide
    return torch.where(overall <= 1e-12, 0.0, 1 - within / overall).to(z.dtype)


def class_selectivity(z: Tensor, y: Tensor) -> Tensor:
    """Class-selectivity index of each neuron (d values in [0, 1]), with its coverage.

    (mu_max - mu_rest) / (mu_max + mu_rest + 1e-6) * coverage, on |z|: mu_max is the largest class
    mean (of the lowest label in a tie), mu_rest the mean of the other class means, coverage the
    share of that class's samples on which the neuron is active (|z| > 0). Raises ValueError for
    labels of a single class.
    """
    z = values("z", z, "n x d").abs()
    _, of_sample, counts = labels("y", y, len(z)).unique(return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError(
            "y holds one class only, expected at least two: selectivity compares a class with "
            "the others; measure on samples of more classes"
        )
    return selectivity_of_groups(z, of_sample, counts)


def selectivity_of_groups(z: Tensor, of_sample: Tensor, counts: Tensor) -> Tensor:
    """`class_selectivity` of |z| for classes that are known: it never waits for the device.

    of_sample: each sample's class, counted from 0; counts: sizes of the classes.
    """
    means = _group_means(z.double(), of_sample, counts)
    largest, best = means.max(0)
    rest = (means.sum(0) - largest) / (len(means) - 1)
    active = ((z > 0) & (of_sample[:, None] == best)).sum(0)
    index = (largest - rest) / (largest + rest + 1e-6) * active / counts[best]
    return index.to(z.dtype)


def active_neurons(z: Tensor) -> Tensor:
    """Bool for each neuron: it fires (z is not 0) on at least one sample."""
    return (values("z", z, "n x d") != 0).any(0)


def _group_means(z: Tensor, of_sample: Tensor, counts: Tensor) -> Tensor:
    """Means (K x d) over the samples of each group."""
    sums = z.new_zeros(len(counts), z.shape[1]).index_add_(0, of_sample, z)
    return sums / counts[:, None]


def _unit_rows(z: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return torch.where(norms == 0, 0.0, z / norms)
