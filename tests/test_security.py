"""What SECURITY.md says: files and parameters are data, and nothing of them is run."""

import ast
import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch

import lrsc
from lrsc import RunConfig, TrainConfig, cli, files, pages, results, sweep
from lrsc.datasets.raw import archives
from lrsc.runs import load_checkpoint
from lrsc.sweep import care

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("lrsc", "data_scripts", "book/trials", "book/figures", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)  # fmt: skip
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp",
    "marshal.load", "marshal.loads", "shelve.open", "dill.load", "joblib.load", "cloudpickle.load",
    "cloudpickle.loads", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "shutil.unpack_archive", "urllib.request.urlopen", "urllib.request.urlretrieve",
    "torch.hub.load", "torch.hub.load_state_dict_from_url", "ssl._create_unverified_context",
    "requests.get", "torch.jit.load", "subprocess.getoutput",
}  # fmt: skip
UNPACKING = ("extract", "extractall")  # of the standard library's archives
LOADING = {"lrsc/files.py", "book/trials/pruning_criteria.py", "benchmarks/models.py"}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def found_in(path: Path) -> list[str]:
    """Calls in a source file that could run what a file or a parameter holds."""
    name, wrong = path.relative_to(ROOT).as_posix(), []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called, given = dotted(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        is_pickle = called.startswith("pickle.")
        wrong += [called] if called in FORBIDDEN or (is_pickle and "Error" not in called) else []
        if called == "torch.load" and (name not in LOADING or given.get("weights_only") != "True"):
            wrong.append("torch.load")
        if called == "np.load" and given.get("allow_pickle", "False") != "False":
            wrong.append("np.load of pickles")
        if given.get("shell", "False") != "False" or given.get("verify") == "False":
            wrong.append(f"{called} with shell or without verification")
        method = called.rpartition(".")[2]
        if method in UNPACKING and called != "archives.extract":
            wrong.append(called)
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_in_the_code_runs_what_a_file_holds(path):
    assert found_in(path) == []


def test_the_search_finds_what_it_looks_for(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    bad = tmp_path / "bad.py"
    bad.write_text(
        "eval(x)\npickle.loads(x)\ntorch.load(x)\nyaml.load(x)\ntar.extractall(x)\n"
        "subprocess.run(x, shell=True)\nnp.load(x, allow_pickle=True)\n"
    )
    assert len(found_in(bad)) == 7


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_a_checkpoint_with_code_is_refused_and_the_code_not_run(tmp_path, form, capsys):
    path, trap = tmp_path / "model.pt", Trap(tmp_path / "sprung")
    if form == "pickle":
        path.write_bytes(pickle.dumps(trap, protocol=2))
    else:
        torch.save({"weight": trap}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match="other things than tensors and plain values"):
        files.load(path)
    config = RunConfig("parity", "fcn", data={"n_train": 100, "n_noise": 2, "n_core": 2})
    with pytest.raises(ValueError, match="does not hold weights of 'fcn'"):
        load_checkpoint(path, config)
    assert cli.main(["measure", str(path), "--dataset", "parity", "--model", "fcn"]) == 2
    said = capsys.readouterr().err
    assert "they can run code" in said and "weights_only" not in said
    assert not trap.folder.exists()


def test_an_archive_that_leaves_its_folder_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
        packed.writestr("good.txt", "good")
        packed.writestr("../sprung.txt", "bad")
    with pytest.raises(ValueError, match="lies outside the archive's folder: not unpacked"):
        archives.extract(tmp_path / "bad.zip", tmp_path / "target")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.zip"]


CODE = "__import__('os').mkdir('sprung')"


@pytest.mark.parametrize("name", ["dataset", "model", "lrs", "seeds", "profile"])
@pytest.mark.parametrize("text", [CODE, f"[{CODE}]", "{{" + CODE + "}}", f"!!python/object {CODE}"])
def test_parameters_of_a_notebook_are_not_evaluated(tmp_path, monkeypatch, name, text):
    monkeypatch.chdir(tmp_path)
    given = {"dataset": "colored_mnist", "model": "fcn", "lrs": None, "seeds": None}
    with pytest.raises(ValueError, match=name):
        pages.parameters(given | {"profile": "quick", name: text}, "semi_synthetic")
    assert list(tmp_path.iterdir()) == []


def test_papermill_injects_a_text_as_a_text():
    papermill = pytest.importorskip("papermill", reason="papermill is not installed")
    from papermill.parameterize import parameterize_notebook

    path = ROOT / "notebooks" / "semi_synthetic.ipynb"
    text = "'\n" + CODE + "\n'\\"
    made = parameterize_notebook(papermill.iorw.load_notebook_node(str(path)), {"lrs": text})
    (cell,) = [c for c in made.cells if "injected-parameters" in c.metadata.get("tags", [])]
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign) and ast.literal_eval(node.value) == text


@pytest.mark.parametrize(
    "options",
    [
        ["--set", f"momentum={CODE}"], ["--set", f"optimizer={CODE}"], ["--data", f"rho={CODE}"],
        ["--data", f"n_noise={CODE}"], ["--model-option", f"hidden={CODE}"],
    ],
)  # fmt: skip
def test_options_of_the_command_line_are_not_evaluated(tmp_path, monkeypatch, options, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["run", "parity", "fcn", "--results", "results", "--max-epochs", "1", *options]
    assert cli.main(command) == 2
    assert options[1].split("=")[0] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_markup_in_a_result_is_found(tmp_path):
    data = {"n_train": 500, "n_noise": 5, "n_core": 3}
    (name,) = sweep.run(
        [RunConfig("parity", "fcn", TrainConfig(max_steps=2), data=data)], root=tmp_path
    ).trained
    path = results.run_path(name, tmp_path)
    results.save(results.load(path).assign_attrs(device_name="<script>alert(1)</script>"), path)
    (found,) = [f for f in care.verify(tmp_path, shipped=False) if f.path == path]
    assert found.state == "wrong" and "'device_name' holds markup: '<script>" in found.detail


def test_the_page_names_what_exists():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:lrsc|tests)/[\w/.]+)`", text):
        assert (ROOT / path).is_file(), path
    assert lrsc.__version__
