"""Data sets and models of one's own, by a name or an import path, all the way to results."""

import json
import os
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

import lrsc
from lrsc import RunConfig, TrainConfig, cli, datasets, experiments, models, results, runs
from lrsc.config import run_id
from lrsc.datasets import imports, own
from lrsc.studies.reproduce import reproduce
from lrsc.sweep import care

CODE = """
import numpy as np
from torch import nn

import lrsc
from lrsc.datasets import BiasedDataset

VERSION = 3
calls = []


def data(rho=0.1, seed=0, shift=0.0) -> BiasedDataset:
    calls.append(rho)
    rng = np.random.default_rng(seed)

    def part(n, rho):
        y = np.arange(n) % 2
        bias = np.where(rng.random(n) < rho, 1 - y, y)
        x = rng.normal(size=(n, 6)).astype("float32") + shift
        x[:, 0] += 2 * y
        x[:, 1] += 4 * bias
        return x, y, bias

    return lrsc.datasets.from_arrays(part(200, rho), part(100, 0.5), name="other")


def net(input_shape, n_classes, width=8) -> nn.Module:
    return nn.Sequential(
        nn.Linear(input_shape[0], width), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Linear(width, n_classes),
    )


def unmarked(rho=0.1):
    return data(rho)


def nothing():
    pass


number = 5
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A module of the user's own; afterwards nothing is registered."""
    for module, tables in (
        (datasets, ["MODULES"]),
        (models, ["BUILDERS", "VERSIONS", "FACTORIES"]),
    ):
        for table in tables:
            monkeypatch.setattr(module, table, dict(getattr(module, table)))
    (tmp_path / "their_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("their_code")
    sys.modules.pop("their_code")


def config(dataset="their_code:data", model="their_code:net", lr=0.1, **more):
    return RunConfig(dataset, model, TrainConfig(lr=lr, max_epochs=2), **more)


def test_registered_names_work_as_those_of_the_library(code):
    lrsc.register_dataset("mine", code.data, version=2)
    lrsc.register_model("small", code.net)
    ds = lrsc.datasets.load("mine", rho=0.3)
    assert (ds.name, ds.source_id, ds.options) == ("mine", "own", (("rho", 0.3),))
    assert ds.checksum == own.checksum(ds) == lrsc.datasets.load("mine", rho=0.3).checksum
    assert datasets.options("mine") == {"rho": 0.1, "seed": 0, "shift": 0.0}
    assert datasets.version("mine") == 2 and models.VERSIONS["small"] == 1
    (run,) = lrsc.fit("small", ds, TrainConfig(max_epochs=1), model_options={"width": 5})
    assert run.model[0].out_features == 5


def test_a_run_is_named_by_the_content_the_version_and_the_options(code):
    names = {runs.identify(config(data=data)) for data in ({}, {"rho": 0.3}, {"shift": 1.0})}
    names.add(runs.identify(config(model_options={"width": 9})))
    assert len(names) == 4
    assert runs.identify(config(data={"rho": 0.1, "seed": 0})) == runs.identify(config())
    ds = lrsc.datasets.load("their_code:data")
    plain = config()
    assert runs.identify(plain) == run_id(plain, f"own:{ds.checksum}", {"data": 3, "model": 3})
    lrsc.register_dataset("mine", code.data)
    first = runs.identify(config("mine"))
    lrsc.register_dataset("mine", code.data, version=2)
    second = runs.identify(config("mine"))
    lrsc.register_dataset("mine", lambda: code.data(shift=1.0), version=2)
    assert len({first, second, runs.identify(config("mine"))}) == 3


def test_a_loader_is_called_once_for_the_runs_of_a_sweep(code):
    for lr in (0.1, 0.2):
        runs.identify(config(lr=lr))
        runs.load(config(lr=lr))
    lrsc.datasets.load("their_code:data")
    assert code.calls == [0.1]


def test_a_run_goes_all_the_way(code, tmp_path):
    wanted = [config(lr=lr, seed=seed) for lr in (0.1, 0.5) for seed in (0, 1)]
    report = lrsc.sweep.run(wanted, root=tmp_path)
    assert len(report.trained) == 4
    assert len(lrsc.sweep.run(wanted, root=tmp_path).done_before) == 4
    found = experiments.open_runs(wanted, root=tmp_path)
    assert found.sizes["run"] == 4 and set(found["statistics"].values) == {"recalibrated"}
    assert lrsc.plots.curves(found).get_axes()
    assert "their_code:net" in found["unbiased_accuracy"].to_dataframe().to_csv()
    assert results.to_grid(found, "lr", "seed")["unbiased_accuracy"].shape == (2, 2)
    rows = [row for row in experiments.status(root=tmp_path) if row["experiment"] == "own"]
    assert [(r["dataset"], r["done"], r["missing"]) for r in rows] == [("their_code:data", 4, 0)]
    again = reproduce(report.trained[0], root=tmp_path)
    assert again.ok and "equal bit for bit" in again.verdict
    assert {each.state for each in care.merge([tmp_path], tmp_path / "other")} == {"taken"}


def test_the_command_line_finds_them(code, tmp_path, capsys):
    where = ["--results", str(tmp_path)]
    their = ["their_code:data", "their_code:net"]
    assert cli.main(["run", *their, "--max-epochs", "1", "--data", "rho=0.2", *where]) == 0
    asked = ["--dataset", their[0], "--model", their[1]]
    assert (
        cli.main(["sweep", "semi_synthetic", *asked, "--lrs", "0.1", "--seeds", "0", *where]) == 0
    )
    assert cli.main(["status", "--json", "--profile", "quick", *where]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["done"] for row in rows if row["experiment"] == "own"] == [2]
    weights = next((tmp_path / "weights").iterdir())
    out = ["--output", str(tmp_path / "measured.nc")]
    assert cli.main(["measure", str(weights), *asked, "--data", "rho=0.2", *out]) == 0
    assert results.load(tmp_path / "measured.nc").attrs["source_id"] == "own"
    assert cli.main(["repro", weights.stem, *where]) == 0


def test_notebooks_take_them_as_parameters(code):
    given = {"dataset": "their_code:data", "model": "fcn", "lrs": "[0.1]", "seeds": None,
             "profile": "quick"}  # fmt: skip
    p = lrsc.pages.parameters(given, "semi_synthetic")
    (run, *_) = experiments.configs("semi_synthetic", "quick", p.dataset, p.model, p.lrs, p.seeds)
    assert (run.dataset, run.train.lr, run.data) == ("their_code:data", 0.1, ())
    given["dataset"] = "nowhere:data"
    with pytest.raises(ValueError, match="No module named 'nowhere'"):
        lrsc.pages.parameters(given, "semi_synthetic")


def test_other_processes_learn_what_is_registered(code, monkeypatch):
    lrsc.register_dataset("mine", code.data, version=2)
    lrsc.register_model("small", code.net, version=4)
    named = config("mine", "small")
    known = runs.code([named, config(), RunConfig("parity", "fcn")])
    assert known == [
        ("data set", "mine", "their_code:data", 2),
        ("model", "small", "their_code:net", 4),
    ]
    before = runs.identify(named)
    monkeypatch.delitem(datasets.MODULES, "mine")
    monkeypatch.delitem(models.BUILDERS, "small")
    runs.learn(known)
    assert runs.identify(named) == before


def test_a_dask_worker_trains_registered_names(code, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra sweep is not installed")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))
    lrsc.register_dataset("mine", code.data, version=2)
    lrsc.register_model("small", code.net)
    runs_of = [config("mine", "small", lr) for lr in (0.05, 0.1)]
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as local,
        distributed.Client(local) as client,
    ):
        report = lrsc.sweep.run(runs_of, "dask", root=tmp_path / "dask", scheduler=client)
    assert len(report.trained) == 2 and not report.failed
    lrsc.sweep.run(runs_of[:1], root=tmp_path / "here")
    there, here = (
        results.load(results.run_path(report.trained[0], tmp_path / folder))
        for folder in ("dask", "here")
    )
    assert there["unbiased_accuracy"].equals(here["unbiased_accuracy"])


def test_a_function_of_this_process_alone_is_refused_where_another_needs_it(code, tmp_path):
    lrsc.register_dataset("mine", code.data)
    lrsc.register_model("small", lambda input_shape, n_classes: code.net(input_shape, n_classes))
    here = config("mine", "small")
    assert lrsc.sweep.run([here], root=tmp_path).trained
    with pytest.raises(ValueError, match="model 'small' is a function of this process alone"):
        lrsc.sweep.run([here], "dask", root=tmp_path / "other", scheduler="nowhere:1")


def test_what_only_a_file_names_runs_if_it_says_what_it_returns(code, tmp_path):
    unmarked = config("their_code:unmarked")
    (name,) = lrsc.sweep.run([unmarked], root=tmp_path).trained
    assert reproduce(name, root=tmp_path).ok  # named in this process
    del datasets.MODULES["their_code:unmarked"]
    with pytest.raises(ValueError, match=r"def unmarked\(...\) -> BiasedDataset"):
        reproduce(name, root=tmp_path)
    for foreign in ("os:system", "subprocess:getoutput", "torch.hub:load"):
        with pytest.raises(ValueError, match="does not say what it returns"):
            runs.check_file(config(foreign))
        with pytest.raises(ValueError, match="does not say what it returns"):
            runs.check_file(config(model=foreign))
    runs.check_file(config("lrsc.datasets:from_folder", "torch.nn:Linear"))


def test_factories_are_told_what_they_ask_for():
    def by_name(n_classes, width=3):
        return nn.Linear(width, n_classes)

    def in_order(shape, k):
        return nn.Linear(shape[0], k)

    class Net(nn.Linear):
        def __init__(self, input_shape, n_classes):
            super().__init__(input_shape[0], n_classes)

    def elsewhere(num_classes=1000):
        return nn.Linear(3, num_classes)

    def as_torchvision(*, weights=None, **kwargs):
        return elsewhere(**kwargs)

    for factory, options in ((by_name, {"width": 3}), (in_order, {}), (Net, {}), (elsewhere, {}),
                             (as_torchvision, {"weights": None}),
                             (lambda: nn.Linear(3, 2), {})):  # fmt: skip
        build, found = models.own.entry("x", factory)
        assert found == options and build((3,), 2, **options).weight.shape == (2, 3)
    with pytest.raises(ValueError, match="unexpected keyword argument 'depth'"):
        models.own.entry("x", as_torchvision)[0]((3,), 2, depth=3)
    with pytest.raises(ValueError, match="needs depth"):
        models.own.entry("x", lambda input_shape, n_classes, depth: None)
    with pytest.raises(ValueError, match=r"must return an nn.Module, found list"):
        models.own.entry("x", list.copy)[0] if False else models.own.entry("x", lambda: [])[0](
            (3,), 2
        )


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda c: lrsc.register_dataset("parity", c.data), "is one of this library's"),
        (lambda c: lrsc.register_model("fcn", c.net), "is one of this library's"),
        (lambda c: lrsc.register_dataset("a:b", c.data), "must be letters, digits"),
        (lambda c: lrsc.register_model("my net", c.net), "must be letters, digits"),
        (lambda c: lrsc.register_dataset("mine", 5), "must be a function, found 5"),
        (lambda c: lrsc.register_dataset("mine", c.data, version=0), "version must be"),
        (lambda c: runs.identify(config("mine")), "lrsc.register_dataset(name, ...)"),
        (lambda c: runs.identify(config(model="mine")), "lrsc.register_model(name, ...)"),
        (lambda c: runs.identify(config("their_code:date")), "Did you mean 'data'?"),
        (lambda c: runs.identify(config("their_code:number")), "must be a function, found int"),
        (lambda c: runs.identify(config("their code:data")), "package.module:function"),
        (lambda c: runs.identify(config("nowhere:data")), "$PYTHONPATH"),
        (lambda c: runs.identify(config("their_code:net")), "has no default: give it"),
        (lambda c: runs.identify(config("their_code:nothing")), "must return a BiasedDataset"),
        (lambda c: runs.identify(config(data={"sift": 1})), "Did you mean 'shift'?"),
        (lambda c: runs.identify(config(model_options={"w": 1})), "Valid: width"),
        (lambda c: experiments.configs("synthetic", "quick", "mine", "fcn"), "data set of 'synth"),
    ],
)  # fmt: skip
def test_bad_names_and_functions(code, act, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        act(code)


def test_names_of_the_library_keep_their_runs_names():
    source = datasets.resolve("parity")
    plain = RunConfig("parity", "fcn")
    assert runs.identify(plain) == run_id(plain, source.key, {"data": 1, "model": 1})
    assert imports.path_of("data set", "x", own.from_folder) == "lrsc.datasets.own:from_folder"


class Outputs(nn.Module):
    """A classifier whose outputs are packed as other libraries pack them."""

    def __init__(self, pack):
        super().__init__()
        self.body, self.head, self.pack = nn.Linear(6, 8), nn.Linear(8, 2), pack

    def forward(self, x):
        z = torch.relu(self.body(x))
        return self.pack(self.head(z), z)


class Output:
    def __init__(self, logits):
        self.loss, self.logits = None, logits


@pytest.mark.parametrize(
    "pack",
    [lambda y, z: {"features": z, "logits": y}, lambda y, z: (y, z), lambda y, z: Output(y)],
)
@pytest.mark.parametrize(
    "save",
    [
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
        lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 3},
        lambda state: {"model": state},
    ],
)
def test_outputs_and_checkpoints_as_others_have_them(code, tmp_path, pack, save):
    lrsc.register_model("packed", lambda: Outputs(pack))
    ds = lrsc.datasets.load("their_code:data")
    (run,) = lrsc.fit("packed", ds, TrainConfig(max_epochs=1), progress=False)
    torch.save(save(run.model.state_dict()), tmp_path / "net.pt")
    net, _ = runs.load_checkpoint(tmp_path / "net.pt", config(model="packed"))
    found, expected = (lrsc.measure(m, ds, prune_samples=20) for m in (net, run))
    assert found.equals(expected) and np.isfinite(float(found["prunability"]))


def test_what_measure_returns_is_saved_with_where_it_is_from(code, tmp_path):
    ds = lrsc.datasets.load("their_code:data")
    net = models.build("their_code:net", ds.input_shape, ds.n_classes)
    found = lrsc.measure(net, ds, prune_samples=20)
    results.save(found, str(tmp_path / "found.nc"))
    back = results.load(tmp_path / "found.nc")
    assert back.equals(found) and back.attrs["checksum"] == ds.checksum
    assert back.attrs["dataset"] == "their_code:data" and back.attrs["torch_version"]
