"""Attributions against closed forms, completeness and captum; entropy and shares by hand."""

import math

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

import lrsc
from lrsc.attribution import entropy, integrated_gradients, share


class Polynomial(nn.Module):
    """Logit k is sum_ij A_kij x_i x_j + sum_i (c_ki x_i)^4 + 1."""

    def __init__(self, d: int = 5, classes: int = 3):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(classes, d, d, generator=generator).double())
        self.c = nn.Parameter(torch.randn(classes, d, generator=generator).double())

    def forward(self, x):
        quadratic = torch.einsum("ni,kij,nj->nk", x, self.a, x)
        return quadratic + (self.c * x[:, None]).pow(4).sum(2) + 1


def convolutional(activation=nn.Tanh, dropout: float = 0.0) -> nn.Module:
    """Images 3 x 6 x 6 -> 4 logits, with biases and BatchNorm; in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), activation(), nn.Flatten(),
            nn.Dropout(dropout), nn.Linear(80, 4),
        )  # fmt: skip
        net[1].running_mean.normal_()
        net[1].running_var.uniform_(0.5, 2)
    return net


def images(n: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    return x, torch.arange(n) % 4


# -- integrated gradients ---------------------------------------------------------------------


def test_a_linear_model_attributes_weight_times_input():
    net = nn.Linear(6, 3)
    x, y = torch.randn(4, 6), torch.tensor([2, 0, 1, 2])
    found = integrated_gradients(net, x, y)
    assert found.shape == x.shape and found.dtype == x.dtype
    assert torch.allclose(found, x * net.weight[y], atol=1e-6)
    start = torch.randn(4, 6)
    moved = integrated_gradients(net, x, y, baseline=start)
    assert torch.allclose(moved, (x - start) * net.weight[y], atol=1e-6)


@pytest.mark.parametrize("steps", [2, 3, 50])
def test_a_polynomial_of_degree_4_is_exact_from_two_steps_on(steps):
    net = Polynomial()
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(3)).double()
    y = torch.tensor([0, 1, 2, 2, 1, 0])
    symmetric = (net.a + net.a.transpose(1, 2)) / 2
    expected = x * torch.einsum("nij,nj->ni", symmetric[y], x) + (net.c[y] * x) ** 4
    found = integrated_gradients(net, x, y, steps=steps)
    assert found.dtype == torch.float64
    assert torch.allclose(found, expected, rtol=1e-7)  # captum's weights are float32


def test_one_step_is_the_gradient_half_way():
    net = Polynomial()
    x, y = torch.ones(1, 5).double(), torch.tensor([1])
    symmetric = (net.a + net.a.transpose(1, 2)) / 2
    expected = symmetric[1].sum(1) + 4 * net.c[1] ** 4 / 8
    assert torch.allclose(integrated_gradients(net, x, y, steps=1)[0], expected)


@pytest.mark.parametrize("shape", [(), (6, 6), (3, 1, 1), (1, 3, 6, 6), (7, 3, 6, 6)])
def test_they_sum_to_the_logit_minus_that_at_the_baseline(shape):
    net, (x, y) = convolutional(), images()
    start = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    found = integrated_gradients(net, x, y, baseline=start)
    net.eval()
    difference = (net(x) - net(start.expand_as(x)))[torch.arange(7), y]
    assert torch.allclose(found.sum((1, 2, 3)), difference, atol=1e-4)


@pytest.mark.parametrize("n", [3, 7])
@pytest.mark.parametrize("batch", [1, 3, 20, 100, 1000])
def test_batches_change_nothing_but_roundoff(batch, n):
    net, (x, y) = convolutional(nn.ReLU), images(n)
    start = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(5))
    sizes = []
    net.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    found = integrated_gradients(net, x, y, batch=batch, baseline=start, steps=20)
    assert max(sizes) == min(batch, n * 20)
    whole = integrated_gradients(net, x, y, batch=10**6, baseline=start, steps=20)
    assert torch.allclose(found, whole, atol=1e-6)


def test_half_precision_is_the_callers_choice():
    net, (x, y) = convolutional(nn.ReLU), images()
    whole = integrated_gradients(net, x, y)
    with torch.autocast("cpu", torch.bfloat16):
        half = integrated_gradients(net, x, y)
    assert half.dtype == torch.float32
    alike = torch.cosine_similarity(half.flatten(1), whole.flatten(1))
    assert not torch.equal(half, whole) and alike.min() > 0.98


@pytest.mark.parametrize(("side", "most"), [(6, 400), (32, 400), (64, 100), (224, 8)])
def test_larger_inputs_go_through_in_smaller_batches(side, most):
    sizes = []
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    net.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    n = most // 50 + 1
    integrated_gradients(net, torch.ones(n, 3, side, side), torch.zeros(n, dtype=torch.long))
    assert max(sizes) == most


@pytest.mark.parametrize("model", ["resnet18", "fcn", "own"])
def test_they_are_those_of_captum(model, digits):
    if model == "own":
        net, (x, y) = convolutional(nn.ReLU), images()
    else:
        with torch.random.fork_rng():
            torch.manual_seed(6)
            net = lrsc.models.build(model, digits.input_shape, 10)
        x, y = digits.train.inputs(digits.train.x[:2]), digits.train.y[:2]
    found = integrated_gradients(net, x, y, steps=10)
    expected = captum.attr.IntegratedGradients(net.eval()).attribute(x, target=y, n_steps=10)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_the_model_is_in_eval_mode_and_left_as_it_was():
    net, (x, y) = convolutional(dropout=0.5), images()
    net[1].eval()  # a user's own choice
    net[5].weight.grad = torch.ones(4, 80)
    net[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random, modes = torch.get_rng_state(), [m.training for m in net.modules()]
    first = integrated_gradients(net, x, y)
    assert torch.equal(first, integrated_gradients(net, x, y))
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(net[5].weight.grad, torch.ones(4, 80)) and net[0].bias.grad is None
    assert not net[0].weight.requires_grad


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_they_are_found_where_gradients_are_switched_off(off):
    net, (x, y) = convolutional(), images()
    expected = integrated_gradients(net, x, y)
    with off():
        found = integrated_gradients(net, x * 1, y)
    assert torch.equal(found, expected)
    x.requires_grad_()
    assert not integrated_gradients(net, x, y).requires_grad and x.grad is None


# -- entropy and share ------------------------------------------------------------------------


def slow_map(a: np.ndarray) -> list[float]:
    """|sum over channels| of one sample, in the order of its places."""
    if a.ndim == 1:
        return [abs(float(v)) for v in a]
    channels, height, width = a.shape
    return [
        abs(sum(float(a[c, i, j]) for c in range(channels)))
        for i in range(height) for j in range(width)
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (4, 1, 5, 2), (4, 9)])
def test_entropy_and_share_against_a_slow_loop(shape):
    rng = np.random.default_rng(0)
    a = rng.normal(size=shape)
    mask = rng.random((shape[0], 1, *shape[2:]) if len(shape) == 4 else shape) < 0.4
    entropies, shares = [], []
    for one, region in zip(a, mask, strict=True):
        size = slow_map(one)
        parts = [v / sum(size) for v in size]
        entropies.append(-sum(p * math.log(p) for p in parts))
        shares.append(sum(p for p, inside in zip(parts, region.ravel(), strict=True) if inside))
    a, mask = torch.from_numpy(a), torch.from_numpy(mask)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        for found, expected in ((entropy(a.to(dtype)), entropies), (share(a, mask), shares)):
            assert found.shape == (4,) and found.tolist() == pytest.approx(expected, rel=tolerance)
    assert entropy(a.float()).dtype == share(a.float(), mask).dtype == torch.float32
    assert entropy(a).dtype == torch.float64


def test_entropy_by_hand():
    maps = torch.zeros(4, 2, 3, 4)
    maps[0] = -2.5  # uniform
    maps[1, 0, 1, 2] = -7  # one place
    maps[2, :, 0, 0], maps[2, 0, 2, 3] = 1.0, -6.0  # a quarter and three quarters
    maps[3, 0, :2], maps[3, 1, :2] = 1.0, -1.0  # channels that cancel
    maps[3, 1, 2] = 0.5
    three_quarters = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    expected = [math.log(12), 0.0, three_quarters, math.log(4)]
    assert entropy(maps).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-38, -1.0, 1e38])
def test_the_scale_does_not_matter(scale):
    a = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(7))
    mask = torch.arange(4) < 2
    assert torch.allclose(entropy(a * scale), entropy(a), rtol=1e-5)
    assert torch.allclose(share(a * scale, mask), share(a, mask), rtol=1e-5)


def test_share_by_hand():
    a = torch.tensor(
        [[[[1.0, -2.0]], [[1.0, 0.0]]], [[[0.0, 3.0]], [[0.0, -1.0]]]]
    )  # 2 x 2 x 1 x 2
    assert share(a, torch.tensor([True, False])).tolist() == [0.5, 0.0]
    assert share(a, torch.tensor([False, False])).tolist() == [0.0, 0.0]
    vectors = torch.tensor([[1.0, -3.0, 0.0], [0.0, 0.0, -2.0]])
    assert share(vectors, torch.tensor([[True, False, True]])).tolist() == [0.25, 1.0]
    own = torch.tensor([[False, True, False], [True, False, False]])
    assert share(vectors, own).tolist() == [0.75, 0.0]


@pytest.mark.parametrize("shape", [(4, 5), (1, 5), (3, 4, 5), (1, 1, 4, 5), (6, 1, 4, 1), ()])
def test_shares_of_regions_that_cover_all_sum_to_one(shape):
    a = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(8))
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(9)) < 0.5
    if shape == (3, 4, 5):
        mask = mask[:1].expand(3, 4, 5)
    inside, outside = share(a, mask), share(a, ~mask)
    assert torch.allclose(inside + outside, torch.ones(6))
    full = mask.expand(6, 3, 4, 5)[:, 0]
    expected = (a.sum(1).abs() * full).sum((1, 2)) / a.sum(1).abs().sum((1, 2))
    assert torch.allclose(inside, expected)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_a_map_of_zeros_or_not_finite_is_nan_and_its_neighbours_are_not(bad):
    a = torch.ones(2, 1, 2, 2)
    a[0] = 0.0
    a[0, 0, 1, 1] = bad
    top = torch.tensor([[True], [False]])
    for found in (entropy(a), share(a, top), share(a, ~top)):
        assert math.isnan(found[0]) and not math.isnan(found[1])


# -- what is refused --------------------------------------------------------------------------


class Detached(nn.Linear):
    def forward(self, x):
        return super().forward(x).detach()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": torch.zeros(2, 3, 6, 6, dtype=torch.uint8)}, "x holds torch.uint8.*split.inputs"),
        ({"x": torch.zeros(3)}, r"shape \(3,\), expected the floating-point inputs"),
        ({"x": torch.zeros(0, 3, 6, 6)}, "x is empty"),
        ({"x": torch.zeros(2, 3, 9, 9)}, r"does not take inputs of shape \(3, 9, 9\)"),
        ({"y": torch.tensor([0, 4])}, "y holds labels from 0 to 4, expected labels from 0 to 3"),
        ({"y": torch.tensor([-1, 2])}, "labels from -1 to 2"),
        ({"y": torch.tensor([1])}, r"y has shape \(1,\), expected one label a sample, \(2,\)"),
        ({"y": torch.zeros(2)}, "y holds torch.float32, expected whole-number labels"),
        ({"y": 1}, "y is a int"),
        ({"y": None}, "y is None"),
        ({"steps": 0}, "steps must be a whole number >= 1, found 0"),
        ({"steps": 2.5}, "steps must be"),
        ({"batch": True}, "batch must be a whole number >= 1, found True"),
        ({"baseline": torch.zeros(2, 3)}, r"baseline has shape \(2, 3\).*\(2, 3, 6, 6\)"),
        ({"baseline": torch.zeros(5, 2, 3, 6, 6)}, "baseline has shape"),
        ({"model": nn.Conv2d(3, 4, 3)}, r"returns shape \(1, 4, 4, 4\).*one logit a class"),
        ({"model": nn.Sequential(nn.Flatten(), Detached(108, 4))}, "logits have no gradient"),
    ],
)
def test_bad_arguments_are_named(given, words):
    x, y = images(2)
    arguments = {"model": convolutional(), "x": x, "y": y} | given
    with pytest.raises(ValueError, match=words):
        integrated_gradients(**arguments)


@pytest.mark.parametrize("function", [entropy, lambda a: share(a, torch.tensor(True))])
def test_attributions_of_other_shapes_are_refused(function):
    with pytest.raises(ValueError, match=r"a has shape \(3, 4, 4\).*take a\[None\]"):
        function(torch.ones(3, 4, 4))
    with pytest.raises(ValueError, match="a is empty"):
        function(torch.ones(0, 3, 4, 4))
    with pytest.raises(ValueError, match="a is a list"):
        function([1.0])


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (None, "mask is None.*core_mask"),
        (torch.ones(4, 4), "mask holds torch.float32, expected bool; use mask > 0"),
        (torch.ones(2, 4, 4, dtype=torch.bool), r"mask has shape \(2, 4, 4\).*\(2, 3, 4, 4\)"),
        (torch.ones(5, 1, 4, 4, dtype=torch.bool), r"mask has shape \(5, 1, 4, 4\)"),
        (torch.ones(1, 2, 3, 4, 4, dtype=torch.bool), "mask has shape"),
        (torch.eye(3, 4, dtype=torch.bool)[:, None], "mask differs between channels"),
    ],
)
def test_bad_masks_are_named(mask, words):
    with pytest.raises(ValueError, match=words):
        share(torch.ones(2, 3, 4, 4), mask)
