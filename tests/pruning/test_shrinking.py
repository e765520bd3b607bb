"""Shrinking against the pruned network, against counts by loops, and by hand."""

import copy
import math
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lrsc
from lrsc import pruning
from lrsc.pruning.cost import costs


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 with a shortcut, as in ResNet50; changes tensors in place."""

    def __init__(self, c_in: int, c: int, c_out: int, stride: int):
        super().__init__()
        sizes = [(c_in, c, 1, 1), (c, c, 3, stride), (c, c_out, 1, 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, k, stride=s, padding=k // 2, bias=False) for a, b, k, s in sizes
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _, _ in sizes)
        self.short = nn.Sequential(
            nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out)
        )

    def forward(self, x):
        y = F.relu(self.norms[0](self.convs[0](x)), inplace=True)
        y = F.relu(self.norms[1](self.convs[1](y)))
        y = self.norms[2](self.convs[2](y))
        y += self.short(x)
        return y.relu_()


class Dense(nn.Module):
    """Concatenation, SiLU, an unpadded pool, a mean over places; a bias everywhere."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.left = nn.Conv2d(6, 8, 3, padding=1)
        self.right = nn.Conv2d(6, 7, 1)
        self.norm = nn.BatchNorm2d(15)
        self.wide = nn.Conv2d(15, 9, 3, padding="same", padding_mode="reflect")
        self.head = nn.Linear(9, 10)

    def forward(self, x):
        x = F.silu(self.first(x))
        x = torch.cat([self.left(x), self.right(x)], dim=1)
        x = F.avg_pool2d(F.silu(self.norm(x)), 2)
        return self.head(torch.sigmoid(self.wide(x)).mean((2, 3)))


class Tokens(nn.Module):
    """Linear layers on N x T x d, GELU, a residual sum around a LayerNorm: as in Swin."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 20), nn.Linear(20, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.head(x.mean(1))


class Shuffle(nn.Module):
    """Channels change places between two convolutions: no operation that is followed."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3)
        self.third, self.head = nn.Conv2d(12, 12, 1), nn.Linear(12, 10)

    def forward(self, x):
        x = F.relu(self.second(self.first(x)))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(F.relu(self.third(x)).mean((2, 3)))


def cnn() -> nn.Module:
    """Convolutions and linear layers without biases; the flattened map is 2 x 2."""
    conv = lambda a, b: nn.Conv2d(a, b, 3, padding=1, bias=False)  # noqa: E731
    return nn.Sequential(
        conv(3, 8), nn.ReLU(), nn.MaxPool2d(2), conv(8, 16), nn.ReLU(True), nn.MaxPool2d(2),
        conv(16, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(64, 20, bias=False), nn.ReLU(), nn.Linear(20, 10, bias=False),
    )  # fmt: skip


def residual() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), Bottleneck(8, 6, 16, 1),
        Bottleneck(16, 8, 24, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 6, 5, stride=2), nn.Tanh(), nn.Conv1d(6, 8, 5, padding=2),
        nn.BatchNorm1d(8), nn.Sigmoid(), nn.AvgPool1d(3, padding=1), nn.Flatten(),
        nn.Linear(8 * 42, 10),
    )  # fmt: skip


NETWORKS = {
    "fcn": lambda: lrsc.models.build("fcn", (3, 16, 16), 10, hidden=(30, 20)),
    "cnn": cnn, "residual": residual, "dense": Dense, "tokens": Tokens, "shuffle": Shuffle,
    "conv1d": conv1d,
}  # fmt: skip
RESNET18 = {"resnet18": lambda: lrsc.models.build("resnet18", (3, 16, 16), 10)}


def make(network: str, seed: int = 0) -> nn.Module:
    """A network in double precision whose BatchNorms send constants on."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = (NETWORKS | RESNET18)[network]().double()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.3)
                nn.init.normal_(module.bias, 0.0, 0.3)
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return net


def batch(n: int = 3, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, 3, size, size, generator=generator, dtype=torch.float64)


def shrink(net: nn.Module, kappa: float, **options) -> pruning.Shrunk:
    return pruning.shrink(net, kappa, batch(2), runs=1, **options)


def difference(one: nn.Module, other: nn.Module, x: torch.Tensor) -> float:
    """Largest difference of outputs in eval mode, as a share of the largest output."""
    a, b = (lrsc.models.evaluate(net, x) for net in (one, other))
    return float((a - b).abs().max() / b.abs().max())


# -- the outputs ------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_are_those_of_the_pruned_network(network, kappa):
    net = make(network)
    shrunk = shrink(net, kappa)
    assert difference(shrunk.model, pruning.prune(net, kappa), batch(7)) < 1e-12
    assert (shrunk.removed > 0) == (kappa > 0)


@pytest.mark.parametrize("network", NETWORKS)
def test_where_all_is_pruned_every_layer_keeps_an_output(network):
    net = make(network)
    shrunk, pruned = shrink(net, 1.0), pruning.prune(net, 1.0)
    found, expected = (lrsc.models.evaluate(n, batch()) for n in (shrunk.model, pruned))
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert shrunk.zeroed == 1.0 and 0 < shrunk.removed < 1
    assert all(len(p) for p in shrunk.model.parameters())


def test_in_single_precision_outputs_are_equal_to_its_roundoff():
    net = make("residual").float()
    assert difference(shrink(net, 0.5).model, pruning.prune(net, 0.5), batch().float()) < 1e-5


def test_a_shrunk_network_takes_images_of_another_size():
    net = make("residual")
    shrunk = shrink(net, 0.7)
    assert difference(shrunk.model, pruning.prune(net, 0.7), batch(2, size=27)) < 1e-12


def test_filters_that_single_weights_leave_empty_are_removed():
    net = make("dense")
    with torch.no_grad():  # with their biases, which magnitude pruning does not touch
        net.left.weight[:3] *= 1e-6
    shrunk = shrink(net, 0.6, method="magnitude")
    pruned = pruning.prune(net, 0.6, "magnitude")
    assert (pruned.left.weight[:3] == 0).all() and (pruned.left.bias[:3] != 0).all()
    assert shrunk.model.left.out_channels == 5
    assert difference(shrunk.model, pruned, batch()) < 1e-12


def test_torchvisions_resnet50():
    import torchvision

    net = torchvision.models.resnet50(num_classes=10)
    x = batch(2, size=32).float()
    shrunk = pruning.shrink(net, 0.9, x, runs=1)
    assert difference(shrunk.model, pruning.prune(net, 0.9), x) < 1e-5
    assert shrunk.after.parameters < 0.1 * shrunk.before.parameters


# -- constants, by hand -----------------------------------------------------------------------


def constant_senders(reader: nn.Module) -> nn.Sequential:
    """Four filters, of which 1, 2 and 3 are zero and send 3, 0 and 1.5 to the reader (layer 4)."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.Conv2d(2, 4, 1, bias=False), nn.BatchNorm2d(4, eps=0), nn.ReLU(),
        reader, nn.Flatten(),
    ).double().eval()  # fmt: skip
    norm = net[2]
    with torch.no_grad():
        net[1].weight[1:] = 0
        norm.weight.copy_(torch.tensor([1.0, 2.0, 1.0, 1.0]))
        norm.bias.copy_(torch.tensor([0.5, 1.0, -1.0, 0.5]))
        norm.running_mean.copy_(torch.tensor([0.0, -2.0, 0.0, -2.0]))
        norm.running_var.copy_(torch.tensor([1.0, 4.0, 1.0, 4.0]))  # 1 + 2 * 2 / 2 = 3
    return net.append(nn.Linear(net(batch()[:, :1, :5, :5]).shape[1], 2).double().eval())


def shrink_gray(net: nn.Module) -> pruning.Shrunk:
    return pruning.shrink(net, 0.0, batch()[:, :1, :5, :5], runs=1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options", [{"kernel_size": 1}, {"kernel_size": 3}, {"kernel_size": 3, "padding": "valid"}]
)
def test_constants_go_into_the_bias_of_an_unpadded_convolution(options, bias):
    reader = nn.Conv2d(4, 5, bias=bias, **options)
    net = constant_senders(reader)
    shrunk = shrink_gray(net)
    weight = reader.weight.detach()
    expected = weight[:, 1].sum((1, 2)) * 3 + weight[:, 3].sum((1, 2)) * 1.5
    expected += reader.bias.detach() if bias else 0
    assert shrunk.carriers == 0 and shrunk.model[4].in_channels == 1
    assert torch.allclose(shrunk.model[4].bias, expected, rtol=0, atol=1e-14)
    assert torch.equal(shrunk.model[4].weight, weight[:, :1])
    assert difference(shrunk.model, net, batch()[:, :1, :5, :5]) < 1e-13


def test_constants_go_into_the_bias_of_a_linear_layer_place_by_place():
    net = constant_senders(nn.AvgPool2d(3, stride=2, padding=1))  # constants differ at the border
    shrunk, last = shrink_gray(net), net[-1]
    share = torch.tensor([[4, 6, 4], [6, 9, 6], [4, 6, 4]]).double() / 9  # of 9 taps, on the map
    weight = last.weight.detach().view(2, 4, 3, 3)
    expected = last.bias.detach() + (3 * weight[:, 1] * share + 1.5 * weight[:, 3] * share).sum(
        (1, 2)
    )
    assert torch.allclose(shrunk.model[-1].bias, expected, rtol=0, atol=1e-14)
    assert shrunk.model[-1].in_features == 9 and shrunk.model[1].out_channels == 1
    assert difference(shrunk.model, net, batch()[:, :1, :5, :5]) < 1e-13


@pytest.mark.parametrize("padding", [1, "same", (0, 2)])
def test_a_padded_convolution_keeps_the_largest_constant_for_all(padding):
    reader = nn.Conv2d(4, 5, 3, padding=padding)
    net = constant_senders(reader)
    shrunk = shrink_gray(net)
    weight = reader.weight.detach()
    assert shrunk.carriers == 1 and shrunk.model[1].out_channels == 2
    assert torch.equal(shrunk.model[4].bias, reader.bias)
    assert torch.allclose(shrunk.model[4].weight[:, 1], weight[:, 1] + weight[:, 3] / 2)
    assert (shrunk.model[1].weight[1] == 0).all()  # filter 1, which sends 3
    assert difference(shrunk.model, net, batch()[:, :1, :5, :5]) < 1e-13
    assert shrunk.zeroed == 3 / 9 and shrunk.removed == 2 / 9


def test_no_carrier_is_needed_where_every_constant_is_zero():
    net = constant_senders(nn.Conv2d(4, 5, 3, padding=1))
    net[2].bias.data.fill_(-10.0)
    shrunk = shrink_gray(net)
    assert shrunk.carriers == 0 and shrunk.model[1].out_channels == 1


def test_padding_that_repeats_the_map_needs_no_carrier():
    net = constant_senders(nn.Conv2d(4, 5, 3, padding=1, padding_mode="circular"))
    shrunk = shrink_gray(net)
    assert shrunk.carriers == 0 and shrunk.model[1].out_channels == 1
    assert difference(shrunk.model, net, batch()[:, :1, :5, :5]) < 1e-13


def test_a_constant_that_differs_from_place_to_place_stays():
    pool = nn.AvgPool2d(3, stride=2, padding=1)
    net = constant_senders(nn.Sequential(pool, nn.Conv2d(4, 5, 1)))
    shrunk = shrink_gray(net)
    assert shrunk.model[4][1].in_channels == 3  # all but filter 2, which sends 0
    assert difference(shrunk.model, net, batch()[:, :1, :5, :5]) < 1e-13


def test_batchnorms_keep_the_values_of_the_channels_that_stay():
    net = constant_senders(nn.Conv2d(4, 5, 3, padding=1))
    norm = shrink_gray(net).model[2]
    assert norm.num_features == 2
    for key in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(getattr(norm, key), getattr(net[2], key)[:2])


# -- what is removed --------------------------------------------------------------------------


def test_shares_by_hand():
    net = make("cnn")  # 16, 16 and 20 units may be pruned: 8, 8, 10; no constants, no sums
    shrunk = shrink(net, 0.5)
    assert shrunk.zeroed == shrunk.removed == 26 / 52
    widths = [m.weight.shape[:2] for m in shrunk.model if hasattr(m, "weight")]
    assert [tuple(w) for w in widths] == [(8, 3), (8, 8), (8, 8), (10, 32), (10, 10)]
    assert shrink(net, 0.0).zeroed == shrink(net, 0.0).removed == 0


class Sum(nn.Module):
    """head(relu(one(x) + two(x))) of a first convolution's maps."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.one, self.two = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3, bias=False)
        self.head = nn.Linear(6, 10)

    def forward(self, x):
        x = self.first(x)
        return self.head(F.adaptive_avg_pool2d(F.relu(self.one(x) + self.two(x)), 1).flatten(1))


def test_channels_of_a_sum_go_where_both_sides_are_zero():
    net = Sum().double()
    with torch.no_grad():
        net.one.weight[[0, 1, 2]] = 0
        net.two.weight[[1, 2, 5]] = 0
        net.one.bias[1] = 0.7  # of a filter that is gone: goes into the head's bias
        net.one.bias[2] = -0.7
    shrunk = shrink(net, 0.0)
    left = [0, 3, 4, 5]
    assert torch.equal(shrunk.model.one.weight, net.one.weight[left])
    assert torch.equal(shrunk.model.two.weight, net.two.weight[left])
    assert torch.allclose(shrunk.model.head.bias, net.head.bias + 0.7 * net.head.weight[:, 1])
    assert (shrunk.zeroed, shrunk.removed) == (6 / 12, 4 / 12)
    assert difference(shrunk.model, net, batch()) < 1e-13


def resnet18_removed(net: nn.Module) -> tuple[int, int]:
    """Filters that can go from a pruned ResNet18, and carriers: channel by channel, from its text.

    Within a block the zero filters go, but one where one of them sends more than 0. On a stage's
    sums (all but the first stage's, which the stem feeds) channels go where all filters are zero;
    the second block's first convolution and the next stage's read them under padding.
    """
    zero = lambda conv: (conv.weight == 0).flatten(1).all(1).numpy()  # noqa: E731
    sends = lambda norm: (  # noqa: E731
        norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps).sqrt()
    ).detach().numpy()  # fmt: skip
    removed = carriers = 0
    for i, stage in enumerate((net.layer1, net.layer2, net.layer3, net.layer4)):
        for block in stage:
            constants = sends(block.bn1)[zero(block.conv1)]
            carrier = bool((constants > 0).any())
            removed, carriers = removed + len(constants) - carrier, carriers + carrier
        if i == 0:
            continue
        (conv, norm), first, second = stage[0].downsample, stage[0], stage[1]
        after_first = np.maximum(sends(first.bn2) + sends(norm), 0)
        after_second = np.maximum(after_first + sends(second.bn2), 0)
        known = zero(conv) & zero(first.conv2)  # constant in front of the second block
        free = known & zero(second.conv2)
        read = [(known, after_first), (free.copy(), after_second)]
        for known, constants in read if i < 3 else read[:1]:
            strongest = np.where(free, constants, 0)
            if np.where(known & ~free, constants, 0).max() < 0.1 * strongest.max():
                free[strongest.argmax()] = False
                carriers += 1
        removed += 3 * int(free.sum())
    return removed, carriers


@pytest.mark.parametrize("kappa", [0.5, 0.8])
def test_counts_of_resnet18_are_those_of_a_loop(kappa):
    net = make("resnet18")
    shrunk = shrink(net, kappa)
    total = sum(len(w) for w in pruning.prunable(net).values())
    removed, carriers = resnet18_removed(pruning.prune(net, kappa))
    assert shrunk.zeroed == pytest.approx(kappa, abs=1e-3)  # widths are not multiples of 10
    assert difference(shrunk.model, pruning.prune(net, kappa), batch(3)) < 1e-12
    assert (round(shrunk.removed * total), shrunk.carriers) == (removed, carriers)


def test_filters_that_see_nothing_but_constants_go_too():
    net = make("fcn")
    with torch.no_grad():
        net[1].weight[:4] = 0
        net[3].weight[5, 4:] = 0  # reads the first four only
    shrunk = shrink(net, 0.0)
    assert (shrunk.model[1].out_features, shrunk.model[3].out_features) == (26, 19)
    assert (shrunk.zeroed, shrunk.removed) == (4 / 50, 5 / 50)
    assert difference(shrunk.model, net, batch()) < 1e-13


class Own(nn.Module):
    """A network around an operation of the user's."""

    def __init__(self, operation, features: int):
        super().__init__()
        self.first, self.hidden = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 16, 1)
        self.head = nn.Linear(features, 10)
        self.operation = operation

    def forward(self, x):
        return self.head(self.operation(self.hidden(self.first(x))).flatten(1))


OPERATIONS = {
    "comparison": (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), 16 * 256),
    "mean over channels": (lambda x: x.mean(1), 256),
    "mean over rows and channels": (lambda x: x.mean((1, 2), keepdim=True) + 1, 16),
    "fixed sizes": (lambda x: x.view(-1, 16 * 256), 16 * 256),
    "softmax": (lambda x: x.softmax(1), 16 * 256),
    "scaling by the width": (lambda x: x / x.size(1), 16 * 256),
}


@pytest.mark.parametrize("kappa", [0.5, 1.0])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_that_are_not_followed_change_nothing(operation, kappa):
    net = Own(*OPERATIONS[operation]).double()
    shrunk = shrink(net, kappa)
    assert shrunk.removed == 0 and shrunk.zeroed == kappa
    found, expected = (
        lrsc.models.evaluate(n, batch()) for n in (shrunk.model, pruning.prune(net, kappa))
    )
    assert torch.equal(found, expected)


def test_a_comparison_does_not_make_constant_what_follows():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Linear(768, 8), nn.Linear(8, 6), nn.Linear(6, 10)

        def forward(self, x):
            x = self.one(x.flatten(1))
            return self.head(F.relu(self.two(torch.where(x > 0, x, torch.zeros_like(x)))))

    net = Net().double()
    shrunk = shrink(net, 0.5)
    assert (shrunk.model.one.out_features, shrunk.model.two.out_features) == (8, 3)
    assert difference(shrunk.model, pruning.prune(net, 0.5), batch()) < 1e-13


def test_what_an_unknown_operation_reads_stays():
    net = make("shuffle")
    shrunk = shrink(net, 0.5)
    assert shrunk.model.second.out_channels == 12  # shuffled afterwards
    assert shrunk.model.third.out_channels == 6


@pytest.mark.parametrize("shared", ["called twice", "one weight", "read elsewhere"])
def test_layers_that_are_used_in_two_places_stay(shared):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(12, 12), nn.Linear(12, 12)
            if shared == "one weight":
                self.two.weight = self.one.weight
            self.third, self.head = nn.Linear(12, 12), nn.Linear(12, 10)

        def forward(self, x):
            x = F.relu(self.two(F.relu(self.one(x))))
            if shared == "called twice":
                x = F.relu(self.one(x))
            if shared == "read elsewhere":
                x = x + self.one.weight.sum() + self.two.weight.sum()
            return self.head(F.relu(self.third(x)))

    net, x = Net().double(), torch.randn(4, 12).double()
    shrunk = pruning.shrink(net, 0.5, x, runs=1)
    assert difference(shrunk.model, pruning.prune(net, 0.5), x) < 1e-13
    assert shrunk.model.one.weight.shape == (12, 12) and shrunk.model.third.out_features == 6


def test_a_grouped_convolution_keeps_its_channels():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1),
        nn.Flatten(), nn.Linear(8 * 14 * 14, 10),
    ).double()  # fmt: skip
    shrunk = shrink(net, 0.5)
    assert [len(shrunk.model[i].weight) for i in range(4)] == [8, 8, 8, 4]
    assert difference(shrunk.model, pruning.prune(net, 0.5), batch()) < 1e-13


def test_the_model_itself_and_the_generator_are_not_changed():
    net = make("residual")
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    shrunk = pruning.shrink(net, 0.5, (3, 16, 16), runs=1)
    assert net.training and not shrunk.model.training
    assert all(torch.equal(v, before[n]) for n, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_shrunk_network_can_be_trained_and_shrunk_again():
    net = make("residual")
    once = shrink(net, 0.5)
    once.model.train()(batch()).sum().backward()
    assert all(p.grad is not None for p in once.model.parameters())
    again = shrink(once.model, 0.0)
    assert again.removed == 0 and again.after.parameters == once.after.parameters


# -- what it costs ----------------------------------------------------------------------------


@pytest.mark.parametrize(("kappa", "one", "two"), [(0.0, 30, 20), (0.5, 15, 10), (0.9, 3, 2)])
def test_sizes_of_an_fcn_by_hand(kappa, one, two):
    shrunk = shrink(make("fcn"), kappa)
    weights = 768 * one + one * two + two * 10  # no biases; one product each a sample
    assert shrunk.before.parameters == shrunk.before.macs == 768 * 30 + 30 * 20 + 20 * 10
    assert shrunk.after.parameters == shrunk.after.macs == weights
    assert 8 * weights < shrunk.after.bytes < 8 * weights + 4000
    assert shrunk.before.seconds > 0 and shrunk.after.seconds > 0


def test_macs_of_convolutions_by_hand():
    shrunk = shrink(make("cnn"), 0.5)  # maps of 16, 8 and 4 pixels, biases nowhere
    c = lambda a, b, size: 9 * a * b * size**2  # noqa: E731
    before = c(3, 8, 16) + c(8, 16, 8) + c(16, 16, 4) + 64 * 20 + 200
    after = c(3, 8, 16) + c(8, 8, 8) + c(8, 8, 4) + 32 * 10 + 100
    assert (shrunk.before.macs, shrunk.after.macs) == (before, after)


def test_bytes_are_those_of_the_file(tmp_path):
    shrunk = shrink(make("residual"), 0.5)
    torch.save(shrunk.model.state_dict(), tmp_path / "weights.pt")
    assert shrunk.after.bytes == pytest.approx((tmp_path / "weights.pt").stat().st_size, rel=0.03)
    assert shrunk.after.bytes < shrunk.before.bytes


def test_times_are_taken_in_turns_and_the_median_counts(monkeypatch):
    clock, order = [0.0], []

    class Waits(nn.Module):
        def __init__(self, name, seconds):
            super().__init__()
            self.name, self.seconds = name, iter(seconds)

        def forward(self, x):
            order.append(self.name)
            clock[0] += next(self.seconds)
            return x

    monkeypatch.setattr("lrsc.pruning.cost.time.perf_counter", lambda: clock[0])
    a, b = Waits("a", [90, 90, 1, 5, 2, 0]), Waits("b", [90, 90, 7, 7, 50, 0])
    found = costs([a, b], torch.zeros(2, 3), runs=3)
    assert [cost.seconds for cost in found] == [2, 7]
    assert order[:10] == ["a", "b"] * 5


# -- saved and rebuilt ------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_a_saved_network_is_rebuilt_without_pickling_modules(network, tmp_path):
    shrunk, path = shrink(make(network), 0.7), tmp_path / "shrunk.pt"
    torch.save(shrunk.model.state_dict(), path)
    fresh = make(network, seed=1)
    rebuilt = pruning.rebuild(fresh, torch.load(path, weights_only=True))
    assert torch.equal(rebuilt(batch()), shrunk.model(batch()))
    assert fresh.training and not rebuilt.training
    assert difference(fresh, make(network, seed=1), batch()) == 0  # not changed
    for old, new in zip(shrunk.model.modules(), rebuilt.modules(), strict=True):
        assert old.extra_repr() == new.extra_repr() or old.bias is not None  # folded biases


def test_a_state_dict_of_other_layers_is_refused():
    found = make("cnn").state_dict()
    with pytest.raises(ValueError, match="state_dict does not fit the model.*ResNet"):
        pruning.rebuild(make("resnet18"), found)
    larger = nn.Sequential(nn.Linear(4, 5)).state_dict()
    with pytest.raises(ValueError, match="size mismatch"):
        pruning.rebuild(nn.Sequential(nn.Linear(3, 5)), larger)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(value):
    net = make("cnn")
    net[3].weight.data[2, 1, 0, 0] = value
    with pytest.raises(ValueError, match="parameter '3.weight' holds NaN or infinite.*diverged"):
        shrink(net, 0.5)


def test_a_path_that_depends_on_the_input_is_refused():
    class Branch(nn.Sequential):
        def forward(self, x):
            return super().forward(x if x.mean() > 0 else -x)

    net = Branch(nn.Flatten(), nn.Linear(768, 5), nn.Linear(5, 2)).double()
    with pytest.raises(ValueError, match="cannot be traced by torch.fx.*same path for every input"):
        shrink(net, 0.5)


class ByWidth(nn.Module):
    """Does with the number of its hidden units what no trace shows."""

    def __init__(self, stops: bool):
        super().__init__()
        self.hidden, self.head, self.stops = nn.Linear(768, 6), nn.Linear(6, 2), stops

    def forward(self, x):
        if self.stops and self.hidden.out_features != 6:
            raise RuntimeError("expected 6")
        return self.head(F.relu(self.hidden(x.flatten(1)))) * self.hidden.out_features


@pytest.mark.parametrize(
    ("stops", "says"), [(False, "outputs change by up to"), (True, "stops with: expected 6")]
)
def test_a_network_that_depends_on_its_width_is_refused(stops, says):
    with pytest.raises(ValueError, match=f"cannot be shrunk: after removing filters.*{says}"):
        shrink(ByWidth(stops).double(), 0.5)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ((3, 0, 8), "or the shape of one, as in"),
        ((), "or the shape of one, as in"),
        (torch.zeros(0, 3, 16, 16), "at least one network input"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "floating point.*uint8"),
        ((1, 16, 16), "does not take example_inputs of shape"),
    ],
)
def test_inputs_that_are_none_are_refused(inputs, says):
    with pytest.raises(ValueError, match=says):
        pruning.shrink(make("cnn"), 0.5, inputs)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kappa": 1.2}, r"kappa must be a share in \[0, 1\]"),
        ({"kappa": 0.5, "method": "rows"}, "unknown pruning method 'rows'"),
        ({"kappa": 0.5, "runs": 0}, "runs must be a whole number >= 1, found 0"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        pruning.shrink(make("fcn"), example_inputs=batch(), **options)


def test_labels_that_may_be_left_out_and_outputs_of_any_kind_are_no_obstacle():
    class WithLabels(nn.Sequential):
        def forward(self, pixel_values, labels=None):
            found = super().forward(pixel_values)
            loss = None if labels is None else F.cross_entropy(found, labels)
            return types.SimpleNamespace(logits=found, loss=loss)

    net = WithLabels(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    found = shrink(net, 0.5)
    assert found.removed == 0.5
    assert found.model[1].weight.shape == (4, 768)


def test_outputs_without_logits_are_refused():
    class Two(nn.Sequential):
        def forward(self, x):
            return {"one": super().forward(x)}

    with pytest.raises(ValueError, match="the model returns a dict of one, expected a tensor"):
        shrink(Two(nn.Flatten(), nn.Linear(768, 5), nn.Linear(5, 2)).double(), 0.5)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(12, 8, bias=False), nn.ReLU(), nn.Linear(8, 3)),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                      nn.Flatten(), nn.Linear(6, 3)),
    ],
)  # fmt: skip
def test_without_inputs_their_shape_is_that_of_the_first_layer(net):
    shape = (12,) if isinstance(net[1], nn.Linear) else (1, 32, 32)
    alone, told = pruning.shrink(net, 0.5), pruning.shrink(net, 0.5, shape)
    assert alone.before.macs == told.before.macs and alone.after.macs == told.after.macs
    assert alone.removed == 0.5
