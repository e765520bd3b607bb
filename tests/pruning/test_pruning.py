"""Pruning against slow loops, and by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrsc import models, pruning
from lrsc.datasets import Split

CASES = [("column", "global"), ("magnitude", "global"), ("magnitude", "layer")]
cases = pytest.mark.parametrize(("method", "scope"), CASES)
methods = pytest.mark.parametrize("method", pruning.METHODS)


class Residual(nn.Module):
    """A small ResNet: changes its stem's output in place, ends on maps of 2 x 2 and 1 x 1."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True))
        self.same = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.short = nn.Conv2d(8, 12, 1, stride=2, bias=False)
        self.small = nn.Conv2d(12, 12, 3, padding=1)
        self.point = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        x += self.norm(self.same(x))
        x = F.relu(self.down(x) + self.short(x))
        x = F.relu(self.small(F.max_pool2d(x, 2)))
        return self.head(self.point(x).flatten(1))


class Attention(nn.Module):
    """A prunable layer inside another: out_proj of the attention, used through its weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 2, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.first(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1) * 20)


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 6, 5, stride=2), nn.ReLU(), nn.Conv1d(6, 8, 5), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 26, 10),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 15), nn.ReLU(), nn.Dropout(0.5), nn.Linear(15, 11),
        nn.BatchNorm1d(11), nn.ReLU(), nn.Linear(11, 10),
    )  # fmt: skip


def fcn() -> nn.Module:
    return models.build("fcn", (3, 8, 8), 10, hidden=(30, 20))


NETWORKS = {"fcn": fcn, "mlp": mlp, "residual": Residual, "conv1d": conv1d, "attention": Attention}
every_network = pytest.mark.parametrize("network", NETWORKS)


def make(network: str = "residual", seed: int = 0) -> nn.Module:
    """A network with random weights and random running statistics, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = NETWORKS[network]()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.3)
                nn.init.normal_(module.bias, 0.0, 0.3)
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return net


def images(n: int = 50) -> Split:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    constants = {"mean": torch.tensor([0.5, 0.4, 0.6]), "std": torch.tensor([0.2, 0.3, 0.1])}
    return Split(x, torch.arange(n) % 10, **constants)


def diagonal() -> tuple[nn.Module, Split]:
    """Sample k is right while unit k, of norm k + 1, is alive; else class 4 is predicted."""
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 5))
    with torch.no_grad():
        net[0].weight.copy_(torch.diag(torch.arange(1.0, 5.0)))
        net[1].weight.copy_(torch.eye(5, 4))
        net[1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5]))
    return net, Split(torch.eye(4), torch.arange(4))


# -- what is pruned ---------------------------------------------------------------------------


def test_first_convolution_and_classifier_are_left_alone():
    assert list(pruning.prunable(make("residual"))) == [
        "same.weight", "down.weight", "short.weight", "small.weight", "point.weight",
    ]  # fmt: skip


def test_the_first_linear_layer_of_a_linear_network_is_pruned():
    assert list(pruning.prunable(make("fcn"))) == ["1.weight", "3.weight"]


def test_prunable_weights_are_the_models_own():
    net = make("fcn")
    assert pruning.prunable(net)["1.weight"] is net[1].weight


def test_the_convolutions_of_resnet18_but_the_first():
    with torch.device("meta"):
        found = pruning.prunable(models.build("resnet18", (3, 28, 28), 10))
    assert len(found) == 19  # 20 convolutions, three of them in shortcuts
    assert "conv1.weight" not in found and "layer2.0.downsample.0.weight" in found
    assert sum(w.numel() for w in found.values()) == 11_157_504


@cases
@pytest.mark.parametrize("network", ["residual", "mlp", "conv1d"])
def test_everything_else_keeps_its_values(network, method, scope):
    net = make(network)
    pruned = pruning.prune(net, 0.7, method, scope).state_dict()
    weights = list(pruning.prunable(net))
    biases = [n.replace("weight", "bias") for n in weights] if method == "column" else []
    changed = [n for n, value in net.state_dict().items() if not torch.equal(value, pruned[n])]
    assert set(weights) <= set(changed) <= {*weights, *biases}


# -- how much is pruned, and which ------------------------------------------------------------


def slow_masks(weights: dict[str, np.ndarray], kappa: float, method: str, scope: str) -> dict:
    """Zero masks by sorting (score, place) pairs one by one."""
    masks = {name: np.zeros(w.shape, bool) for name, w in weights.items()}
    if method == "column":
        for name, w in weights.items():
            norms = [(math.sqrt((row.astype(float) ** 2).sum()), i) for i, row in enumerate(w)]
            for _, i in sorted(norms)[: round(kappa * len(w))]:
                masks[name][i] = True
        return masks
    units = [
        (abs(float(v)), layer, place, name)
        for layer, (name, w) in enumerate(weights.items())
        for place, v in enumerate(w.flatten())
    ]
    groups = [units]
    if scope == "layer":
        groups = [[u for u in units if u[3] == name] for name in weights]
    for group in groups:
        for _, _, place, name in sorted(group)[: round(kappa * len(group))]:
            masks[name].flat[place] = True
    return masks


@cases
@pytest.mark.parametrize("kappa", [0.0, 0.1, 0.35, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("network", ["residual", "fcn"])
def test_pruned_weights_are_those_of_a_slow_loop(network, kappa, method, scope):
    net = make(network)
    weights = {n: w.detach().numpy() for n, w in pruning.prunable(net).items()}
    masks = slow_masks(weights, kappa, method, scope)
    found = pruning.prunable(pruning.prune(net, kappa, method, scope))
    for name, w in weights.items():
        np.testing.assert_array_equal(found[name].detach(), np.where(masks[name], 0, w))


@pytest.mark.parametrize(
    ("outputs", "kappa", "zero"),
    [(10, 0.1, 1), (10, 0.3, 3), (10, 0.7, 7), (10, 0.05, 0), (10, 0.16, 2), (5, 0.5, 2),
     (7, 0.5, 4), (1, 0.4, 0), (1, 0.9, 1), (200, 0.29, 58)],
)  # fmt: skip
@cases
def test_exactly_the_rounded_share_is_zero(outputs, kappa, zero, method, scope):
    net = nn.Sequential(nn.Linear(1, outputs), nn.Linear(outputs, 2))
    pruned = pruning.prune(net, kappa, method, scope)
    assert int((pruned[0].weight == 0).sum()) == zero
    assert pruning.sparsity_of(pruned) == zero / outputs


@methods
def test_at_a_tie_the_first_are_pruned(method):
    net = nn.Sequential(nn.Linear(1, 40, bias=False), nn.Linear(40, 2))
    nn.init.constant_(net[0].weight, -0.25)
    pruned = pruning.prune(net, 0.6, method)
    assert (pruned[0].weight == 0).flatten().tolist() == [True] * 24 + [False] * 16


def test_global_magnitude_compares_layers_and_per_layer_does_not():
    net = nn.Sequential(*(nn.Linear(10, 10, bias=False) for _ in range(3)))
    with torch.no_grad():
        net[0].weight.uniform_(1, 2)
        net[1].weight.uniform_(3, 4)
    together, apart = (pruning.prune(net, 0.5, "magnitude", scope) for scope in pruning.SCOPES)
    assert [int((layer.weight == 0).sum()) for layer in together] == [100, 0, 0]
    assert [int((layer.weight == 0).sum()) for layer in apart] == [50, 50, 0]


def test_column_norms_are_l2():
    net = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 2))
    with torch.no_grad():  # L1 norms 4 and 3, L2 norms 2 and 3
        net[0].weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, 0.0, 0.0, 0.0]]))
    assert pruning.prune(net, 0.5)[0].weight.sum(1).tolist() == [0.0, 3.0]


def test_biases_go_with_their_columns_only():
    net = make("mlp")
    column, magnitude = (pruning.prune(net, 0.5, method) for method in pruning.METHODS)
    dead = (column[1].weight == 0).all(1)
    assert int(dead.sum()) == 8  # round(7.5)
    assert torch.equal(column[1].bias == 0, dead)
    assert torch.equal(magnitude[1].bias, net[1].bias)


@cases
def test_kappa_0_changes_nothing_and_1_leaves_nothing(method, scope):
    net = make("residual")
    for name, value in pruning.prune(net, 0.0, method, scope).state_dict().items():
        assert torch.equal(value, net.state_dict()[name])
    assert pruning.sparsity_of(net) == 0.0
    assert pruning.sparsity_of(pruning.prune(net, 1.0, method, scope)) == 1.0


@cases
def test_the_model_itself_is_not_changed(method, scope):
    net = make("residual")
    before = copy.deepcopy(net.state_dict())
    pruned = pruning.prune(net, 0.5, method, scope)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert net.training and pruned.training


def test_the_copy_can_be_trained():
    net = make("mlp")
    pruned = pruning.prune(net, 0.5)
    pruned(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in pruned.parameters())
    assert all(p.grad is None for p in net.parameters())


@cases
def test_more_pruning_keeps_what_less_pruning_set_to_zero(method, scope):
    net = make("residual")
    less, more = (pruning.prunable(pruning.prune(net, k, method, scope)) for k in (0.3, 0.6))
    assert all(((less[n] != 0) | (more[n] == 0)).all() for n in less)


def test_weights_that_are_nan_are_pruned_last():
    net = nn.Sequential(nn.Linear(1, 4, bias=False), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[math.nan], [2.0], [1.0], [math.inf]]))
    assert (pruning.prune(net, 0.75)[0].weight == 0).flatten().tolist() == [False, True, True, True]


# -- what is left of the accuracy -------------------------------------------------------------


@torch.inference_mode()
def plain_predictions(net: nn.Module, split: Split, kappas, method: str, scope: str):
    pruned = [pruning.prune(net, kappa, method, scope).eval() for kappa in kappas]
    return torch.stack([p(split.inputs(split.x)).argmax(1) for p in pruned])


@cases
@every_network
def test_the_curve_is_the_accuracy_of_pruned_networks(network, method, scope):
    net, split, kappas = make(network), images(600), (0.0, 0.2, 0.5, 0.9, 1.0)
    x = split.inputs(split.x)
    models.representation(net, x[:8])  # which layer is the classifier is known from now on
    expected = []
    for kappa in kappas:
        right = pruning.prune(net, kappa, method, scope).eval()(x).argmax(1) == split.y
        expected.append(int(right.sum()) / 600)
    assert pruning.pruning_curve(net, split, kappas, method, scope).tolist() == expected
    assert len(set(expected)) > 1


@methods
def test_the_model_is_evaluated_in_eval_mode_and_left_as_it_was(method):
    net = make("mlp")
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    first = pruning.pruning_curve(net, images(), method=method)
    assert torch.equal(first, pruning.pruning_curve(net.eval(), images(), method=method))
    net.train()
    assert pruning.prunability(net, images(), method=method) >= 0
    assert net.training and all(m.training for m in net.modules())
    assert all(torch.equal(v, before[n]) for n, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_column_pruning_curve_by_hand():
    net, split = diagonal()
    curve = pruning.pruning_curve(net, split)
    assert curve.dtype == torch.float64
    assert curve.tolist() == [1.0, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25, 0.25, 0.0]


def test_magnitude_pruning_curve_by_hand():
    net, split = diagonal()  # 12 of 16 weights are 0
    assert pruning.pruning_curve(net, split, (0.7, 0.8, 0.9), "magnitude").tolist() == [
        1,
        0.75,
        0.5,
    ]


def test_prunability_by_hand():
    net, split = diagonal()
    assert pruning.prunability(net, split) == pytest.approx(4.5 / 9)
    assert pruning.prunability(net, split, method="magnitude") == pytest.approx(8.25 / 9)
    assert pruning.prunability(net, split, (0.5, 1.0)) == pytest.approx(0.25)


def test_prunability_is_relative_to_the_accuracy_before():
    net, split = diagonal()
    split.y[0] = 1  # sample 0, pruned first, was wrong all along
    assert pruning.prunability(net, split) == pytest.approx(4.25 / 9 / 0.75)


def test_prunability_is_nan_where_nothing_was_right():
    net, split = diagonal()
    split.y.copy_((split.y + 1) % 4)
    assert math.isnan(pruning.prunability(net, split))


def test_default_ratios_are_a_tenth_to_nine_tenths():
    assert pruning.KAPPAS == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    net, split = make("residual"), images()
    assert torch.equal(
        pruning.pruning_curve(net, split), pruning.pruning_curve(net, split, pruning.KAPPAS)
    )


# -- what is refused --------------------------------------------------------------------------

CALLS = {
    "prune": lambda net, kappa, **options: pruning.prune(net, kappa, **options),
    "curve": lambda net, kappa, **options: pruning.pruning_curve(
        net, images(5), [kappa], **options
    ),
    "prunability": lambda net, kappa, **options: pruning.prunability(
        net, images(5), [kappa], **options
    ),
}
every_call = pytest.mark.parametrize("call", CALLS)


@every_call
@pytest.mark.parametrize("kappa", [-0.1, 1.01, math.nan])
def test_kappa_outside_0_to_1_is_refused(call, kappa):
    with pytest.raises(ValueError, match=r"kappa must be a share in \[0, 1\], found"):
        CALLS[call](make("fcn"), kappa)


@every_call
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "colunm"}, "unknown pruning method 'colunm'.*'column'.*magnitude"),
        ({"scope": "layers"}, "unknown pruning scope 'layers'.*'layer'.*global"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(call, options, says):
    with pytest.raises(ValueError, match=says):
        CALLS[call](make("fcn"), 0.5, **options)


@every_call
@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(192, 10)),
        nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 10)),
    ],
)
def test_a_network_without_prunable_layers_is_refused(call, net):
    with pytest.raises(ValueError, match="nothing to prune.*expected at least one more"):
        CALLS[call](net, 0.5)


def test_a_network_without_classifier_is_refused():
    with pytest.raises(ValueError, match="classifier"):
        pruning.prunable(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)))


def test_a_weight_computed_from_others_is_refused():
    net = make("mlp")
    nn.utils.parametrizations.weight_norm(net[1])
    with pytest.raises(ValueError, match="layer '1' is computed from other parameters"):
        pruning.prunable(net)


@pytest.mark.parametrize("measure", [pruning.pruning_curve, pruning.prunability])
def test_no_kappas_and_no_samples_are_refused(measure):
    net, split = make("fcn"), images(3)
    with pytest.raises(ValueError, match="kappas is empty"):
        measure(net, split, [])
    with pytest.raises(ValueError, match="split holds 0 samples"):
        measure(net, split.take(torch.arange(0)))


@pytest.mark.parametrize("network", ["fcn", "residual"])
def test_inputs_that_the_model_does_not_take_are_refused(network):
    split = Split(torch.zeros(4, 1, 5, 5, dtype=torch.uint8), torch.arange(4))
    with pytest.raises(ValueError, match=r"does not take inputs of shape \(1, 5, 5\)"):
        pruning.pruning_curve(make(network), split)


def test_curves_of_several_networks_are_those_of_each(digits):
    torch.manual_seed(0)
    nets = [models.build("fcn", digits.input_shape, 10, hidden=hidden) for hidden in [(24, 16)] * 3]
    for method in pruning.METHODS:
        found = pruning.pruning_curves(nets, digits.test, (0.0, 0.3, 0.7), method)
        assert found.shape == (3, 3) and found.dtype == torch.float64
        for net, curve in zip(nets, found, strict=True):
            for kappa, accuracy in zip((0.0, 0.3, 0.7), curve, strict=True):
                pruned = pruning.prune(net, kappa, method)
                predicted = models.predict(pruned, digits.test).argmax(1)
                assert float(accuracy) == pytest.approx(
                    float((predicted == digits.test.y).double().mean()), abs=2 / len(digits.test)
                )
