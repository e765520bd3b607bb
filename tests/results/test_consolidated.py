"""The table of all local runs: in step with the files, never fatal, never believed over them."""

import os
import threading

import numpy as np
import pytest
import xarray as xr
from longform import stored

from lrsc import experiments, results
from lrsc.results import consolidated, netcdf, units


@pytest.fixture(autouse=True)
def worth_it(monkeypatch):
    """A table is written for few runs too, and nothing is remembered from other tests."""
    monkeypatch.setattr(consolidated, "WORTH", 1)
    monkeypatch.setattr(consolidated, "_last", {})


@pytest.fixture
def forgotten(monkeypatch):
    """Call it to be a process that has read nothing yet."""
    return lambda: monkeypatch.setattr(consolidated, "_last", {})


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read one by one."""
    seen = []
    real = netcdf.read

    def counting(path, *args):
        seen.append(path.stem)
        return real(path, *args)

    monkeypatch.setattr(netcdf, "read", counting)
    return seen


def put(root, number, **options):
    path = results.run_path(f"{number:016x}", root)
    results.save(stored(path.stem, **options), path)
    return path


def accuracies(root):
    found = consolidated.measures(root)
    pairs = zip(found["run_id"].values, found["unbiased_accuracy"].values, strict=True)
    return {int(name, 16): value for name, value in pairs}


@pytest.mark.parametrize("batch", [500, 1, 2])
def test_it_is_what_combining_the_files_gives(tmp_path, monkeypatch, forgotten, batch):
    monkeypatch.setattr(consolidated, "BATCH", batch)
    wide = stored("f" * 16, lr=0.2)
    wide["group_accuracy"] = (("class", "bias"), np.ones((3, 3)))
    wide["sample_label"] = ("sample", np.arange(4))
    diverged = stored("0" * 16, status="diverged").drop_vars(
        ["unbiased_accuracy", "accuracy_pruned_column", "kappa"]
    )
    whole = [diverged, stored("a" * 16), wide]
    for found in whole:
        results.save(found, results.run_path(found.attrs["run_id"], tmp_path))
    expected = units.labelled(results.combine(whole))
    made = consolidated.measures(tmp_path).drop_vars("probes")
    xr.testing.assert_identical(units.labelled(made), expected)
    forgotten()
    from_table = consolidated.measures(tmp_path).drop_vars("probes").drop_attrs(deep=False)
    xr.testing.assert_identical(units.labelled(from_table), expected)


def test_nothing_there_is_none(tmp_path):
    assert consolidated.measures(tmp_path) is None
    assert not consolidated.table_path(tmp_path).exists()


def test_only_what_changed_is_read_again(tmp_path, reads, forgotten):
    paths = [put(tmp_path, n, accuracy=n / 10) for n in range(4)]
    assert accuracies(tmp_path) == {0: 0, 1: 0.1, 2: 0.2, 3: 0.3} and len(reads) == 4
    accuracies(tmp_path)
    forgotten()
    accuracies(tmp_path)
    assert len(reads) == 4
    put(tmp_path, 1, accuracy=0.9)  # changed
    put(tmp_path, 7, accuracy=0.7)  # new
    paths[2].unlink()
    assert accuracies(tmp_path) == {0: 0, 1: 0.9, 3: 0.3, 7: 0.7}
    assert reads[4:] == [f"{n:016x}" for n in (1, 7)]
    forgotten()
    assert accuracies(tmp_path) == {0: 0, 1: 0.9, 3: 0.3, 7: 0.7} and len(reads) == 6


def test_few_changes_do_not_write_it(tmp_path, monkeypatch, forgotten):
    monkeypatch.setattr(consolidated, "WORTH", 3)
    put(tmp_path, 0)
    put(tmp_path, 1)
    accuracies(tmp_path)
    assert not consolidated.table_path(tmp_path).exists()
    put(tmp_path, 2)
    forgotten()
    accuracies(tmp_path)
    assert consolidated.table_path(tmp_path).exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "flipped", "version"])
def test_a_table_that_cannot_be_used_is_made_anew(tmp_path, reads, monkeypatch, forgotten, damage):
    for n in range(3):
        put(tmp_path, n, accuracy=n / 10)
    accuracies(tmp_path)
    path = consolidated.table_path(tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        at = data.index(np.array([0, 0.1, 0.2]).tobytes())
        data[at + 15] ^= 1
    new = {"truncated": data[: len(data) // 2], "empty": b"", "foreign": b"not netCDF" * 99}
    path.write_bytes(new.get(damage, data))
    if damage == "version":
        monkeypatch.setattr(consolidated, "FORM", 99)
    forgotten()
    assert accuracies(tmp_path) == {0: 0, 1: 0.1, 2: 0.2} and len(reads) == 6
    forgotten()
    assert accuracies(tmp_path) == {0: 0, 1: 0.1, 2: 0.2} and len(reads) == 6


def test_a_folder_that_is_only_read_opens(tmp_path, monkeypatch):
    put(tmp_path, 1, accuracy=0.1)
    path = put(tmp_path, 2)
    path.write_bytes(b"damaged")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refused)
    monkeypatch.setattr(os, "replace", refused)
    assert accuracies(tmp_path) == {1: 0.1}
    assert path.exists() and not consolidated.table_path(tmp_path).exists()


def test_a_damaged_run_is_set_aside_and_not_in_the_table(tmp_path, caplog, forgotten):
    put(tmp_path, 1, accuracy=0.1)
    path = put(tmp_path, 2)
    accuracies(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    forgotten()
    assert accuracies(tmp_path) == {1: 0.1}
    assert "set aside" in caplog.text and path.with_name(f"{path.name}.damaged").exists()


def test_a_run_under_another_name_is_set_aside(tmp_path, caplog):
    path = put(tmp_path, 1)
    path.rename(path.with_name(f"{2:016x}.nc"))
    assert consolidated.measures(tmp_path) is None and "set aside" in caplog.text


def test_readers_and_writers_at_the_same_time(tmp_path, monkeypatch):
    """No reader fails or sees a value that no file held."""
    for n in range(5):
        put(tmp_path, n, accuracy=0.5)
    failed = []

    def read():
        for _ in range(5):
            try:
                consolidated._last.clear()
                assert set(accuracies(tmp_path).values()) <= {0.5, 0.75}
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(5):
        put(tmp_path, n, accuracy=0.75)
    for thread in threads:
        thread.join()
    assert not failed
    assert accuracies(tmp_path) == dict.fromkeys(range(5), 0.75)


def test_curves_of_the_runs_that_are_opened_come_through(tmp_path, monkeypatch, forgotten):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path / "shipped")
    configs = experiments.configs("mechanism", "quick")[:2]
    assert {"dynamics"} <= set(experiments.recording(configs[0]))
    for n, config in enumerate(configs):
        found = stored(f"{n:016x}", config=config.to_json())
        about = {"units": "1", "long_name": "steps done"}
        calls = n + 2
        found["dynamics_step"] = ("dynamics_call", np.arange(calls), about)
        found["curve_dynamics_csi"] = (
            ("dynamics_call", "dynamics_csi_1"), np.full((calls, 3), n, np.float32), about,
        )  # fmt: skip
        results.save(found, results.run_path(f"{n:016x}", tmp_path))
    put(tmp_path, 9)  # of no row, without curves
    for _ in range(2):
        found = experiments.open_runs(configs, tmp_path).sortby("run_id")
        assert found["curve_dynamics_csi"].shape == (2, 3, 3)
        assert found["curve_dynamics_csi"].dtype == np.float32
        assert np.isfinite(found["dynamics_step"].values).sum(1).tolist() == [2, 3]
        assert found["curve_dynamics_csi"].attrs["long_name"] == "steps done"
        assert not {"probes", "key", "held", "size"} & set(found.variables)
        forgotten()
