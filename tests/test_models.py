"""Models: shapes, layers, representation, errors."""

import pytest
import torch
from torch import nn

from lrsc import models


def test_fcn_has_no_biases_and_torchs_default_initialisation():
    torch.manual_seed(0)
    net = models.build("fcn", (3, 28, 28), 10)
    layers = [m for m in net if isinstance(m, nn.Linear)]
    assert [tuple(m.weight.shape) for m in layers] == [(1024, 2352), (1024, 1024), (10, 1024)]
    assert all(m.bias is None for m in layers)
    bound = 2352**-0.5
    weight = layers[0].weight.detach()
    assert float(weight.abs().max()) <= bound * 1.0001 and float(weight.std()) == pytest.approx(
        bound / 3**0.5, rel=0.01
    )


def test_widths_by_option_and_by_data_set():
    net = models.build("fcn", (5,), 2, hidden=(7, 8, 9))
    assert [tuple(p.shape) for p in net.parameters()] == [(7, 5), (8, 7), (9, 8), (2, 9)]
    assert models.options_for("fcn", "parity") == {"hidden": (200, 200)}
    assert models.options_for("fcn", "colored_mnist") == {}


@pytest.mark.parametrize("channels", [1, 3])
def test_resnet18_is_torchvisions_with_a_new_head(channels):
    net = models.build("resnet18", (channels, 28, 28), 10)
    assert net.conv1.in_channels == channels and net.conv1.stride == (2, 2)
    assert net.fc.out_features == 10
    assert models.evaluate(net, torch.zeros(2, channels, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "shape", "width"), [("fcn", (3, 8, 8), 1024), ("resnet18", (3, 28, 28), 512)]
)
def test_representation_is_the_input_of_the_classifier(name, shape, width):
    torch.manual_seed(0)
    net = models.build(name, shape, 10).train()
    x = torch.randn(4, *shape)
    z, logits = models.penultimate(net, x)
    assert z.shape == (4, width) and (z >= 0).all()  # after the activation
    assert torch.allclose(models.classifier(net)(z), logits, atol=1e-5)
    assert torch.equal(models.representation(net, x), z)
    assert net.training  # left as found
    assert torch.equal(logits, models.evaluate(net, x))


def test_representation_leaves_batch_norm_alone():
    net = models.build("resnet18", (3, 28, 28), 10).train()
    before = net.bn1.running_mean.clone()
    models.representation(net, torch.randn(4, 3, 28, 28))
    assert torch.equal(net.bn1.running_mean, before)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"kernel_size": 3, "padding": 1}, [(1, 1), (2, 2), (1, 2), (2, 3), (5, 4)]),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, [(1, 1), (2, 2), (2, 1), (3, 3), (4, 4)]),
        ({"kernel_size": 3}, [(3, 3), (4, 3)]),
        ({"kernel_size": 1}, [(1, 1), (2, 2)]),
        ({"kernel_size": 1, "stride": 2}, [(1, 1), (2, 2)]),
        ({"kernel_size": (5, 3), "padding": (2, 0)}, [(1, 3), (3, 3), (3, 4), (6, 6)]),
        ({"kernel_size": 3, "padding": 2, "dilation": 2}, [(1, 1), (2, 2), (5, 5)]),
        ({"kernel_size": 3, "padding": "same"}, [(1, 1), (2, 2), (4, 4)]),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, [(2, 2), (4, 4)]),
        ({"kernel_size": 3, "padding": 1, "groups": 2}, [(2, 2), (4, 4)]),
    ],
)
def test_small_map_convolution_is_torchs_with_its_gradients(options, sizes, bias):
    ours = models.SmallMapConv2d(4, 6, bias=bias, **options).double()
    torchs = nn.Conv2d(4, 6, bias=bias, **options).double()
    torchs.load_state_dict(ours.state_dict())
    for size in sizes:
        x = torch.randn(7, 4, *size, dtype=torch.float64)
        found, expected = ours(x), torchs(x)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        out = torch.randn_like(found)
        for left, right in zip(
            torch.autograd.grad(found, list(ours.parameters()), out),
            torch.autograd.grad(expected, list(torchs.parameters()), out),
            strict=True,
        ):
            torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


def test_a_models_weights_follow_the_callers_seed():
    torch.manual_seed(1)
    one = models.build("fcn", (4,), 2, hidden=(3,))
    torch.manual_seed(1)
    two = models.build("fcn", (4,), 2, hidden=(3,))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "words"),
    [
        ("resnet81", (3, 28, 28), 10, {}, "'resnet18'"),
        ("fcn", (3, 28, 28), 10, {"widths": (3,)}, "'widths'.*hidden"),
        ("fcn", (3, 28, 28), 1, {}, "n_classes"),
        ("fcn", (), 10, {}, "input_shape"),
        ("fcn", (3, 0, 28), 10, {}, "input_shape"),
        ("fcn", (3, 28, 28), 10, {"hidden": ()}, "hidden"),
        ("fcn", (3, 28, 28), 10, {"hidden": (0,)}, "hidden"),
        ("resnet18", (20,), 2, {}, "images"),
    ],
)
def test_errors_name_the_argument(name, shape, classes, options, words):
    with pytest.raises(ValueError, match=words):
        models.build(name, shape, classes, **options)


def test_a_model_without_a_linear_layer_is_refused():
    with pytest.raises(ValueError, match="no nn.Linear"):
        models.representation(nn.Conv2d(3, 3, 3), torch.zeros(1, 3, 8, 8))
