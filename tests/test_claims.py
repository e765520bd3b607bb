"""Claims on constructed results with known answers, and `lrsc score`."""

import json

import numpy as np
import pytest
from longform import experiment

from lrsc import claims, cli, experiments, soup


def pretend(monkeypatch, change=lambda found: found, **options):
    """Every row of table S1's grid holds the same constructed results."""

    def opened(name, profile, root, *key, read):
        if name != "semi_synthetic" or profile != "desk":
            raise ValueError("nothing is measured")
        return change(experiment(**options))

    monkeypatch.setattr(experiments, "open_experiment", opened)
    monkeypatch.setattr(soup, "shipped", dict)
    return {c["id"]: c for c in claims.verdicts()}


def test_a_true_trend_is_supported(monkeypatch):
    found = pretend(monkeypatch)
    assert [found[c]["verdict"] for c in ("C1", "C2", "C3", "C4")] == ["supported"] * 4
    assert found["C1"]["effect"] == pytest.approx(0.4 * np.log(30) / np.log(100))
    assert found["C1"]["rows"][0]["p"] < 0.001


def test_a_reversed_trend_is_contradicted(monkeypatch):
    found = pretend(monkeypatch, lambda f: f.assign(unbiased_accuracy=1 - f["unbiased_accuracy"]))
    assert found["C1"]["verdict"] == "contradicted" and found["C1"]["effect"] < 0


def test_no_trend_is_inconclusive(monkeypatch):
    found = pretend(monkeypatch, lambda f: f.assign(unbiased_accuracy=f["unbiased_accuracy"] * 0))
    assert found["C1"]["verdict"] == "inconclusive" and found["C1"]["effect"] == 0


def test_diverged_runs_are_left_out_and_counted(monkeypatch):
    row = pretend(monkeypatch, diverged=[(0.3, 0)])["C1"]["rows"][0]
    assert row["diverged"] == 1 and row["trend"] == 1


def test_too_few_learning_rates_or_nothing_is_not_measured(monkeypatch):
    found = pretend(monkeypatch, lrs=(0.01, 0.1))
    assert {c["verdict"] for c in found.values()} == {"not measured"} and len(found) == 18
    assert "lrsc sweep semi_synthetic" in found["C1"]["needs"]


def test_score_json_has_48_rows_and_18_claims(capsys):
    assert cli.main(["score", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 48 and len(found["claims"]) == 18
    assert {"table", "dataset", "model", "hyperparameter", "status", "profile", "n", "seeds",
            "paper", "ours"} == set(found["rows"][0])  # fmt: skip
    assert set(found["claims"][0]) == {"id", "verdict", "effect", "low", "high"}
    assert cli.main(["score"]) == 0
    said = capsys.readouterr().out
    assert "of 48 rows" in said
    (row,) = (line for line in said.splitlines() if line.startswith("S1     celeba"))
    assert row.endswith("lrsc sweep naturalistic --profile desk --dataset celeba --model swin_t")
