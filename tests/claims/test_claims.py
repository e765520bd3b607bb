"""Claims on constructed results with known answers, and `lrsc score`."""

import json

import numpy as np
import pytest
import xarray as xr
from longform import experiment

from lrsc import claims, cli, experiments
from lrsc.claims import evidence, scorecard, settings
from lrsc.experiments import paper


def pretend(monkeypatch, change=lambda found: found, **options):
    """Every row of table S1's grid holds the same constructed results."""

    def opened(name, profile, root, *key, read, statistics=None):
        if name != "semi_synthetic" or profile != "desk":
            raise ValueError("nothing is measured")
        return change(experiment(**options))

    monkeypatch.setattr("lrsc.experiments.open.open_experiment", opened)
    monkeypatch.setattr(settings, "stored", lambda root: {})
    return {c["id"]: c for c in claims.verdicts()}


def test_a_true_trend_is_supported(monkeypatch):
    found = pretend(monkeypatch)
    assert [found[c]["verdict"] for c in ("C1", "C2", "C3", "C4")] == ["supported"] * 4
    assert found["C1"]["effect"] == pytest.approx(0.4 * np.log(30) / np.log(100))
    assert found["C1"]["rows"][0]["up"] < 0.001


def test_a_reversed_trend_is_contradicted(monkeypatch):
    found = pretend(monkeypatch, lambda f: f.assign(unbiased_accuracy=1 - f["unbiased_accuracy"]))
    assert found["C1"]["verdict"] == "contradicted" and found["C1"]["effect"] < 0


def test_the_loss_ratio_of_mini_batches_decides_and_the_other_stands_beside(
    monkeypatch,
):
    def with_ratios(found):
        accuracy = found["unbiased_accuracy"]
        return found.assign(max_loss_ratio=accuracy, max_loss_ratio_fixed=1 - accuracy)

    found = pretend(monkeypatch, with_ratios)["C7"]
    beside = found["by_definition"]
    assert {k: v["effect"] for k, v in beside.items()} == {
        "mini-batches": pytest.approx(1), "fixed samples": pytest.approx(-1),
    }  # fmt: skip
    assert found["effect"] == beside["mini-batches"]["effect"]


def test_chance_corrected_prunability_stands_beside(monkeypatch):
    found = pretend(monkeypatch, lambda f: f.assign(prunability_corrected=f["prunability"] / 2))
    assert all(r["corrected"] == pytest.approx(r["effect"] / 2) for r in found["C2"]["rows"])
    assert "corrected" not in found["C1"]["rows"][0]


def test_no_trend_is_no_effect(monkeypatch):
    found = pretend(monkeypatch, lambda f: f.assign(unbiased_accuracy=f["unbiased_accuracy"] * 0))
    assert found["C1"]["verdict"] == "no effect seen" and found["C1"]["effect"] == 0


def test_diverged_runs_are_left_out_and_counted(monkeypatch):
    row = pretend(monkeypatch, diverged=[(0.3, 0)])["C1"]["rows"][0]
    assert row["diverged"] == 1 and row["trend"] == 1


def test_too_few_learning_rates_or_nothing_is_not_measured(monkeypatch):
    found = pretend(monkeypatch, lrs=(0.01, 0.1))
    assert {c["verdict"] for c in found.values()} == {"not measured"} and len(found) == 18
    assert "lrsc sweep semi_synthetic" in found["C1"]["needs"]


def test_score_json_has_48_rows_and_18_claims(capsys):
    assert cli.main(["score", "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out)
    assert "NaN" not in out
    assert len(found["rows"]) == 48 and len(found["claims"]) == 18
    assert {"table", "dataset", "model", "hyperparameter", "status", "profile", "statistics", "n",
            "seeds", "paper", "ours", "apart"} == set(found["rows"][0])  # fmt: skip
    assert set(found["claims"][0]) == {
        "id", "verdict", "effect", "low", "high", "small",
    }  # fmt: skip
    assert cli.main(["score"]) == 0
    said = capsys.readouterr().out
    assert "of 48 rows" in said and "at the paper's size; 1 needs data behind a" in said
    assert {c["verdict"] for c in found["claims"]} <= {
        "supported", "contradicted", "same direction, too few", "no effect seen", "not measured",
    }  # fmt: skip
    apart = next(c for c in found["claims"] if c["id"] == "C2")["by_statistics"]["running"]
    assert set(apart) == {
        "verdict", "effect", "low", "high", "small", "p", "rows", "n_rows",
    }  # fmt: skip
    assert all(c["low"] is None or c["low"] < c["high"] for c in found["claims"])
    ours = [row["ours"] for row in found["rows"] if row["ours"]]
    assert all("prunability_corrected" in measured for measured in ours)
    (row,) = (line for line in said.splitlines() if line.startswith("S1     celeba"))
    assert row.endswith("lrsc sweep naturalistic --profile desk --dataset celeba --model swin_t")


def test_prunability_has_a_verdict_in_each_of_the_statistics(monkeypatch):
    """Rising in the paper's statistics, falling in running ones; the main verdict is the former."""

    def opened(name, profile, root, *key, read, statistics=None):
        if name != "semi_synthetic" or profile != "desk" or statistics == "batch":
            raise ValueError("nothing is measured")
        found = experiment(model="resnet18")
        sign = -1 if statistics == "running" else 1
        return found.assign(prunability=sign * found["prunability"])

    monkeypatch.setattr("lrsc.experiments.open.open_experiment", opened)
    monkeypatch.setattr(settings, "stored", lambda root: {})
    found = {c["id"]: c for c in claims.verdicts()}["C2"]
    apart = {mode: each["verdict"] for mode, each in found["by_statistics"].items()}
    assert apart == {
        "running": "contradicted", "batch": "not measured", "recalibrated": "supported",
    }  # fmt: skip
    assert found["verdict"] == apart[experiments.PAPER_STATISTICS]
    assert found["rows"] == found["by_statistics"][experiments.PAPER_STATISTICS]["rows"]


def normalised(modes=("running", "batch", "recalibrated")):
    """Results of a ResNet18 in several statistics, which differ by a constant, and of an FCN."""
    deep = experiment(model="resnet18", lrs=(0.001, 0.015, 0.15))
    measures = [n for n in deep.data_vars if n != "accuracy_pruned_magnitude"]
    apart = [deep.assign({n: deep[n] + k / 10 for n in measures}) for k in range(len(modes))]
    deep = xr.concat(apart, "statistics").assign_coords(statistics=list(modes))
    return deep.transpose("run", "statistics", ...)


def test_rows_are_read_in_the_papers_statistics_where_all_runs_have_them():
    deep = normalised()
    accuracy = deep["unbiased_accuracy"]
    paper, read = experiments.PAPER_STATISTICS, experiments.in_statistics(deep)
    assert set(read["statistics"].values) == {paper} != {"running"}
    np.testing.assert_array_equal(read["unbiased_accuracy"], accuracy.sel(statistics=paper))
    lacking = accuracy.copy()
    lacking[0] = lacking[0].where(lacking["statistics"] == "running")
    part = deep.assign(unbiased_accuracy=lacking)
    running = experiments.in_statistics(part)  # one run was measured in running ones only
    assert set(running["statistics"].values) == {"running"}
    assert experiments.in_statistics(part, paper).sizes["run"] == deep.sizes["run"] - 1
    diverged = deep["status"].copy()
    diverged[0] = "diverged"
    whole = experiments.in_statistics(part.assign_coords(status=diverged))
    assert set(whole["statistics"].values) == {paper} and whole.sizes == read.sizes


def test_a_row_of_the_scorecard_says_in_which_statistics_it_is():
    (row,) = [r for r in scorecard.rows() if (r["table"], r["dataset"], r["model"]) ==
              ("S1", "colored_mnist", "fcn")]  # fmt: skip
    assert row["status"] == "measured" and row["statistics"] is None
    modes = {r["statistics"] for r in scorecard.rows(statistics="running") if r["ours"]}
    assert modes == {"running", None}


def test_settings_are_ordered_by_their_distance_from_the_paper():
    coords = {"dataset": "colored_mnist", "data": "rho = 0.02", "model_options": "", "value": 0.0}
    deep = experiments.in_statistics(normalised(), "running")
    n = deep.sizes["run"]
    near = deep.assign_coords({k: ("run", np.full(n, v)) for k, v in coords.items()})
    far = near.assign_coords(data=("run", np.full(n, "rho = 0.3")))
    s1 = {k: (low, high) for k, (low, high) in paper.ranges(
        next(r for r in paper.table("s1") if r["model"] == "ResNet18"
             and r["dataset"] == "Colored MNIST")).items()}  # fmt: skip
    exact = {
        name: ("run", np.where(near["lr"] < 0.01, low, high))
        for name, (low, high) in s1.items() if name != "value"
    }  # fmt: skip
    off = {name: ("run", value + 0.03) for name, (_, value) in exact.items()}
    rows = scorecard.fits(xr.concat([far.assign(off), near.assign(exact)], "run"))
    of_s1 = [row for row in rows if row["table"] == "S1"]
    assert [row["data"] for row in of_s1] == ["rho = 0.02", "rho = 0.3"]
    assert of_s1[0]["deciding"] == pytest.approx(0) and of_s1[0]["ends"] == [0.001, 0.15]
    assert of_s1[1]["gaps"]["csi"] == pytest.approx([0.03, 0.03])
    assert of_s1[1]["deciding"] == pytest.approx((0.03 / 0.03 + 0.3 + 0.3) / 3)
    assert of_s1[1]["following"] == pytest.approx(0.3)
    assert {row["table"] for row in rows} == {"S1", "S2"}
    small = {"model": "fcn", "data": "rho = 0.3", "model_options": "", "statistics": ""}
    assert scorecard.jointly(rows) == []  # of one model each
    (joint,) = scorecard.jointly([*rows, small | {"table": "S1", "deciding": 2.0}])
    assert joint["data"] == "rho = 0.3" and set(joint["models"]) == {"fcn", "resnet18"}
    assert joint["deciding"] == pytest.approx((2 + of_s1[1]["deciding"]) / 2)


def test_of_two_sources_in_a_row_the_larger_counts(monkeypatch):
    """Their mean would be of neither."""

    def opened(name, profile, root, *key, read, statistics=None):
        parts = [experiment(), experiment(lrs=(0.01,))]
        sources = [np.full(p.sizes["run"], s, object) for p, s in zip(parts, "ab", strict=True)]
        parts = [p.assign_coords(source_id=("run", s)) for p, s in zip(parts, sources, strict=True)]
        return xr.concat(parts, "run", data_vars="minimal")

    monkeypatch.setattr("lrsc.experiments.open.open_experiment", opened)
    found = evidence.Open()("semi_synthetic", "desk", ("parity", "fcn", "lr"))
    assert set(found["source_id"].values) == {"a"} and found.sizes["run"] == 12
