"""Probes against their definitions, written out in NumPy; what they must leave alone."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lrsc
from lrsc import attribution, metrics
from lrsc.datasets import Split
from lrsc.datasets.images import Images
from lrsc.training import evaluation
from lrsc.training.probes import (
    attribution_shares,
    dynamics,
    fixed_indices,
    fixed_loss_ratio,
    neurons,
)

BY_BIAS = {"ba_loss", "bc_loss", "ba_accuracy", "bc_accuracy", "loss_ratio", "bsi"}
ALWAYS = {
    "logit_norm", "csi", "parameter_norm", "gradient_norm", "sample_loss", "sample_margin",
    "loss_entropy",
}  # fmt: skip


def network(shape=(3, 8, 8), classes: int = 3, hidden: int = 12) -> nn.Module:
    """BatchNorm and dropout, so that the mode matters; in eval mode, with gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Dropout(0.5), nn.Linear(hidden, classes),
        )  # fmt: skip
        net[2].running_mean.normal_()
        net(torch.randn(6, *shape)).square().sum().backward()
    return net.eval()


def masked(dataset, core=None, spurious=None):
    train = dataclasses.replace(dataset.train, core_mask=core, spurious_mask=spurious)
    return dataclasses.replace(dataset, train=train)


def without_bias(dataset):
    return dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, bias=None))


@pytest.fixture(scope="module")
def waterbirds(tmp_path_factory):
    """Images on disk, with masks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRSC_CACHE", str(tmp_path_factory.mktemp("cache")))
        ds = lrsc.datasets.load("waterbirds", source="embedded", size=16, n_train=60)
        assert isinstance(ds.train.x, Images)
        yield ds


def in_memory(dataset):
    train = dataclasses.replace(dataset.train, x=dataset.train.x[:])
    return dataclasses.replace(dataset, train=train)


# -- dynamics ---------------------------------------------------------------------------------


def slow_selectivity(z, labels):
    z, found = np.abs(z), []
    for neuron in range(z.shape[1]):
        means = {k: z[labels == k, neuron].mean() for k in np.unique(labels)}
        best = max(means, key=means.get)
        rest = np.mean([mean for k, mean in means.items() if k != best])
        coverage = (z[labels == best, neuron] > 0).mean()
        found.append((means[best] - rest) / (means[best] + rest + 1e-6) * coverage)
    return found


def test_dynamics_against_their_definitions(own_dataset):
    net, train = network(), own_dataset.train
    found = dynamics(own_dataset)(net)
    assert set(found) == BY_BIAS | ALWAYS
    with torch.no_grad():
        z = net[:4](train.inputs(train.x))
        logits = net[5](z).double().numpy()
    y, conflicting = train.y.numpy(), train.conflicting.numpy()
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(60), y]
    right = logits.argmax(1) == y
    expected = {
        "ba_loss": losses[~conflicting].mean(),
        "bc_loss": losses[conflicting].mean(),
        "ba_accuracy": right[~conflicting].mean(),
        "bc_accuracy": right[conflicting].mean(),
        "loss_ratio": losses[conflicting].sum() / losses.sum(),
        "logit_norm": np.sqrt((logits**2).sum(1)).mean(),
        "csi": slow_selectivity(z.double().numpy(), y),
        "bsi": slow_selectivity(z.double().numpy(), train.bias.numpy()),
        "parameter_norm": [np.sqrt((p.detach().double().numpy() ** 2).sum())
                           for _, p in net.named_parameters()],
        "gradient_norm": [np.sqrt((p.grad.double().numpy() ** 2).sum())
                          for _, p in net.named_parameters()],
    }  # fmt: skip
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-5, err_msg=name)
        assert not found[name].requires_grad


def test_selectivities_are_those_of_the_metrics_bit_for_bit(digits):
    net = lrsc.models.build("fcn", digits.input_shape, 10)
    found = dynamics(digits, n=700)(net)
    chosen = torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(0))[:700]
    split = digits.train.take(chosen)
    parts = split.inputs(split.x).split(lrsc.models.BATCH)
    z = torch.cat([lrsc.models.representation(net, x) for x in parts])
    assert torch.equal(found["csi"], metrics.class_selectivity(z, split.y))
    assert torch.equal(found["bsi"], metrics.class_selectivity(z, split.bias))


def test_bias_labels_may_have_gaps(own_dataset):
    train = dataclasses.replace(own_dataset.train, bias=own_dataset.train.bias * 5 + 3)
    shifted = dataclasses.replace(own_dataset, train=train)
    net = network()
    assert torch.equal(dynamics(shifted)(net)["bsi"], dynamics(own_dataset)(net)["bsi"])


def test_norms_of_large_parameters_are_exact_to_roundoff(own_dataset):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 20_000), nn.Linear(20_000, 3))
    expected = [float(p.detach().double().norm()) for p in net.parameters()]
    assert dynamics(own_dataset)(net)["parameter_norm"].tolist() == pytest.approx(
        expected, rel=1e-5
    )


def test_without_gradients_their_norms_are_nan(own_dataset):
    net = network()
    net[1].weight.grad = None
    found = dynamics(own_dataset)(net)["gradient_norm"]
    assert found.isnan().tolist() == [True] + [False] * 5
    net.zero_grad()
    assert dynamics(own_dataset)(net)["gradient_norm"].isnan().tolist() == [True] * 6


def test_without_bias_labels_the_rest_is_the_same(own_dataset):
    net = network()
    found, rest = (dynamics(ds)(net) for ds in (own_dataset, without_bias(own_dataset)))
    assert set(rest) == ALWAYS
    assert all(torch.equal(rest[name], found[name]) for name in ALWAYS)


def test_without_conflicting_samples_their_mean_is_nan(own_dataset):
    train = dataclasses.replace(own_dataset.train, bias=own_dataset.train.y)
    found = dynamics(dataclasses.replace(own_dataset, train=train))(network())
    assert math.isnan(found["bc_loss"]) and math.isnan(found["bc_accuracy"])
    assert found["loss_ratio"] == 0 and found["ba_loss"] > 0


def test_the_fixed_samples_are_the_same_every_time_and_n_of_them(own_dataset):
    torch.manual_seed(1)
    first = dynamics(own_dataset, n=20)(network())
    torch.manual_seed(2)
    probe = dynamics(own_dataset, n=20)
    assert torch.get_rng_state().equal(torch.Generator().manual_seed(2).get_state())
    for _ in range(2):
        again = probe(network())
        assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["csi"], dynamics(own_dataset, n=21)(network())["csi"])
    assert dynamics(own_dataset, n=60)(network()).keys() == first.keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": torch.zeros(60, dtype=torch.int64)}, "'own' show one class only"),
        ({"bias": torch.ones(60, dtype=torch.int64)}, "'own' show one bias value only"),
    ],
)
def test_selectivity_of_a_single_group_is_refused(own_dataset, change, words):
    train = dataclasses.replace(own_dataset.train, **change)
    with pytest.raises(ValueError, match=words):
        dynamics(dataclasses.replace(own_dataset, train=train))
    with pytest.raises(ValueError, match="the 1 fixed training samples"):
        dynamics(own_dataset, n=1)


@pytest.mark.parametrize("make", [fixed_loss_ratio, dynamics, attribution_shares])
@pytest.mark.parametrize("n", [0, -3, 2.5])
def test_a_number_of_samples_below_1_is_refused(parity, make, n):
    with pytest.raises(ValueError, match=f"n must be a whole number of samples >= 1, found {n}"):
        make(parity, n=n)


# -- the loss ratio ---------------------------------------------------------------------------


def test_fixed_loss_ratio_against_its_definition(own_dataset):
    net, probe = network(), fixed_loss_ratio(own_dataset)
    train = own_dataset.train
    with torch.no_grad():
        shares = net(train.inputs(train.x)).double().softmax(1)
    losses = -shares[torch.arange(60), train.y].log()
    assert float(probe(net)) == pytest.approx(
        float(losses[train.conflicting].sum() / losses.sum()), rel=1e-6
    )
    few = fixed_loss_ratio(own_dataset, n=20)(net)
    chosen = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:20]
    conflicting = train.conflicting[chosen]
    expected = losses[chosen][conflicting].sum() / losses[chosen].sum()
    assert float(few) == pytest.approx(float(expected), rel=1e-6) and conflicting.any()


def test_fixed_loss_ratio_needs_bias_labels(own_dataset):
    with pytest.raises(ValueError, match="bias labels are missing"):
        fixed_loss_ratio(without_bias(own_dataset))


# -- attribution shares -----------------------------------------------------------------------


def regions() -> tuple[torch.Tensor, torch.Tensor]:
    """Rows 0 to 2 are core; of the other rows a column is spurious, each sample has its own."""
    core = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    core[:, :, :3] = True
    spurious = torch.zeros(60, 1, 8, 8, dtype=torch.bool)
    for i in range(60):
        spurious[i, :, 3:, i % 5] = True
    return core, spurious


def test_attribution_shares_against_their_definition(own_dataset):
    net, (core, spurious) = network(), regions()
    found = attribution_shares(masked(own_dataset, core, spurious), n=9, steps=30)(net)
    chosen = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:9]
    train = own_dataset.train
    x, y = train.inputs(train.x[chosen]), train.y[chosen]
    a = attribution.integrated_gradients(net, x, y, steps=30)
    maps = a.sum(1).abs().double().numpy()
    expected = {"core": [], "spurious": [], "noise": []}
    for one, left in zip(maps, spurious[chosen, 0].numpy(), strict=True):
        inside = core[0, 0].numpy()
        expected["core"].append(one[inside].sum() / one.sum())
        expected["spurious"].append(one[left].sum() / one.sum())
        expected["noise"].append(one[~inside & ~left].sum() / one.sum())
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert float(found[name]) == pytest.approx(np.mean(values), rel=1e-5)
    assert sum(map(float, found.values())) == pytest.approx(1)


def test_shares_of_vectors(parity):
    net = network((14,), 2)
    found = attribution_shares(parity, n=5, steps=10)(net)
    chosen = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:5]
    a = attribution.integrated_gradients(net, parity.train.x[chosen], parity.train.y[chosen], 10)
    part = (a.abs() / a.abs().sum(1, keepdim=True)).mean(0)
    expected = [part[:3].sum(), part[3], part[4:].sum()]  # 3 core bits, 1 spurious, 10 noise
    assert [float(found[k]) for k in ("core", "spurious", "noise")] == pytest.approx(
        [float(v) for v in expected], rel=1e-5
    )


def test_shares_of_the_regions_there_are(own_dataset):
    core, _ = regions()
    found = attribution_shares(masked(own_dataset, core))(network())
    assert set(found) == {"core", "noise"}
    assert float(found["core"] + found["noise"]) == pytest.approx(1)
    assert set(attribution_shares(masked(own_dataset, None, core))(network())) == {
        "spurious",
        "noise",
    }


def test_samples_without_attribution_are_left_out(own_dataset):
    core, _ = regions()
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3, bias=False))
    x = own_dataset.train.x.clone()
    x[::2] = 0  # the attribution of an input of zeros is zero
    split = Split(x, own_dataset.train.y, core_mask=core)
    ds = dataclasses.replace(own_dataset, train=split)
    chosen = torch.arange(1, 60, 2)
    a = attribution.integrated_gradients(net, split.inputs(x[chosen]), split.y[chosen])
    expected = attribution.share(a, core).mean()
    found = attribution_shares(ds, n=60)(net)["core"]
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    nn.init.zeros_(net[1].weight)
    assert math.isnan(attribution_shares(ds)(net)["core"])


def test_shares_without_masks_are_refused(own_dataset):
    with pytest.raises(ValueError, match="data set 'own' has no masks.*core_mask"):
        attribution_shares(own_dataset)
    with pytest.raises(ValueError, match="core_mask must be broadcastable"):
        attribution_shares(masked(own_dataset, torch.ones(1, 1, 9, 8, dtype=torch.bool)))


# -- neurons ----------------------------------------------------------------------------------


def test_neurons_against_a_loop_over_samples_and_neurons(own_dataset):
    core, spurious = regions()
    ds, net = masked(own_dataset, core, spurious), network()
    found = neurons(ds, n=5)(net)
    first = net[1]
    np.testing.assert_allclose(found["gradient_norm"], first.weight.grad.norm(dim=1), rtol=1e-6)
    at = fixed_indices(60, 5)
    for k in range(12):
        shares = []
        for x, mask in zip(ds.train.inputs(ds.train.x[at]), spurious[at, 0], strict=True):
            x = x[None].clone().requires_grad_()
            z = net[:4](x)[0, k]
            (g,) = torch.autograd.grad(z, x)
            a = (g * x)[0].detach().sum(0).abs()
            if float(a.sum()):
                shares.append(float((a * mask).sum() / a.sum()))
        if shares:
            assert found["spurious_share"][k] == pytest.approx(np.mean(shares), rel=1e-4)
        else:
            assert found["spurious_share"][k].isnan()


def test_in_a_relu_network_without_biases_it_is_integrated_gradients(own_dataset):
    net = lrsc.models.build("fcn", own_dataset.input_shape, 7, hidden=(9, 7))
    core, spurious = regions()
    ds = masked(own_dataset, core, spurious)
    found = neurons(ds, n=4)(net)["spurious_share"]
    hidden = nn.Sequential(*list(net.children())[:-1])
    at = fixed_indices(60, 4)
    x = ds.train.inputs(ds.train.x[at])
    for k in range(7):
        a = attribution.integrated_gradients(hidden, x, torch.full((4,), k), steps=20)
        expected = attribution.share(a, spurious[at]).nanmean()
        torch.testing.assert_close(found[k], expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_neurons_need_a_spurious_mask_and_two_layers(own_dataset):
    with pytest.raises(ValueError, match="data set 'own' has no masks of spurious regions"):
        neurons(own_dataset)
    probe = neurons(masked(own_dataset, *regions()))
    with pytest.raises(ValueError, match="one layer only"):
        probe(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))


# -- what all probes share --------------------------------------------------------------------

PROBES = {
    "fixed_loss_ratio": fixed_loss_ratio,
    "dynamics": dynamics,
    "attribution_shares": attribution_shares,
    "neurons": neurons,
}
every_probe = pytest.mark.parametrize("make", PROBES.values(), ids=PROBES)


@every_probe
@pytest.mark.parametrize("gradients", [True, False])
def test_a_probe_changes_nothing(own_dataset, make, gradients):
    net, probe = network(), make(masked(own_dataset, *regions()))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    before = [p.grad.clone() for p in net.parameters()]
    random = torch.get_rng_state()
    with torch.set_grad_enabled(gradients):
        probe(net)
    assert torch.equal(torch.get_rng_state(), random) and not net.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), before, strict=True))


@every_probe
def test_a_probe_waits_for_no_device(own_dataset, make):
    """On the meta device tensors have no values: to ask for one is an error."""
    probe = make(masked(own_dataset, *regions()))
    here = probe(network())
    there = probe(network().to("meta"))
    if isinstance(here, torch.Tensor):
        here, there = {"": here}, {"": there}
    assert {k: v.shape for k, v in here.items()} == {k: v.shape for k, v in there.items()}
    assert all(v.is_meta for v in there.values())


@every_probe
def test_images_on_disk_are_read_once_and_give_the_same(waterbirds, make, monkeypatch):
    net = network((3, 16, 16), 2)
    probes = [make(ds, n=25) for ds in (waterbirds, in_memory(waterbirds))]
    monkeypatch.setattr(Images, "_read", None)
    monkeypatch.setattr(Images, "batches", None)
    found = [probe(net) for probe in probes]
    streamed, loaded = (v if isinstance(v, dict) else {"": v} for v in found)
    for name, value in loaded.items():
        torch.testing.assert_close(streamed[name], value, rtol=0, atol=0, equal_nan=True)


def test_probes_in_a_training(own_dataset):
    probes = {
        "dynamics": dynamics(own_dataset, n=30),
        "share": attribution_shares(masked(own_dataset, *regions()), n=4, steps=5),
    }
    config = lrsc.TrainConfig(lr=0.1, max_steps=5, batch_size=20, stop_at_accuracy=None)
    every = {"dynamics": 2, "share": 4}
    (run,) = lrsc.fit("fcn", own_dataset, config, probes=probes, probe_every=every)
    (alone,) = lrsc.fit("fcn", own_dataset, config)
    assert run.curves["dynamics_step"].tolist() == [0, 2, 4, 5]
    assert run.curves["share_step"].tolist() == [0, 4, 5]
    assert run.curves["dynamics_csi"].shape == (4, 1024)
    assert run.curves["dynamics_gradient_norm"].isnan().tolist() == [[False] * 3] * 3 + [[True] * 3]
    assert run.curves["dynamics_parameter_norm"].shape == (4, 3)
    assert float(run.curves["share_core"][2] + run.curves["share_noise"][2]) < 1
    for with_probes, without in zip(run.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(with_probes, without)


def test_the_gradient_is_that_of_the_iterations_batch(own_dataset):
    def linear():
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))

    config = lrsc.TrainConfig(lr=0.5, max_steps=1, batch_size=60, stop_at_accuracy=None)
    (run,) = lrsc.fit(linear, own_dataset, config, probes={"p": dynamics(own_dataset)})
    before, after = run.curves["p_parameter_norm"].tolist()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        old, new = list(linear().parameters()), list(run.model.parameters())
        steps = [float((p - q).norm()) / 0.5 for p, q in zip(old, new, strict=True)]
        assert before == pytest.approx([float(p.norm()) for p in old], rel=1e-5)
        assert after == pytest.approx([float(p.norm()) for p in new], rel=1e-5)
    assert run.curves["p_gradient_norm"][0].tolist() == pytest.approx(steps, rel=1e-4)


# -- samples of unknown bias --------------------------------------------------------------------


def test_samples_of_unknown_bias_are_left_out_of_what_compares_groups(own_dataset):
    """As if they were not there, in probes, curves, held-out groups and selection."""
    train, hidden = own_dataset.train, torch.arange(60) % 3 == 0
    bias = torch.where(hidden, -1, train.bias)
    partly = dataclasses.replace(train, bias=bias, bias_unknown=-1)
    data = dataclasses.replace(own_dataset, train=partly, val=partly)
    shown = train.take((~hidden).nonzero()[:, 0])
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.ReLU(), nn.Linear(12, 3))

    (run,) = lrsc.fit(
        lambda: copy.deepcopy(net), data, lrsc.TrainConfig(batch_size=60, max_steps=1),
        probes={"all": dynamics(data, 60), "fixed": fixed_loss_ratio(data, 60)}, progress=False,
    )  # fmt: skip

    logits = net.eval()(shown.inputs(shown.x)).detach()
    losses, wrong = F.cross_entropy(logits, shown.y, reduction="none"), shown.bias != shown.y
    expected = float(losses[wrong].sum() / losses.sum())
    for name in ("loss_ratio", "all_loss_ratio", "fixed"):
        assert float(run.curves[name][0]) == pytest.approx(expected, rel=1e-5), name
    assert float(run.curves["all_bc_loss"][0]) == pytest.approx(float(losses[wrong].mean()))
    assert float(run.curves["all_ba_loss"][0]) == pytest.approx(float(losses[~wrong].mean()))
    z = lrsc.models.representation(net, shown.inputs(shown.x))
    bsi = lrsc.metrics.class_selectivity(z, shown.bias)
    torch.testing.assert_close(run.curves["all_bsi"][0], bsi)
    (worst,) = lrsc.fit(
        lambda: copy.deepcopy(net), data, progress=False,
        config=lrsc.TrainConfig(batch_size=60, max_steps=1, select_by="worst_group"),
    )  # fmt: skip
    predicted = worst.model(shown.inputs(shown.x)).argmax(1)
    accuracy = lrsc.metrics.worst_group_accuracy(predicted, shown.y, shown.bias)
    assert float(worst.curves["validation_accuracy"][0]) == pytest.approx(float(accuracy))
    held = evaluation.splits(
        dataclasses.replace(data, val=None), lrsc.TrainConfig(validation_share=0.5)
    )
    assert len(held[0]) + len(held[1]) == 60


@pytest.mark.parametrize(
    "look",
    [
        lambda net: net[-1].bias,
        lambda net: net[-1].weight[0],
        lambda net: {"a": net[-1].weight.data, "b": net[-1].bias[0]},
    ],
)
def test_live_tensors_of_the_network_are_copied(own_dataset, look):
    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3))

    def copied(net):
        found = look(net)
        named = found.items() if isinstance(found, dict) else [("", found)]
        return {key: value.detach().clone() for key, value in named}

    config = lrsc.TrainConfig(max_steps=6, batch_size=20, lr=0.1, stop_at_accuracy=None)
    runs = [
        lrsc.fit(net, own_dataset, config, probes={"p": p}, probe_every=2, progress=False)[0]
        for p in (look, copied)
    ]
    ours, theirs = ([v for k, v in run.curves.items() if k.startswith("p")] for run in runs)
    ours = [v for v in ours if v.dtype == torch.float32]
    theirs = [v for v in theirs if v.dtype == torch.float32]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(not torch.equal(values[0], values[-1]) for values in ours)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([None], "probe 'p' must return a tensor"),
        (["text"], "probe 'p' must return a tensor"),
        ([torch.ones(2), torch.ones(3)], r"probe 'p' returns shape \(3,\) after \(2,\)"),
    ],
)
def test_what_is_no_curve_is_refused_at_once(own_dataset, values, said):
    given = iter(values)
    config = lrsc.TrainConfig(max_steps=9, batch_size=20, stop_at_accuracy=None)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    with pytest.raises(ValueError, match=said):
        lrsc.fit(net, own_dataset, config, probes={"p": lambda net: next(given)}, probe_every=1)
