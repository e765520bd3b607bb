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


def test_a_correlation_without_spread_is_not_clear():
    said = readings.of_correlations([(1.0, 1.0, 1.0), (0.8, 0.2, 0.9)])
    assert "in 2 of 2 rows; the interval excludes zero in 1." in said


def test_updates_are_means_over_seeds_at_the_last_lag():
    of_seeds = [{"lag": [-1, 0, 1], "large": [0.0, 0.0, by], "other": [0.0, 0.0, 0.001]}
                for by in (-0.02, -0.04)]  # fmt: skip
    assert readings.of_updates({"learning rate 1e-05": of_seeds}, 20) == (
        "From an update to 20 iterations later the spurious share changes by \u22123.00 points at "
        "learning rate 1e-05 (+0.10 after other moments)."
    )


def test_a_gallery_says_how_many_samples_and_where_maps_differ():
    found = xr.Dataset(attrs={"only_high": 50, "n_test": 2000})
    change = {"low": 0.6, "high": 0.5, "difference": -0.1}
    none = {"low": np.nan, "high": np.nan, "difference": np.nan}
    said = readings.of_gallery(found, {"share on the core": change, "background": none})
    assert said.startswith("2.5 % of the test samples are right only at the high learning rate.")
    assert said.endswith("the share on the core goes from 0.600 to 0.500.")
    assert readings.of_gallery(found, {"background": none}).endswith("high learning rate.")


def test_orders_count_rows_at_each_order_and_share():
    def row(*rises: float) -> xr.Dataset:
        ds = runs((0.2, 0.2), (0.2, 0.2))
        values = 0.2 + np.outer(ds["lr"].values == 0.1, rises).reshape(-1, 1, 2)
        at = ("run", "q", "kept"), values
        return ds.assign(x=at).assign_coords(q=[2.0], kept=[0.1, 0.5])

    said = readings.of_orders([row(0.1, 0.1), row(0.1, -0.1)], "x")
    assert "in 2 of 2 rows at most, and at least in 1, with q = 2 and κ = 0.5." in said
    assert readings.of_orders([row(0.1, 0.1)], "x").endswith("at every order and share.")
    one = row(0.1, 0.1)
    assert readings.of_orders([one.isel(run=one["lr"].values == 0.1)], "x") == ""


def test_choices_are_compared_at_the_largest_lr():
    choices = {"a": runs((0.2, 0.2), (0.5, 0.5)), "b": runs((0.4, 0.4), (0.3, 0.3))}
    said = readings.of_choices(choices, ("prunability", "csi"))  # the main ones alone
    assert said == (
        "Prunability is higher at the largest learning rate under 1 of 2 options, between 0.300 "
        "and 0.500 there."
    )
    assert readings.of_choices({"a": choices["a"]}, ("prunability",)) == ""


def test_criteria_and_soups():
    values = np.array([[[0.2, 0.4]], [[0.1, 0.8]]])[..., None]  # criterion, statistics, lr, init
    mean = xr.DataArray(values, dims=("criterion", "statistics", "lr", "init"), coords={
        "criterion": ["norm", "taylor"], "statistics": ["running"], "lr": [0.01, 0.15],
        "init": ["torch"],
    })  # fmt: skip
    said = readings.of_criteria(mean)
    assert said.endswith("0.15 prunability by criterion is, with running statistics 0.40 (norm) "
                         "to 0.80 (taylor).")  # fmt: skip
    assert readings.of_criteria(mean * np.nan) == ""
    found = runs((0.2, 0.2), (0.4, 0.4)).assign_coords(
        kind=("run", np.array(["network", "network", "soup", "soup"]))
    )
    assert "prunability 0.400 (networks 0.200)" in readings.of_soup(found, ("prunability",))
