"""Integrated Gradients of networks that begin with linear layers, and what hinders taking apart."""

import captum.attr
import pytest
import torch
from torch import nn

import lrsc
from lrsc.attribution.integrated import _apart


@pytest.mark.parametrize("name", ["fcn", "linear"])
def test_linear_layers_that_come_first_are_taken_apart(name):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    if name == "fcn":
        net = lrsc.models.build("fcn", (3, 8, 8), 5)
    x = torch.randn(4, 3, 8, 8)
    first, rest = _apart(net, x)
    assert [type(m) for m in first] == [nn.Flatten, nn.Linear] and len(rest) == len(net) - 2
    torch.testing.assert_close(rest(first(x)), net(x))


class Squared(nn.Linear):
    def forward(self, x):
        return super().forward(x).square()


def small(first: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), first or nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, 2))


def hooked() -> nn.Module:
    net = small()
    net[1].register_forward_hook(lambda module, given, out: out.square())
    return net


def hooked_as_a_whole() -> nn.Module:
    net = small()
    net.register_forward_hook(lambda module, given, out: out.square())
    return net


def replaced() -> nn.Module:
    net = small()
    forward = net[1].forward
    net[1].forward = lambda x: forward(x.square())
    return net


def heir() -> nn.Module:
    return small(Squared(192, 7))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = small()

    def forward(self, x):
        return self.layers(x) + x.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize("build", [hooked, hooked_as_a_whole, replaced, heir, Own])
def test_what_is_not_sure_to_be_linear_stays_in_the_rest(build):
    torch.manual_seed(0)
    x, y = torch.randn(6, 3, 8, 8), torch.arange(6) % 2
    net = build()
    first, _ = _apart(net, x)
    assert not list(first.parameters())
    found = lrsc.attribution.integrated_gradients(net, x, y)
    expected = captum.attr.IntegratedGradients(net).attribute(x, target=y)
    torch.testing.assert_close(found, expected)


def test_global_hooks_that_change_layers_are_noticed():
    x, net = torch.randn(6, 3, 8, 8), small()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, out: out.square() if isinstance(module, nn.Linear) else None
    )
    try:
        assert not list(_apart(net, x)[0].parameters())
    finally:
        handle.remove()


def test_in_half_precision_nothing_is_taken_apart():
    net, x = small(), torch.zeros(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert _apart(net, x)[1] is net


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
def test_batches_change_nothing_but_roundoff(batch, n, zeros):
    torch.manual_seed(0)
    counting = Counting()
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(192, 20), counting, nn.ReLU(inplace=True), nn.Linear(20, 3)
    )
    x, y = torch.randn(n, 3, 8, 8), torch.arange(n) % 3
    start = torch.zeros(3, 8, 8) if zeros else torch.randn(n, 3, 8, 8)
    assert len(list(_apart(net, x)[0].parameters())) == 2
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
