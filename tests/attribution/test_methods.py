"""captum's methods by name: closed forms, captum itself, and what is refused."""

import contextlib

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

import lrsc
from lrsc.attribution import deeplift, entropy, maps, share


def small() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(64, 3),
        ).train()  # fmt: skip


@contextlib.contextmanager
def seeded():
    """GradientShap draws from both generators."""
    np.random.seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


def images(n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(n) % 3


def test_a_linear_model_has_its_weights_as_saliency():
    net = nn.Linear(6, 3)
    x, y = torch.randn(4, 6), torch.tensor([2, 0, 1, 2])
    assert torch.equal(maps(net, x, y, "Saliency"), net.weight[y])
    assert torch.equal(maps(net, x, y, "Saliency", abs=True), net.weight[y].abs())
    for method in ("InputXGradient", "IntegratedGradients", "FeatureAblation"):
        found = maps(net, x, y, method)
        assert torch.allclose(found, x * net.weight[y], atol=1e-6) and not found.requires_grad


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("InputXGradient", {}),
        ("Occlusion", {"sliding_window_shapes": (3, 2, 2), "strides": (3, 2, 2)}),
        ("GradientShap", {"baselines": torch.zeros(2, 3, 6, 6), "n_samples": 4}),
    ],
)
def test_they_are_captums_and_the_model_is_left_as_it_was(method, options, off):
    net, (x, y) = small(), images()
    net[5].weight.grad = torch.ones(3, 64)
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    with off(), seeded():
        found = maps(net, x * 1, y, method, **options)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(net[5].weight.grad, torch.ones(3, 64)) and net[0].bias.grad is None
    assert found.shape == x.shape and not found.requires_grad and not x.requires_grad
    with seeded():
        theirs = getattr(captum.attr, method)(net.eval())
        expected = theirs.attribute(x.clone().requires_grad_(), target=y, **options)
    torch.testing.assert_close(found, expected.detach())
    assert found.min() < 0 < found.max()
    assert entropy(found).isfinite().all()
    inside = share(found, torch.arange(6) < 2)
    assert ((inside > 0) & (inside < 1)).all()


def test_a_layer_of_the_model_may_be_an_option():
    net, (x, y) = small(), images()
    found = maps(net, x, y, "GuidedGradCam", layer=net[0])
    assert found.shape == x.shape and not net[0]._forward_hooks
    with pytest.raises(ValueError, match=r"returns shape \(5, 1, 4, 4\), expected that of x"):
        maps(net, x, y, "LayerGradCam", layer=net[0])
    neuron = maps(net, x, y, "NeuronGradient", layer=net[5], neuron_selector=2)
    assert torch.equal(neuron, maps(net, x, torch.full_like(y, 2), "Saliency"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "salency"}, "unknown method 'salency'. Did you mean 'Saliency'?"),
        ({"method": "Attribution"}, "unknown method 'Attribution'"),
        ({"method": None}, "unknown method None"),
        ({"abss": True}, "unknown option of Saliency 'abss'. Did you mean 'abs'?"),
        ({"target": 1}, "unknown option of Saliency 'target'"),
        ({"method": "Occlusion"}, "method='Occlusion' needs sliding_window_shapes"),
        (
            {"method": "GradientShap"},
            "'GradientShap' needs baselines: see captum.attr.GradientShap",
        ),
        ({"method": "Occlusion", "sliding_window_shapes": (9, 9)}, "captum's Occlusion refuses"),
        ({"y": torch.tensor([0, 3])}, "labels from 0 to 2"),
        ({"x": torch.zeros(2, 3, 6, 6, dtype=torch.uint8)}, "floating-point inputs"),
    ],
)
def test_bad_arguments_are_named(given, words):
    x, y = images(2)
    with pytest.raises(ValueError, match=words):
        maps(**{"model": small(), "x": x, "y": y, "method": "Saliency"} | given)


def test_captum_refuses_networks_that_our_deeplift_takes():
    net = lrsc.models.build("resnet18", (3, 28, 28), 3)
    x, y = torch.randn(2, 3, 28, 28), torch.tensor([0, 2])
    with pytest.raises(ValueError, match=r"captum's DeepLift refuses this: .*more than once"):
        maps(net, x, y, "DeepLift")
    assert deeplift(net, x, y).shape == x.shape
