"""The reference loop: bit-equality, the update itself, stopping, recording, errors."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lrsc
from lrsc import TrainConfig
from lrsc.datasets import Split
from lrsc.models.draws import Draws
from lrsc.training import fixed_loss_ratio
from lrsc.training.evaluation import forward_all, training_accuracies

SHORT = TrainConfig(lr=0.1, max_epochs=2, stop_at_accuracy=None)


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 3))


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def test_two_runs_are_bit_equal_and_another_seed_is_not(parity):
    one, two = (lrsc.fit("fcn", parity, SHORT, seeds=[1])[0] for _ in range(2))
    (other,) = lrsc.fit("fcn", parity, SHORT, seeds=[2])
    assert torch.equal(weights(one), weights(two))
    assert torch.equal(one.curves["loss"], two.curves["loss"])
    assert not torch.equal(weights(one), weights(other))


def test_a_run_does_not_depend_on_its_neighbours(parity):
    alone = lrsc.fit("fcn", parity, SHORT, lrs=[0.2], seeds=[1])[0]
    together = lrsc.fit("fcn", parity, SHORT, lrs=[0.1, 0.2], seeds=[0, 1], engine="reference")
    assert [(r.config.lr, r.seed) for r in together] == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    assert torch.equal(weights(together[3]), weights(alone))


@pytest.mark.parametrize(
    ("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.01), (0.9, 0.01)]
)
def test_updates_are_those_of_sgd_written_out(own_dataset, momentum, weight_decay):
    config = TrainConfig(
        lr=0.05, momentum=momentum, weight_decay=weight_decay, batch_size=20, max_epochs=3,
        stop_at_accuracy=None,
    )  # fmt: skip
    (run,) = lrsc.fit(small, own_dataset, config, seeds=[4])
    with Draws(4, torch.device("cpu")).inside():
        net = small()
    parameters = list(net.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    order = torch.Generator().manual_seed(4 + 0x5EED)
    train, losses, ratios = own_dataset.train, [], []
    for _ in range(3):
        for batch in torch.randperm(60, generator=order).view(3, 20):
            each = F.cross_entropy(
                net(train.inputs(train.x[batch])), train.y[batch], reduction="none"
            )
            gradients = torch.autograd.grad(each.mean(), parameters)
            losses.append(each.mean().item())
            ratios.append((each[train.conflicting[batch]].sum() / each.sum()).item())
            with torch.no_grad():
                for p, v, g in zip(parameters, velocity, gradients, strict=True):
                    v.mul_(momentum).add_(g + weight_decay * p)
                    p -= 0.05 * v
    expected = torch.cat([p.detach().flatten() for p in parameters])
    assert torch.allclose(weights(run), expected, atol=1e-6)
    assert run.curves["loss"].tolist() == pytest.approx(losses, rel=1e-5)
    assert run.curves["loss_ratio"].tolist() == pytest.approx(ratios, rel=1e-4)


def test_it_stops_at_full_training_accuracy(parity):
    (run,) = lrsc.fit("fcn", parity, TrainConfig(lr=0.3, max_epochs=200))
    assert run.status == "converged" and run.train_accuracy == 1.0 and run.epochs < 200
    assert run.steps == run.epochs * 10 == len(run.curves["loss"])
    assert len(run.curves["accuracy"]) == run.epochs
    predicted = lrsc.models.evaluate(run.model, parity.train.x).argmax(1)
    assert bool((predicted == parity.train.y).all())
    assert not run.model.training


def test_the_epoch_before_it_was_not_there_yet(parity):
    config = TrainConfig(lr=0.3, max_epochs=200)
    (run,) = lrsc.fit("fcn", parity, config)
    (before,) = lrsc.fit("fcn", parity, TrainConfig(lr=0.3, max_epochs=run.epochs - 1))
    assert before.status == "cap" and before.train_accuracy < 1.0
    assert torch.equal(before.curves["loss"], run.curves["loss"][: before.steps])


@pytest.mark.parametrize(
    ("config", "steps"), [({"max_epochs": 2}, 20), ({"max_steps": 13}, 13), ({"max_steps": 5}, 5)]
)
def test_caps(parity, config, steps):
    (run,) = lrsc.fit("fcn", parity, TrainConfig(lr=1e-4, **config))
    assert run.status == "cap" and run.steps == steps == len(run.curves["loss"])
    assert 0 < run.train_accuracy < 1


def test_a_lower_target_stops_earlier(parity):
    (full,) = lrsc.fit("fcn", parity, TrainConfig(lr=0.1))
    (part,) = lrsc.fit("fcn", parity, TrainConfig(lr=0.1, stop_at_accuracy=0.9))
    assert part.status == "converged" and part.epochs < full.epochs
    assert 0.9 <= part.train_accuracy < 1


def test_divergence_is_a_status_and_leaves_the_next_run_alone(own_dataset):
    def factory():
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 3), _Square())

    config = TrainConfig(lr=1.0, max_epochs=50, batch_size=20, stop_at_accuracy=None)
    diverged, fine = lrsc.fit(factory, own_dataset, config, lrs=[1e4, 1e-6])
    assert diverged.status == "diverged" and math.isnan(diverged.train_accuracy)
    assert diverged.epochs < 50 and not diverged.curves["loss"].isfinite().all()
    assert fine.status == "cap" and bool(fine.curves["loss"].isfinite().all())


class _Square(nn.Module):
    def forward(self, x):
        return x**2


def test_probes_are_called_in_eval_mode_at_fixed_steps_and_change_nothing(digits):
    seen = []

    def probe(net):
        seen.append(net.training)
        return torch.tensor(float(len(seen)))

    config = TrainConfig(lr=0.1, max_steps=25, stop_at_accuracy=None)
    (with_probe,) = lrsc.fit("fcn", digits, config, probes={"count": probe}, probe_every=10)
    (without,) = lrsc.fit("fcn", digits, config)
    assert with_probe.curves["count_step"].tolist() == [0, 10, 20, 25]
    assert with_probe.curves["count"].tolist() == [1, 2, 3, 4] and not any(seen)
    assert torch.equal(weights(with_probe), weights(without))


def test_fixed_loss_ratio_probe_against_its_definition(parity):
    (run,) = lrsc.fit("fcn", parity, SHORT, probes={"r": fixed_loss_ratio(parity, n=1000)})
    losses = F.cross_entropy(
        lrsc.models.evaluate(run.model, parity.train.x), parity.train.y, reduction="none"
    )
    expected = losses[parity.train.conflicting].sum() / losses.sum()
    assert float(run.curves["r"][-1]) == pytest.approx(float(expected), rel=1e-5)


def training_accuracy(net: torch.nn.Module, split: Split, enough: float = 0.0) -> float:
    return training_accuracies(lambda which: forward_all([net]), split, [enough])[0]


def test_training_accuracy_stops_early_with_an_upper_bound(digits):
    net = lrsc.models.build("fcn", digits.input_shape, 10)
    exact = training_accuracy(net, digits.train)
    predicted = lrsc.models.evaluate(net, digits.train.inputs(digits.train.x)).argmax(1)
    assert exact == pytest.approx(float((predicted == digits.train.y).float().mean()))
    assert exact <= training_accuracy(net, digits.train, enough=1.0) < 1.0


def test_training_accuracy_is_done_at_the_first_error_where_all_must_be_right():
    y = torch.arange(3000) % 10
    split = Split(F.one_hot(y, 10).float(), y)
    net, passes = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Flatten()), []
    net.register_forward_hook(lambda *_: passes.append(1))
    assert training_accuracy(net, split, enough=1.0) == 1.0 and len(passes) == 4
    split.y[0] = 1  # in the first pass, which is a short one
    assert training_accuracy(net, split, enough=1.0) == 2999 / 3000 and len(passes) == 5


def test_only_full_batches_are_used_and_small_sets_are_one_batch(own_dataset):
    config = TrainConfig(batch_size=25, max_epochs=3, stop_at_accuracy=None)
    assert lrsc.fit(small, own_dataset, config)[0].steps == 6  # 60 // 25 = 2 an epoch
    config = TrainConfig(batch_size=100, max_epochs=3, stop_at_accuracy=None)
    assert lrsc.fit(small, own_dataset, config)[0].steps == 3


def test_a_ready_module_is_trained_in_place_for_one_run(own_dataset):
    net = small()
    (run,) = lrsc.fit(net, own_dataset, SHORT)
    assert run.model is net
    with pytest.raises(ValueError, match="give a factory"):
        lrsc.fit(net, own_dataset, SHORT, seeds=[0, 1])


def test_a_set_without_bias_labels_trains_without_loss_ratio(own_dataset):
    import dataclasses

    plain = dataclasses.replace(own_dataset.train, bias=None)
    dataset = dataclasses.replace(own_dataset, train=plain, test=plain)
    (run,) = lrsc.fit(small, dataset, SHORT)
    assert "loss" in run.curves and "loss_ratio" not in run.curves
    with pytest.raises(ValueError, match="bias labels are missing"):
        fixed_loss_ratio(dataset)


def test_global_generator_is_left_alone(parity):
    torch.manual_seed(5)
    lrsc.fit("fcn", parity, SHORT)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lrs": []}, "lrs is empty"),
        ({"lrs": [0.1, -1]}, "lr must be"),
        ({"lrs": [float("inf")]}, "lr must be"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [-1]}, "seeds must be"),
        ({"model": "fnc"}, "'fcn'"),
        ({"model": 3}, "model must be"),
        ({"model_options": {"hiden": (3,)}}, "'hidden'"),
        ({"model": "resnet18"}, "images"),
        ({"model": lambda: nn.Linear(7, 2)}, "inputs of shape"),
        ({"model": lambda: nn.Linear(14, 5)}, "one logit a class"),
        ({"model": lambda: 3}, "must be an nn.Module"),
    ],
)
def test_bad_arguments_are_named_before_any_work(parity, arguments, words):
    with pytest.raises(ValueError, match=words):
        lrsc.fit(arguments.pop("model", "fcn"), parity, SHORT, **arguments)


def test_callbacks_get_the_numbers_of_each_epoch(digits, tmp_path):
    told, others = [], []
    config = TrainConfig(max_epochs=2, validation_share=0.1, stop_at_accuracy=None)
    runs = lrsc.fit("fcn", digits, config, lrs=[0.1, 0.2], model_options={"hidden": (8,)},
                    callbacks=[told.append, others.append])  # fmt: skip
    assert told == others and len(told) == 4
    for run in runs:
        first, last = [each for each in told if each["lr"] == run.config.lr]
        assert (first["epoch"], first["step"], last["epoch"]) == (1, 10, 2)
        assert last["step"] == run.steps and last["seed"] == 0
        for name in ("loss", "loss_ratio"):
            assert first[name] == pytest.approx(float(run.curves[name][:10].mean()), rel=1e-5)
            assert last[name] == pytest.approx(float(run.curves[name][10:].mean()), rel=1e-5)
        for name in ("accuracy", "validation_accuracy"):
            assert last[name] == pytest.approx(float(run.curves[name][1]))


def test_callbacks_of_a_resumed_run_are_told_of_what_is_new(own_dataset, tmp_path):
    told = []
    short = TrainConfig(max_epochs=4, batch_size=7, stop_at_accuracy=None)

    def stop(numbers):
        told.append(numbers)
        if numbers["epoch"] == 2:
            raise RuntimeError("enough")

    keep = {"checkpoints": tmp_path, "checkpoint_steps": 4, "model_options": {"hidden": (8,)}}
    with pytest.raises(RuntimeError, match="enough"):
        lrsc.fit("fcn", own_dataset, short, callbacks=stop, **keep)
    (run,) = lrsc.fit("fcn", own_dataset, short, callbacks=told.append, **keep)
    assert [each["epoch"] for each in told] == [1, 2, 2, 3, 4]
    assert told[1] == told[2]
    assert told[-1]["loss"] == pytest.approx(float(run.curves["loss"][-8:].mean()), rel=1e-5)


@pytest.mark.parametrize("bad", [5, [5], {"a": print}, "print"])
def test_callbacks_must_be_functions(own_dataset, bad):
    with pytest.raises(ValueError, match="callbacks must be a function of a dict"):
        lrsc.fit("fcn", own_dataset, SHORT, callbacks=bad)


@pytest.mark.parametrize(
    ("augment", "found"),
    [(lambda x, g: x.float() / 255, "20 torch.float32"), (lambda x, g: x[:3], "3 torch.uint8"),
     (lambda x, g: None, "a NoneType")],
)  # fmt: skip
def test_an_augmentation_returns_what_it_was_given(own_dataset, augment, found):
    train = dataclasses.replace(own_dataset.train, augment=augment)
    data = dataclasses.replace(own_dataset, train=train)
    with pytest.raises(ValueError, match=f"augment must return .*found {found}"):
        lrsc.fit("fcn", data, TrainConfig(batch_size=20, max_epochs=1))
