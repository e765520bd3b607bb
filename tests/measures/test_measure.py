"""Measures of one model: the layer whose input is the representation."""

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
