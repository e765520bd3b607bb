"""Everyday kinds of numbers are taken wherever a number enters, and mean the same run."""

import decimal
import fractions
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lrsc
from lrsc import errors, pages, pruning
from lrsc.cli import main
from lrsc.config import RunConfig

WHOLE = {
    "numpy int64": np.int64, "numpy uint8": np.uint8, "numpy int16": np.int16,
    "array": lambda n: np.array(n), "torch": torch.tensor,
    "torch int32": lambda n: torch.tensor(n).int(),
}  # fmt: skip
REAL = {
    "numpy float64": np.float64, "numpy float32": np.float32, "array": lambda v: np.array(v),
    "array float32": lambda v: np.array(v, np.float32), "fraction": fractions.Fraction,
    "torch": torch.tensor, "torch double": lambda v: torch.tensor(v, dtype=torch.float64),
}  # fmt: skip
FEW = lrsc.TrainConfig(max_steps=2)


@given(st.sampled_from(sorted(WHOLE)), st.integers(1, 200))
def test_whole_numbers_make_the_same_configuration(kind, n):
    value = WHOLE[kind](n)
    settings = dict.fromkeys(("batch_size", "max_epochs", "max_steps"), value)
    found = RunConfig("parity", "fcn", lrsc.TrainConfig(**settings), value, {"n_train": value})
    settings = dict.fromkeys(settings, n)
    expected = RunConfig("parity", "fcn", lrsc.TrainConfig(**settings), n, {"n_train": n})
    assert found == expected and found.to_json() == expected.to_json()
    assert (
        errors.is_whole(value, 1) and errors.is_number(value) and type(errors.plain(value)) is int
    )


@given(st.sampled_from(sorted(REAL)), st.integers(1, 9999), st.integers(0, 6))
def test_real_numbers_make_the_same_configuration(kind, digits, power):
    number = float(f"{digits}e-{power}")
    value = REAL[kind](number)
    assert lrsc.TrainConfig(lr=value) == lrsc.TrainConfig(lr=number)
    assert RunConfig("parity", "fcn", data={"rho": value}).to_json() == (
        RunConfig("parity", "fcn", data={"rho": number}).to_json()
    )


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), torch.tensor(True), "1", None, 1.5, [1], np.array([1]), torch.ones(2),
     2**53 + 1, np.float64("nan"), float("inf"), decimal.Decimal(1), 1j, np.complex64(1)],
)  # fmt: skip
def test_what_is_no_whole_number_is_still_refused(value):
    assert not errors.is_whole(value)
    with pytest.raises(ValueError, match="batch_size must be a whole number >= 1"):
        lrsc.TrainConfig(batch_size=value)


@pytest.fixture(scope="module")
def data():
    return lrsc.datasets.load("parity", n_train=np.int64(200), rho=np.float32(0.1))


def test_a_data_set_is_that_of_pythons_numbers(data):
    assert torch.equal(data.train.x, lrsc.datasets.load("parity", n_train=200, rho=0.1).train.x)


@pytest.mark.parametrize(
    "arguments",
    [
        {"seeds": np.arange(2)}, {"seeds": torch.arange(2)}, {"seeds": range(2)},
        {"lrs": np.float32([0.01, 0.1])}, {"lrs": torch.tensor([0.01, 0.1])},
        {"lrs": np.array([0.01, 0.1])}, {"lrs": (0.01, 0.1)},
    ],
    ids=str,
)  # fmt: skip
def test_fit_takes_arrays_of_learning_rates_and_seeds(data, arguments):
    found = lrsc.fit("fcn", data, FEW, progress=False, **arguments)
    expected = [(lr, 0) for lr in (0.01, 0.1)] if "lrs" in arguments else [(0.1, 0), (0.1, 1)]
    assert [(run.config.lr, run.seed) for run in found] == expected


def test_measures_pruning_and_attributions_take_them(data):
    (run,) = lrsc.fit("fcn", data, FEW, progress=False)
    x, y = data.test.inputs(data.test.x[:2]), data.test.y[:2]
    steps = [
        lrsc.attribution.integrated_gradients(run.model, x, y, steps=n) for n in (5, np.int64(5))
    ]
    assert torch.equal(*steps)
    for share in (torch.tensor(0.5), np.float32(0.5), np.array(0.5), fractions.Fraction(1, 2)):
        pruned = lrsc.pruning.prune(run.model, share)
        assert pruning.sparsity_of(pruned) == pruning.sparsity_of(
            lrsc.pruning.prune(run.model, 0.5)
        )
    curves = [
        pruning.pruning_curve(run.model, data.test, kappas)
        for kappas in ([0.3, 0.6], np.array([0.3, 0.6]), torch.tensor([0.3, 0.6]))
    ]
    assert torch.equal(curves[0], curves[1]) and torch.equal(curves[0], curves[2])
    few = lrsc.measure(run.model, data, samples=np.int64(50), prune_samples=torch.tensor(60))
    assert few.equals(lrsc.measure(run.model, data, samples=50, prune_samples=60))


@pytest.mark.parametrize(
    ("given_lrs", "expected"),
    [
        (["1e-3", "5e-1"], (0.001, 0.5)),  # what YAML 1.1 makes of [1e-3, 5e-1]
        ("5e-2", (0.05,)), (np.logspace(-2, -1, 2), (0.01, 0.1)), ("[1e-3, 0.5]", (0.001, 0.5)),
        (np.float64(0.1), (0.1,)), (torch.tensor([0.25, 0.5]), (0.25, 0.5)),
    ],
)  # fmt: skip
def test_a_notebooks_parameters_may_be_such_numbers(given_lrs, expected):
    usual = {"dataset": "parity", "model": "fcn", "profile": "quick"}
    found = pages.parameters(usual | {"lrs": given_lrs, "seeds": list(np.arange(2))}, "synthetic")
    assert found.lrs == expected and found.seeds == (0, 1)
    assert json.dumps(found.seeds) == "[0, 1]"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--set stop_at_accuracy=None", None), ("--set stop_at_accuracy=null", None),
     ("--model-option hidden=(20,20)", [20, 20]), ("--model-option hidden=[20,20]", [20, 20])],
)  # fmt: skip
def test_the_command_line_takes_values_as_python_writes_them(monkeypatch, option, value):
    seen = []

    def record(configs, *_, **__):
        seen.extend(configs)
        raise ValueError("enough")

    monkeypatch.setattr("lrsc.sweep.run", record)
    line = f"run parity fcn --profile quick {option}".split()
    assert main(line) == 2
    (config,) = seen
    widths = dict(config.model_options).get("hidden", ())
    assert value in (config.train.stop_at_accuracy, list(widths))
