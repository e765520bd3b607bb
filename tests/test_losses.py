"""Losses against NumPy in double precision, their gradients against finite differences."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrsc import losses

GAMMAS = (0.3, 0.5, 1.0, 2.0, 5.0)


def numbers(*shape: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def focal(logits: np.ndarray, y: np.ndarray, gamma: float) -> np.ndarray:
    """(1 - p_y)^gamma * (-log p_y), sample by sample, in double precision."""
    found = []
    for row, label in zip(np.asarray(logits, float), y, strict=True):
        total = sum(math.exp(v - row[label]) for v in row)  # 1 / p_y
        others = sum(math.exp(v - row[label]) for k, v in enumerate(row) if k != label)
        found.append((others / total) ** gamma * math.log(total))
    return np.array(found)


# -- classification ---------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, *GAMMAS])
def test_focal_loss_is_that_of_the_paper(gamma):
    logits, y = numbers(200, 7, scale=4), torch.arange(200) % 7
    expected = focal(logits.numpy(), y.numpy(), gamma)
    found = losses.classification(logits, y, gamma)
    assert found.shape == (200,) and found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=3e-7)
    in_double = losses.classification(logits.double(), y, gamma)
    np.testing.assert_allclose(in_double, expected, rtol=1e-9)


def test_focal_loss_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4 and 1/4
    one, other = (losses.classification(logits, torch.tensor([k]), 2.0).item() for k in (0, 1))
    assert one == pytest.approx(math.log(4 / 3) / 16)
    assert other == pytest.approx(9 / 16 * math.log(4))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradient_is_that_of_finite_differences(gamma):
    logits, y = numbers(6, 4, scale=3, seed=1).double(), torch.tensor([0, 1, 2, 3, 0, 1])
    single = logits.float().requires_grad_()
    losses.classification(single, y, gamma).sum().backward()
    for at in np.ndindex(6, 4):
        high, low = logits.numpy().copy(), logits.numpy().copy()
        high[at] += 1e-5
        low[at] -= 1e-5
        expected = (focal(high, y, gamma) - focal(low, y, gamma)).sum() / 2e-5
        assert single.grad[at].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("gamma", [1e-3, *GAMMAS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin", [10.0, 16.0, 17.0, 30.0, 88.0, 104.0, 1e4, 1e30])
def test_loss_and_gradient_are_finite_where_p_is_0_or_1(gamma, dtype, margin):
    logits = torch.tensor([[margin, 0, 0], [-margin, 0, 0]], dtype=dtype, requires_grad=True)
    found = losses.classification(logits, torch.tensor([0, 0]), gamma)
    found.sum().backward()
    assert found.isfinite().all() and logits.grad.isfinite().all()
    assert 0 <= found[0] < 1e-3 and logits.grad[0].abs().max() < 1e-3
    assert found[1].item() == pytest.approx(margin + math.log(2), rel=1e-3)
    assert logits.grad[1].tolist() == pytest.approx([-1, 0.5, 0.5], abs=0.01)


def test_gamma_0_is_cross_entropy_bit_for_bit():
    y = torch.arange(500) % 10
    for dtype in (torch.float32, torch.bfloat16):
        logits = numbers(500, 10, scale=5).to(dtype)
        ours, torchs = (logits.detach().clone().requires_grad_() for _ in range(2))
        found = losses.classification(ours, y)
        expected = F.cross_entropy(torchs.float(), y, reduction="none")
        assert found.dtype == torch.float32 and torch.equal(found, expected)
        found.mean().backward()
        expected.mean().backward()
        assert torch.equal(ours.grad, torchs.grad)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_half_precision_is_computed_in_single(gamma):
    logits, y = numbers(50, 5, scale=5).bfloat16(), torch.arange(50) % 5
    expected = focal(logits.double().numpy(), y.numpy(), gamma)
    found = losses.classification(logits, y, gamma)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=3e-7)


@pytest.mark.parametrize("gamma", [-0.1, math.nan])
def test_a_negative_gamma_is_refused(gamma):
    with pytest.raises(ValueError, match="focal_gamma must be a number >= 0, found"):
        losses.classification(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), gamma)


# -- penalties --------------------------------------------------------------------------------


def parameters(seed: int = 2) -> list[nn.Parameter]:
    found = [nn.Parameter(numbers(*shape, seed=seed)) for shape in ((4, 3), (5,), (2, 3, 2, 2))]
    found[2].data = found[2].data.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        found[1][2] = 0.0
    return found


@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_penalty_gradients_are_added_in_place(l1, l2):
    weights = parameters()
    for i, w in enumerate(weights):
        w.grad = numbers(*w.shape, seed=3 + i)
    gradients = [w.grad for w in weights]
    before = [(w.detach().clone(), g.clone()) for w, g in zip(weights, gradients, strict=True)]
    losses.add_penalty_gradients(iter(weights), l1, l2)
    for w, g, (value, first) in zip(weights, gradients, before, strict=True):
        assert w.grad is g and torch.equal(w, value)
        expected = first.numpy() + l1 * np.sign(value.numpy()) + l2 * value.numpy()
        np.testing.assert_allclose(g, expected, rtol=1e-6, atol=1e-6)


def test_penalty_gradients_are_those_of_the_penalty():
    weights = parameters()
    penalty = sum(0.3 * w.abs().sum() + 0.7 / 2 * w.square().sum() for w in weights)
    expected = torch.autograd.grad(penalty, weights)
    for w in weights:
        w.grad = torch.zeros_like(w)
    losses.add_penalty_gradients(weights, 0.3, 0.7)
    for w, e in zip(weights, expected, strict=True):
        torch.testing.assert_close(w.grad, e)


def test_the_subgradient_at_0_is_0():
    w = nn.Parameter(torch.tensor([0.0, -0.0, 2.0, -1e-30]))
    w.grad = torch.zeros(4)
    losses.add_penalty_gradients([w], 0.25, 0.0)
    assert w.grad.tolist() == [0.0, 0.0, 0.25, -0.25]


def test_parameters_without_gradient_are_left_out():
    one, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    losses.add_penalty_gradients([one, other], 0.5, 0.5)
    assert one.grad is None and other.grad is None
    other.grad = torch.zeros(2)
    losses.add_penalty_gradients([one, other], 0.5, 0.5)
    assert one.grad is None and other.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_l2_is_the_weight_decay_of_sgd(momentum):
    ends = []
    for l2, weight_decay in ((0.3, 0.0), (0.0, 0.3)):
        weights = parameters()
        optimizer = torch.optim.SGD(weights, 0.1, momentum, weight_decay=weight_decay)
        for _ in range(20):
            optimizer.zero_grad()
            sum(w.cos().sum() for w in weights).backward()
            losses.add_penalty_gradients(weights, 0.0, l2)
            optimizer.step()
        ends.append(torch.cat([w.detach().flatten() for w in weights]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-6)
    assert (ends[0] - torch.cat([w.detach().flatten() for w in parameters()])).abs().max() > 0.1
