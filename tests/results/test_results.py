"""Result files: atomic, checked, combined into long form and grids."""

import logging

import numpy as np
import pytest
import xarray as xr
from longform import stored as run

from lrsc import files, results
from lrsc.config import RunConfig, TrainConfig
from lrsc.results import units


def test_a_saved_run_comes_back_equal(tmp_path):
    path = results.run_path("0123456789abcdef", tmp_path)
    results.save(run(), path)
    assert results.load(path).identical(run().load())
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left


def test_every_variable_has_units_and_a_long_name():
    found = run().drop_vars("representation")
    assert all({"units", "long_name"} <= set(v.attrs) for v in found.data_vars.values())
    assert {"units", "long_name"} <= set(found["kappa"].attrs)


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path):
    path = tmp_path / "a.nc"
    results.save(run(), path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError), files.atomic(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "renamed", "flipped"])
def test_a_damaged_run_is_set_aside_with_a_warning(tmp_path, caplog, damage):
    path = results.run_path("0123456789abcdef", tmp_path)
    results.save(run(), path)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[:64] = bytes(64)
    new = {"truncated": data[: len(data) // 2], "empty": b"", "foreign": b"not netCDF" * 99}
    if damage == "renamed":
        results.save(run("fedcba9876543210"), path)
    else:
        path.write_bytes(new.get(damage, data))
    with caplog.at_level(logging.WARNING):
        assert results.load_run(path) is None
    assert not path.exists() and path.with_name(path.name + ".damaged").exists()
    assert "set aside" in caplog.text and path.name in caplog.text


def test_a_run_of_another_version_is_left_where_it_is(tmp_path, caplog):
    path = results.run_path("0123456789abcdef", tmp_path)
    found = run()
    text = '{"a_field_of_later":1,' + found.attrs["config"][1:]
    results.save(found.assign_attrs(config=text), path)
    with caplog.at_level(logging.WARNING):
        assert results.load_run(path) is None and path.is_file()
    assert "run 0123456789abcdef is left out: unknown RunConfig field 'a_field" in caplog.text


def test_what_ships_is_named_as_readers_know_it(tmp_path, monkeypatch):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    assert results.shipped("a") is None
    results.save(run(), tmp_path / "a.nc")
    found = results.shipped("a", ["kappa", "config"])
    assert found.attrs["file"] == "book/results/a.nc"
    with pytest.raises(ValueError, match="`book/results/a.nc` is of another kind .* 'humidity'"):
        results.shipped("a", ["config", "humidity"])
    (tmp_path / "a.nc").write_bytes(b"")
    with pytest.raises(ValueError, match="^`book/results/a.nc` is damaged or not a result$"):
        results.shipped("a")


def test_load_names_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.nc does not exist"):
        results.load(tmp_path / "nowhere.nc")


def test_combine_makes_long_form_without_raw_material():
    wide = run("a" * 16, lr=0.2)
    wide["group_accuracy"] = (("class", "bias"), np.ones((3, 3)))
    long = results.combine([run(seed=1), wide])
    assert long.sizes == {"run": 2, "kappa": 9, "class": 3, "bias": 3}
    assert long["lr"].values.tolist() == [0.1, 0.2] and long["seed"].values.tolist() == [1, 0]
    assert "representation" not in long and long["status"].values.tolist() == ["converged"] * 2
    assert np.isnan(long["group_accuracy"][0, 2]).all()
    assert long["group_accuracy"][0, :2, :2].values.tolist() == [[1, 0], [0, 1]]


def test_a_run_without_measures_becomes_nan():
    diverged = run("b" * 16, status="diverged").drop_vars(
        ["unbiased_accuracy", "accuracy_pruned_column", "kappa"]
    )
    long = results.combine([run(), diverged])
    assert (
        np.isnan(long["unbiased_accuracy"][1]) and np.isnan(long["accuracy_pruned_column"][1]).all()
    )


def test_long_form_survives_the_file(tmp_path):
    long = results.combine([run(), run("a" * 16, lr=0.2)])
    results.save(long, tmp_path / "long.nc")
    again = results.load(tmp_path / "long.nc")
    assert again["config"].values.tolist() == long["config"].values.tolist()
    xr.testing.assert_allclose(again.drop_vars(["config"]), long.drop_vars(["config"]))


def test_combine_nothing_says_what_to_do():
    with pytest.raises(ValueError, match="run a sweep"):
        results.combine([])


def test_grid_has_the_dimensions_asked_for():
    runs = [run(f"{i:016x}", lr, seed, lr + seed)
            for i, (lr, seed) in enumerate([(0.1, 0), (0.2, 0), (0.2, 1)])]  # fmt: skip
    grid = results.to_grid(results.combine(runs), "lr", "seed")
    assert grid["unbiased_accuracy"].dims == ("lr", "seed")
    assert float(grid["unbiased_accuracy"].sel(lr=0.2, seed=1)) == pytest.approx(1.2)
    assert np.isnan(grid["unbiased_accuracy"].sel(lr=0.1, seed=1))
    assert set(grid["accuracy_pruned_column"].dims) == {"lr", "seed", "kappa"}


@pytest.mark.parametrize(
    ("dims", "words"),
    [((), "at least one"), (("LR",), "'lr'"), (("lr",), "two runs stand at {'lr': 0.1}")],
)
def test_grid_errors(dims, words):
    long = results.combine([run(), run("a" * 16, seed=1)])
    with pytest.raises(ValueError, match=words):
        results.to_grid(long, *dims)


def test_rows_of_an_experiment_become_dimensions_where_runs_would_share_a_place():
    sets = [("parity", "fcn"), ("parity", "cnn"), ("moon_star", "fcn")]
    long = results.combine([run(f"{i:016x}", lr=0.1) for i in range(3)])
    datasets, models = zip(*sets, strict=True)
    names = {"dataset": ("run", list(datasets)), "model": ("run", list(models))}
    grid = results.to_grid(long.assign_coords(names), "lr", "seed")
    assert grid["unbiased_accuracy"].dims == ("lr", "seed", "dataset", "model")
    assert int(grid["unbiased_accuracy"].count()) == 3
    one = results.to_grid(long.assign_coords(names).isel(run=[0]), "lr", "seed")
    assert one["unbiased_accuracy"].dims == ("lr", "seed")


def test_curves_of_different_lengths_stand_side_by_side():
    parts = [
        xr.Dataset({"curve_dynamics_csi": (("run", "dynamics_call"), np.ones((1, n))),
                    "csi": ("run", [0.5])})
        for n in (2, 4)
    ]  # fmt: skip
    found = results.concat(parts)
    assert found["curve_dynamics_csi"].shape == (2, 4)
    assert np.isfinite(found["curve_dynamics_csi"].values).sum(1).tolist() == [2, 4]
    assert found["csi"].values.tolist() == [0.5, 0.5]


def test_columns_beside_the_measures_are_saved_with_units_and_long_names(tmp_path):
    found = xr.Dataset(
        {"right_low": ("sample", np.zeros(2)), "own": ("sample", np.zeros(2), {"units": "m"})},
        {"wall_seconds": ("run", [1.0]), "lr": ("run", [0.1], {"units": "m"})},
    )
    results.save(found, tmp_path / "a.nc")
    assert not found["wall_seconds"].attrs
    read = results.load(tmp_path / "a.nc")
    assert read["wall_seconds"].attrs == {"units": "s", "long_name": "time of the run"}
    assert read["lr"].attrs == {"units": "m", "long_name": "learning rate"}
    assert read["right_low"].attrs["units"] == "1"
    assert read["own"].attrs == {"units": "m"}


def test_every_column_of_an_experiment_has_units():
    known = units.COLUMNS.keys()
    assert {
        *results.FROM_ATTRS,
        *results.described(['{"dataset": "parity", "model": "fcn"}']),
    } <= known


@pytest.mark.parametrize(("dataset", "batch_size", "row"), [
    ("cifar10", 100, "lr"), ("cifar10", 16, "batch_size"),
    ("celeba", 16, "lr"), ("celeba", 100, "batch_size"),
])  # fmt: skip
def test_another_batch_size_than_the_data_sets_usual_one_is_a_row_of_its_own(
    dataset, batch_size, row
):
    config = RunConfig(dataset, "resnet18", TrainConfig(batch_size=batch_size))
    assert results.intervention(config) == row
