"""Measures of one model: the layer whose input is the representation."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import lrsc
from lrsc.measures import result


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 7), nn.ReLU(), nn.Linear(7, 3)
    )


def slow_sparsity(net, x, layers: int) -> float:
    """Mean share of zeros after the first linear layers and their ReLUs, in NumPy."""
    z = x.numpy().reshape(len(x), -1)
    for layer in [m for m in net if isinstance(m, nn.Linear)][:layers]:
        z = np.maximum(z @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), 0)
    return float(np.mean([np.mean(row == 0) for row in z]))


@pytest.mark.parametrize(("layer", "layers"), [(None, 2), ("5", 2), ("3", 1)])
def test_the_representation_is_the_input_of_the_layer_named(own_dataset, layer, layers):
    trained, test = net(), own_dataset.test
    found = lrsc.measure(trained, own_dataset, layer=layer, methods=[])
    expected = slow_sparsity(trained, test.inputs(test.x), layers)
    assert float(found["sparsity"]) == pytest.approx(expected, abs=1e-6) and 0 < expected < 1


def test_the_layer_changes_what_is_of_the_representation_and_of_pruning(own_dataset):
    last, first = (lrsc.measure(net(), own_dataset, layer=layer) for layer in (None, "3"))
    changed = {n for n in last if not np.array_equal(last[n], first[n], equal_nan=True)}
    of_representation = {
        "activation_compressibility", "sparsity", "pq_index", "class_separation", "csi",
        "csi_all", "bsi", "bsi_all",
    }  # fmt: skip
    pruned = {name for name in last if "prun" in name}
    assert set(last) == set(first) and of_representation <= changed <= of_representation | pruned
    kappas = np.arange(1, 10) / 10
    curve = lrsc.pruning.pruning_curve(net(), own_dataset.test, kappas, layer="3")
    assert np.array_equal(first["accuracy_pruned_column"], curve)


def test_a_layer_that_is_not_there_is_named_with_the_nearest(own_dataset):
    with pytest.raises(ValueError, match=r"unknown layer '55'. Did you mean '5'\?.*1, 3, 5"):
        lrsc.measure(net(), own_dataset, layer="55")


@pytest.mark.parametrize(
    ("pruned", "values", "expected"),
    [(10_000, 784, 100), (2000, 3 * 224 * 224, 100), (100, 784, 20), (24, 3 * 224 * 224, 1)],
)
def test_attributions_are_of_so_few_samples_that_pruning_takes_longer(pruned, values, expected):
    assert result.attributed(pruned, values) == expected


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (nn.Flatten(), None, "has no parameters"),
        (net(), "parity", "dataset must be a BiasedDataset"),
        (net(), "test", "dataset must be a BiasedDataset"),
        (net(), "empty", "test split holds 0 samples"),
    ],
)
def test_what_cannot_be_measured_is_named(own_dataset, model, data, said):
    given = {
        None: own_dataset, "parity": "parity", "test": own_dataset.test,
        "empty": dataclasses.replace(
            own_dataset, test=own_dataset.test.take(torch.zeros(0, dtype=torch.int64))
        ),
    }[data]  # fmt: skip
    with pytest.raises(ValueError, match=said):
        lrsc.measure(model, given)


@pytest.mark.parametrize("statistics", ["running", ["running", "batch"]])
def test_a_run_that_diverged_has_measures_that_are_nan(own_dataset, statistics):
    config = lrsc.TrainConfig(lr=1e30, max_steps=20, batch_size=20, stop_at_accuracy=None)
    (run,) = lrsc.fit(net, own_dataset, config, progress=False)
    assert run.status == "diverged"
    found = lrsc.measure(run, own_dataset, statistics=statistics)
    usual = lrsc.measure(net(), own_dataset, statistics=statistics)
    assert all(found[name].isnull().all() for name in found)
    assert found.data_vars.keys() <= usual.data_vars.keys()
    assert all(found[name].dims == usual[name].dims for name in found if name in usual)


def test_a_dead_network_says_why_it_has_no_selectivity(own_dataset):
    dead = net()
    with torch.no_grad():
        dead[3].bias.fill_(-1e6)
        dead[5].bias.copy_(torch.tensor([0.0, 1, 2]))
    found = lrsc.measure(dead, own_dataset, layer="5", methods=[])
    assert found["csi"].isnull() and "no neuron is active" in found["csi"].attrs["note"]


@pytest.mark.parametrize("kappas", [0.5, (k / 4 for k in (1, 2)), np.array([0.5])])
def test_kappas_in_any_form(own_dataset, kappas):
    test = own_dataset.test
    assert len(lrsc.pruning.pruning_curve(net(), test, kappas)) in (1, 2)
