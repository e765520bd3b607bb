"""The soak: its counts reach the file and the page, and harm is told."""

import json

import pytest
import soak
from injection import Counts

from lrsc.bookbuild import faults


@pytest.fixture
def soaked(tmp_path, monkeypatch):
    """Runs the soak with stand-ins for its kinds, for a moment; its exit code and its file."""
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)

    def run(**kinds):
        clock = iter(range(10**6))  # a second a look
        monkeypatch.setattr(soak.time, "monotonic", lambda: next(clock))
        monkeypatch.setattr(soak, "KINDS", {k: lambda *_, c=c: c for k, c in kinds.items()})
        monkeypatch.setattr(soak, "RESUMES", tuple(kinds))
        monkeypatch.setattr(soak, "_loading", lambda: 1.5)
        path = tmp_path / "faults.json"
        argv = ["soak.py", "--seconds", "6", "--output", str(path), "--seed", "1"]
        monkeypatch.setattr("sys.argv", argv)
        return soak.main(), json.loads(path.read_text())

    return run


def test_counts_stand_in_the_file_and_on_the_page(soaked):
    code, found = soaked(killed=Counts(faults=2, resume_seconds=0.25))
    row = found["rows"][0]
    assert code == 0 and row["faults"] == 2 * 2  # two rounds
    assert row["resume_seconds"] == 0.25 and row["runs_lost"] == row["other_problems"] == 0
    page = faults.page()
    assert "| killed | 4 | 0 | 0 | 0 | 0 | 0 |" in page
    assert "at most 0.25 s" in page and "a new process takes 1.5 s" in page
    assert "seed 1. Made by `make soak`" in page


def test_harm_is_told_with_its_seed(soaked, capsys):
    code, found = soaked(fine=Counts(faults=1), harmful=Counts(faults=1, lost=1, wrong=["oh"]))
    assert code == 1 and found["rows"][1]["runs_lost"] == 1
    assert found["problems"][0] == "harmful: oh"
    assert "harmful, seed '1 1 harmful'" in capsys.readouterr().out


def test_a_page_without_counts_says_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    assert "Not measured yet" in faults.page() and "make soak" in faults.page()
    (tmp_path / "faults.json").write_text('{"rows": [1]}')
    assert "cannot be read" in faults.page() and "make soak" in faults.page()
