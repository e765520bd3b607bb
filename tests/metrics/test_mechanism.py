"""Loss ratios against loops in NumPy, and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsc.metrics import loss_entropy, loss_ratio

few = settings(deadline=None, max_examples=30)
LOSSES = torch.tensor([1.0, 2.0, 3.0, 6.0])
CONFLICTING = torch.tensor([False, False, False, True])


@st.composite
def batches(draw):
    rows, batch = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    losses = rng.exponential(size=(rows, batch)) * (rng.random((rows, batch)) < 0.8)
    return losses, rng.random((rows, batch)) < 0.4


@few
@given(batches())
def test_loss_ratio_is_that_of_a_slow_loop(sample):
    losses, conflicting = sample
    expected = []
    for row, flags in zip(losses, conflicting, strict=True):
        bc = sum(v for v, c in zip(row, flags, strict=True) if c)
        expected.append(bc / sum(row) if sum(row) else 0.0)
    found = loss_ratio(torch.from_numpy(losses), torch.from_numpy(conflicting))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_loss_ratio_by_hand():
    assert loss_ratio(LOSSES, CONFLICTING).item() == pytest.approx(0.5)


@pytest.mark.parametrize(("flag", "expected"), [(True, 1.0), (False, 0.0)])
def test_one_kind_of_sample_carries_all_or_nothing(flag, expected):
    conflicting = torch.full((4,), flag)
    assert loss_ratio(LOSSES, conflicting).item() == expected


@pytest.mark.parametrize("conflicting", [CONFLICTING, ~CONFLICTING])
def test_a_total_of_0_gives_0(conflicting):
    assert loss_ratio(torch.zeros(4), conflicting).item() == 0.0


def test_flags_of_one_batch_serve_every_row():
    losses = torch.rand(3, 2, 4)
    many = CONFLICTING.expand(3, 2, 4)
    assert loss_ratio(losses, CONFLICTING).shape == (3, 2)
    assert torch.equal(loss_ratio(losses, CONFLICTING), loss_ratio(losses, many))


def test_rows_are_independent():
    losses, conflicting = torch.rand(5, 8), torch.rand(5, 8) < 0.5
    alone = torch.stack([loss_ratio(row, c) for row, c in zip(losses, conflicting, strict=True)])
    torch.testing.assert_close(loss_ratio(losses, conflicting), alone)


@pytest.mark.parametrize("place", [0, 3])
def test_nan_stays_in_its_row(place):
    losses = LOSSES.repeat(2, 1)
    losses[1, place] = math.nan
    found = loss_ratio(losses, CONFLICTING)
    assert found.isnan().tolist() == [False, True]


def test_infinite_losses_give_what_the_quotient_gives():
    infinite = torch.tensor([1.0, math.inf])
    assert loss_ratio(infinite, torch.tensor([False, True])).isnan()
    assert loss_ratio(infinite, torch.tensor([True, False])).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sums_are_in_float32_or_better(dtype):
    losses = torch.full((4096,), 20.0, dtype=dtype)  # the sum overflows float16
    found = loss_ratio(losses, torch.arange(4096) % 4 == 0)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("losses", "conflicting", "says"),
    [
        (LOSSES, None, "conflicting is None, expected a bool a sample"),
        (LOSSES, CONFLICTING[:3], r"shape \(4,\) and conflicting \(3,\)"),
        (LOSSES, CONFLICTING[:1], r"shape \(4,\) and conflicting \(1,\)"),
        (LOSSES, CONFLICTING.expand(2, 4), r"shape \(4,\) and conflicting \(2, 4\)"),
        (LOSSES, CONFLICTING.long(), "torch.int64, expected bool"),
        (LOSSES.mean(), CONFLICTING, "reduction='none'"),
        (LOSSES.mean(), CONFLICTING[0], "reduction='none'"),
        (LOSSES[:0], CONFLICTING[:0], "losses is empty"),
        ([1.0, 2.0], CONFLICTING[:2], "losses is a list"),
    ],
)
def test_input_of_another_kind_is_refused(losses, conflicting, says):
    with pytest.raises(ValueError, match=says):
        loss_ratio(losses, conflicting)


@few
@given(batches())
def test_loss_entropy_is_that_of_a_slow_loop(sample):
    losses, _ = sample
    found = loss_entropy(torch.from_numpy(losses)).numpy()
    for row, value in zip(losses, found, strict=True):
        if not sum(row):
            assert math.isnan(value)
            continue
        shares = [v / sum(row) for v in row if v]
        assert value == pytest.approx(-sum(s * math.log(s) for s in shares), abs=1e-12)


def test_equal_losses_have_entropy_log_n_and_a_single_one_none():
    assert loss_entropy(torch.full((8,), 0.3)) == pytest.approx(math.log(8))
    assert loss_entropy(torch.tensor([0.0, 5.0, 0.0])) == 0
    with pytest.raises(ValueError, match="losses has no axis"):
        loss_entropy(torch.tensor(1.0))
