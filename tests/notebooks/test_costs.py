"""What the results took, and what unmeasured rows would take."""

import json

import numpy as np
import pytest

from lrsc import experiments, results
from lrsc.pages import costs


def test_every_shipped_run_counts_once():
    ids, seconds = [], 0.0
    for name in experiments.names():
        path = results.shipped_path(name)
        if path.is_file():
            found = results.load(path)
            took = np.fmax(found["wall_seconds"].values, found["train_seconds"].values)
            for run, wall in zip(found["run_id"].values, took, strict=True):
                if run not in ids:
                    ids.append(run)
                    seconds += float(np.nan_to_num(wall))
    counted = costs.computing()
    assert sum(n for n, _ in counted.values()) == len(ids) > 100
    assert sum(s for _, s in counted.values()) == pytest.approx(seconds)


def test_the_cost_of_a_row_is_its_steps_times_the_measured_time_of_one(displayed_texts):
    costs.show_cost("naturalistic")
    table, text = displayed_texts
    measured = json.loads(results.shipped_path("step_times").with_suffix(".json").read_text())
    (step,) = (
        row["ms_a_step"] for row in measured["rows"]
        if row["model"] == "swin_t" and row["input"] == "3 x 224 x 224"
    )  # fmt: skip
    steps = 100 * (4795 // 16)  # Waterbirds, whose 18 runs have a cap of 100 epochs
    assert f"<td>{steps:,}</td>" in table and f"<td>{18 * steps * step / 3.6e6:,.0f}</td>" in table
    assert "lrsc sweep naturalistic --profile paper --estimate" in text
