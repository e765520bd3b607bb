"""The tutorials as committed, and executed: seconds each, without any download."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "book" / "tutorials").glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def test_the_tutorials_are_there():
    assert {path.stem for path in TUTORIALS} == {
        "audit", "largest_lr", "one_metric", "own_data", "own_model",
    }  # fmt: skip


@by_name
def test_a_tutorial_is_committed_as_the_sections_are(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert all(re.fullmatch(r"[a-z][a-z0-9_-]*[a-z0-9]", name) for name in ids), ids
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.id
        else:
            assert not re.search(r"\d\s*%|\d\.\d{2,}", cell.source), cell.id


@by_name
def test_a_tutorial_runs_on_embedded_data(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("LRSC_DATA", str(tmp_path / "no data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # small networks; other tests may run beside
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1200, resources=resources).execute()
    printed = [
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    ]
    assert re.search(r"(accuracy|worst group:) +\d\.\d\d", "".join(printed))
    assert list(tmp_path.iterdir()) == []  # nothing written where the reader works
