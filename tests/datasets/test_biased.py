"""Split and the allocation of bias labels, on any class counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lrsc
from lrsc.datasets import Split
from lrsc.datasets.biased import biased_labels, stratified, unbiased_labels

labels = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array)


@given(labels, st.floats(0, 1), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_biased_counts_hold_for_any_labels(y, rho, seed):
    bias = biased_labels(y, 5, rho, np.random.default_rng(seed))
    for c in np.unique(y):
        of_class = bias[y == c]
        assert (of_class != c).sum() == round(rho * len(of_class))
        others = np.bincount(of_class[of_class != c], minlength=5)[np.arange(5) != c]
        assert others.max() - others.min() <= 1


@given(labels, st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_unbiased_counts_hold_for_any_labels(y, seed):
    bias = unbiased_labels(y, 5, np.random.default_rng(seed))
    for c in np.unique(y):
        per_value = np.bincount(bias[y == c], minlength=5)
        assert per_value.max() - per_value.min() <= 1


@given(labels, st.data())
@settings(max_examples=60, deadline=None)
def test_stratified_takes_classes_in_proportion(y, data):
    n = data.draw(st.integers(1, len(y)))
    chosen = stratified(y, n, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == n
    share = np.bincount(y, minlength=5) * n / len(y)
    assert np.abs(np.bincount(y[chosen], minlength=5) - share).max() < 1


def test_split_refuses_labels_of_another_length():
    with pytest.raises(ValueError, match=r"bias must hold one label a sample"):
        Split(torch.zeros(3, 2), torch.zeros(3).long(), torch.zeros(2).long())


def test_missing_bias_labels_say_what_to_give():
    split = Split(torch.zeros(3, 2), torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"bias labels are missing"):
        _ = split.conflicting


def test_take_restricts_samples_and_per_sample_masks_only(parity):
    part = parity.train.take(torch.tensor([5, 3]))
    assert torch.equal(part.x, parity.train.x[[5, 3]])
    assert torch.equal(part.core_mask, parity.train.core_mask)
    mask = torch.rand(len(parity.train), parity.train.x.shape[1]) > 0.5
    own = Split(parity.train.x, parity.train.y, core_mask=mask)
    assert torch.equal(own.take(torch.tensor([5, 3])).core_mask, mask[[5, 3]])


def test_inputs_use_the_constants_of_the_split():
    x = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    split = Split(x, torch.zeros(1).long(), mean=torch.tensor([0.5]), std=torch.tensor([0.25]))
    assert split.inputs(x).flatten().tolist() == pytest.approx([-2.0, 2.0])


@pytest.mark.parametrize("name", ["colored_mnist", "parity"])
def test_inputs_can_be_written_to_a_place(name):
    split = lrsc.datasets.load(name, source="embedded", n_train=50).train
    place = torch.empty(split.x.shape)
    assert split.inputs(split.x, out=place) is place
    assert torch.equal(place, split.inputs(split.x))
