"""Which runs may be compared: attempts to get unequal ones into one mean."""

import numpy as np
import pytest
import xarray as xr
from longform import experiment

from lrsc import experiments, plots


def both(first: xr.Dataset, second: xr.Dataset) -> xr.Dataset:
    return xr.concat([first, second], "run", data_vars="minimal")


def told(**values) -> xr.Dataset:
    """Runs of one row with what else there is to know of them."""
    usual = {
        "data": "", "model_options": "", "precision": "fp32", "rho": 0.025, "run_id": "",
        "hyperparameter": "lr", "statistics": "running",
    }  # fmt: skip
    ds = experiment()
    n = ds.sizes["run"]
    columns = {
        name: np.full(n, value, object if isinstance(value, str | None) else None)
        for name, value in (usual | values).items()
    }
    ds = ds.assign_coords({name: ("run", values) for name, values in columns.items()})
    return ds.assign_coords(value=ds["lr"])


UNLIKE = {
    "60,000 training samples": {"n_train": 60_000, "data": "n_train = 60000"},
    "paper profile": {"profile": "paper"},
    "recalibrated statistics": {"statistics": "recalibrated"},
    "no batch normalisation": {"statistics": ""},
    "torch's initialisation": {"model_options": "init = torch"},
    "hidden = (8, 8)": {"model_options": "hidden = (8, 8)"},
    "rho = 0.01": {"data": "rho = 0.01", "rho": 0.01},
    "rho 0.01": {"rho": 0.01},  # of data of a user's own, whose options do not say it
    "source mnist": {"source_id": "mnist"},
    "bf16": {"precision": "bf16"},
    "60,000 training samples, source mnist": {"n_train": 60_000, "source_id": "mnist"},
}


@pytest.mark.parametrize("apart", UNLIKE)
def test_unlike_runs_come_apart_are_named_and_never_averaged(apart):
    ds = both(told(), told(**UNLIKE[apart]))
    usual, other = experiments.alike(ds)
    assert other.attrs["apart"] == apart and usual.attrs["apart"] not in ("", apart)
    assert usual.sizes["run"] == other.sizes["run"] == 12
    draws = (lambda ds: plots.by_lr(ds, "csi"), lambda ds: plots.finding([ds]))
    assert [len(plots.rows_of(part)) for part in (ds, usual)] == [2, 1]  # panels of their own
    for draw in (plots.tradeoff, *draws):
        with pytest.raises(ValueError, match=r"do not compare .*lrsc\.experiments\.alike"):
            draw(ds)
    assert len(plots.by_lr(other, "csi")[0]) == 4


LIKE = {
    "rho unknown of both": ({"rho": np.nan}, {"rho": np.nan}),
    "rho as rounded": ({"rho": 0.02501666732132435}, {"rho": 0.025016666666666666}),
    "nothing, in two ways": ({"model_options": ""}, {"model_options": None}),
    "size said and not said": ({"data": "n_train = 10000"}, {"data": ""}),
    "size as a float": ({"n_train": 10_000}, {"n_train": 10_000.0}),
    "two files": ({"file": "book/results/synthetic.nc"}, {"file": "book/results/choices.nc"}),
    "two machines": ({"device": "cpu"}, {"device": "cuda"}),
}


@pytest.mark.parametrize("case", LIKE)
def test_what_is_alike_stays_together(case):
    first, second = LIKE[case]
    (found,) = experiments.alike(both(told(**first), told(**second)))
    assert found.sizes["run"] == 24 and found.attrs["apart"] == ""


def test_a_run_in_two_files_counts_once_and_in_two_rows_twice():
    ds = told()
    ds = ds.assign_coords(run_id=("run", np.array([f"{i:016x}" for i in range(12)], object)))
    files = (np.full(12, f"book/results/{n}.nc", object) for n in ("synthetic", "choices"))
    (found,) = experiments.alike(both(*(ds.assign_coords(file=("run", f)) for f in files)))
    assert found.sizes["run"] == 12
    step = ds.assign_coords(hyperparameter=("run", np.full(12, "step", object)))
    (found,) = experiments.alike(both(ds, step))
    assert found.sizes["run"] == 24


def test_groups_are_named_within_their_data_set_and_model():
    other = told(n_train=60_000).assign_coords(model=("run", np.full(12, "resnet18", object)))
    assert [g.attrs["apart"] for g in experiments.alike(both(told(), other))] == ["", ""]
    assert "60,000 training samples" in experiments.alike(other)[0].attrs["settings"]
    assert experiments.alike(xr.Dataset()) == []


def test_interventions_are_drawn_together_only_where_lines_tell_them_apart():
    ds = both(told(), told(hyperparameter="l2"))
    with pytest.raises(ValueError, match="several interventions"):
        plots.by_lr(ds, "csi")
    assert len(plots.rows_of(ds)) == 2
    plots.tradeoff(ds)


def test_the_shipped_rows_at_two_sizes_come_apart():
    ds = experiments.open_experiment(
        "semi_synthetic", ("paper", "desk"), None, "colored_mnist", "resnet18", statistics="running"
    )
    found = {int(g["n_train"].values[0]): g.sizes["run"] for g in experiments.alike(ds)}
    assert set(found) == {60_000, 10_000} and sum(found.values()) == ds.sizes["run"]
