"""Sections whose live runs all diverge are complete, and say so."""

from pathlib import Path

import nbformat
import pytest

from lrsc import results

SECTIONS = Path(__file__).parents[2] / "notebooks"
FAST = ("synthetic", "semi_synthetic", "compressibility", "attribution", "mechanism",
        "hyperparameters")  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [*FAST, *(pytest.param(n, marks=pytest.mark.slow)
              for n in ("optimizers_schedules", "standard_classification"))],
)  # fmt: skip
@pytest.mark.parametrize("lrs", [[1e8], [1e7, 1e8]], ids=["one", "two"])
def test_a_section_of_diverged_runs_is_complete_and_says_so(
    name, lrs, tmp_path, monkeypatch, displayed_texts
):
    monkeypatch.setenv("LRSC_DATA", str(tmp_path))
    page: dict = {}
    said: dict[str, str] = {}
    try:
        for cell in nbformat.read(SECTIONS / f"{name}.ipynb", as_version=4).cells:
            if cell.cell_type == "code" and cell.id.startswith(("parameters", "check", "live")):
                displayed_texts.clear()
                exec(cell.source, page)
                said[cell.id] = "\n".join(displayed_texts)
                if cell.id == "parameters":
                    page |= {"lrs": lrs, "seeds": [0], "results": str(tmp_path / "results")}
    finally:
        results.choose(None)
    all_diverged = name != "optimizers_schedules"  # Adam moves on at any LR
    assert ("All runs diverged" in said["live-run"]) == all_diverged
    assert all(said[key] for key in said if key.startswith("live"))
    if name == "compressibility":
        assert "Nothing to show: a run diverged" in said["live-shrink"]
    if name in ("attribution", "standard_classification"):
        assert "Nothing to compare" in said["live-run"]
