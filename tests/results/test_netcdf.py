"""Digests: a changed value is never accepted; quick reading gives what xarray gives."""

import random

import numpy as np
import pytest
import xarray as xr
from longform import stored

from lrsc import results
from lrsc.results import netcdf


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "0123456789abcdef.nc"
    found = stored().assign_attrs(empty="", number=3, share=0.25, several=[1, 2])
    found["long"] = ("filter", np.linspace(0, 1, 2000, dtype=np.float32))  # compressed
    found["count"] = ((), 7, {"units": "1", "long_name": "a whole number"})
    results.save(found, path)
    return path


def test_every_variable_has_its_digest(path):
    assert netcdf.whole(path)["group_accuracy"].dims == ("class", "bias")
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert netcdf.DIGESTS in found.attrs
    assert netcdf.DIGESTS not in results.load(path).attrs


def test_quick_reading_gives_what_xarray_gives(path):
    whole = results.load(path)
    found = netcdf.read(path, lambda name, dims: name != "representation")
    assert found.attrs.keys() == whole.attrs.keys()
    for name, value in whole.attrs.items():
        np.testing.assert_array_equal(found.attrs[name], value)
    assert set(found.variables) == set(map(str, whole.variables)) - {"representation"}
    for name, (dims, values) in found.variables.items():
        assert dims == whole[name].dims and values.dtype == whole[name].dtype
        np.testing.assert_array_equal(values, whole[name].values)
    about = netcdf.about(path, ["count"])
    assert about == {"count": {"units": "1", "long_name": "a whole number"}}


def by_xarray(path):
    with xr.open_dataset(path, engine="h5netcdf") as found:
        found = found.load().drop_encoding()
    found.attrs.pop(netcdf.DIGESTS, None)
    return found


def test_loading_gives_what_xarray_gives(path, tmp_path):
    files = [path, *sorted((results.project_root() / "book" / "results").glob("*.nc"))]
    odd = xr.Dataset(
        {
            "flag": ("run", [True, False]),
            "when": ("run", np.array(["2020-01-01", "2021-01-01"], "datetime64[ns]")),
            "name": ("run", ["a", "é"]),
            "one": ((), "text"),
            "gaps": ("run", [1, 2], {}, {"_FillValue": 2}),
        },
        {
            "kappa": ("kappa", [0.1, 0.2], {"units": "1"}),
            "label": ("run", np.array(["", "b"], object)),
        },
        {"number": 3, "empty": "", "several": [1.0, 2.0]},
    )  # fmt: skip
    plain = tmp_path / "plain.nc"
    results.save(odd.drop_vars(["flag", "when", "gaps"]), plain)
    odd.to_netcdf(tmp_path / "odd.nc", engine="h5netcdf")
    results.save(odd.drop_vars("gaps"), tmp_path / "signed.nc")
    for file in [*files, plain, tmp_path / "odd.nc", tmp_path / "signed.nc"]:
        found, expected = results.load(file), by_xarray(file)
        xr.testing.assert_identical(found, expected)
        assert list(found.variables) == list(expected.variables)
        for name in expected.variables:
            assert found[name].dtype == expected[name].dtype
            assert found[name].attrs.keys() == expected[name].attrs.keys()


def test_what_was_not_kept_is_not_looked_at_again(path):
    skip: set[str] = set()
    keep = lambda name, dims: set(dims) <= results.LABELS  # noqa: E731
    first = netcdf.read(path, keep, skip)
    assert {"representation", "sample", "long"} <= skip and not skip & set(first.variables)
    assert netcdf.read(path, keep, skip).variables.keys() == first.variables.keys()


# h5netcdf closes a file that it could not open once more, when it is collected
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kept", [True, False])
def test_a_flipped_bit_is_never_accepted(path, tmp_path, kept):
    """Anywhere in the file: it is refused, or what is read is what was written."""
    draw = random.Random(int(kept))
    data, whole = path.read_bytes(), results.load(path)
    copy = tmp_path / path.name
    refused = 0
    for _ in range(60):
        at, bit = draw.randrange(len(data)), 1 << draw.randrange(8)
        copy.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
        try:
            if kept:
                found = netcdf.read(copy, lambda name, dims: set(dims) <= results.LABELS)
                for name, (dims, values) in found.variables.items():
                    assert dims == whole[name].dims
                    np.testing.assert_array_equal(values, whole[name].values)
            else:
                xr.testing.assert_identical(results.load(copy), whole)
        except (ValueError, OSError, KeyError, RuntimeError):
            refused += 1
    assert refused


@pytest.mark.parametrize("name", ["unbiased_accuracy", "group_accuracy", "long", "representation"])
def test_a_value_that_changed_is_named(path, tmp_path, name):
    import h5py

    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        file[name][...] = file[name][...] * 0 + 0.123
    with pytest.raises(ValueError, match=f"{copy.name} is damaged.*values of '{name}' are not as"):
        results.load(copy)
    if name != "representation":
        with pytest.raises(ValueError, match=f"values of '{name}'"):
            netcdf.read(copy, lambda found, dims: found == name)


@pytest.mark.parametrize("change", ["attribute", "of a variable", "missing", "more"])
def test_changed_attributes_and_variables_are_noticed(path, tmp_path, change):
    import h5py

    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        if change == "attribute":
            file.attrs["status"] = "diverged"
        elif change == "of a variable":
            file["unbiased_accuracy"].attrs["units"] = "percent"
        elif change == "missing":
            del file["unbiased_accuracy"]
        else:
            file["prunability"] = 0.5
    with pytest.raises(ValueError, match="not as they were written|not those that were written"):
        results.load(copy)


def test_a_file_of_an_older_version_is_read(path, tmp_path):
    old = tmp_path / "a.nc"
    whole = results.load(path)
    whole.to_netcdf(old, engine="h5netcdf")
    assert results.load(old).identical(whole)
    assert netcdf.read(old, lambda name, dims: name == "count").variables["count"][1] == 7


def test_texts_and_missing_texts_have_digests_too(tmp_path):
    found = results.combine([stored(), stored("a" * 16)]).assign_coords(note=("run", ["é", ""]))
    results.save(found, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as file:
        assert "note" in file.attrs[netcdf.DIGESTS]
    assert results.load(tmp_path / "a.nc")["note"].values.tolist() == ["é", ""]


def test_a_file_is_signed_again(path, tmp_path):
    import h5py

    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        file.attrs["status"] = "cap"
    netcdf.sign(copy)
    assert results.load(copy).attrs["status"] == "cap"
