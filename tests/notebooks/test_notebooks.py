"""The notebooks as committed, and executed in the quick profile."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lrsc import experiments

ROOT = Path(__file__).parents[2]
SECTIONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ALL = [*SECTIONS, *sorted((ROOT / "book").glob("*.ipynb"))]
READS_OTHERS = {"compressibility"}  # sections that show the runs of other sections
by_name = pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
by_section = pytest.mark.parametrize("path", SECTIONS, ids=lambda path: path.stem)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def test_the_sections_are_there():
    found = {path.stem for path in SECTIONS}
    assert found == {
        "synthetic", "semi_synthetic", "naturalistic", "imagenet", "hyperparameters",
        "optimizers_schedules", "mechanism", "standard_classification", "attribution",
    } | READS_OTHERS  # fmt: skip
    assert found - READS_OTHERS <= set(experiments.names())


@by_name
def test_no_outputs_are_committed(path):
    for cell in code_cells(path):
        assert cell.outputs == [] and cell.execution_count is None, cell.id


@by_name
def test_cell_ids_are_names_and_the_notebook_is_valid(path):
    nbformat.validate(read(path))
    ids = [cell.id for cell in read(path).cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9_-]*[a-z0-9]", name) for name in ids), ids


@by_name
def test_the_kernel_is_named(path):
    assert read(path).metadata.kernelspec.name == "python3"


@by_section
def test_parameters_come_first_and_are_commented_literals(path):
    first, *others = code_cells(path)
    assert tags(first)[0] == "parameters"
    assert not any("parameters" in tags(cell) for cell in others)
    names = []
    for line in first.source.splitlines():
        assert re.fullmatch(r"\w+ = .+  # \S.{10,}", line), line
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
        names.append(statement.targets[0].id)
    more = {"standard_classification": ["at_least", "at_most"]}.get(path.stem, [])
    assert names == ["dataset", "model", "lrs", "seeds", "profile", "results", *more]


@by_name
def test_notebooks_train_nothing_themselves(path):
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                assert [name.name for name in node.names] == ["lrsc"], cell.id
            assert not isinstance(node, ast.ImportFrom | ast.For | ast.While), cell.id
        assert "backward" not in cell.source and ".fit(" not in cell.source


@by_name
def test_prose_holds_no_measured_number(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"\(https?://[^)]*\)", "", cell.source)
            assert not re.search(r"\d\s*%|\d\.\d{2,}", prose), cell.id


@by_section
def test_every_section_has_evidence_and_a_live_part(path):
    text = "\n".join(cell.source for cell in read(path).cells)
    assert "## Evidence" in text and "## Live" in text
    for row in experiments.EXPERIMENTS.get(path.stem, ()):
        if row.plans.keys() == {"quick"}:  # the live part's alone
            continue
        wanted = [
            f'evidence\\("{path.stem}", "{row.dataset}", "{row.model}"',
            f'measured\\("{path.stem}"(, "\\w+")*, "{row.dataset}"',
            f'measured\\("{path.stem}"\\)',  # all data sets
        ]
        assert any(re.search(f"pages\\.{call}", text) for call in wanted), row


def execute(what: str | Path, folder: Path, monkeypatch, **parameters) -> Path:
    """Run a notebook by papermill on stand-in data, with a results folder of its own."""
    import papermill

    path = what if isinstance(what, Path) else ROOT / "notebooks" / f"{what}.ipynb"

    project = folder / "project"
    project.mkdir()
    (project / "pyproject.toml").touch()
    (project / "lrsc").symlink_to(ROOT / "lrsc")  # the code of here, the results of there
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setenv("LRSC_DATA", str(folder / "no data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # small networks; other tests may run beside
    done = folder / "out.ipynb"
    papermill.execute_notebook(
        path, done, parameters=parameters, cwd=folder, kernel_name="python3", progress_bar=False
    )
    return done


def texts(path: Path) -> str:
    """All that an executed notebook displays as Markdown or HTML."""
    shown = (
        output.data.get(kind, "")
        for cell in code_cells(path)
        for output in cell.outputs
        if "data" in output
        for kind in ("text/markdown", "text/html")
    )
    return "\n".join(shown)


def test_a_section_runs_with_lists_given_as_strings(tmp_path, monkeypatch):
    notebook = read(ROOT / "notebooks" / "synthetic.ipynb")
    (check,) = [cell for cell in notebook.cells if cell.id == "check"]
    # run again at the end: the notebook's own names must not be taken for stray parameters
    notebook.cells.append(nbformat.v4.new_code_cell(check.source, id="check-again"))
    nbformat.write(notebook, tmp_path / "again.ipynb")
    done = execute(tmp_path / "again.ipynb", tmp_path, monkeypatch, lrs="[0.75]", seeds="[0]")
    shown = texts(done)
    assert "1 run trained now, 0 done before" in shown
    assert shown.count("<img ") == shown.count('alt="')
    assert "ource `generated`" in shown and "profile quick" in shown
    assert '-p lrs "[0.75]" -p seeds "[0]"' in shown
    assert len(list((tmp_path / "project" / "results" / "runs").glob("*.nc"))) == 1


def test_an_unknown_parameter_stops_the_notebook(tmp_path, monkeypatch):
    from papermill.exceptions import PapermillExecutionError

    with pytest.raises(PapermillExecutionError, match=r"'lr'.*'lrs'"):
        execute("semi_synthetic", tmp_path, monkeypatch, lr=0.1)


@pytest.mark.slow
@by_name
def test_every_notebook_runs_in_the_quick_profile(path, tmp_path, monkeypatch):
    shown = texts(execute(path, tmp_path, monkeypatch))
    if path.stem == "scorecard":
        assert shown.count("scorecard-table") == 5
    elif path.stem == "introduction":  # no evidence ships with this project
        assert "No evidence here yet" in shown
    else:
        assert "<img " in shown and "ource `" in shown


@pytest.mark.slow
def test_resnet18_runs_live(tmp_path, monkeypatch):
    done = execute("semi_synthetic", tmp_path, monkeypatch, model="resnet18", lrs=[0.01], seeds=[0])
    assert "`digits` (embedded stand-in" in texts(done)


def test_the_example_of_an_own_data_set_runs(capsys):
    (cell,) = (cell for cell in read(ROOT / "book" / "datasets.ipynb").cells if cell.id == "own")
    code = cell.source.removeprefix("```python\n").removesuffix("```")
    assert len([line for line in code.splitlines() if line.strip()]) < 30
    exec(code, {})
    assert re.search(r"unbiased accuracy \d\.\d\d", capsys.readouterr().out)


def test_every_name_of_ours_in_a_notebook_is_there_after_import_lrsc_alone():
    found = {
        name
        for path in (*ALL, *(ROOT / "book" / "tutorials").glob("*.ipynb"))
        for cell in read(path).cells if cell.cell_type == "code"
        for name in re.findall(r"\blrsc(?:\.\w+)+", cell.source)
    }  # fmt: skip
    assert len(found) > 50
    # the longest first: each part is found through the one before, not by an import elsewhere
    code = "import lrsc\n" + "\n".join(sorted(found, key=len, reverse=True))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
