"""Soups: means written out, BatchNorm's statistics by hand, the greedy recipe, switched LRs."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lrsc
from lrsc import TrainConfig
from lrsc.datasets import Split
from lrsc.training import soups
from lrsc.training.fit import Trained
from lrsc.training.soups import greedy_soup, lr_switch, uniform_soup


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
    "make", [uniform_soup, lambda nets, split: greedy_soup(nets, split, split)]
)
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
def test_models_that_have_no_mean_are_refused(own_dataset, make, nets, words):
    with pytest.raises(ValueError, match=words):
        make(nets(), own_dataset.train)


def test_splits_that_do_not_fit_are_refused(own_dataset):
    nets = [network(0), network(1)]
    with pytest.raises(ValueError, match="split holds 0 samples"):
        uniform_soup(nets, own_dataset.train.take(torch.arange(0)))
    with pytest.raises(ValueError, match="does not take inputs of shape"):
        uniform_soup(nets, Split(torch.zeros(4, 3, 9, 9), torch.arange(4)))
    with pytest.raises(ValueError, match="val holds 0 samples"):
        greedy_soup(nets, own_dataset.train, own_dataset.train.take(torch.arange(0)))


# -- the greedy soup --------------------------------------------------------------------------


def logits_network(rows) -> nn.Module:
    """On one-hot inputs, row i are the logits of sample i."""
    net = nn.Linear(len(rows), len(rows[0]), bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(rows, dtype=torch.float32).T)
    return net


A, B = [1.0, 0.0], [0.0, 0.4]  # sure of class 0, of class 1; all samples are of class 0
VAL = Split(torch.eye(4), torch.zeros(4, dtype=torch.int64))


def test_greedy_recipe_by_hand():
    nets = [
        logits_network([A, A, B, B]),  # 2 of 4 right, keeps the 3 of 4
        logits_network([A, A, A, B]),  # 3 of 4: first
        logits_network([[0.0, 9.0], [0.0, 9.0], A, A]),  # 2 of 4, spoils the first two
        logits_network([B, B, B, [5.0, 0.0]]),  # 1 of 4, and puts the last one right
    ]
    soup, used = greedy_soup(nets, VAL, VAL)
    assert used == [1, 0, 3]
    expected = [[2 / 3, 0.4 / 3]] * 2 + [[1 / 3, 0.8 / 3], [5 / 3, 0.8 / 3]]
    assert torch.allclose(soup.weight.T, torch.tensor(expected))


def slow_greedy(nets, split) -> list[int]:
    def accuracy(chosen):
        weight = np.mean([nets[i].weight.detach().double().numpy() for i in chosen], 0)
        logits = split.x.numpy() @ weight.astype(np.float32).T
        return (logits.argmax(1) == split.y.numpy()).mean()

    alone = [accuracy([i]) for i in range(len(nets))]
    order = [i for value in sorted(set(alone), reverse=True)
             for i in range(len(nets)) if alone[i] == value]  # fmt: skip
    used = order[:1]
    for i in order[1:]:
        if accuracy([*used, i]) >= accuracy(used):
            used.append(i)
    return used


def test_greedy_recipe_against_a_slow_one():
    generator = torch.Generator().manual_seed(0)
    outcomes = set()
    for _ in range(20):
        x = torch.randn(40, 6, generator=generator)
        split = Split(x, (x[:, 0] + x[:, 1] > 0).long())
        nets = [nn.Linear(6, 2, bias=False) for _ in range(5)]
        for net in nets:
            net.weight.data = torch.randn(2, 6, generator=generator)
            net.weight.data[1] += torch.tensor([1.0, 1.0, 0, 0, 0, 0])
        soup, used = greedy_soup(nets, split, split)
        assert used == slow_greedy(nets, split)
        expected = np.mean([nets[i].weight.detach().double().numpy() for i in used], 0)
        np.testing.assert_allclose(soup.weight.detach().numpy(), expected, rtol=1e-6)
        outcomes.add(len(used))
    assert len(outcomes) > 2


def test_ties_go_to_the_first_given_and_equal_accuracy_is_no_fall():
    nets = [logits_network([A, A, B, B]) for _ in range(3)]
    soup, used = greedy_soup(nets, VAL, VAL)
    assert used == [0, 1, 2] and torch.equal(soup.weight, nets[0].weight)


def test_a_single_model_is_copied():
    net = network(0)
    split = Split(torch.zeros(4, 3, 8, 8), torch.arange(4) % 3)
    soup, used = greedy_soup([trained(net)], split, split)
    assert used == [0] and soup is not net and same(soup, net.state_dict())


def test_the_worst_group_can_decide():
    bias = torch.tensor([0, 0, 0, 1])
    val = Split(torch.eye(4), torch.zeros(4, dtype=torch.int64), bias=bias)
    nets = [logits_network([A, A, A, B]), logits_network([A, B, B, A])]
    assert greedy_soup(nets, val, val)[1][0] == 0
    assert greedy_soup(nets, val, val, select_by="worst_group")[1][0] == 1
    with pytest.raises(ValueError, match="'worst_group' needs bias labels in val"):
        greedy_soup(nets, VAL, VAL, select_by="worst_group")
    with pytest.raises(ValueError, match="unknown select_by 'worst'.*worst_group"):
        greedy_soup(nets, VAL, VAL, select_by="worst")


def test_a_diverged_model_is_left_out():
    nets = [logits_network([[math.nan] * 2] * 4), logits_network([A, A, B, B])]
    nets[0].weight.data[0] = -1.0  # NaN in class 1 only, which it then predicts
    assert greedy_soup(nets, VAL, VAL)[1] == [1]


def test_soup_of_a_greedy_choice_equals_the_uniform_soup_of_it(own_dataset):
    nets = [network(seed) for seed in range(4)]
    train = own_dataset.train
    nets[2][1].eval()
    soup, used = greedy_soup(nets, train, train.take(torch.arange(20)))
    assert [net[1].training for net in nets] == [True, True, False, True]
    expected = uniform_soup([nets[i] for i in used], train)
    assert same(soup, state(expected))


# -- switched LRs -----------------------------------------------------------------------------

CONFIG = TrainConfig(lr=0.2, batch_size=20, max_steps=9, stop_at_accuracy=None)


def small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))


def weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_switched_runs_are_sgd_written_out(own_dataset):
    runs = lr_switch(small, own_dataset, CONFIG, [None, 0, 1, 4, 8], switch_lr=0.01, seeds=[3])
    train = own_dataset.train
    for run, at in zip(runs, (9, 0, 1, 4, 8), strict=True):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            net = small()
        order, step = torch.Generator().manual_seed(3 + 0x5EED), 0
        for _ in range(3):
            for batch in torch.randperm(60, generator=order).view(3, 20):
                loss = F.cross_entropy(net(train.inputs(train.x[batch])), train.y[batch])
                gradients = torch.autograd.grad(loss, list(net.parameters()))
                with torch.no_grad():
                    for p, g in zip(net.parameters(), gradients, strict=True):
                        p -= (0.2 if step < at else 0.01) * g
                step += 1
        assert torch.allclose(weights(run.model), weights(net), atol=1e-6)
    assert len({float(weights(run.model).norm()) for run in runs}) == 5


def test_what_the_runs_say_and_their_order(own_dataset):
    runs = lr_switch(small, own_dataset, CONFIG, (2, None, 0), seeds=[0, 1], engine="reference")
    assert [run.seed for run in runs] == [0, 1] * 3
    assert [(r.config.schedule, r.config.switch_at) for r in runs[::2]] == [
        ("switch", 2), ("constant", None), ("constant", None),
    ]  # fmt: skip
    assert [r.config.lr for r in runs[::2]] == pytest.approx([0.2, 0.2, 0.002])
    assert runs[0].config.switch_lr == pytest.approx(0.002)
    (alone,) = lrsc.fit(small, own_dataset, CONFIG, seeds=[1])
    assert torch.equal(weights(runs[3].model), weights(alone.model))


def test_checkpoints_of_different_switches_do_not_meet(own_dataset, tmp_path):
    first = lr_switch(small, own_dataset, CONFIG, [2, 5], checkpoints=tmp_path)
    again = lr_switch(small, own_dataset, CONFIG, [2, 5], checkpoints=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["switch-2", "switch-5"]
    for one, two in zip(first, again, strict=True):
        assert torch.equal(weights(one.model), weights(two.model))
    assert not torch.equal(weights(first[0].model), weights(first[1].model))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"switch_at": []}, "switch_at is empty"),
        ({"switch_at": [3, -1]}, "switch_at must be a whole number >= 1 .*found -1"),
        ({"switch_at": [2.5]}, "switch_at must be"),
        ({"switch_at": [9]}, "switch_at=9 is never reached"),
        ({"switch_lr": 0.0}, "switch_lr must be"),
        ({"lrs": [0.1]}, "lrs is no option of lr_switch"),
        ({"config": TrainConfig(schedule="cosine")}, "schedule='cosine', expected 'constant'"),
        ({"model": small(), "switch_at": [1, 2]}, "found 2 .switch_at.; give a factory"),
    ],
)
def test_bad_switches_are_named_before_any_training(own_dataset, monkeypatch, given, words):
    monkeypatch.setattr(soups, "fit", None)
    arguments = {"model": small, "config": CONFIG, "switch_at": [1]} | given
    with pytest.raises(ValueError, match=words):
        lr_switch(arguments.pop("model"), own_dataset, **arguments)
