"""Every file that is written opens with netCDF4 and h5netcdf alike; files in the old form."""

import importlib.util
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from longform import bits, images, stored

import lrsc
from lrsc import RunConfig, TrainConfig, results
from lrsc.cli import main
from lrsc.results import consolidated, netcdf, units
from lrsc.studies import contrast
from lrsc.sweep import care

READ = """
import sys, numpy as np, xarray as xr
for file in sys.argv[1:]:
    with xr.open_dataset(file, engine="h5netcdf") as one, \
            xr.open_dataset(file, engine="netcdf4") as other:
        assert one.load().variables and one.identical(other.load()), file
        for name in one.variables:
            assert one[name].dtype == other[name].dtype, (file, name)
print(len(sys.argv) - 1)
"""
OF_NETCDF4 = {np.dtype(t) for t in ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file of each kind: of a run, of many, of measures, with maps; and all that ship."""
    folder = tmp_path_factory.mktemp("written")
    config = RunConfig("colored_mnist", "fcn", TrainConfig(max_epochs=1), data={"n_train": 100},
                       source="embedded")  # fmt: skip
    (name,) = lrsc.sweep.run([config], root=folder).trained
    for seed in range(3):
        run = f"{seed:016x}"
        results.save(stored(run, seed=seed), results.run_path(run, folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consolidated, "WORTH", 1)
        assert consolidated.measures(folder).sizes["run"] == 4
    measured = lrsc.measure(lrsc.models.build("fcn", (9,), 2), bits())
    results.save(measured, str(folder / "measured.nc"))
    striped = images()
    nets = [[lrsc.models.build("fcn", striped.input_shape, 3)]] * 2
    results.save(contrast._maps(nets, striped.test.take(torch.arange(8))), folder / "contrast.nc")
    run = results.load(results.run_path(name, folder))
    assert "map_deeplift" in run and consolidated.table_path(folder).is_file()
    return [*folder.rglob("*.nc"), *results.path.shipped_folder().glob("*.nc")]


def lacking(path) -> dict:
    """Variables and attributes of types that netCDF-4 lacks."""
    with h5py.File(path) as file:
        types = {name: file[name].dtype for name in file}
        for of in (file, *file.values()):
            for key in of.attrs:
                if key not in netcdf._OF_HDF5:
                    types[f"{of.name}@{key}"] = of.attrs.get_id(key).dtype
    return {
        name: dtype for name, dtype in types.items()
        if dtype.newbyteorder("=") not in OF_NETCDF4 and h5py.check_string_dtype(dtype) is None
    }  # fmt: skip


def test_no_type_is_written_that_netcdf4_lacks(written):
    assert {path: found for path in written if (found := lacking(path))} == {}


def test_netcdf4_and_h5netcdf_read_equal_values(written):
    if importlib.util.find_spec("netCDF4") is None:
        pytest.skip("netCDF4 is not installed here: it is part of the extra dev")
    # in a process of its own: where a file is wrong for netCDF4, it ends the process
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", READ, *map(str, written)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == len(written) > 20


INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
KINDS = ["bool", *INTEGERS, "float16", "float32", "float64", "str"]


@settings(max_examples=40, deadline=None)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), n=st.integers(1, 40),
       rank=st.integers(1, 3), seed=st.integers(0, 99), as_coordinate=st.booleans())  # fmt: skip
def test_values_of_any_type_come_back(kinds, n, rank, seed, as_coordinate, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "any.nc"
    rng, dims = np.random.default_rng(seed), "abc"[:rank]
    values = {f"v{i}": (tuple(dims), rng.normal(0, 2, (n,) * rank).astype(kind))
              for i, kind in enumerate(kinds)}  # fmt: skip
    found = xr.Dataset(values)
    if as_coordinate:
        found = found.set_coords("v0")
    results.save(found, path)
    assert lacking(path) == {}
    back = results.load(path)
    for name, (_, array) in values.items():
        np.testing.assert_array_equal(back[name].values, array)


def in_old_form(found: xr.Dataset, path) -> None:
    """As earlier versions wrote it: float16 as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found.to_netcdf(path, engine="h5netcdf")
    netcdf.sign(path)


def test_old_files_are_read_and_gc_writes_them_anew(tmp_path, capsys):
    old = stored()
    old["map_deeplift"] = ("sample", np.linspace(-1, 1, 4).astype(np.float16))
    old = units.labelled(old)
    path = results.run_path("0123456789abcdef", tmp_path)
    in_old_form(old, path)
    results.save(stored("0" * 16), results.run_path("0" * 16, tmp_path))
    before = results.load(path)
    assert before.identical(old) and {"representation", "map_deeplift"} <= set(lacking(path))
    (found,) = care.garbage(tmp_path)
    assert found[:2] == (path, "old form") and results.load(path)["map_deeplift"].dtype == "f2"
    assert main(["results", "gc", "--yes", "--results", str(tmp_path)]) == 0
    assert "written anew" in capsys.readouterr().out
    after = results.load(path)
    assert after.identical(before) and after["map_deeplift"].dtype == np.float32
    assert lacking(path) == {} and list(care.garbage(tmp_path)) == []
    other = tmp_path / "other"
    in_old_form(old, results.run_path("0123456789abcdef", other))
    assert results.load_run(path).equals(results.load(next((other / "runs").glob("*.nc"))))


def test_gc_leaves_damaged_files_to_verify(tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "runs" / f"{name}.nc").write_bytes(b"\x89HDF\r\n\x1a\n" if name == "a" else b"")
    assert list(care.garbage(tmp_path)) == []
