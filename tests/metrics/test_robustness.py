"""Accuracies by group against loops in NumPy, and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsc.metrics import accuracy, adjusted_average, group_accuracies, worst_group_accuracy

few = settings(deadline=None, max_examples=30)
triples = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=25)

# by hand: group (0, 0) 2 of 2 right, (0, 1) 0 of 1, (1, 1) 1 of 2, (1, 0) empty
PRED = torch.tensor([0, 0, 1, 1, 0])
Y = torch.tensor([0, 0, 0, 1, 1])
BIAS = torch.tensor([0, 0, 1, 1, 1])


def columns(rows) -> list[torch.Tensor]:
    return list(torch.tensor(rows).T)


def slow_groups(pred, y, bias) -> dict:
    found: dict = {}
    for p, k, b in zip(pred.tolist(), y.tolist(), bias.tolist(), strict=True):
        found.setdefault((k, b), []).append(p == k)
    return {group: sum(right) / len(right) for group, right in found.items()}


@few
@given(triples)
def test_accuracy_is_that_of_a_slow_loop(rows):
    pred, y, _ = columns(rows)
    assert accuracy(pred, y).item() == pytest.approx(np.mean([p == k for p, k, _ in rows]))


@few
@given(triples)
def test_group_accuracies_are_those_of_a_slow_loop(rows):
    pred, y, bias = columns(rows)
    found = group_accuracies(pred, y, bias)
    expected = slow_groups(pred, y, bias)
    assert found.shape == (int(y.max()) + 1, int(bias.max()) + 1)
    for (k, b), value in np.ndenumerate(found.numpy()):
        assert value == pytest.approx(expected.get((k, b), math.nan), nan_ok=True)


@few
@given(triples)
def test_the_worst_group_is_that_of_a_slow_loop(rows):
    pred, y, bias = columns(rows)
    assert worst_group_accuracy(pred, y, bias).item() == pytest.approx(
        min(slow_groups(pred, y, bias).values())
    )


@few
@given(triples, triples)
def test_the_adjusted_average_is_that_of_a_slow_loop(rows, train_rows):
    pred, y, bias = columns(rows)
    _, train_y, train_bias = columns(train_rows)
    groups = slow_groups(pred, y, bias)
    shared = [group for _, *group in train_rows if tuple(group) in groups]
    if not shared:
        with pytest.raises(ValueError, match="share no"):
            adjusted_average(pred, y, bias, train_y, train_bias)
        return
    found = adjusted_average(pred, y, bias, train_y, train_bias)
    assert found.item() == pytest.approx(np.mean([groups[tuple(g)] for g in shared]))


def test_groups_by_hand():
    found = group_accuracies(PRED, Y, BIAS)
    assert found.tolist()[0] == [1.0, 0.0]
    assert math.isnan(found[1, 0])
    assert found[1, 1] == 0.5


def test_rows_are_classes_and_columns_biases():
    found = group_accuracies(torch.tensor([0]), torch.tensor([0]), torch.tensor([2]))
    assert found.shape == (1, 3)
    assert found[0, 2] == 1.0


def test_accuracy_by_hand():
    assert accuracy(PRED, Y).item() == pytest.approx(3 / 5)


def test_the_worst_group_by_hand_skips_the_empty_one():
    assert worst_group_accuracy(PRED, Y, BIAS).item() == 0.0
    assert worst_group_accuracy(PRED[[0, 1, 3, 4]], Y[[0, 1, 3, 4]], BIAS[[0, 1, 3, 4]]) == 0.5


def test_the_adjusted_average_weights_by_training_shares():
    train_y, train_bias = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    found = adjusted_average(PRED, Y, BIAS, train_y, train_bias)
    assert found.item() == pytest.approx((2 * 1.0 + 1 * 0.0 + 1 * 0.5) / 4)


def test_groups_without_test_samples_leave_the_weights_of_the_others():
    train_y, train_bias = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 0, 1])
    found = adjusted_average(PRED, Y, BIAS, train_y, train_bias)
    assert found.item() == pytest.approx((1.0 + 0.5) / 2)


def test_training_groups_beyond_the_test_labels_are_allowed():
    found = adjusted_average(PRED, Y, BIAS, torch.tensor([0, 7]), torch.tensor([0, 3]))
    assert found.item() == 1.0


@pytest.mark.parametrize("pred", [Y, 1 - Y])
def test_one_group_is_the_whole_accuracy(pred):
    zero = torch.zeros_like(Y)
    expected = accuracy(pred, Y).item()
    assert expected in (0.0, 1.0)
    assert worst_group_accuracy(pred, Y, zero).item() == expected


def test_accuracies_are_exact_fractions_in_float64():
    y = torch.zeros(10_000, dtype=torch.long)
    pred = (torch.arange(10_000) >= 9137).long()
    assert accuracy(pred, y).item() == 0.9137
    assert worst_group_accuracy(pred, y, y).item() == 0.9137


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_labels_of_any_whole_number_type(dtype):
    given = [t.to(dtype) for t in (PRED, Y, BIAS)]
    found, expected = group_accuracies(*given), group_accuracies(PRED, Y, BIAS)
    torch.testing.assert_close(found, expected, equal_nan=True)


def call(metric, **changed):
    given = {"pred": PRED, "y": Y, "bias": BIAS, "train_y": Y, "train_bias": BIAS} | changed
    n = {accuracy: 2, adjusted_average: 5}.get(metric, 3)
    return metric(*list(given.values())[:n])


@pytest.mark.parametrize("metric", [group_accuracies, worst_group_accuracy, adjusted_average])
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"bias": None}, "bias is None, expected one whole-number label"),
        ({"bias": BIAS[:3]}, r"bias has shape \(3,\), expected one label a sample, \(5,\)"),
        ({"bias": BIAS - 1}, "counted from 0, found -1"),
    ],
)
def test_bias_labels_that_do_not_fit_are_refused(metric, changed, says):
    with pytest.raises(ValueError, match=says):
        call(metric, **changed)


@pytest.mark.parametrize(
    "metric", [accuracy, group_accuracies, worst_group_accuracy, adjusted_average]
)
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pred": torch.zeros(5, 2, dtype=torch.long)}, r"pred has shape \(5, 2\).*argmax"),
        ({"pred": PRED.float()}, "pred holds torch.float32, expected whole-number"),
        ({"pred": PRED[:4]}, r"pred has shape \(4,\).*\(5,\)"),
        ({"y": None}, "y is None"),
        ({"y": Y[:0], "pred": PRED[:0], "bias": BIAS[:0]}, "y is empty"),
        ({"pred": [0, 0, 1, 1, 0]}, "pred is a list"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(metric, changed, says):
    with pytest.raises(ValueError, match=says):
        call(metric, **changed)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"train_bias": None}, "train_bias is None"),
        ({"train_y": None}, "train_y is None"),
        ({"train_y": Y[:2]}, r"train_bias has shape \(5,\).*\(2,\)"),
        ({"train_y": Y + 5}, "share no"),
        ({"train_y": Y - 1}, "counted from 0, found -1"),
    ],
)
def test_training_labels_that_do_not_fit_are_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        call(adjusted_average, **changed)
