"""Comparisons of training settings on constructed runs with known answers."""

import pytest
from constructed import opened, runs, wobble

from lrsc.claims import settings

DATASETS = ("colored_mnist", "double_mnist", "mnist_cifar")


def joint(best: float):
    """A row whose middle value has `best` as all three measures."""
    of = {name: lambda value, seed: best - abs(value - 0.1) + wobble(seed) * best
          for name in settings.JOINT}  # fmt: skip
    return runs(of, (0.01, 0.1, 1.0))


def interventions(**best):
    return opened({("hyperparameters", dataset, "resnet18", name): joint(value)
                   for dataset in DATASETS for name, value in best.items()})  # fmt: skip


OTHERS = dict.fromkeys(settings.OTHERS, 0.6)


def test_an_lr_that_gains_more_than_all_others():
    found = settings.against_others(interventions(lr=0.8, **OTHERS | {"l2": 0.7}))
    assert found["effect"] == pytest.approx(0.1)  # against the strongest
    assert found["up"] < 1e-6 and len(found["rows"]) == 3 * 6


def test_one_other_that_gains_more_contradicts():
    found = settings.against_others(interventions(lr=0.8, **OTHERS | {"l2": 0.9}))
    assert found["effect"] == pytest.approx(-0.1)
    assert found["down"] < 1e-6 and found["up"] > 0.99


def test_what_is_measured_of_some_others_alone_supports_nothing():
    found = settings.against_others(interventions(lr=0.8, l2=0.7, momentum=0.6))
    assert found["effect"] == pytest.approx(0.1) and found["up"] == 1


@pytest.mark.parametrize("gain", [0.05, -0.05])
def test_l2_on_top_of_a_high_lr(gain):
    found = settings.with_l2(interventions(lr=0.8, high_lr_l2=0.8 + gain))
    assert found["effect"] == pytest.approx(gain)
    assert (found["up"] < 1e-6) == (gain > 0) and (found["down"] < 1e-6) == (gain < 0)


def test_seeds_that_agree_decide_nothing():
    alike = {name: lambda value, seed: value for name in settings.JOINT}
    found = settings.with_l2(opened({
        ("hyperparameters", d, "resnet18", name): runs(alike, (0.1, best))
        for d in DATASETS for name, best in (("lr", 0.5), ("high_lr_l2", 0.8))
    }))  # fmt: skip
    assert found["effect"] == pytest.approx(0.3) and found["up"] == found["down"] == 1


def switch(after: float, high: float = 0.9):
    key = ("optimizers_schedules", "cifar10", "resnet18")
    throughout = runs({"unbiased_accuracy": lambda lr, s: (0.7 if lr < 0.05 else high)
                       + wobble(s, lr / 100)},
                      (0.01, 0.1))  # fmt: skip
    switched = runs({"unbiased_accuracy": lambda at, s: (after if at == 1000 else 0.7)
                     + 2 * wobble(s)}, (100, 1000))  # fmt: skip
    return opened({(*key, "lr"): throughout, (*key, "switch"): switched})


def test_an_early_switch_that_keeps_the_gain():
    found = settings.switched(switch(0.88))
    assert found["effect"] == pytest.approx(0.08) and found["up"] < 1e-3
    found = settings.switched(switch(0.72))
    assert found["effect"] == pytest.approx(-0.08) and found["down"] < 1e-3


def test_without_a_gain_there_is_nothing_to_keep():
    assert settings.switched(switch(0.88, high=0.6))["up"] > 0.9


def training(shift: float):
    key = ("optimizers_schedules", "colored_mnist", "resnet18")
    usual = runs({m: lambda lr, s: 0.5 + wobble(s) for m in settings.MARGINS})
    more = runs({m: lambda lr, s: 0.5 + shift - wobble(s) for m in settings.MARGINS})
    return opened({(*key, "lr"): usual, (*key, "longer"): more})


def test_training_longer_that_changes_little_and_much():
    found = settings.longer(training(0.003))
    assert found["effect"] == pytest.approx(1 - 0.003 / 0.03) and found["up"] < 1e-4
    assert found["low"] < found["effect"] and found["high"] >= found["effect"]
    for shift in (0.2, -0.2):
        found = settings.longer(training(shift))
        assert found["effect"] == pytest.approx(1 - 0.2 / 0.03) and found["down"] < 1e-4


def test_nothing_measured_is_no_evidence():
    for test in (settings.against_others, settings.with_l2, settings.switched, settings.longer):
        assert test(opened({}))["rows"] == []
