"""Other measures of compressibility from raw material, against slow loops in NumPy."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from lrsc import results
from lrsc.config import RunConfig, TrainConfig
from lrsc.studies import compressibilities

RNG = np.random.default_rng(0)
Z = np.maximum(RNG.normal(size=(6, 20)), 0).astype(np.float16)
LAYERS = RNG.random(8), RNG.random(5), RNG.random(3)  # the last is the classifier


def run(name="0" * 16, seed=0, status="converged", source_id="mnist") -> xr.Dataset:
    config = RunConfig("colored_mnist", "fcn", TrainConfig(lr=0.1), seed)
    norms = np.concatenate(LAYERS).astype(np.float32)
    layer = np.repeat(np.arange(3), [len(each) for each in LAYERS])
    attrs = {"run_id": name, "config": config.to_json(), "status": status, "source_id": source_id}
    return xr.Dataset(
        {
            "representation": (("sample", "unit"), Z),
            "filter_norm": ("filter", norms),
            "filter_weight": ("filter", layer),
        },
        attrs=attrs,
    )


def compressibility(v, q, kappa):
    size = np.sort(np.abs(np.asarray(v, float)))[::-1]
    rest = size[int(np.ceil(kappa * len(size) - 1e-9)) :]
    return 1 - (rest**q).sum() ** (1 / q) / (size**q).sum() ** (1 / q)


def pq(v):
    return 1 - len(v) ** (1 - 2) * (np.sqrt(v).sum() ** 2) / v.sum()


def test_activations_are_measured_at_every_order_and_share():
    found = compressibilities.of_run(run())["activation_compressibility_at"]
    assert found.dims == ("q", "kept")
    for q in found["q"].values:
        for kept in found["kept"].values:
            expected = np.mean([compressibility(row, q, kept) for row in Z])
            assert float(found.sel(q=q, kept=kept)) == pytest.approx(expected, rel=1e-5)


def test_filters_are_measured_by_layer_and_together_without_the_classifier():
    found = compressibilities.of_run(run())
    layers = [each.astype(np.float32) for each in LAYERS[:2]]
    at = {"q": 2.0, "kept": 0.2}
    expected = np.mean([compressibility(v, 2, 0.2) for v in layers])
    assert float(found["filter_compressibility"].sel(at)) == pytest.approx(expected)
    together = np.concatenate(layers)
    network = float(found["filter_compressibility_network"].sel(at))
    assert network == pytest.approx(compressibility(together, 2, 0.2))
    assert float(found["filter_pq_index"]) == pytest.approx(np.mean([pq(v) for v in layers]))
    assert float(found["filter_pq_index_network"]) == pytest.approx(pq(together))
    assert float(found["filter_sparsity"]) == 0
    spread = np.mean([v.std() / v.mean() for v in layers])
    assert float(found["filter_norm_spread"]) == pytest.approx(spread, rel=1e-5)
    assert all(v.attrs["units"] == "1" and v.attrs["long_name"] for v in found.values())


def test_a_network_has_the_spread_that_its_result_has():
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 5), nn.Linear(5, 3))
    weights = [net[i].weight.detach().double().norm(dim=1) for i in (0, 2)]
    expected = np.mean([float(w.std(correction=0) / w.mean()) for w in weights])
    assert compressibilities.norm_spread(net) == pytest.approx(expected)
    assert float(compressibilities.spread(torch.ones(4))) == 0  # all alike
    assert np.isnan(float(compressibilities.spread(torch.zeros(4))))


def test_a_run_without_raw_material_is_named():
    with pytest.raises(ValueError, match=r"'0000000000000000' has no 'representation'.*--raw"):
        compressibilities.of_run(run().drop_vars("representation"))


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    path = tmp_path / "book" / "compressibility.nc"
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: path.parent)
    return path


def store(root, *runs):
    for each in runs:
        results.save(each, results.run_path(each.attrs["run_id"], root))


def test_export_keeps_what_is_shipped_and_leaves_out_stand_ins_and_diverged(tmp_path, shipped):
    a, b, c, d = ("abcd"[i] * 16 for i in range(4))
    store(tmp_path / "one", run(a), run(b, 1, source_id="digits"), run(c, 2, status="diverged"))
    assert compressibilities.export(tmp_path / "one", ship=True) == shipped
    assert list(results.load(shipped)["run_id"].values) == [a]
    store(tmp_path / "two", run(a), run(d, 3))
    compressibilities.export(tmp_path / "two", ship=True)
    found = results.load(shipped)
    assert list(found["run_id"].values) == [a, d]
    assert list(found["seed"].values) == [0, 3]
    assert list(found["q"].values) == list(compressibilities.QS)
    assert json.loads(str(found["config"].values[0]))["dataset"] == "colored_mnist"


def test_nothing_to_export_is_an_error(tmp_path, shipped):
    with pytest.raises(ValueError, match="no run with raw material"):
        compressibilities.export(tmp_path, ship=True)
    assert not shipped.exists()


def test_runs_are_found_shipped_and_local(tmp_path, shipped):
    a, b, c = ("abc"[i] * 16 for i in range(3))
    assert compressibilities.of_runs([a], tmp_path) is None
    store(tmp_path / "one", run(a))
    compressibilities.export(tmp_path / "one", ship=True)
    store(tmp_path / "two", run(b, 1), run(c, 2, status="diverged"))
    found = compressibilities.of_runs([a, b, c], tmp_path / "two")
    assert sorted(found["run_id"].values) == [a, b]
    assert compressibilities.of_runs([b], tmp_path / "two").sizes["run"] == 1
