"""Low against high LR: the rule, the comparison on small runs, cross-fitted groups, tests."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
import xarray as xr

from lrsc import cli, experiments, plots, results, sweep
from lrsc.datasets import cifar10
from lrsc.pages import mechanism
from lrsc.runs import load
from lrsc.studies import contrast
from lrsc.training.probes import fixed_indices


def test_the_rule_against_a_slow_loop():
    rng = np.random.default_rng(0)
    low, high = rng.random((5, 200)) < 0.3, rng.random((4, 200)) < 0.7
    found = contrast.only_high(low, high, at_least=0.75, at_most=0.4)
    for i in range(200):
        right_high, right_low = sum(high[:, i]) / 4, sum(low[:, i]) / 5
        assert found[i] == (right_high >= 0.75 and right_low <= 0.4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.ones((1, 3), bool), np.ones((1, 4), bool)), "same n samples"),
        ((np.ones((0, 3), bool), np.ones((1, 3), bool)), "at least one network"),
        ((np.ones((1, 3), bool), np.ones((1, 3), bool), 1.5), "at_least must be a share"),
        ((np.ones((1, 3), bool), np.ones((1, 3), bool), 0.8, -1), "at_most must be a share"),
    ],
)
def test_the_rule_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        contrast.only_high(*arguments)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Two LRs of a small network on Double MNIST from the embedded digits."""
    root = tmp_path_factory.mktemp("results")
    runs = [experiments.run_config("double_mnist", "fcn", lr, 0, "quick", 3) for lr in (0.001, 0.3)]
    sweep.run(runs, root=root)
    return root


def test_a_comparison_holds_measures_and_maps_of_each_run(done):
    found = contrast.compare(
        "double_mnist", "fcn", (0.001, 0.3), "quick", root=done, samples=6, at_most=0.5
    )
    assert found.attrs["foreground"] == "exact masks"
    assert found.sizes["run"] == 2 and found["lr"].values.tolist() == [0.001, 0.3]
    chosen = found["selected"].values
    assert chosen[:6].all() and not chosen[6:].any() and found.sizes["sample"] == 12
    right = found["right_low"].values[chosen], found["right_high"].values[chosen]
    assert (right[0] == 0).all() and (right[1] == 1).all()
    shares = [found[f"deeplift_{r}"].values for r in ("core", "spurious", "noise")]
    np.testing.assert_allclose(np.sum(shares, 0), 1, atol=1e-5)
    # the share of the first run, computed anew
    dataset = load(experiments.run_config("double_mnist", "fcn", 0.001, 0, "quick", 3))
    net = contrast.network_of(
        contrast.runs_of("double_mnist", "fcn", 0.001, "quick", done)[0], done, None
    )
    split = dataset.test.take(torch.from_numpy(found["index"].values))
    from lrsc import attribution

    a = attribution.deeplift(net, split.inputs(split.x[:]), split.y)
    share = attribution.share(a, split.core_mask)
    np.testing.assert_allclose(found["deeplift_core"].values[0], share, atol=1e-5)
    assert found["map_deeplift"].dims == ("group", "shown", "row", "column")
    assert float(found["map_deeplift"].max()) <= 1
    figure = plots.gallery(found, ("integrated_gradients", "deeplift"))
    assert "Double MNIST" in figure.get_label()
    assert "mean difference" in plots.paired(found, {"deeplift_core": "core"}).get_label()


def test_no_run_of_an_lr_is_named(done):
    with pytest.raises(ValueError, match="no run of 'double_mnist' and 'fcn' at LR 0.5"):
        contrast.compare("double_mnist", "fcn", (0.001, 0.5), "quick", root=done)


def test_without_a_sample_there_is_an_empty_gallery(done):
    found = contrast.compare("double_mnist", "fcn", (0.001, 0.3), "quick", root=done, samples=3,
                             at_least=1.0, at_most=0.0)  # fmt: skip
    found = found.isel(sample=~found["selected"].values).drop_dims("shown", errors="ignore")
    assert "finds no sample" in plots.gallery(found).get_label()


def comparison(difference: float, n: int = 40) -> xr.Dataset:
    rng = np.random.default_rng(0)
    low = rng.random(n)
    values = np.stack([low, low + difference + 0.01 * rng.standard_normal(n)])
    return xr.Dataset(
        {"entropy": (("run", "sample"), values), "selected": ("sample", np.arange(n) < 20)},
        {"lr": ("run", [0.01, 0.1])},
        {"low": 0.01, "high": 0.1},
    )


def test_a_paired_test_finds_a_difference_and_none():
    found = contrast.paired(comparison(-0.2), "entropy")
    assert found["n"] == 20 and found["p"] < 1e-4
    assert found["from"] < found["difference"] < found["to"] < -0.15
    assert contrast.paired(comparison(0.0), "entropy")["p"] > 0.01
    assert np.isnan(contrast.paired(comparison(0.1, 24), "entropy", selected=False)["p"])


def test_halves_of_cifar_are_disjoint_stratified_and_what_the_loader_takes():
    import lrsc

    whole = lrsc.datasets.load("cifar10", source="embedded", n_train=200)
    a, b = cifar10.halves(whole.train.y.numpy())
    assert sorted([*a, *b]) == list(range(200))
    for name, index in (("A", a), ("B", b)):
        half = lrsc.datasets.load("cifar10", source="embedded", n_train=200, half=name)
        assert torch.equal(half.train.x, whole.train.x[index])
        assert torch.bincount(half.train.y).tolist() == [10] * 10
    with pytest.raises(ValueError, match="half"):
        lrsc.datasets.load("cifar10", source="embedded", half="C")


def test_curves_by_groups_against_a_slow_loop():
    rng = np.random.default_rng(0)
    losses, margins = rng.exponential(size=(2, 3, 10)), rng.standard_normal((2, 3, 10))
    losses[1, 2], margins[1, 2] = np.nan, np.nan  # a run with fewer calls
    ds = xr.Dataset({
        f"curve_dynamics_sample_{name}": (("run", "dynamics_call", "n"), values)
        for name, values in (("loss", losses), ("margin", margins))
    })  # fmt: skip
    conflicting = rng.random(50) < 0.4
    found = mechanism.by_groups(ds, conflicting)
    chosen = conflicting[fixed_indices(50, 10)]
    bc = [losses[0, 1, i] for i in range(10) if chosen[i]]
    right = [margins[0, 1, i] > 0 for i in range(10) if not chosen[i]]
    assert found["curve_dynamics_bc_loss"].values[0, 1] == pytest.approx(np.mean(bc))
    assert found["curve_dynamics_ba_accuracy"].values[0, 1] == pytest.approx(np.mean(right))
    ratio = sum(bc) / losses[0, 1].sum()
    assert found["curve_dynamics_loss_ratio"].values[0, 1] == pytest.approx(ratio)
    assert np.isnan(found["curve_dynamics_ba_accuracy"].values[1, 2])
    with pytest.raises(ValueError, match="0 of the probe's 10 fixed samples conflict"):
        mechanism.by_groups(ds, np.zeros(50, bool))


def test_groups_found_by_networks_of_the_other_half(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "profile_of", lambda config: "desk")
    runs = [
        experiments.run_config("cifar10", "fcn", lr, 0, "quick", 2, {"half": half, "n_train": 200})
        for half in ("A", "B") for lr in (0.001, 0.05)
    ]  # fmt: skip
    sweep.run(runs, root=tmp_path)
    done = results.local_runs(tmp_path)

    def mine(dataset, model, lr, profile, root, half=""):
        return [run for run in done if contrast._config(run).train.lr == lr
                and dict(contrast._config(run).data)["half"] == half]  # fmt: skip

    monkeypatch.setattr(contrast, "runs_of", mine)
    monkeypatch.setattr(contrast.datasets, "load", _embedded(contrast.datasets.load))
    found = contrast.crossfit((0.001, 0.05), root=tmp_path)
    rule = (found["right_high"] >= 0.8) & (found["right_low"] <= 0.2)
    assert found.sizes["sample"] == 200 and (found["conflicting"] == rule).all()
    # sample by sample: the network that judges was trained on the other half
    data = contrast.datasets.load("cifar10", source="embedded", n_train=200)
    a, b = cifar10.halves(data.train.y.numpy())
    judge = contrast.network_of(mine("", "", 0.05, "", None, "B")[0], tmp_path, None)
    split = data.train.take(torch.from_numpy(a))
    right = contrast._predicted(judge, split)
    np.testing.assert_array_equal(found["right_high"].values[a], right)


def test_crossfit_is_of_the_runs_that_its_experiment_trains(tmp_path, capsys):
    planned = {config.train.lr for config in experiments.configs("crossfit", "desk")}
    assert set(contrast.CROSSFIT_LRS) == planned
    assert cli.main(["results", "crossfit", "--results", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "at LR 0.01" in said and "half A" in said
    assert "lrsc sweep crossfit --profile desk first" in said


def _embedded(load):
    return lambda name, root=None, source="", **options: load(name, source="embedded", **options)


def test_diverged_runs_are_left_out_and_counted(done, tmp_path):
    shutil.copytree(done, tmp_path / "copy")
    paths = sorted((tmp_path / "copy" / "runs").glob("*.nc"))
    high = next(p for p in paths if contrast._config(results.load(p)).train.lr == 0.3)
    found = results.load(high)
    config = dataclasses.replace(contrast._config(found), seed=1)
    other = high.with_name("0" * 16 + ".nc")
    attrs = {"status": "diverged", "run_id": other.stem, "config": config.to_json()}
    results.save(found.assign_attrs(attrs), other)
    both = contrast.compare("double_mnist", "fcn", (0.001, 0.3), "quick", root=tmp_path / "copy",
                            samples=3, at_most=0.5)  # fmt: skip
    assert both.sizes["run"] == 2 and both.attrs["diverged"] == 1
    results.save(found.assign_attrs(status="diverged"), high)
    with pytest.raises(ValueError, match="all 2 runs of 'double_mnist' and 'fcn' at LR 0.3 div"):
        contrast.compare("double_mnist", "fcn", (0.001, 0.3), "quick", root=tmp_path / "copy")


def test_runs_on_other_data_or_of_another_training_are_not_taken(tmp_path):
    """The same data set, model and LR, but another share of conflicting samples, or momentum."""
    plain = experiments.run_config("double_mnist", "fcn", 0.3, 0, "quick", 1)
    others = [
        dataclasses.replace(plain, data={"rho": 0.1}),
        dataclasses.replace(plain, train=dataclasses.replace(plain.train, momentum=0.5)),
    ]
    sweep.run([plain, *others], root=tmp_path)
    (taken,) = contrast.runs_of("double_mnist", "fcn", 0.3, "quick", tmp_path)
    assert contrast._config(taken) == plain


def test_the_share_of_conflicting_samples_is_that_of_the_row(tmp_path):
    """Moon-star networks are compared on the rho that their row of the LR has."""
    data = experiments.usual_data("moon_star", "fcn", "quick")
    assert data == {"rho": 0.005} and experiments.usual_data("cifar10", "fcn", "desk") == {}
    assert experiments.usual_data("mnist_cifar", "fcn", "paper") == {"rho": 0.25}
    usual, other = (
        experiments.run_config("moon_star", "fcn", 0.3, 0, "quick", 1, options)
        for options in (data, {"rho": 0.1})
    )
    sweep.run([usual, other], root=tmp_path)
    (taken,) = contrast.runs_of("moon_star", "fcn", 0.3, "quick", tmp_path)
    assert contrast._config(taken) == usual
