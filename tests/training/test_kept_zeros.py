"""Fine-tuning after pruning: what was set to zero stays exactly zero."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

import lrsc
from lrsc import TrainConfig, models, pruning
from lrsc.training.engines import choose

BASE = TrainConfig(lr=0.05, max_steps=12, max_epochs=20, batch_size=20, stop_at_accuracy=None)
SETTINGS = {
    "sgd": {},
    "momentum and decay": {"momentum": 0.9, "weight_decay": 0.1},
    "adam": {"optimizer": "adam", "weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "penalties": {"l1": 1e-3, "l2": 1e-2, "momentum": 0.9},
    "sam": {"sam_rho": 0.1},
    "asam": {"asam_rho": 0.5, "momentum": 0.9},
    "in parts": {"accumulation": 2, "precision": "fp64"},
    "bf16": {"precision": "bf16", "schedule": "cosine"},
}


def deep() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3),
        )  # fmt: skip


def chain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.ReLU(), nn.Linear(12, 3))


def zeros(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() == 0 for name, p in net.named_parameters()}


def check(before: nn.Module, after: nn.Module) -> None:
    """What pruning may set to zero is zero where it was; everything else has moved."""
    was, now = zeros(before), zeros(after)
    for name in pruning.prunable(before):
        for each in (name, name.replace("weight", "bias")):
            assert torch.equal(was[each], now[each]), each
            assert not torch.equal(before.get_parameter(each), after.get_parameter(each)), each


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("method", pruning.METHODS)
def test_pruned_weights_stay_exactly_zero(own_dataset, name, method):
    pruned = pruning.prune(deep(), 0.5, method)
    config = dataclasses.replace(BASE, **SETTINGS[name])
    (run,) = lrsc.fit(copy.deepcopy(pruned), own_dataset, config, keep_zeros=True, device="cpu")
    assert run.steps == 12 and run.status == "cap"
    check(pruned, run.model)
    assert pruning.sparsity_of(run.model) == pruning.sparsity_of(pruned) > 0.4


def test_without_it_they_do_not(own_dataset):
    pruned = pruning.prune(deep(), 0.5, "magnitude")
    (run,) = lrsc.fit(copy.deepcopy(pruned), own_dataset, BASE, device="cpu")
    assert pruning.sparsity_of(run.model) < 0.1


@pytest.mark.parametrize("engine", ["auto", "reference", "threads"])
def test_several_runs_of_a_factory_keep_them_too(own_dataset, engine):
    pruned = pruning.prune(chain(), 0.5)
    runs = lrsc.fit(
        lambda: copy.deepcopy(pruned), own_dataset, BASE, lrs=[0.02, 0.1], keep_zeros=True,
        engine=engine, device="cpu",
    )  # fmt: skip
    assert {run.engine for run in runs} <= {"reference", "threads"}
    for run in runs:
        check(pruned, run.model)


def test_a_resumed_run_keeps_them_bit_for_bit(own_dataset, tmp_path):
    pruned = pruning.prune(deep(), 0.5)
    config, calls = dataclasses.replace(BASE, momentum=0.9), []

    def probe(net):
        calls.append(net)
        if len(calls) == 9:
            raise RuntimeError("stopped")
        return torch.zeros(())

    def fit(folder, keep_zeros=True):
        (run,) = lrsc.fit(
            lambda: copy.deepcopy(pruned), own_dataset, config, device="cpu", checkpoints=folder,
            checkpoint_steps=5, keep_zeros=keep_zeros, probes={"stop": probe}, probe_every=1,
        )  # fmt: skip
        return run.model

    with pytest.raises(RuntimeError, match="stopped"):
        fit(tmp_path / "a")
    resumed = fit(tmp_path / "a")
    assert len(calls) < 9 + 12  # from step 5 on
    check(pruned, resumed)
    for one, other in zip(resumed.parameters(), fit(tmp_path / "b").parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="zeros"):
        fit(tmp_path / "a", keep_zeros=False)


def test_training_goes_on_from_the_pruned_network(digits):
    (run,) = lrsc.fit("fcn", digits, TrainConfig(lr=0.1, max_epochs=5), device="cpu",
                      model_options={"hidden": (64, 32)})  # fmt: skip
    pruned = pruning.prune(run.model, 0.7)
    accuracy = lambda net: float(  # noqa: E731
        (models.predict(net, digits.train).argmax(1) == digits.train.y).double().mean()
    )
    before = accuracy(pruned)
    config = TrainConfig(lr=0.05, momentum=0.9, max_epochs=3)
    (tuned,) = lrsc.fit(copy.deepcopy(pruned), digits, config, keep_zeros=True, device="cpu")
    assert accuracy(tuned.model) > before + 0.05
    assert torch.equal(zeros(tuned.model)["1.weight"], zeros(pruned)["1.weight"])


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (deep, {}, "no weight that is 0: give fit what lrsc.pruning.prune returned"),
        (lambda: pruning.prune(deep(), 0.5), {"optimizer": "psgd_kron"}, "psgd_kron.*use 'sgd'"),
    ],
)
def test_what_cannot_be_kept_is_refused(own_dataset, model, options, words):
    with pytest.raises(ValueError, match=words):
        lrsc.fit(model, own_dataset, dataclasses.replace(BASE, **options), keep_zeros=True)


def test_the_stacked_engine_refuses(own_dataset):
    pruned = pruning.prune(chain(), 0.5)
    with pytest.raises(ValueError, match="keep_zeros=True.*use engine='auto'"):
        lrsc.fit(
            lambda: copy.deepcopy(pruned), own_dataset, BASE, lrs=[0.02, 0.1], keep_zeros=True,
            engine=choose.ENGINES[3], device="cpu",
        )  # fmt: skip
