"""Paths as people write them where no shell expands: ~ and variables; and no home folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

from lrsc import datasets, errors, files, results
from lrsc.datasets.raw import cache, sources

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path / "of a variable"))
    return tmp_path


GIVEN = [("~/data", "data"), ("$PLACE/x", "of a variable/x"), ("${PLACE}", "of a variable")]


@pytest.mark.parametrize(("given", "expected"), GIVEN)
def test_paths_are_expanded_wherever_they_enter(home, monkeypatch, given, expected):
    for name in ("LRSC_DATA", "LRSC_CACHE", "LRSC_RESULTS"):
        monkeypatch.setenv(name, given)
    found = [
        errors.path("root", given), sources.data_root(given), sources.data_root(), cache.folder(),
        results.results_root(given), results.results_root(), errors.path("root", Path(given)),
    ]  # fmt: skip
    assert found == [home / expected] * len(found)


def test_what_is_there_under_such_a_name_is_meant(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "~").mkdir()
    (home / "$PLACE").mkdir()
    assert errors.path("root", "~") == Path("~") and errors.path("root", "$PLACE") == Path("$PLACE")


def test_a_home_that_is_not_known_is_named():
    with pytest.raises(ValueError, match=r"root='~nobody_here/x': no such home folder is known"):
        errors.path("root", "~nobody_here/x")


@pytest.mark.parametrize("kind", ["data", "cache"])
def test_without_a_home_folder_the_variables_to_set_are_named(monkeypatch, kind):
    def missing(*_, **__):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(f"platformdirs.user_{kind}_path", missing)
    with pytest.raises(ValueError, match=r"no home folder: set \$HOME, or \$LRSC_DATA"):
        files.user_folder(kind)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without an entry")
def test_a_user_without_a_home_can_work_where_folders_are_given(tmp_path):
    tmp_path.chmod(0o777)
    code = "import lrsc; print(lrsc.datasets.load('parity', n_train=100).source_id)"
    run = subprocess.run(
        ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", sys.executable, "-c", code],
        env={
            "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1",
            "LRSC_DATA": str(tmp_path), "LRSC_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1",
        },
        capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    if "Permission denied" in run.stderr:
        pytest.skip("the environment is not readable to another user")
    assert run.stdout.strip() == datasets.load("parity", n_train=100).source_id, run.stderr


def test_results_are_saved_and_read_under_paths_as_text(home):
    found = xr.Dataset({"a": 1.0})
    results.save(found, "~/of/mine.nc")
    assert results.load("~/of/mine.nc").equals(found)
    assert (home / "of" / "mine.nc").is_file()


@pytest.mark.parametrize("given", ["$LRSC_UNSET/x", "${LRSC_UNSET}", "a/$LRSC_UNSET/b"])
def test_a_variable_that_is_not_set_is_named(monkeypatch, given):
    for name in ("LRSC_RESULTS", "LRSC_DATA"):
        monkeypatch.setenv(name, given)
        root = results.results_root if name == "LRSC_RESULTS" else sources.data_root
        with pytest.raises(ValueError, match=rf"{name}=.*LRSC_UNSET\}}? is not set"):
            root()
        monkeypatch.delenv(name)
        usual = root()
        monkeypatch.setenv(name, "")
        assert root() == usual
