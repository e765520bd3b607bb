"""Parity: the labels are the parities, the counts are exact, the same seed gives the same bytes."""

import numpy as np
import pytest
import torch

from lrsc.datasets import load


def parity_of(x, mask):
    return (x[:, mask[0]] > 0).sum(1) % 2


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_are_the_parities_of_their_regions(split):
    part = getattr(load("parity", n_core=4, n_spurious=2, n_noise=7), split)
    assert part.x.shape == (10_000, 13) and part.x.dtype == torch.float32
    assert set(part.x.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(parity_of(part.x, part.core_mask), part.y)
    assert torch.equal(parity_of(part.x, part.spurious_mask), part.bias)


def test_masks_cover_exactly_their_bits():
    train = load("parity", n_core=4, n_spurious=2, n_noise=7).train
    assert train.core_mask.tolist() == [[True] * 4 + [False] * 9]
    assert train.spurious_mask.tolist() == [[False] * 4 + [True] * 2 + [False] * 7]


@pytest.mark.parametrize("rho", [0.0, 0.025, 0.1, 0.5, 1.0])
def test_rho_is_met_exactly_in_each_class(rho):
    train = load("parity", rho=rho).train
    for c in (0, 1):
        assert (train.y == c).sum() == 5000
        assert int(train.conflicting[train.y == c].sum()) == round(rho * 5000)


def test_bias_is_independent_of_the_label_in_the_test_split():
    test = load("parity").test
    counts = torch.bincount(test.y * 2 + test.bias)
    assert counts.tolist() == [2500] * 4


def test_bits_of_a_part_are_uniform_given_their_parity():
    x = load("parity").test.x
    means = x.mean(0).abs()
    assert means.max() < 0.05  # 10 000 fair bits: a deviation of 5 sigma


def test_same_seed_same_bytes_another_seed_not():
    one, two, other = load("parity", seed=1), load("parity", seed=1), load("parity", seed=2)
    assert one.train.x.numpy().tobytes() == two.train.x.numpy().tobytes()
    assert not torch.equal(one.train.x, other.train.x)


def test_inputs_are_the_bits_themselves():
    train = load("parity").train
    assert torch.equal(train.inputs(train.x[:5]), train.x[:5])


def test_a_subset_keeps_rho_and_classes():
    train = load("parity", rho=0.1, n_train=1000).train
    assert len(train) == 1000
    assert int(train.conflicting.sum()) == 100
    assert torch.bincount(train.y).tolist() == [500, 500]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_spurious": 5, "n_core": 5}, "n_spurious must be < n_core"),
        ({"n_core": 0}, "n_core"),
        ({"n_noise": -1}, "n_noise"),
        ({"rho": 1.5}, "rho must be a share"),
        ({"rho": -0.1}, "rho must be a share"),
        ({"rho": float("nan")}, "rho must be a share"),
        ({"n_train": 10_001}, "at most 10000"),
        ({"seed": -1}, "seed"),
    ],
)
def test_values_out_of_range_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        load("parity", **options)


def test_global_generators_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    load("parity")
    assert torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(5)).item()
    assert np.random.rand() == np.random.RandomState(5).rand()
