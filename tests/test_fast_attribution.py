"""The parts that Integrated Gradients use: the same outputs, and nothing taken apart wrongly."""

import copy

import pytest
import torch
from torch import nn

import lrsc
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
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "cnn", "fcn", "swin_t"])
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


class CalledTwice(UsedTwice):
    """The same convolution before the normalisation and without it."""

    def forward(self, x):
        return self.head((self.norm(self.conv(x)) + self.conv(-x)).mean((2, 3)))


@pytest.mark.parametrize("kind", [UsedTwice, CalledTwice])
def test_a_convolution_that_is_used_twice_is_not_folded(kind):
    torch.manual_seed(0)
    x = torch.randn(8, 3, 8, 8)
    net = trained_statistics(kind(), 3 * x + 2)
    parts = prepared(net, x)
    assert any(isinstance(m, nn.BatchNorm2d) for m in parts.rest.modules())
    torch.testing.assert_close(parts.logits(x), net(x))


class InTwoPlaces(nn.Module):
    """The inputs themselves reach the logits too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, x):
        return self.head((self.conv(x) * x).mean((2, 3)))


class Squared(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).square()


class Branching(nn.Module):
    """torch.fx cannot follow what depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 8)

    def forward(self, x):
        return self.conv(x).flatten(1) * (2 if x.sum() > 0 else 3)


class Frozen(nn.Module):
    """No gradient goes through the convolution, which torch.fx does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 2, 8), nn.Linear(192, 2)

    def forward(self, x):
        with torch.no_grad():
            frozen = self.conv(x).flatten(1)
        return frozen + self.head(x.flatten(1))


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten())
    net[0].register_forward_hook(lambda module, given, out: out.square())
    return net


def squared() -> nn.Module:
    return nn.Sequential(Squared(3, 2, 8), nn.Flatten())


@pytest.mark.parametrize("build", [InTwoPlaces, Branching, Frozen, hooked, squared])
def test_what_is_not_sure_to_be_affine_stays_in_the_rest(build):
    torch.manual_seed(0)
    x = torch.randn(6, 3, 8, 8)
    net = build()
    parts = prepared(net, x)
    assert not list(parts.first.parameters())
    found, expected = outputs_and_gradients(parts.logits, x), outputs_and_gradients(net, x)
    torch.testing.assert_close(found, expected)


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
def test_a_product_over_many_samples_is_that_of_matrices(n, wanted):
    torch.manual_seed(0)
    matrix = torch.randn(7, 5, dtype=torch.float64, requires_grad=wanted)
    x = torch.randn(n, 5, dtype=torch.float64, requires_grad=True)
    found, expected = product(x, matrix), x @ matrix.T
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    for of in (x, matrix) if wanted else (x,):
        pair = [torch.autograd.grad((v * weights).sum(), of, retain_graph=True)[0]
                for v in (found, expected)]  # fmt: skip
        torch.testing.assert_close(*pair)
