"""The statistics of batch normalisation in which networks are evaluated."""

import copy
import importlib

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.nn import functional as F

import lrsc
from lrsc import attribution, experiments, measures, models, pruning, results, sweep
from lrsc.datasets import BiasedDataset, Split
from lrsc.models import normalisation
from lrsc.runs import identify, load_checkpoint

CLASSES = 3


def network(seed=0):
    """Two convolutions with batch normalisation, dropout, and a head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(5, 7, 3), nn.BatchNorm2d(7), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, CLASSES),
        )  # fmt: skip
        for layer in (net[1], net[5]):  # statistics that are not those of any batch
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return net


def split(n=230, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    y = torch.arange(n) % CLASSES
    return Split(
        x, y, (y + torch.randint(0, CLASSES, (n,), generator=generator)) % CLASSES,
        mean=torch.full((3,), 0.5), std=torch.full((3,), 0.2),
    )  # fmt: skip


@pytest.fixture
def dataset():
    return BiasedDataset("own", split(400, 1), split(230, 2), n_classes=CLASSES, source_id="own")


def by_hand(net, x):
    """Logits and representation of one batch, layer by layer, with the batch's own statistics."""
    for layer in list(net)[:-1]:
        if isinstance(layer, nn.BatchNorm2d):
            x = F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)
        elif not isinstance(layer, nn.Dropout):
            x = layer(x)
    return net[-1](x), x


def state(net):
    return {k: v.clone() for k, v in net.state_dict().items()}, [m.training for m in net.modules()]


def assert_as_it_was(net, before):
    tensors, modes = before
    assert all(torch.equal(v, tensors[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert all(m.track_running_stats and m.momentum == 0.1
               for m in net.modules() if isinstance(m, nn.BatchNorm2d))  # fmt: skip


@pytest.mark.parametrize("n", [2, 100, 149, 230])
def test_batch_is_a_loop_over_fixed_batches_of_a_hundred(n):
    net, some = network(), split(n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    sizes = {2: [2], 100: [100], 149: [149], 230: [100, 130]}[n]  # a small rest joins
    x = some.inputs(some.x)
    logits, z = torch.empty(n, CLASSES), torch.empty(n, 7)
    with torch.no_grad():
        for part in order.split(sizes):
            logits[part], z[part] = by_hand(net, x[part])
    before = state(net)
    for found in (models.predict(net, some, "batch"), models.evaluate(net, x, "batch")):
        torch.testing.assert_close(found, logits)
    torch.testing.assert_close(models.representation(net, x, statistics="batch"), z)
    assert_as_it_was(net, before)


def test_running_statistics_are_eval_mode():
    net, some = network(), split()
    with torch.no_grad():
        expected = copy.deepcopy(net).eval()(some.inputs(some.x))
    assert torch.equal(models.predict(net.train(), some), expected)
    assert all(m.training for m in net.modules())


def test_the_order_of_samples_makes_no_difference_to_whose_logits_are_whose():
    net, some = network(), split(100)
    turned = some.take(torch.arange(99, -1, -1))
    torch.testing.assert_close(
        models.predict(net, some, "batch").flip(0), models.predict(net, turned, "batch")
    )


@pytest.mark.parametrize("freeze", ["train", "gradients"])
def test_layers_are_evaluated_as_torch_would_run_them_in_training(freeze):
    """A layer kept in eval mode stays with its running statistics; one without gradients not."""

    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    net = network()
    if freeze == "train":
        frozen = Frozen(5)
        frozen.load_state_dict(net[1].state_dict())
        net[1] = frozen
    else:
        net[1].requires_grad_(False)
    x = split(60).inputs(split(60).x)
    without_dropout = copy.deepcopy(net).train()
    without_dropout[3].eval()
    with torch.no_grad():
        expected = without_dropout(x)
    torch.testing.assert_close(models.evaluate(net, x, "batch"), expected)
    before = net[1].running_mean.clone()
    models.recalibrate(net, split(60))
    assert torch.equal(net[1].running_mean, before) == (freeze == "train")


def test_recalibrated_statistics_are_the_mean_over_batches():
    net, train = network(), split(400, 1)
    made = models.recalibrate(copy.deepcopy(net), train, samples=200)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))[:200]
    with torch.no_grad():
        maps = [net[0](train.inputs(train.x[part])).double().numpy() for part in order.split(100)]
    np.testing.assert_allclose(
        made[1].running_mean, np.mean([m.mean((0, 2, 3)) for m in maps], 0), atol=1e-5
    )
    unbiased = [m.var((0, 2, 3), ddof=1).mean() if m.ndim < 4 else
                m.transpose(1, 0, 2, 3).reshape(5, -1).var(1, ddof=1) for m in maps]  # fmt: skip
    np.testing.assert_allclose(made[1].running_var, np.mean(unbiased, 0), rtol=1e-5)
    tensors, modes = state(net)
    assert all(torch.equal(p, tensors[k]) for k, p in made.named_parameters())
    assert [m.training for m in made.modules()] == modes and made[1].momentum == 0.1


def test_recalibrating_an_unpruned_network_changes_less_than_other_samples_do():
    """Of networks whose statistics are those of their training data, on average."""
    train, test = split(8000, 1), split(200, 5)
    x, changes, differences = test.inputs(test.x), [], []
    halves = [train.take(torch.arange(4000)), train.take(torch.arange(4000, 8000))]
    for seed in range(4):
        net = models.recalibrate(network(seed), train, samples=8000)
        before = models.evaluate(net, x)
        one, other = (
            models.evaluate(models.recalibrate(copy.deepcopy(net), half), x) for half in halves
        )
        changes += [float((after - before).abs().mean()) for after in (one, other)]
        differences.append(float((one - other).abs().mean()))
    assert 0 < np.mean(changes) < np.mean(differences)


def test_statistics_of_a_batch_become_those_of_a_network():
    net, x = network(), split(100).inputs(split(100).x)
    before = state(net)
    made = normalisation.with_statistics_of(net, x)
    expected = models.evaluate(net, x, "batch")
    torch.testing.assert_close(models.evaluate(made, x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(models.evaluate(made, x[:1]), expected[:1], rtol=1e-4, atol=1e-4)
    assert_as_it_was(net, before)


def test_a_network_without_batch_norm_is_the_same_in_all_and_needs_no_training_data(monkeypatch):
    net, some = lrsc.models.build("fcn", (3, 8, 8), CLASSES, hidden=(8, 8)), split(50)
    curves = [pruning.pruning_curve(net, some, statistics=s, recalibrate=some)
              for s in models.STATISTICS]  # fmt: skip
    assert torch.equal(curves[0], curves[1]) and torch.equal(curves[0], curves[2])
    assert models.recalibrate(net, None) is net
    x = some.inputs(some.x[:1])  # nothing needs a batch here
    assert torch.equal(models.evaluate(net, x, "batch"), models.evaluate(net, x))


@pytest.mark.parametrize("statistics", models.STATISTICS)
@pytest.mark.parametrize("method", pruning.METHODS)
def test_prunability_in_each_of_the_statistics(dataset, statistics, method):
    net = network()
    before = state(net)
    found = pruning.prunability(
        net, dataset.test, method=method, statistics=statistics, recalibrate=dataset.train
    )
    accuracies = []
    for kappa in (0.0, *pruning.KAPPAS):
        renew = dataset.train if statistics == "recalibrated" else None
        pruned = pruning.prune(net, kappa, method, recalibrate=renew)
        mode = "batch" if statistics == "batch" else "running"
        right = models.predict(pruned, dataset.test, mode).argmax(1) == dataset.test.y
        accuracies.append(float(right.double().mean()))
    assert found == pytest.approx(np.mean(accuracies[1:]) / accuracies[0])
    assert_as_it_was(net, before)


def test_a_shrunk_network_is_the_recalibrated_pruned_one(dataset):
    net = network().eval()
    x = dataset.test.inputs(dataset.test.x[:50])
    shrunk = pruning.shrink(net, 0.5, x, runs=1, recalibrate=dataset.train)
    expected = models.evaluate(pruning.prune(net, 0.5, recalibrate=dataset.train), x)
    torch.testing.assert_close(models.evaluate(shrunk.model, x), expected, rtol=1e-3, atol=1e-4)
    stale = models.evaluate(pruning.prune(net, 0.5), x)
    assert not torch.allclose(stale, expected, atol=1e-2)


def test_measures_in_several_statistics_are_those_of_each_alone(dataset):
    net = network()
    before = state(net)
    together = lrsc.measure(net, dataset, statistics=["batch", "running", "recalibrated"])
    assert together["statistics"].values.tolist() == ["batch", "running", "recalibrated"]
    assert together["chance"].dims == () and together["accuracy_pruned_column"].dims == (
        "statistics", "kappa",
    )  # fmt: skip
    for name in models.STATISTICS:
        alone = lrsc.measure(net, dataset, statistics=name)
        assert str(alone["statistics"].values) == name and "statistics" not in alone.dims
        xr.testing.assert_equal(alone, together.sel(statistics=name))
    logits = models.predict(net, dataset.test, "batch")
    accuracy = float((logits.argmax(1) == dataset.test.y).double().mean())
    assert float(together["unbiased_accuracy"].sel(statistics="batch")) == pytest.approx(accuracy)
    assert lrsc.measure(net, dataset)["statistics"] == "running"
    assert_as_it_was(net, before)


def test_chance_is_taken_off_accuracies(dataset):
    found = lrsc.measure(network(), dataset, methods=["column"])
    curve = found["accuracy_pruned_column"].values
    before, chance = float(found["unbiased_accuracy"]), float(found["chance"])
    counts = np.bincount(dataset.test.y.numpy())
    assert chance == pytest.approx(counts.max() / counts.sum())
    expected = np.mean((curve - chance) / (before - chance)) if before - chance >= 0.02 else np.nan
    assert float(found["prunability_corrected"]) == pytest.approx(expected, nan_ok=True)


class Viewing(nn.Module):
    """Flattens its maps with `view`, which takes no maps with channels last."""

    def __init__(self):
        super().__init__()
        self.body, self.head = network()[:6], nn.Linear(7 * 16, CLASSES)

    def forward(self, x):
        z = self.body(x)
        return self.head(z.view(z.size(0), -1))


def test_a_network_that_views_its_maps_is_pruned(dataset):
    assert np.isfinite(lrsc.measure(Viewing(), dataset, methods=["column"])["prunability"])


def test_statistics_stay_where_recalibrating_fails():
    net = network()
    before = state(net)
    wrong = Split(torch.zeros(9, 2, 8, 8, dtype=torch.uint8), torch.arange(9) % 3)
    with pytest.raises(ValueError, match="does not take inputs"):
        models.recalibrate(net, wrong)
    assert_as_it_was(net, before)


def test_a_network_at_chance_has_no_corrected_prunability(done):
    whole = experiments.open_runs([config()], done)
    accuracy = float(whole["chance"].values[0])
    whole["accuracy_pruned_column"][:] = accuracy
    whole["prunability"][:] = 1.0
    assert np.isnan(experiments.open._corrected(whole)["prunability_corrected"]).all()


def test_attributions_with_batch_statistics_are_complete():
    net, some = network(), split(40)
    running, _ = measures.attribution_measures(net, some)
    batch, maps = measures.attribution_measures(net, some, "batch")
    assert float(running["attribution_entropy"]) != float(batch["attribution_entropy"])
    made = normalisation.with_statistics_of(net, some.inputs(some.x))
    a = attribution.integrated_gradients(made, some.inputs(some.x), some.y)
    torch.testing.assert_close(maps["integrated_gradients"], attribution.normalised_maps(a))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n, d: pruning.prunability(n, d.test, statistics="recalibrated"),
         "'recalibrated' needs training samples, found none: give recalibrate=dataset.train"),
        (lambda n, d: models.representation(n, d.test.inputs(d.test.x[:1]), statistics="batch"),
         "1 sample has no batch statistics, expected at least 2"),
        (lambda n, d: models.evaluate(n, d.test.inputs(d.test.x[:1]), "batch"),
         "1 sample has no batch statistics"),
        (lambda n, d: lrsc.measure(n, d, statistics="recalibrate"), "Did you mean 'recalibrated'"),
        (lambda n, d: lrsc.measure(n, d, statistics=[]), "statistics is empty"),
        (lambda n, d: models.evaluate(n, d.test.inputs(d.test.x), "recalibrated"),
         "needs training samples: call lrsc.models.recalibrate"),
        (lambda n, d: pruning.prune(n, 0.5, recalibrate=split(1)), "split holds 1 samples"),
        (lambda n, d: models.recalibrate(n, d.train, 1), "samples must be a whole number >= 2"),
        (lambda n, d: experiments.open_experiment("synthetic", statistics="bach"), "'batch'"),
    ],
)  # fmt: skip
def test_bad_input_is_named(dataset, call, words):
    with pytest.raises(ValueError, match=words):
        call(network(), dataset)


def test_a_layer_without_running_statistics_is_measured_by_batch_only(dataset):
    net = network()
    net[1] = nn.BatchNorm2d(5, track_running_stats=False)
    for statistics in ("running", "recalibrated"):
        with pytest.raises(ValueError, match="keeps no running statistics.*use statistics='batch'"):
            lrsc.measure(net, dataset, statistics=statistics)
    found = lrsc.measure(net, dataset, statistics="batch", methods=["column"])
    assert np.isfinite(found["prunability"])


# result files


def config(model="resnet18", seed=0, **model_options):
    return experiments.run_config(
        "colored_mnist", model, 0.05, seed, "quick", 1, {"n_train": 200}, {"max_steps": 2},
        model_options=model_options or None,
    )  # fmt: skip


RUN = importlib.import_module("lrsc.sweep.run")  # `lrsc.sweep.run` is its function
PRUNED = 60


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:  # seconds, not a minute
        patch.setattr(RUN, "prune_samples", lambda config, dataset: PRUNED)
        patch.setattr("lrsc.measures.result.ATTRIBUTED", 10)
        sweep.run([config(), config("fcn", hidden=(8, 8))], root=root)
    return root


def test_new_runs_carry_all_statistics_and_others_no_dimension(done):
    found = {run.attrs["run_id"]: run for run in results.local_runs(done)}
    deep = found[identify(config())]
    assert deep["statistics"].values.tolist() == list(models.STATISTICS)
    for name in ("unbiased_accuracy", "prunability", "csi", "prunability_magnitude"):
        assert deep[name].dims == ("statistics",) and np.isfinite(deep[name]).all(), name
    assert np.isfinite(deep["attribution_entropy"]).all()
    net, data = load_checkpoint(results.weights_path(identify(config()), done), config())
    again = lrsc.measure(net, data, statistics=models.STATISTICS, prune_samples=PRUNED)
    for name in again.data_vars:
        np.testing.assert_allclose(again[name], deep[name], 1e-3, 0.01, err_msg=str(name))
    assert "statistics" not in found[identify(config("fcn", hidden=(8, 8)))].dims


def test_quick_runs_of_huge_networks_are_measured_on_little(tmp_path, monkeypatch):
    monkeypatch.setattr("lrsc.measures.result.HUGE", ("resnet18",))
    monkeypatch.setattr("lrsc.measures.result.HUGE_WEIGHTS", 10**7)
    sweep.run([config()], root=tmp_path)
    (run,) = results.local_runs(tmp_path)
    few = {name: run.sizes[name] for name in ("sample", "attributed")}
    assert run.attrs["prune_samples"] == 20 and few == {"sample": 100, "attributed": 2}
    assert "statistics" not in run.dims and "prunability_magnitude" not in run
    assert np.isfinite(run["prunability"]) and np.isfinite(run["attribution_entropy"])
    whole = experiments.open_runs([config()], tmp_path)
    assert np.isfinite(whole["prunability"]).all() and [*whole["statistics"].values] == ["running"]
    list(sweep.measure_again(root=tmp_path))
    (again,) = results.local_runs(tmp_path)
    assert again.sizes == run.sizes and again["prunability"].values == run["prunability"].values


def test_a_file_without_the_dimension_opens_as_running(done, tmp_path):
    for run in results.local_runs(done):
        old = results.running(run).drop_vars("chance")
        results.save(old, results.run_path(run.attrs["run_id"], tmp_path))
    runs = [config(), config("fcn", hidden=(8, 8))]
    found = experiments.open_runs(runs, tmp_path)
    whole = experiments.open_runs(runs, done)
    modes = dict(zip(found["model"].values, found["statistics"].values, strict=True))
    assert modes == {"resnet18": "running", "fcn": ""}
    np.testing.assert_array_equal(
        found["unbiased_accuracy"], experiments.in_statistics(whole, "running")["unbiased_accuracy"]
        if "statistics" in whole["unbiased_accuracy"].dims else found["unbiased_accuracy"],
    )  # fmt: skip
    assert set(whole["statistics"].values) == {experiments.PAPER_STATISTICS, ""}


def test_old_and_new_files_stand_in_one_table(done, tmp_path):
    new = results.combine(results.local_runs(done))
    old = results.running(new)
    both = results.concat([old, new])
    assert both["unbiased_accuracy"].dims == ("run", "statistics")
    n = old.sizes["run"]
    known = both["csi"].isel(run=slice(n)).sel(statistics="batch")
    assert np.isnan(known[old["model"].values == "resnet18"]).all()
    np.testing.assert_array_equal(
        both["csi"].isel(run=slice(n)).sel(statistics="running"), old["csi"]
    )
    for mode in models.STATISTICS:
        found = experiments.in_statistics(both, mode)
        expected = n * 2 if mode == "running" else n * 2 - 1  # an old ResNet18 has only running
        assert found.sizes["run"] == expected
        assert "statistics" not in found["csi"].dims
        fcn = found["model"].values == "fcn"
        assert np.isfinite(found["csi"].values[fcn]).all()


def test_measuring_again_from_weights_fills_what_an_old_file_lacks(done, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep.again, "prune_samples", lambda config, dataset: PRUNED)
    monkeypatch.setattr("lrsc.measures.result.ATTRIBUTED", 10)
    name = identify(config())
    (run,) = [r for r in results.local_runs(done) if r.attrs["run_id"] == name]
    results.save(results.running(run), results.run_path(name, tmp_path))
    weights = results.weights_path(name, tmp_path)
    weights.parent.mkdir(parents=True)
    weights.write_bytes(results.weights_path(name, done).read_bytes())
    list(sweep.measure_again(root=tmp_path))
    again = results.load(results.run_path(name, tmp_path))
    for variable in ("unbiased_accuracy", "prunability", "attribution_entropy"):
        np.testing.assert_allclose(again[variable], run[variable], rtol=1e-5, err_msg=variable)


def test_corrected_prunability_is_computed_of_stored_accuracies(done):
    whole = experiments.open_runs([config()], done)
    again = experiments.open._corrected(whole.drop_vars("prunability_corrected"))
    stored = [r for r in results.local_runs(done) if r.attrs["run_id"] == identify(config())]
    mode = str(whole["statistics"].values[0])
    np.testing.assert_allclose(
        again["prunability_corrected"].values,
        [float(stored[0]["prunability_corrected"].sel(statistics=mode))],
    )


# initialisation


def test_initialisation_is_an_option_that_names_the_run():
    names = {identify(c) for c in (config(), config(init="torch"))}
    assert len(names) == 2
    assert identify(config(init="torchvision")) == identify(config())


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        ("torchvision", lambda w: 2 / (9 * len(w))),
        ("torch", lambda w: 1 / (3 * w[0].numel())),
    ],
)
def test_initialisations_have_their_variances(init, variance):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = models.build("resnet18", (3, 32, 32), 10, init=init)
    weight = net.layer4[0].conv1.weight.detach()
    assert float(weight.var()) == pytest.approx(variance(weight), rel=0.02)
    assert (weight.abs().max() < 0.1) == (init == "torch")  # uniform has no tails


def test_initialisation_contradicts_stored_weights(tmp_path):
    with pytest.raises(ValueError, match="init='torch' does nothing with weights="):
        models.build("resnet18", (3, 32, 32), 10, init="torch", weights=str(tmp_path / "w.pt"))
    with pytest.raises(ValueError, match="'torchvision'"):
        models.build("resnet18", (3, 32, 32), 10, init="torchvison")


def test_names_of_models_with_batch_normalisation():
    for name in ("fcn", "cnn", "resnet18", "resnet50", "swin_t"):
        has = bool(models.batch_norms(models.build(name, (3, 32, 32), 10)))
        assert has == (name in models.NORMALISED)
    assert set(models.NORMALISED) <= set(models.BUILDERS)
