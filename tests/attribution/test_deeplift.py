"""DeepLIFT: closed forms, the sum to the difference on every model, captum where it agrees."""

import captum.attr
import pytest
import torch
from torch import nn

import lrsc
from lrsc.attribution import completeness_error, deeplift, integrated_gradients
from lrsc.attribution.deeplift import ACTIVATIONS


def inputs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def settled(name, shape=(3, 28, 28)):
    """A model of the paper in double precision, with batch statistics that are not 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = lrsc.models.build(name, shape, 10).double().train()
        with torch.no_grad():
            for _ in range(2):
                net(inputs(20, *shape, seed=7))
    return net


def test_a_linear_model_attributes_weight_times_input():
    net = nn.Linear(5, 3).double()
    x, y, start = inputs(6, 5), torch.arange(6) % 3, inputs(6, 5, seed=1)
    assert torch.allclose(deeplift(net, x, y), x * net.weight[y])
    assert torch.allclose(deeplift(net, x, y, baseline=start), (x - start) * net.weight[y])


def test_one_activation_has_the_rescale_rule():
    """Logit relu(2 x0 - x1 + 1): the out-difference, shared as the weighted inputs are."""
    net = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, -1.0]]))
        net[0].bias.fill_(1.0)
        net[2].weight.copy_(torch.tensor([[1.0], [3.0]]))
    x = torch.tensor([[1.0, 1.0], [-2.0, 0.5], [0.0, 0.0]]).double()
    found = deeplift(net, x, torch.tensor([0, 1, 0]))
    # before the ReLU: 2, -3.5 and 1 against the reference's 1; after it 2, 0, 1 against 1
    expected = torch.tensor([[2.0, -1.0], [3 * -4 * (-1 / -4.5), 3 * -0.5 * (-1 / -4.5)], [0, 0]])
    assert torch.allclose(found, expected.double())


@pytest.mark.parametrize("name", ["fcn", "cnn", "resnet18", "resnet50"])
def test_values_sum_to_the_difference_of_the_logits(name):
    net = settled(name)
    x, y, start = inputs(4, 3, 28, 28), torch.tensor([1, 5, 5, 9]), inputs(1, 3, 28, 28, seed=3)
    for baseline in (None, start):
        found = deeplift(net, x, y, batch=3, baseline=baseline)
        assert found.shape == x.shape
        error = completeness_error(net, x, y, found, baseline)
        assert error.shape == (4,) and float(error.max()) < 1e-8 * float(found.abs().sum())


def test_the_error_of_completeness_is_told():
    net = settled("fcn")
    x, y = inputs(3, 3, 28, 28), torch.tensor([0, 1, 2])
    found = deeplift(net, x, y)
    spoilt = found.clone()
    spoilt[1, 0, 0, 0] += 0.25
    assert torch.allclose(
        completeness_error(net, x, y, spoilt), torch.tensor([0, 0.25, 0.0]).double(), atol=1e-9
    )
    quadrature = integrated_gradients(net, x, y, steps=200)
    assert float(completeness_error(net, x, y, quadrature).max()) < 2e-2


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda kind: kind.__name__)
def test_every_activation_is_complete(kind):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 8), kind(), nn.Linear(8, 6), kind(), nn.Linear(6, 3)).double()
    x, y = 2 * inputs(9, 4), torch.arange(9) % 3
    assert float(completeness_error(net, x, y, deeplift(net, x, y)).max()) < 1e-10


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 1), (3, 2)])
def test_overlapping_windows_of_max_pooling_are_complete(size, stride):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(size, stride, padding=1),
        nn.Flatten(), nn.LazyLinear(4),
    )  # fmt: skip
    net(torch.zeros(1, 2, 9, 9))
    net.double()
    x, y = inputs(5, 2, 9, 9), torch.arange(5) % 4
    for baseline in (None, inputs(5, 2, 9, 9, seed=4)):
        found = deeplift(net, x, y, baseline=baseline)
        assert float(completeness_error(net, x, y, found, baseline).max()) < 1e-10


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")  # as captum always says
def test_it_is_captums_where_captum_takes_the_network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    ).double().eval()  # fmt: skip
    x, y, start = inputs(6, 3, 8, 8), torch.arange(6) % 3, inputs(6, 3, 8, 8, seed=5)
    expected = captum.attr.DeepLift(net).attribute(
        x.clone().requires_grad_(), baselines=start, target=y
    )
    assert torch.allclose(deeplift(net, x, y, baseline=start), expected, atol=1e-10)


def test_the_model_is_left_as_it_was():
    net = settled("resnet18")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x, y = inputs(2, 3, 28, 28), torch.tensor([0, 1])
    reference = lrsc.models.evaluate(net, x)
    with torch.no_grad():
        deeplift(net, x, y)
    assert net.training and net.relu.inplace and isinstance(net.relu, nn.ReLU)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(lrsc.models.evaluate(net, x), reference)


def test_the_size_of_the_passes_changes_nothing():
    net = settled("cnn")
    x, y = inputs(5, 3, 28, 28), torch.arange(5)
    assert torch.allclose(deeplift(net, x, y, batch=2), deeplift(net, x, y), atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"y": torch.tensor([0, 3])}, "labels from 0 to 2"),
        ({"x": torch.zeros(2, 4, dtype=torch.int64)}, "floating-point inputs"),
        ({"x": torch.zeros(2, 5).double()}, "inputs of shape"),
        ({"batch": 0}, "batch must be a whole number >= 1"),
        ({"baseline": torch.zeros(3, 4).double()}, "baseline has shape"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    given = {"x": torch.zeros(2, 4).double(), "y": torch.tensor([0, 1])} | arguments
    with pytest.raises(ValueError, match=words):
        deeplift(nn.Linear(4, 3).double(), **given)
