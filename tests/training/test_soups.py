"""Soups: means written out, BatchNorm's statistics by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import lrsc
from lrsc import TrainConfig
from lrsc.datasets import Split
from lrsc.training import soups
from lrsc.training.fit import Trained
from lrsc.training.soups import uniform_soup


def network(seed: int, width: int = 5) -> nn.Module:
    """A convolution, BatchNorm with statistics of its own, dropout; in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5),
            nn.Flatten(), nn.Linear(36 * width, 3),
        )  # fmt: skip
        for values in (net[1].weight.data, net[1].bias.data, net[1].running_mean):
            values.normal_()
        net[1].running_var.uniform_(0.5, 2)
        net[1].num_batches_tracked.fill_(100 + seed)
    return net


def trained(net: nn.Module) -> Trained:
    return Trained(net, TrainConfig(), 0, "cap", {}, 1, 1, 0.5, 0.1)


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(net: nn.Module, other: dict[str, torch.Tensor]) -> bool:
    mine = net.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[k], v) for k, v in other.items())


# -- the uniform soup -------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda net: net, trained])
def test_weights_are_the_means(own_dataset, wrap):
    nets = [network(seed) for seed in range(3)]
    before = [state(net) for net in nets]
    soup = uniform_soup([wrap(net) for net in nets], own_dataset.train)
    for name, value in soup.named_parameters():
        expected = np.mean([b[name].double().numpy() for b in before], 0).astype(np.float32)
        np.testing.assert_array_equal(value.detach().numpy(), expected)
    assert all(same(net, b) for net, b in zip(nets, before, strict=True))
    assert soup.training and all(p.requires_grad for p in soup.parameters())


def test_a_generator_of_models_will_do(own_dataset):
    soup = uniform_soup((network(seed) for seed in range(2)), own_dataset.train)
    assert same(soup, state(uniform_soup([network(0), network(1)], own_dataset.train)))


def test_of_one_model_it_is_a_copy_bit_for_bit(own_dataset):
    net = network(0).eval()
    soup = uniform_soup([net], own_dataset.train)
    assert soup is not net and same(soup, net.state_dict()) and not soup.training
    with torch.no_grad():
        soup[0].weight.zero_()
    assert net[0].weight.any()


def test_equal_models_give_their_weights_bit_for_bit(own_dataset):
    net = network(0)
    soup = uniform_soup([copy.deepcopy(net) for _ in range(7)], own_dataset.train)
    for value, expected in zip(soup.parameters(), net.parameters(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize(("n", "sizes"), [(60, [60]), (61, [31, 30]), (150, [50, 50, 50])])
def test_statistics_are_means_over_one_pass_of_batches(monkeypatch, n, sizes):
    monkeypatch.setattr(soups, "pass_size", lambda shape: 60)
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(x, torch.arange(n) % 3, mean=torch.full((3,), 0.5), std=torch.full((3,), 0.2))
    seen = []
    nets = [network(seed) for seed in range(2)]
    nets[0].register_forward_pre_hook(
        lambda net, args: seen.append(args[0]) if net[1].training else None
    )
    soup = uniform_soup(nets, split)
    assert [len(batch) for batch in seen] == sizes
    order = torch.cat(seen)  # each sample once, not in the order of the split
    together = split.inputs(x)
    assert not torch.equal(order, together)
    assert torch.equal(order.flatten(1).sum(1).sort()[0], together.flatten(1).sum(1).sort()[0])
    with torch.no_grad():
        maps = [soup[0](batch).double().numpy() for batch in seen]
    np.testing.assert_allclose(
        soup[1].running_mean, np.mean([m.mean((0, 2, 3)) for m in maps], 0), atol=1e-5
    )
    unbiased = [m.var((0, 2, 3)) * (len(m) * 36) / (len(m) * 36 - 1) for m in maps]
    np.testing.assert_allclose(soup[1].running_var, np.mean(unbiased, 0), rtol=1e-5)
    assert int(soup[1].num_batches_tracked) == len(sizes)
    assert soup[1].momentum == 0.1 and all(m.training for m in soup.modules())


def test_samples_in_the_order_of_their_classes_are_mixed(own_dataset, monkeypatch):
    """Batches of one class would have the deviation within classes, not that of the data."""
    monkeypatch.setattr(soups, "pass_size", lambda shape: 30)
    x = torch.zeros(60, 3, 8, 8, dtype=torch.uint8)
    x[30:] = 255
    soup = uniform_soup([network(0), network(1)], Split(x, torch.arange(60) // 30))
    assert (soup[1].running_var > 1e-4).all()  # of constant images: 0 within classes


def test_statistics_change_nothing_else(own_dataset):
    torch.manual_seed(3)
    random = torch.get_rng_state()
    nets = [network(seed) for seed in range(2)]
    nets[0][1].eval()
    soup = uniform_soup(nets, own_dataset.train)
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in soup.modules()] == [m.training for m in nets[0].modules()]
    assert all(p.grad is None for p in soup.parameters())


def test_without_batch_norm_the_split_is_not_looked_at(own_dataset):
    nets = [lrsc.models.build("fcn", (3, 8, 8), 3, hidden=(4,)) for _ in range(2)]
    soup = uniform_soup(nets, None)
    expected = (nets[0][1].weight.double() + nets[1][1].weight) / 2
    assert torch.equal(soup[1].weight, expected.float())
    silent = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    uniform_soup([silent, copy.deepcopy(silent)], None)


class Holding(nn.Module):
    """A linear layer beside a buffer."""

    def __init__(self, held):
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.register_buffer("held", held)


def test_whole_numbers_must_agree_and_other_buffers_are_averaged():
    index = torch.tensor([3, 1])
    soup = uniform_soup([Holding(index), Holding(index.clone())], None)
    assert torch.equal(soup.held, index) and soup.held.dtype == torch.int64
    soup = uniform_soup([Holding(torch.tensor([1.0])), Holding(torch.tensor([2.0]))], None)
    assert soup.held.tolist() == [1.5]
    with pytest.raises(ValueError, match="buffer 'held' holds whole numbers that differ.*0 and 2"):
        uniform_soup([Holding(index), Holding(index), Holding(index + 1)], None)
    with pytest.raises(ValueError, match="buffer 'held'"):
        uniform_soup([Holding(index > 2), Holding(index > 0)], None)


@pytest.mark.parametrize(
    ("nets", "words"),
    [
        (lambda: [], "models is empty: give at least one"),
        (lambda: [network(0), "fcn"], "must hold nn.Modules or Trained, found str"),
        (
            lambda: [network(0), network(1), network(2, width=6)],
            r"'0.weight' has shape \(5, 3, 3, 3\) in model 0 and \(6, 3, 3, 3\) in model 2",
        ),
        (lambda: [network(0), network(1)[:5]], "'5.weight' is in one of models 0 and 1 only"),
        (lambda: [network(1)[:5], network(0)], "'5.weight' is in one of models 0 and 1 only"),
    ],
)
def test_models_that_have_no_mean_are_refused(own_dataset, nets, words):
    with pytest.raises(ValueError, match=words):
        uniform_soup(nets(), own_dataset.train)


def test_splits_that_do_not_fit_are_refused(own_dataset):
    nets = [network(0), network(1)]
    with pytest.raises(ValueError, match="split holds 0 samples"):
        uniform_soup(nets, own_dataset.train.take(torch.arange(0)))
    with pytest.raises(ValueError, match="does not take inputs of shape"):
        uniform_soup(nets, Split(torch.zeros(4, 3, 9, 9), torch.arange(4)))
