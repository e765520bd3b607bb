"""Accuracies of predicted labels, overall and by group; fractions, in float64.

pred, y and bias are whole-number labels, one a sample; a group is a pair (class y, bias value),
both counted from 0. All raise ValueError for empty input, missing labels (None), labels below 0
and shapes that do not match.
"""

import torch
from torch import Tensor

from lrsc.metrics.checks import labels, tensor

LEAST_MARGIN = 0.02  # of an accuracy over chance, from which on what is left of it means something


def accuracy(pred: Tensor, y: Tensor) -> Tensor:
    """Share of samples with pred = y, 0-dimensional."""
    y, pred = _same_samples(y=y, pred=pred)
    return (pred == y).double().mean()


def chance(y: Tensor) -> Tensor:
    """Accuracy of a network that has forgotten everything: the most frequent class's share of y."""
    (y,) = _same_samples(y=y)
    classes, _ = _grid(y, y)
    return y.bincount(minlength=classes).max().double() / len(y)


def chance_corrected(after: Tensor, before: Tensor, level: Tensor | float) -> Tensor:
    """(after - chance) / (before - chance) of accuracies; NaN where before is hardly above chance.

    A network that has forgotten everything scores 0 here, and chance / before in the plain ratio.
    NaN, from diverged runs, stays NaN. Shapes are broadcast; level: the `chance` of the test
    labels. Within LEAST_MARGIN of chance there is nothing to lose, and the ratio would be noise.
    """
    margin = before - level
    return torch.where(margin >= LEAST_MARGIN, (after - level) / margin, torch.nan)


def group_accuracies(pred: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """Accuracy of each group, classes x biases: entry [k, b] is that of samples y = k, bias = b.

    The table's sizes are the largest label and bias value plus 1; a group without samples is NaN.
    """
    y, pred, bias = _same_samples(y=y, pred=pred, bias=bias)
    return _by_group(pred, y, bias, _grid(y, bias))


def worst_group_accuracy(pred: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """Lowest accuracy over all groups that have samples, 0-dimensional."""
    found = group_accuracies(pred, y, bias)
    return torch.where(found.isnan(), torch.inf, found).min()


def adjusted_average(
    pred: Tensor, y: Tensor, bias: Tensor, train_y: Tensor, train_bias: Tensor
) -> Tensor:
    """Group accuracies weighted by each group's share of the training samples, 0-dimensional.

    Groups without test samples are left out and the other weights scaled up. Raises ValueError
    where no training group has test samples. Sagawa et al. 2020.
    """
    y, pred, bias = _same_samples(y=y, pred=pred, bias=bias)
    train_y, train_bias = _same_samples(train_y=train_y, train_bias=train_bias)
    grid = _grid(torch.cat([y, train_y]), torch.cat([bias, train_bias]))
    found = _by_group(pred, y, bias, grid)
    weights = _sums(torch.ones_like(train_y), train_y, train_bias, grid)
    weights = torch.where(found.isnan(), 0.0, weights)
    if weights.sum() == 0:
        raise ValueError(
            "train_y and train_bias share no (class, bias) group with y and bias, expected at "
            "least one; give labels of the same data set, coded alike"
        )
    return (weights * found.nan_to_num(0.0)).sum() / weights.sum()


def _by_group(pred: Tensor, y: Tensor, bias: Tensor, grid: tuple[int, int]) -> Tensor:
    correct, samples = (_sums(v, y, bias, grid) for v in (pred == y, torch.ones_like(y)))
    return correct / samples  # 0 / 0 is NaN


def _sums(value: Tensor, y: Tensor, bias: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sum of a value a sample over each group."""
    empty = torch.zeros(grid, dtype=torch.float64, device=y.device)
    return empty.index_put_((y, bias), value.double(), accumulate=True)


def _grid(y: Tensor, bias: Tensor) -> tuple[int, int]:
    lowest, classes, biases = torch.stack([y.minimum(bias).min(), y.max(), bias.max()]).tolist()
    if lowest < 0:
        raise ValueError(f"labels must be counted from 0, found {lowest}; recode y and bias")
    return classes + 1, biases + 1


def _same_samples(**given: Tensor | None) -> list[Tensor]:
    """The named labels, as many of each as of the first."""
    name, first = next(iter(given.items()))
    n = 0 if first is None else tensor(name, first).numel()
    return [labels(name, value, n) for name, value in given.items()]
