"""Validation splits, selection, and the rules by which a run ends."""

import dataclasses

import pytest
import torch
from torch import nn

import lrsc
from lrsc import TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.training import evaluation


def config(**fields):
    return TrainConfig(**{"lr": 0.05, "batch_size": 10, "max_epochs": 6, "stop_at_accuracy": None}
                       | fields)  # fmt: skip


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))


def test_the_validation_share_is_exact_in_every_group():
    y = torch.arange(400) % 4
    bias = torch.where(torch.arange(400) < 300, y, (y + 1) % 4)
    whole = Split(torch.arange(400.0)[:, None], y, bias)
    dataset = BiasedDataset("own", whole, whole, 4)
    train, val = evaluation.splits(dataset, TrainConfig(validation_share=0.2))
    assert sorted([*train.x[:, 0].tolist(), *val.x[:, 0].tolist()]) == list(range(400))
    for label in range(4):
        for other in range(4):
            n = int(((y == label) & (bias == other)).sum())
            assert int(((val.y == label) & (val.bias == other)).sum()) == round(0.2 * n)
    again = evaluation.splits(dataset, TrainConfig(validation_share=0.2))[1]
    assert torch.equal(again.x, val.x)


def test_the_best_epoch_is_kept(own_dataset):
    seen = []

    def keep(net):
        seen.append({k: v.clone() for k, v in net.state_dict().items()})
        return torch.zeros(())

    settings = config(validation_share=0.5, select_by="mean", lr=0.5)
    (run,) = lrsc.fit(linear, own_dataset, settings, probes={"keep": keep}, probe_every=3)
    accuracy = run.curves["validation_accuracy"]
    assert len(accuracy) == run.epochs == 6 and run.selected_epoch == int(accuracy.argmax()) + 1
    chosen = seen[run.selected_epoch]  # called at the start and after every epoch of 3 steps
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, chosen[name])
    _, val = evaluation.splits(own_dataset, settings)
    right = (run.model(val.inputs(val.x)).argmax(1) == val.y).double().mean()
    assert float(right) == pytest.approx(float(accuracy.max()))


def test_the_worst_group_is_that_of_the_metric(own_dataset):
    net = linear()
    found = evaluation.validation_accuracy(net, own_dataset.test, "worst_group")
    test = own_dataset.test
    predicted = net(test.inputs(test.x)).argmax(1)
    expected = lrsc.metrics.worst_group_accuracy(predicted, test.y, test.bias)
    assert found == pytest.approx(float(expected))


def test_a_validation_split_of_its_own_is_used(own_dataset):
    held = own_dataset.train.take(torch.arange(12))
    dataset = dataclasses.replace(own_dataset, val=held)
    train, val = evaluation.splits(dataset, config(select_by="worst_group"))
    assert val is held and train is dataset.train
    with pytest.raises(ValueError, match=r"validation_share=0\.1.*validation split of its own"):
        evaluation.splits(dataset, config(validation_share=0.1))


def test_a_selection_without_samples_or_labels_is_refused(own_dataset):
    with pytest.raises(ValueError, match=r"select_by='mean'.*validation_share=0\.0"):
        lrsc.fit(linear, own_dataset, config(select_by="mean"))
    unknown = dataclasses.replace(
        own_dataset, train=dataclasses.replace(own_dataset.train, bias=None)
    )
    with pytest.raises(ValueError, match="needs bias labels"):
        lrsc.fit(linear, unknown, config(select_by="worst_group", validation_share=0.3))
    with pytest.raises(ValueError, match="not one sample of any group"):
        lrsc.fit(linear, own_dataset, config(validation_share=0.001))


def separable():
    y = torch.arange(40) % 2
    split = Split(torch.stack([2.0 * y - 1, torch.zeros(40)], 1), y, y)
    return BiasedDataset("own", split, split, 2)


def test_a_loss_threshold_goes_on_beyond_full_accuracy():
    dataset = separable()
    settings = TrainConfig(lr=0.5, batch_size=20, max_epochs=500)
    plain = lambda: nn.Linear(2, 2, bias=False)  # noqa: E731
    (short,) = lrsc.fit(plain, dataset, settings)
    longer = dataclasses.replace(settings, stop_at_loss=0.02)
    (long,) = lrsc.fit(plain, dataset, longer)
    assert short.status == long.status == "converged" and long.epochs > short.epochs
    logits = long.model(dataset.train.x).detach()
    loss = nn.functional.cross_entropy(logits, dataset.train.y)
    assert float(loss) <= 0.02
    assert evaluation.training_loss(long.model, dataset.train) == pytest.approx(
        float(loss), rel=1e-4
    )
    before = float(long.curves["loss"][-4])
    assert before > 0.02  # it stopped at the first epoch's end that met the threshold
    only = dataclasses.replace(longer, stop_at_accuracy=None)
    assert lrsc.fit(plain, dataset, only)[0].epochs == long.epochs


def test_a_diverged_run_has_no_selected_epoch(own_dataset):
    settings = config(validation_share=0.5, select_by="mean", lr=3e5, max_epochs=30)
    (run,) = lrsc.fit(linear, own_dataset, dataclasses.replace(settings, l2=1.0))
    assert run.status == "diverged" and run.selected_epoch is None


def test_a_pass_holds_fewer_large_images():
    assert lrsc.models.pass_size((3, 28, 28)) == 500 and lrsc.models.pass_size((43,), 1000) == 1000
    assert (
        lrsc.models.pass_size((3, 224, 224)) == 111 and lrsc.models.pass_size((3, 9999, 9999)) == 1
    )
