"""Methods of one's own, and what pruning costs each group."""

import numpy as np
import pytest
import torch
from test_pruning import every_network, images, make
from torch import nn

import lrsc
from lrsc import metrics, models, pruning
from lrsc.datasets import BiasedDataset, Split

NAMED = {
    "column": lambda layer: layer.weight.flatten(1).norm(dim=1),
    "magnitude": lambda layer: layer.weight.abs(),
}


@every_network
@pytest.mark.parametrize("method", pruning.METHODS)
@pytest.mark.parametrize("scope", pruning.SCOPES)
def test_the_named_methods_as_functions(network, method, scope):
    net = make(network)
    models.representation(net, images().inputs(images().x))  # which shows what the classifier is
    by_name = pruning.prune(net, 0.4, method, scope)
    own = pruning.prune(net, 0.4, NAMED[method], scope)
    for one, other in zip(by_name.parameters(), own.parameters(), strict=True):
        assert torch.equal(one, other)
    curves = [pruning.pruning_curve(net, images(), (0.2, 0.7), how, scope)
              for how in (method, NAMED[method])]  # fmt: skip
    assert torch.equal(*curves)


def test_a_layer_is_the_networks_own_with_its_gradients():
    net, split = make("conv1d"), images(20)
    nn.functional.cross_entropy(net(split.inputs(split.x)), split.y).backward()
    seen = []

    def taylor(layer):
        seen.append(layer)
        return (layer.weight * layer.weight.grad).abs()

    pruned = pruning.prune(net, 0.5, taylor)
    kept = {p for name, p in net.named_parameters() if name in pruning.prunable(net)}
    assert {layer.weight for layer in seen} == kept
    scores = torch.cat([taylor(layer).flatten() for layer in list(seen)])
    zero = torch.cat([(pruned.get_parameter(n) == 0).flatten() for n in pruning.prunable(net)])
    assert zero.sum() == round(0.5 * len(scores)) and scores[zero].max() <= scores[~zero].min()


def test_at_random_goes_a_share_of_the_outputs_the_same_in_every_call():
    torch.manual_seed(0)
    net = lrsc.models.build("fcn", (10,), 3, hidden=(20, 20))
    one, two = (pruning.prune(net, 0.4, "random") for _ in range(2))
    for name, weight in pruning.prunable(one).items():
        assert int((weight == 0).all(1).sum()) == 8, name
        assert torch.equal(weight, two.state_dict()[name])


def test_outputs_at_random_and_whole_number_scores():
    net = make("mlp")
    found = pruning.prune(net, 0.4, lambda layer: torch.rand(len(layer.weight)))
    assert (found[1].weight == 0).all(1).sum() == 6
    last = pruning.prune(net, 0.4, lambda layer: -torch.arange(len(layer.weight)))
    assert (last[1].weight[-6:] == 0).all() and (last[1].weight[:-6] != 0).any(1).all()
    assert (last[1].bias[-6:] == 0).all()
    shrunk = pruning.shrink(net.eval(), 0.4, images(4).inputs(images(4).x), NAMED["column"])
    assert shrunk.zeroed == pruning.shrink(net, 0.4, (3, 8, 8)).zeroed


MIXED = {"of": 0}


def mixed(layer):
    MIXED["of"] += 1
    return layer.weight if MIXED["of"] % 2 else layer.weight[:, 0]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (lambda layer: layer.weight.sum(0), r"layer '1'.*of shape \(15,\), one an output, or "
         r"\(15, 192\), one a weight; found shape \(192,\)"),
        (lambda layer: 1.0, "must return a tensor of scores for layer '1'.*found 1.0"),
        (lambda layer: layer.weight * torch.nan, "NaN among the scores of layer '1'"),
        (mixed, "scores of outputs for some layers and of weights for others"),
        (3, "unknown pruning method"),
    ],
)  # fmt: skip
def test_scores_that_are_none_are_refused(method, words):
    for call in (pruning.prune, lambda net, *a: pruning.pruning_curve(net, images(), [a[0]], a[1])):
        with pytest.raises(ValueError, match=words):
            call(make("mlp"), 0.5, method)


def test_results_have_no_name_for_a_method_of_ones_own():
    split = images(20)
    data = BiasedDataset("own", split, split, n_classes=10)
    with pytest.raises(ValueError, match="unknown pruning method"):
        lrsc.measure(make("mlp"), data, methods=[NAMED["column"]])


# -- groups ---------------------------------------------------------------------------------------


def grouped(unknown: bool = True) -> Split:
    split = images(120)
    y = torch.arange(120) % 3
    bias = torch.where(torch.arange(120) % 4 == 0, (y + 1) % 2, y)
    bias[y == 2] = 3  # which leaves groups empty
    if unknown:
        bias[::7] = -1
    return Split(split.x, y, bias, mean=split.mean, std=split.std, bias_unknown=-1)


@pytest.mark.parametrize("network", ["fcn", "residual"])
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_curves_of_groups_are_those_of_a_slow_loop(network, statistics):
    net, kappas = make(network), (0.0, 0.3, 0.8)
    split = grouped(unknown=statistics == "running")
    found = pruning.group_curves(net, split, kappas, statistics=statistics)
    known = split.known
    y, bias = split.y[known], split.bias[known]
    assert found["kappa"].values.tolist() == list(kappas)
    for i, kappa in enumerate(kappas):
        pruned = pruning.prune(net, kappa)
        pred = models.predict(pruned, split, statistics).argmax(1)[known]
        groups = metrics.group_accuracies(pred, y, bias).numpy()
        np.testing.assert_allclose(found["group_accuracy"][i], groups, atol=0.04)
        assert float(found["worst_group_accuracy"][i]) == np.nanmin(found["group_accuracy"][i])
        for name, some in (("aligned", y == bias), ("conflicting", y != bias)):
            expected = float((pred == y)[some].double().mean())
            assert float(found[f"{name}_accuracy"][i]) == pytest.approx(expected, abs=0.02)
    for k in range(3):
        for b in range(4):
            n = int(((y == k) & (bias == b)).sum())
            assert found["samples"][k, b] == n
            assert bool(found["group_accuracy"][:, k, b].isnull().all()) == (n == 0)
    assert int(found["samples"].sum()) == len(y)


def test_all_samples_together_are_the_plain_curve():
    net, split = make("residual"), grouped(unknown=False)
    found = pruning.group_curves(net, split, method="magnitude")
    whole = (found["group_accuracy"].fillna(0) * found["samples"]).sum(("class", "bias")) / 120
    plain = pruning.pruning_curve(net, split, method="magnitude")
    np.testing.assert_allclose(whole, plain, atol=1e-12)


def test_curves_of_groups_need_groups():
    split = images(10)
    with pytest.raises(ValueError, match="bias labels are missing"):
        pruning.group_curves(make("mlp"), split)
    unknown = Split(split.x, split.y, torch.full((10,), -1), bias_unknown=-1)
    with pytest.raises(ValueError, match="no sample whose bias label is known"):
        pruning.group_curves(make("mlp"), unknown)
