"""Sentences under figures: their numbers and directions are those of the results."""

import numpy as np
import pytest
import xarray as xr
from longform import experiment

from lrsc.pages import readings


def runs(low, high, name="prunability", lrs=(0.01, 0.1)) -> xr.Dataset:
    """Results whose runs have given values of a measure at two LRs."""
    ds = experiment(lrs=lrs, seeds=tuple(range(len(low))))
    values = np.where(ds["lr"].values == lrs[0], np.nan, np.nan)
    for lr, given in zip(lrs, (low, high), strict=True):
        values[ds["lr"].values == lr] = given
    return ds.assign({name: ("run", values)}).assign_coords(
        status=("run", np.full(ds.sizes["run"], "converged", object))
    )


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        ((0.2, 0.21, 0.22), (0.5, 0.51, 0.52), "prunability rises from 0.210 to 0.510."),
        ((0.5, 0.51, 0.52), (0.2, 0.21, 0.22), "prunability falls from 0.510 to 0.210."),
        ((0.1, 0.5, 0.9), (0.2, 0.5, 0.9), "hardly changes, from 0.500 to 0.533 (p = 0.9"),
        ((0.2, 0.21), (0.5, 0.51), "With 2 seeds at an end, differences are not tested."),
    ],
)
def test_directions_are_those_of_a_test_over_seeds(low, high, said):
    text = readings.of_curves(runs(low, high), ("prunability",))
    assert text.startswith("From learning rate 0.01 to 0.1, prunability ") and said in text
    rises = high[0] > low[0] + 0.1 or len(low) == 2
    paper = "reports the same direction" if rises else "The paper reports that prunability rises"
    assert paper in text


def test_one_learning_rate_says_nothing():
    ds = experiment(lrs=(0.1,))
    assert readings.of_curves(ds) == ""


def test_what_may_be_chance_and_what_peaks_between_is_said():
    text = readings.of_curves(runs((0.1, 0.2, 0.3), (0.2, 0.3, 0.5)), ("prunability",))
    assert "(p = 0.2" in text and text.endswith("; the rise of prunability may be chance.")
    ds = runs((0.2, 0.2), (0.3, 0.3), lrs=(0.01, 0.1))
    between = runs((0.9, 0.9), (0.3, 0.3), lrs=(0.03, 0.1))
    both = xr.concat([ds, between.isel(run=between["lr"].values == 0.03)], "run")
    assert "from 0.200 to 0.300, with 0.900 at 0.03" in readings.of_curves(both, ("prunability",))


def test_pruning_and_rows_and_correlations():
    ds = runs((0.2, 0.2, 0.2), (0.4, 0.4, 0.4))
    text = readings.of_pruning(ds)
    assert text.startswith("Without 50 % of the filters or neurons of each layer, accuracy is ")
    assert text.count("instead of") == 2
    said = readings.of_rows([ds, runs((0.4, 0.4), (0.2, 0.2))], ["prunability"])
    assert said == "Higher at the largest learning rate: prunability in 1 of 2 rows."
    nan = float("nan")
    said = readings.of_correlations([(0.5, 0.1, 0.9), (-0.2, -0.6, 0.3), (nan, nan, nan)])
    assert "in 1 of 2 rows; the interval excludes zero in 1" in said


def test_dominance_and_pairs():
    said = readings.of_dominance({(0.01, 0): (0.5, 0.25), (0.01, 1): (0.7, 0.35), (0.5, 0): (1, 0)})
    assert "at learning rate 0.5, 100 % of the class-dominant neurons stay so and 0 %" in said
    assert said.startswith("At learning rate 0.01, 60 % of the class-dominant")
    pair = {"low": 2.0, "high": 1.5, "difference": -0.5, "p": 0.001}
    said = readings.of_paired({"entropy": pair, "share": pair | {"p": 0.6}})
    assert "the entropy falls (2.000 to 1.500), the share is no different" in said
