"""The faster copy that integrated gradients use: the same outputs, and no wrong folding."""

import copy

import pytest
import torch
from torch import nn

import lrsc
from lrsc.attribution.fast import prepared


def trained_statistics(net: nn.Module, x: torch.Tensor) -> nn.Module:
    with torch.no_grad():
        net.train()(x)
    return net.eval()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "cnn"])
def test_outputs_and_gradients_are_those_of_the_network(name):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    net = trained_statistics(lrsc.models.build(name, (3, 32, 32), 5).double(), x)
    before = copy.deepcopy(net.state_dict())
    fast = prepared(net, x)
    torch.testing.assert_close(fast(x), net(x), rtol=1e-9, atol=1e-9)
    grads = []
    for model in (net, fast):
        v = x.clone().requires_grad_()
        grads.append(torch.autograd.grad(model(v)[:, 0].sum(), v)[0])
    torch.testing.assert_close(*grads, rtol=1e-7, atol=1e-9)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    assert norms == 0
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


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
    fast = prepared(net, x)
    assert any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    torch.testing.assert_close(fast(x), net(x))


def test_what_gains_nothing_is_left_as_it_is():
    net = lrsc.models.build("fcn", (3, 8, 8), 3)
    assert prepared(net, torch.zeros(1, 3, 8, 8)) is net
    assert prepared(net, torch.zeros(1, 192)) is net
