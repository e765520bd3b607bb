"""Loss ratios, the size of the network and the order of the rises, with known answers."""

import numpy as np
import pytest
from constructed import opened, runs, wobble

from lrsc import experiments
from lrsc.claims import learning_rates
from lrsc.claims.evidence import keys

GRID = [("semi_synthetic", *key) for key in keys("semi_synthetic")]


def rise(lr: float) -> float:
    return float(np.log10(lr / 0.01))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("variable", ["max_loss_ratio", "max_loss_ratio_fixed"])
def test_accuracy_that_goes_with_the_loss_ratio(sign, variable):
    row = runs({
        variable: lambda lr, seed: rise(lr) + 0.01 * seed,
        "unbiased_accuracy": lambda lr, seed: sign * (rise(lr) + 0.01 * seed),
    })  # fmt: skip
    found = learning_rates.loss_ratio(opened(dict.fromkeys(GRID, row)), variable)
    assert found["effect"] == pytest.approx(sign) and len(found["rows"]) == len(GRID)
    assert (found["up"] < 1e-4) == (sign > 0) and (found["down"] < 1e-4) == (sign < 0)
    assert found["rows"][0]["high"] == pytest.approx(sign)


def accuracy(gain: float, spread: float = 0):
    of = {"unbiased_accuracy": lambda lr, seed: 0.5 + gain * rise(lr) / rise(0.3)
          + wobble(seed, spread)}  # fmt: skip
    return runs(of)


def test_a_gain_that_grows_with_the_network_is_one_row_a_data_set():
    gains = {"fcn": 0.03, "resnet18": 0.23, "resnet50": 0.31}
    rows = {
        ("semi_synthetic", "colored_mnist", model, "lr"): accuracy(gain)
        for model, gain in gains.items()
    }
    found = learning_rates.size(opened(rows))
    assert found["effect"] == pytest.approx(0.28) and len(found["rows"]) == 1
    assert found["rows"][0]["trend"] == 1 and found["up"] == 1  # seeds that agree


def test_one_row_of_networks_is_decided_by_its_seeds():
    seeds = {"fcn": 0.03, "resnet18": 0.23}
    rows = {
        ("semi_synthetic", "colored_mnist", model, "lr"): accuracy(gain, 0.01)
        for model, gain in seeds.items()
    }
    found = learning_rates.size(opened(rows))
    assert found["effect"] == pytest.approx(0.2) and found["up"] < 0.01 < 0.99 < found["down"]
    assert 0 < found["low"] < 0.2 < found["high"] and found["rows"][0]["seeds"] == 3


def test_networks_are_compared_in_the_same_statistics():
    """In the paper's statistics where all have them, else all in running ones; never mixed."""
    paper = experiments.PAPER_STATISTICS
    gains = {"fcn": 0.1, "resnet18": {"running": 0.2, paper: 0.9}, "resnet50": {"running": 0.3}}

    def find(experiment, profile, key, statistics=None):
        of = gains.get(key[1], {}) if (profile, key[0]) == ("desk", "colored_mnist") else {}
        of = {statistics: of} if isinstance(of, float) else of
        return accuracy(of[statistics]) if statistics in of else None

    (row,) = learning_rates.size(find)["rows"]
    assert row["model"] == "3 networks" and row["effect"] == pytest.approx(0.2)
    gains["resnet50"][paper] = 0.7
    (row,) = learning_rates.size(find)["rows"]
    assert row["model"] == "3 networks" and row["effect"] == pytest.approx(0.6)


@pytest.mark.parametrize("other", [{"n_train": 60_000}, {"source_id": "digits"}])
def test_networks_at_another_size_or_of_another_source_are_not_compared(other):
    def row(gain, n_train=10_000, source_id="mnist"):
        ds = accuracy(gain)
        told = {"n_train": n_train, "source_id": source_id}
        return ds.assign_coords({k: ("run", np.full(ds.sizes["run"], v)) for k, v in told.items()})

    rows = {"fcn": row(0.1), "resnet18": row(0.3, **other), "resnet50": row(0.2)}
    rows = {("semi_synthetic", "colored_mnist", model, "lr"): ds for model, ds in rows.items()}
    (found,) = learning_rates.size(opened(rows))["rows"]
    assert found["model"] == "2 networks" and found["effect"] == pytest.approx(0.1)


def test_networks_on_other_data_are_not_compared():
    rows = {("semi_synthetic", "mnist_cifar", model, "lr"): accuracy(0.2)
            for model in ("fcn", "resnet18")}  # fmt: skip
    assert learning_rates.size(opened(rows))["rows"] == []


def test_the_order_of_two_rises_is_their_distance_in_log_lr():
    row = runs({
        "unbiased_accuracy": lambda lr, _: min(rise(lr), rise(0.03)),
        "prunability": lambda lr, _: min(rise(lr), rise(0.03)),
        "activation_compressibility": lambda lr, _: rise(lr),
    })  # fmt: skip
    found = learning_rates.order(opened({GRID[0]: row}))
    # halfway in log LR from 0.01 to 0.03, and from 0.01 to 0.3
    assert found["effect"] == pytest.approx((rise(0.3) - rise(0.03)) / 2)
    flat = row.assign(prunability=row["prunability"] * 0)
    assert learning_rates.order(opened({GRID[0]: flat}))["rows"] == []
