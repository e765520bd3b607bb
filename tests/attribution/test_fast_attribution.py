"""The parts that Integrated Gradients use: the same outputs, and nothing taken apart wrongly."""

import copy

import captum.attr
import pytest
import torch
from torch import nn

import lrsc
from lrsc.attribution.convolution import FixedConv2d
from lrsc.attribution.fast import prepared
from lrsc.models.convolution import ROWS, product


def trained_statistics(net: nn.Module, x: torch.Tensor) -> nn.Module:
    with torch.no_grad():
        net.train()(x)
    return net.eval()


def outputs_and_gradients(function, x):
    v = x.clone().requires_grad_()
    logits = function(v)
    return logits.detach(), torch.autograd.grad(logits[:, 0].sum(), v)[0]


@pytest.mark.parametrize("side", [28, 32])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "cnn", "fcn"])
def test_outputs_and_gradients_are_those_of_the_network(name, side):
    torch.manual_seed(0)
    x = torch.randn(4, 3, side, side, dtype=torch.float64)
    net = trained_statistics(lrsc.models.build(name, (3, side, side), 5).double(), x)
    before = copy.deepcopy(net.state_dict())
    parts = prepared(net, x)
    assert sum(p.numel() for p in parts.first.parameters()) > 0
    found, expected = outputs_and_gradients(parts.logits, x), outputs_and_gradients(net, x)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in parts.rest.modules())
    assert isinstance(parts.pool, nn.MaxPool2d) == (name != "fcn" and (name, side) != ("cnn", 28))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("pooled", [True, False])
def test_on_the_way_the_first_layers_are_interpolated(pooled):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 28, 28, dtype=torch.float64)
    net = trained_statistics(lrsc.models.build("resnet18", (3, 28, 28), 5).double(), x)
    parts = prepared(net, x)
    assert isinstance(parts.pool, nn.MaxPool2d)
    start = torch.zeros_like(x) if pooled else torch.randn_like(x)
    rest, a, b = parts.on_the_way(start, x)
    assert (rest is parts.rest) == pooled and a.shape[2:] == ((7, 7) if pooled else (14, 14))
    for t in (0.001, 0.3, 0.999):
        torch.testing.assert_close(rest(a + t * b), net(start + t * (x - start)))


class UsedTwice(nn.Module):
    """What the convolution gives goes on beside the normalisation too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        y = self.conv(x)
        return self.head((y + self.norm(y)).mean((2, 3)))


def test_a_convolution_that_is_used_twice_is_not_folded():
    torch.manual_seed(0)
    x = torch.randn(8, 3, 8, 8)
    net = trained_statistics(UsedTwice(), 3 * x + 2)
    parts = prepared(net, x)
    assert any(isinstance(m, nn.BatchNorm2d) for m in parts.rest.modules())
    torch.testing.assert_close(parts.logits(x), net(x))


class Squared(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).square()


def small(first: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(first or nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))


def hooked() -> nn.Module:
    net = small()
    net[0].register_forward_hook(lambda module, given, out: out.square())
    return net


def replaced() -> nn.Module:
    net = small()
    forward = net[0].forward
    net[0].forward = lambda x: forward(x.square())
    return net


def heir() -> nn.Module:
    return small(Squared(3, 2, 3))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = small()

    def forward(self, x):
        return self.layers(x) + x.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize("build", [hooked, replaced, heir, Own])
def test_what_is_not_sure_to_be_affine_stays_in_the_rest(build):
    torch.manual_seed(0)
    x = torch.randn(6, 3, 8, 8)
    net = build()
    parts = prepared(net, x)
    assert not list(parts.first.parameters())
    found, expected = outputs_and_gradients(parts.logits, x), outputs_and_gradients(net, x)
    torch.testing.assert_close(found, expected)


def test_global_hooks_that_change_layers_are_noticed():
    x, net = torch.randn(6, 3, 8, 8), small()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, out: out.square() if isinstance(module, nn.Conv2d) else None
    )
    try:
        assert not list(prepared(net, x).first.parameters())
    finally:
        handle.remove()


def test_what_gains_nothing_is_left_as_it_is():
    net = lrsc.models.build("fcn", (192,), 3)
    assert prepared(net, torch.zeros(1, 192)).rest is net
    with torch.autocast("cpu", torch.bfloat16):
        assert not list(prepared(small(), torch.zeros(1, 3, 8, 8)).first.parameters())


class Counting(nn.Module):
    """Notes how many points come by."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.sizes.append(len(x))
        return x


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize(("batch", "n"), [(1, 2), (7, 3), (20, 5), (40, 5), (10**6, 5)])
def test_batches_of_the_parts_change_nothing_but_roundoff(batch, n, zeros):
    torch.manual_seed(0)
    counting = Counting()
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        counting, nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    x, y = torch.randn(n, 3, 8, 8), torch.arange(n) % 3
    start = torch.zeros(3, 8, 8) if zeros else torch.randn(n, 3, 8, 8)
    parts = prepared(trained_statistics(net, x), x)
    assert isinstance(parts.pool, nn.MaxPool2d) and len(list(parts.first.parameters())) == 2
    whole = lrsc.attribution.integrated_gradients(net, x, y, 20, 10**7, start)
    counting.sizes.clear()
    found = lrsc.attribution.integrated_gradients(net, x, y, 20, batch, start)
    assert max(counting.sizes) == min(batch, 20 * n)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)
    expected = captum.attr.IntegratedGradients(net).attribute(x, start.expand_as(x), y, n_steps=20)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_labels_and_baselines_may_come_from_inference_mode():
    x, net = torch.randn(4, 3, 8, 8), small()
    with torch.inference_mode():
        y, start = net(x).argmax(1), x.flip(0)
        found = lrsc.attribution.integrated_gradients(net, x, y, baseline=start)
    expected = lrsc.attribution.integrated_gradients(net, x, y.clone(), baseline=start.clone())
    assert torch.equal(found, expected)


def test_a_resnet_whose_forward_is_patched_is_not_taken_apart(monkeypatch):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 28, 28)
    net = trained_statistics(lrsc.models.build("resnet18", (3, 28, 28), 5), x)
    forward = type(net)._forward_impl
    monkeypatch.setattr(type(net), "_forward_impl", lambda self, v: forward(self, v.tanh()))
    assert not list(prepared(net, x).first.parameters())
    monkeypatch.undo()
    assert list(prepared(net, x).first.parameters())
    net._forward_impl = lambda v: forward(net, v.tanh())
    assert not list(prepared(net, x).first.parameters())


def test_sums_are_not_made_in_half_precision():
    torch.manual_seed(0)
    layer = lrsc.models.SmallMapConv2d(16, 16, 3, padding=1)
    net = nn.Sequential(layer, nn.SiLU(), nn.Flatten(), nn.Linear(256, 3))
    x, y = torch.randn(8, 16, 4, 4), torch.arange(8) % 3
    whole = lrsc.attribution.integrated_gradients(net, x, y)
    with torch.autocast("cpu", torch.bfloat16):
        half = lrsc.attribution.integrated_gradients(net, x, y)
    assert (half - whole).norm() < 0.01 * whole.norm()


def test_layers_that_mix_samples_stay_in_the_rest():
    net = nn.Sequential(nn.Flatten(0, 1), nn.Unflatten(0, (-1, 3)), nn.Flatten(), nn.Linear(192, 3))
    x, y = torch.randn(5, 3, 8, 8), torch.arange(5) % 3
    found = lrsc.attribution.integrated_gradients(net, x, y)
    torch.testing.assert_close(found, x * net[3].weight[y].view(5, 3, 8, 8))


@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU(inplace=True)])
@pytest.mark.parametrize("first", [True, False])
def test_in_place_activations_may_come_first(relu, first):
    layers = [relu, nn.Conv2d(3, 4, 3), relu, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)]
    torch.manual_seed(0)
    net = nn.Sequential(*(layers if first else layers[1:]))
    x, y = torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    found = lrsc.attribution.integrated_gradients(net, x, y, steps=200)
    error = lrsc.attribution.completeness_error(net, x, y, found)
    assert error.max() < 0.02 * found.abs().sum((1, 2, 3)).max()


@pytest.mark.parametrize("n", [3, ROWS])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_product_over_many_samples_is_that_of_matrices(n, wanted, dtype):
    torch.manual_seed(0)
    matrix = torch.randn(7, 5, dtype=dtype, requires_grad=wanted)
    x = torch.randn(n, 5, dtype=dtype, requires_grad=True)
    found, expected = product(x, matrix), x @ matrix.T
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    for of in (x, matrix) if wanted else (x,):
        pair = [
            torch.autograd.grad((v * weights).sum(), of, retain_graph=True)[0]
            for v in (found, expected)
        ]
        torch.testing.assert_close(*pair)


@pytest.mark.parametrize("n", [3, ROWS])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"bias": False}, {"stride": 2}, {"padding": 0}, {"kernel_size": 1, "padding": 0},
        {"kernel_size": 1, "padding": 0, "stride": 2}, {"groups": 2}, {"padding_mode": "circular"},
        {"kernel_size": 1, "stride": 2}, {"dilation": 2, "padding": 2}, {"padding": "same"},
    ],
)  # fmt: skip
def test_a_convolution_whose_weights_stay_is_that_of_torch(options, side, n):
    options = {"kernel_size": 3, "padding": 1} | options
    if (options["kernel_size"], options["padding"]) == (3, 0):
        side = max(side, 3)  # the map must hold the kernel
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, **options)
    fixed = lrsc.models.SmallMapConv2d(4, 6, **options)
    fixed.load_state_dict(plain.state_dict())
    FixedConv2d.take_over(fixed)
    x = torch.randn(n, 4, side, side)
    for layout in (torch.contiguous_format, torch.channels_last):
        v = x.clone(memory_format=layout).requires_grad_()
        w = x.double().requires_grad_()
        found, expected = fixed(v), copy.deepcopy(plain).double()(w)
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
        weights = torch.randn_like(found)
        (gradient,) = torch.autograd.grad((found * weights).sum(), v)
        (exact,) = torch.autograd.grad((expected * weights).sum(), w)
        torch.testing.assert_close(gradient, exact.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "side"), [("resnet18", 28), ("resnet50", 32)])
def test_many_points_in_single_precision_are_those_of_double(name, side):
    """So many that products over small maps are convolutions, some of them of sums."""
    torch.manual_seed(0)
    x = torch.randn(ROWS, 3, side, side)
    net = trained_statistics(lrsc.models.build(name, (3, side, side), 5), x)
    found = prepared(net, x).logits(x)
    torch.testing.assert_close(
        found, copy.deepcopy(net).double()(x.double()).float(), rtol=1e-3, atol=1e-4
    )
