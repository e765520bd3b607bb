"""Class separation and selectivity against loops over pairs and neurons in NumPy, and by hand."""

import collections
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsc.metrics import active_neurons, class_selectivity, class_separation

few = settings(deadline=None, max_examples=30)


@st.composite
def labelled(draw, min_classes: int = 1):
    """A matrix with zero entries and zero rows, and labels of at least so many classes."""
    classes = draw(st.integers(min_classes, 4))
    n = draw(st.integers(classes, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    z = rng.normal(size=(n, draw(st.integers(1, 6)))) * rng.integers(0, 2, size=(n, 1))
    z *= rng.random(z.shape) < 0.7
    y = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)]))
    return z, y * draw(st.sampled_from([1, 3]))  # labels need not be consecutive


def slow_similarity(a, b) -> float:
    norms = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
    return sum(v * w for v, w in zip(a, b, strict=True)) / norms if norms else 0.0


def slow_class_separation(z, y) -> float:
    classes = sorted(set(y.tolist()))
    k = len(classes)
    rows = {c: z[y == c] for c in classes}
    within = overall = 0.0
    for one in classes:
        for other in classes:
            total = sum(1 - slow_similarity(a, b) for a in rows[one] for b in rows[other])
            mean = total / (len(rows[one]) * len(rows[other]))
            overall += mean / k**2
            within += mean / k if one == other else 0.0
    return 1 - within / overall if overall > 1e-12 else 0.0


def slow_class_selectivity(z, y) -> list[float]:
    found = []
    for neuron in np.abs(z).T:
        means = {c: neuron[y == c].mean() for c in sorted(set(y.tolist()))}
        best = max(means, key=means.get)
        rest = np.mean([m for c, m in means.items() if c != best])
        coverage = np.mean(neuron[y == best] > 0)
        found.append((means[best] - rest) / (means[best] + rest + 1e-6) * coverage)
    return found


@few
@given(labelled())
def test_class_separation_is_that_of_all_pairs(sample):
    z, y = sample
    if max(collections.Counter(y.tolist()).values()) < 2:
        with pytest.raises(ValueError, match="one sample of each class"):
            class_separation(torch.from_numpy(z), torch.from_numpy(y))
        return
    found = class_separation(torch.from_numpy(z), torch.from_numpy(y))
    assert found.shape == ()
    assert found.item() == pytest.approx(slow_class_separation(z, y), abs=1e-9)


@few
@given(labelled(min_classes=2))
def test_class_selectivity_is_that_of_a_slow_loop(sample):
    z, y = sample
    found = class_selectivity(torch.from_numpy(z), torch.from_numpy(y))
    np.testing.assert_allclose(found.numpy(), slow_class_selectivity(z, y), atol=1e-9)


def test_class_separation_of_orthogonal_classes():
    # K = 2, one direction a class: within 0, overall 1/2
    z, y = torch.tensor([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    assert class_separation(z, y).item() == pytest.approx(1.0)


def test_class_separation_by_hand():
    # class 0: e1 and e2 (mean distance 1/2, self-pairs included); class 1: e1, one sample (0);
    # between: (0 + 1) / 2. within = 1/4, overall = (1/2 + 0 + 1/2 + 1/2) / 4 = 3/8
    z, y = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]]), torch.tensor([0, 0, 1])
    assert class_separation(z, y).item() == pytest.approx(1 - (1 / 4) / (3 / 8))


def test_class_separation_of_a_zero_row_by_hand():
    # class 0: e1 and a zero row: distances 0, 1, 1, 1 (the zero row with itself too): 3/4;
    # class 1: e1: 0; between 1/2. within = 3/8, overall = (3/4 + 0 + 1/2 + 1/2) / 4 = 7/16
    z, y = torch.tensor([[1.0, 0.0], [0.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 0, 1])
    assert class_separation(z, y).item() == pytest.approx(1 - (3 / 8) / (7 / 16))


def test_classes_weigh_the_same_whatever_their_size():
    z, y = torch.randn(6, 4), torch.tensor([0, 0, 0, 1, 1, 1])
    more = torch.cat([z, z[:3], z[:3]]), torch.cat([y, y[:3], y[:3]])
    torch.testing.assert_close(class_separation(*more), class_separation(z, y))


def test_class_separation_looks_at_directions_only():
    z, y = torch.randn(8, 5), torch.tensor([0, 1] * 4)
    scaled = z * (torch.rand(8, 1) * 100 + 0.1)
    torch.testing.assert_close(class_separation(scaled, y), class_separation(z, y))


@pytest.mark.parametrize("y", [[0, 0, 1, 1], [3, 3, 3, 3]])
def test_class_separation_of_one_direction_is_0(y):
    z = torch.tensor([[0.1, 0.7, 0.3]]).repeat(4, 1)
    assert class_separation(z, torch.tensor(y)).item() == 0.0


def test_class_separation_of_a_single_class_is_0():
    assert class_separation(torch.randn(5, 3), torch.zeros(5, dtype=torch.long)).item() == 0.0


def test_class_separation_of_zero_rows_is_0():
    assert class_separation(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])).item() == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("metric", [class_separation, class_selectivity, active_neurons])
def test_values_that_are_not_finite_are_refused(metric, bad):
    z = torch.rand(4, 3)
    z[1, 1] = bad
    labels = [] if metric is active_neurons else [torch.tensor([0, 1, 0, 1])]
    with pytest.raises(ValueError, match=r"z holds NaN or infinity \(1 of 12 values\)"):
        metric(z, *labels)


@pytest.mark.parametrize(
    ("neuron", "expected"),
    [
        ([4.0, 4.0, 1.0, 1.0], 3 / 5),  # (4 - 1) / (4 + 1), active on the whole class
        ([8.0, 0.0, 1.0, 1.0], 3 / 5 / 2),  # coverage of class 0 is 1/2
        ([1.0, 1.0, -4.0, -4.0], 3 / 5),  # absolute values: class 1 leads
        ([2.0, 2.0, 2.0, 2.0], 0.0),
        ([0.0, 0.0, 0.0, 0.0], 0.0),
        ([5.0, 5.0, 0.0, 0.0], 1.0),
    ],
)
def test_class_selectivity_by_hand(neuron, expected):
    found = class_selectivity(torch.tensor(neuron)[:, None], torch.tensor([0, 0, 1, 1]))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_the_rest_is_the_mean_of_the_other_class_means_not_of_their_samples():
    # other means 1 (three samples) and 3 (one sample): rest 2
    z, y = torch.tensor([[6.0], [1.0], [1.0], [1.0], [3.0]]), torch.tensor([2, 0, 0, 0, 1])
    assert class_selectivity(z, y).item() == pytest.approx(4 / 8, abs=1e-6)


def test_a_millionth_is_added_to_the_denominator():
    z = torch.tensor([[3e-6], [1e-6]], dtype=torch.float64)
    assert class_selectivity(z, torch.tensor([0, 1])).item() == pytest.approx(2 / 5, rel=1e-9)


def test_at_a_tie_the_lowest_label_gives_the_coverage():
    # three classes, the first two tie; coverage of class 0 is 1/2, of class 1 is 1
    z, y = torch.tensor([[4.0], [0.0], [2.0], [2.0], [0.0]]), torch.tensor([0, 0, 1, 1, 2])
    assert class_selectivity(z, y).item() == pytest.approx((2 - 1) / (2 + 1) / 2, abs=1e-6)


def test_a_class_of_one_sample_counts_like_any_other():
    z, y = torch.tensor([[9.0], [1.0], [1.0], [1.0]]), torch.tensor([1, 0, 0, 0])
    assert class_selectivity(z, y).item() == pytest.approx(0.8, abs=1e-6)


def test_bias_selectivity_is_the_same_with_bias_labels():
    z = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    y, bias = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    torch.testing.assert_close(class_selectivity(z, y), torch.tensor([1.0, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        class_selectivity(z, bias), torch.tensor([0.0, 1.0]), atol=1e-5, rtol=0
    )


def test_active_neurons_fire_at_least_once():
    z = torch.tensor([[0.0, 0.0, -1.0], [0.0, 2.0, 0.0]])
    assert active_neurons(z).tolist() == [False, True, True]


def test_the_mean_over_active_neurons_leaves_dead_ones_out():
    z, y = torch.tensor([[0.0, 4.0], [0.0, 1.0]]), torch.tensor([0, 1])
    index = class_selectivity(z, y)
    assert index[active_neurons(z)].mean().item() == pytest.approx(0.6, abs=1e-6)
    assert index.mean().item() == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("metric", [class_separation, class_selectivity])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_precision_is_float32_or_better(metric, dtype):
    z, y = torch.rand(40, 8).to(dtype), torch.arange(40) % 4
    found = metric(z, y)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), metric(z.double(), y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", [class_separation, class_selectivity])
@pytest.mark.parametrize(
    ("z", "y", "says"),
    [
        (torch.ones(4, 2), None, "y is None, expected one whole-number label"),
        (torch.ones(4, 2), torch.tensor([0, 1, 0]), r"y has shape \(3,\).*\(4,\)"),
        (torch.ones(4, 2), torch.tensor([[0, 1, 0, 1]]), r"y has shape \(1, 4\).*\(4,\)"),
        (torch.ones(4, 2), torch.tensor([0.0, 1.0, 0.0, 1.0]), "float32, expected whole-number"),
        (torch.ones(4, 2), [0, 1, 0, 1], "y is a list, expected a torch.Tensor"),
        (torch.ones(4), torch.tensor([0, 1, 0, 1]), r"z has shape \(4,\), expected n x d"),
        (torch.ones(0, 2), torch.ones(0, dtype=torch.long), "z is empty"),
    ],
)
def test_input_of_another_kind_is_refused(metric, z, y, says):
    with pytest.raises(ValueError, match=says):
        metric(z, y)


def test_selectivity_of_a_single_class_is_refused():
    with pytest.raises(ValueError, match="one class only, expected at least two"):
        class_selectivity(torch.rand(3, 2), torch.tensor([4, 4, 4]))


@pytest.mark.parametrize("z", [torch.ones(3), torch.ones(0, 3)])
def test_active_neurons_wants_a_matrix(z):
    with pytest.raises(ValueError, match="z "):
        active_neurons(z)
