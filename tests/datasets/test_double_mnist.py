"""Double MNIST: exact counts, halves, partners drawn evenly."""

import numpy as np
import pytest
import torch

from lrsc.datasets import load
from lrsc.datasets.biased import partners
from lrsc.datasets.raw import sources


@pytest.fixture(scope="module")
def double():
    return load("double_mnist", source="embedded")


def counts(split):
    return torch.bincount(split.y * 10 + split.bias, minlength=100).view(10, 10)


@pytest.mark.parametrize("rho", [0.0, 0.025, 0.3, 1.0])
def test_conflicting_counts_are_exact_and_even(rho):
    table = counts(load("double_mnist", source="embedded", rho=rho).train)
    for c, row in enumerate(table):
        others = torch.cat([row[:c], row[c + 1 :]])
        assert int(row[c]) == 120 - round(rho * 120)
        assert int(others.max() - others.min()) <= 1


def test_bias_is_independent_of_the_label_in_the_test_split(double):
    table = counts(double.test)
    assert int((table.max(1).values - table.min(1).values).max()) <= 1


def test_the_left_half_is_the_dimmed_digit_and_the_right_one_a_digit_of_the_bias_class(double):
    grey, y, grey_test, y_test = sources.digits().content
    for split, images, labels in ((double.train, grey, y), (double.test, grey_test, y_test)):
        x = split.x.numpy()
        assert x.shape == (len(images), 1, 28, 56)
        assert np.array_equal(x[:, 0, :, :28], np.rint(images * np.float32(0.5)))
        known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        right = np.ascontiguousarray(x[:, 0, :, 28:])
        assert [known[image.tobytes()] for image in right] == split.bias.tolist()


def test_masks_are_the_halves(double):
    mask = double.train.core_mask.expand(1, 1, 28, 56)
    assert mask[..., :28].all() and not mask[..., 28:].any()
    assert torch.equal(double.train.spurious_mask, ~double.train.core_mask)


def test_dim_and_its_errors():
    bright = load("double_mnist", source="embedded", dim=1.0).test
    assert np.array_equal(bright.x[:, 0, :, :28].numpy(), sources.digits().content[2])
    with pytest.raises(ValueError, match=r"dim must be in \(0, 1\], found 0"):
        load("double_mnist", source="embedded", dim=0)


def test_same_seed_same_bytes(double):
    assert torch.equal(double.train.x, load("double_mnist", source="embedded").train.x)
    other = load("double_mnist", source="embedded", seed=1)
    assert not torch.equal(double.train.x, other.train.x)


@pytest.mark.parametrize("n", [0, 3, 7, 8, 50])
def test_each_partner_is_used_once_before_any_is_used_again(n):
    pool = np.array([0, 1, 0, 2, 1, 0, 0])  # four of class 0
    wanted = np.zeros(n, int)
    chosen = partners(wanted, pool, np.random.default_rng(0))
    used = np.bincount(chosen, minlength=7)[pool == 0]
    assert (pool[chosen] == 0).all() and used.max() - used.min() <= 1
    assert all(len(set(chosen[i : i + 4])) == len(chosen[i : i + 4]) for i in range(0, n, 4))


def test_a_class_without_partners_is_an_error():
    with pytest.raises(ValueError, match="class 3 has no sample"):
        partners(np.array([0, 3]), np.array([0, 1]), np.random.default_rng(0))


def test_real_digits(real_data):
    found = load("double_mnist", root=real_data)
    assert found.train.x.shape == (60_000, 1, 28, 56) and found.source_id == "mnist"
    assert abs(found.rho - 0.025) < 5 / 60_000
