"""What the section on compressibility shows: measured rows only, and a network shrunk for real."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from longform import experiment

from lrsc import experiments, models, pages, results
from lrsc.runs import identify, load
from lrsc.studies import compressibilities


def with_names(ds: xr.Dataset, **columns) -> xr.Dataset:
    columns = {"origin": "shipped", "profile": "desk", "statistics": ""} | columns
    n = ds.sizes["run"]
    ds = ds.assign_coords({k: ("run", np.full(n, v, object)) for k, v in columns.items()})
    names = [f"{ds['model'].values[0]}{i}" for i in range(n)]
    ds = ds.assign_coords(run_id=("run", np.array(names, object)))
    return ds.assign(sparsity=ds["csi"], pq_index=ds["csi"])


@pytest.fixture
def two_rows(monkeypatch):
    """An experiment with evidence of two models."""
    fcn = with_names(experiment())
    rows = [fcn, with_names(experiment(model="cnn"), origin="local")]
    rows = {("parity", str(row["model"].values[0])): row for row in rows}
    rows["parity", "cnn"].attrs["file"] = ""

    def measured(name, profiles, root, *pair, read):
        assert profiles == ("paper", "desk")
        return rows.get(pair) if name == "synthetic" else None

    pairs = [SimpleNamespace(dataset=dataset, model=model) for dataset, model in rows]
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"synthetic": pairs, "semi_synthetic": pairs})
    monkeypatch.setattr(experiments, "measured", measured)


def test_rows_are_those_with_evidence(two_rows):
    rows = pages.measured_rows("semi_synthetic", "synthetic")
    assert list(rows) == [("parity", "fcn"), ("parity", "cnn")]
    assert all(found.sizes["run"] == 12 for found in rows.values())
    files = [found.attrs["file"] for found in rows.values()]
    assert files == ["book/results/synthetic.nc", ""]


def test_every_measured_row_has_its_curves(two_rows, displayed_texts):
    pages.show_rows("pruning", "synthetic")
    figure, caption, reading = displayed_texts
    assert reading.startswith("Higher at the largest learning rate: prunability in ")
    assert "Parity, FCN" in figure and "Parity, CNN" in figure and "ResNet" not in figure
    assert figure.count("<img ") == 1 and "24 runs" in caption
    displayed_texts.clear()
    pages.show_rows("compressibility", "synthetic")
    assert "PQ-index" in displayed_texts[0] and "Three measures" in displayed_texts[1]


def test_nothing_measured_is_said(monkeypatch, displayed_texts, two_rows):
    for what in ("pruning", "orders"):
        pages.show_rows(what, "semi_synthetic")
    assert all(text.startswith("*Not measured yet.*") for text in displayed_texts)
    assert "lrsc results export compressibility" in displayed_texts[-1]


def test_other_measures_are_those_of_the_rows_runs(two_rows, displayed_texts, monkeypatch):
    def of_runs(run_ids):
        if "cnn0" in run_ids:
            return None
        grid = np.arange(2 * 2 * 4, dtype=float).reshape(2, 2, 4) / 16
        ds = with_names(experiment()).isel(run=[0, 11])[["csi"]]
        values = {
            name: (("run", "q", "kept"), grid) if "compressibility" in name else ds["csi"]
            for name in compressibilities.VARIABLES
        }
        orders = {"q": list(compressibilities.QS), "kept": list(compressibilities.KEPT)}
        return ds.assign(values).assign_coords(orders)

    monkeypatch.setattr(compressibilities, "of_runs", of_runs)
    for what in ("orders", "filters"):
        displayed_texts.clear()
        pages.show_rows(what, "synthetic")
        figure, caption = displayed_texts[:2]
        assert "Parity, FCN" in figure and "CNN" not in figure and figure.count("<img ") == 1
        assert "2 runs" in caption and "`lrsc results export compressibility`" in caption


def test_a_network_is_shrunk_and_measured(tmp_path, monkeypatch, displayed_texts):
    config = experiments.run_config("parity", "fcn", 0.1, 0, "quick")
    monkeypatch.setattr(results, "weights_path", lambda name: tmp_path / f"{name}.pt")
    pages.show_shrinking(config)
    assert "weights of this run are not here" in displayed_texts.pop()
    options = models.options_for("fcn", "parity")
    network = models.build("fcn", load(config).input_shape, 2, **options)
    torch.save(network.state_dict(), tmp_path / f"{identify(config)}.pt")
    pages.show_shrinking(config, (0.5,))
    table, caption = displayed_texts
    cells = [row.split("<td>")[1] for row in table.split("<tr>")[2:]]
    before, after = (int(cell.split("<")[0].replace(",", "")) for cell in cells)
    assert before == sum(p.numel() for p in network.parameters())
    assert after < before / 2
    assert "Parity, FCN, learning rate 0.1, seed 0" in caption


def test_figures_of_lines_are_small_files(displayed_texts):
    pages.show_pruning(experiment())
    assert len(displayed_texts[0]) < 2 * 60_000
