"""Results of several runs: where they are written, which one is read, and what may ship."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrsc import cli, results
from lrsc.results.derived import lost


def study(runs=("a", "b"), profile="desk", source="mnist", n=5, **attrs) -> xr.Dataset:
    values = np.arange(float(len(runs) * n)).reshape(len(runs), n)
    return xr.Dataset(
        {"share": (("run", "sample"), values), "right": ("sample", np.arange(n) > 2)},
        {"run_id": ("run", np.array(list(runs), object))},
        {"profile": profile, "source_id": source, "n_test": n} | attrs,
    )


@pytest.fixture
def ships(tmp_path, monkeypatch):
    """A folder in place of book/results, and a results folder."""
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path / "book")
    results.choose(tmp_path / "local")
    yield tmp_path / "book"
    results.choose(None)


def test_what_is_made_goes_to_the_results_folder_or_where_it_is_asked_for(ships, tmp_path):
    path = results.write_derived(study(), "contrast_x_y", "desk")
    assert path == tmp_path / "local" / "derived" / "contrast_x_y_desk.nc" and path.is_file()
    other = results.write_derived(study(), "contrast_x_y", "desk", root=tmp_path / "there")
    assert other == tmp_path / "there" / "derived" / "contrast_x_y_desk.nc"
    assert results.write_derived(study(), "a", output=tmp_path / "b.nc") == tmp_path / "b.nc"
    with pytest.raises(ValueError, match="output must be a file"):
        results.write_derived(study(), "a", output=tmp_path)
    assert not ships.exists()


def test_what_is_no_evidence_never_ships(ships, tmp_path, monkeypatch):
    for found in (study(profile="quick"), study(source="digits"), study(source="mnist+digits")):
        with pytest.raises(ValueError, match="never ship"):
            results.write_derived(found, "a", ship=True)
        results.write_derived(found, "a", "desk")
        assert results.derived("a") is None  # nor is it read as evidence
    with pytest.raises(ValueError, match="either output or ship"):
        results.write_derived(study(), "a", output=tmp_path / "b.nc", ship=True)
    monkeypatch.setattr("lrsc.results.path.in_checkout", lambda: False)
    with pytest.raises(ValueError, match="of a checkout"):
        results.write_derived(study(), "a", ship=True)
    assert not ships.exists()


def test_the_larger_profile_is_read_then_more_runs_then_what_ships(ships):
    assert results.derived("a") is None
    results.write_derived(study(made_by="ours"), "a", "desk", ship=True)
    results.write_derived(study(made_by="mine"), "a", "desk")
    assert results.derived("a").attrs["made_by"] == "ours"
    assert results.derived("a").attrs["file"] == "book/results/a.nc"
    results.write_derived(study("abc"), "a", "desk")
    assert results.derived("a").sizes["run"] == 3 and "file" not in results.derived("a").attrs
    results.write_derived(study("d", profile="paper"), "a", "paper")
    assert results.derived("a").attrs["profile"] == "paper"
    results.write_derived(study(), "contrast_x_y", "desk")
    assert results.derived_names("contrast") == ["contrast_x_y"]
    (ships / "bad.nc").write_bytes(b"no netCDF")
    with pytest.raises(ValueError, match="`book/results/bad.nc` is damaged"):
        results.derived("bad")
    results.write_derived(study(), "bad", "desk")
    assert results.derived("bad").sizes["run"] == 2
    with pytest.raises(ValueError, match="lacks 'humidity'"):
        results.derived("a", ["humidity"])


POORER = {
    "a run": lambda full: full.isel(run=[0, 2]),
    "another run": lambda full: full.assign_coords(run_id=("run", ["a", "b", "z"])),
    "a variable": lambda full: full.drop_vars("right"),
    "a value": lambda full: full.assign(share=full["share"].where(full["share"] != 7)),
    "samples": lambda full: full.isel(sample=slice(4)),
    "the size": lambda full: full.assign_attrs(n_test=3),
    "the profile": lambda full: full.assign_attrs(profile="desk"),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(POORER)), st.booleans())
def test_a_file_that_ships_is_never_replaced_by_one_that_holds_less(ships, what, more):
    full = study("abc", profile="paper")
    poorer = POORER[what](full)
    if more and what != "another run":  # of other runs, which makes up for nothing
        others = study("xyz", profile="paper").isel(sample=slice(poorer.sizes["sample"]))
        poorer = xr.concat([poorer, others[list(poorer.data_vars)]], "run",
                           combine_attrs="override", data_vars="minimal",
                           coords="minimal", compat="override")  # fmt: skip
    results.save(full, ships / "a.nc")
    before = (ships / "a.nc").read_bytes()
    with pytest.raises(ValueError, match="this would lose .* first, if you mean it"):
        results.write_derived(poorer, "a", ship=True)
    assert (ships / "a.nc").read_bytes() == before
    assert lost(full, full) == []
    results.write_derived(full, "a", ship=True)


def test_a_larger_profile_replaces_a_smaller_one_of_more_runs(ships):
    results.write_derived(study("abc"), "a", ship=True)
    results.write_derived(study("z", profile="paper"), "a", ship=True)
    assert results.load(ships / "a.nc")["run_id"].values.tolist() == ["z"]


@pytest.mark.parametrize("study", ["contrast", "soup", "crossfit"])
def test_commands_refuse_to_ship_quick_runs_before_any_work(study, ships, tmp_path, capsys):
    row = [] if study == "crossfit" else ["--dataset", "parity", "--model", "fcn"]
    command = ["results", study, *row, "--lrs", "0.01,0.1", "--profile", "quick", "--ship"]
    assert cli.main([*command, "--results", str(tmp_path)]) == 2
    assert "quick runs never ship" in capsys.readouterr().err


@pytest.mark.parametrize("through", ["write", "contrast", "export", "measure"])
def test_what_ships_is_not_overwritten_by_a_path(ships, through, capsys):
    ships.mkdir()
    path = ships / "contrast_x_y.nc"
    path.write_text("evidence")
    commands = {
        "contrast": ["results", "contrast", "--dataset", "parity", "--model", "fcn", "--lrs",
                     "0.01,0.1", "--profile", "quick"],
        "export": ["results", "export", "synthetic"],
        "measure": ["measure", "w.pt", "--dataset", "parity", "--model", "fcn"],
    }  # fmt: skip
    if through == "write":
        with pytest.raises(ValueError, match="is where results ship"):
            results.write_derived(study(profile="quick"), "a", output=path)
    else:
        for output in (path, ships.parent / "local" / ".." / "book" / path.name):
            assert cli.main([*commands[through], "--output", str(output)]) == 2
            assert "is where results ship: use ship, or another folder" in capsys.readouterr().err
        assert cli.main([*commands[through], "--output", str(ships.parent)]) == 2
        assert "output must be a file" in capsys.readouterr().err
    assert path.read_text() == "evidence"
