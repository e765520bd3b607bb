"""What the package states about itself agrees: version, dependencies, lock, wheel, light import."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lrsc

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {"pytorch": "torch"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(*extras: str) -> dict[str, Requirement]:
    """pyproject's dependencies and those of the extras (default: all of them), by name."""
    options = project()["optional-dependencies"]
    lines = [*project()["dependencies"], *(r for e in extras or options for r in options[e])]
    found = [Requirement(line) for line in lines]
    names = [canonicalize_name(r.name) for r in found]
    assert len(set(names)) == len(names), "a dependency is stated twice"
    return dict(zip(names, found, strict=True))


def locked() -> dict[str, str]:
    """Name -> exact version of every line of requirements.lock."""
    text = (ROOT / "requirements.lock").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    pins = [re.fullmatch(r"([a-z0-9._-]+)==(\S+)( ; .*)? \\", line) for line in lines]
    assert all(pins), "a line of the lock is no exact pin with hashes"
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}


def test_environment_yml_states_the_ranges_of_pyproject():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    lines = [e for e in entries if isinstance(e, str)]
    lines += next(e["pip"] for e in entries if isinstance(e, dict))
    conda = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in map(Requirement, lines)}
    assert conda.pop("python") == project()["requires-python"]
    conda.pop("pip")
    assert conda == {name: r.specifier for name, r in requirements().items()}


def test_the_lock_satisfies_pyproject():
    pins = locked()
    for name, requirement in requirements().items():
        assert pins[name] in requirement.specifier, f"{name}: re-make requirements.lock"


def test_the_lock_holds_no_more_than_is_needed():
    asks_for: dict[str, set[str]] = {}  # uv notes under each pin which packages ask for it
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if pin := re.match(r"([a-z0-9._-]+)==", line):
            name = canonicalize_name(pin[1])
        elif via := re.fullmatch(r"    # (?:via )? *([\w.-]+)", line):
            asks_for.setdefault(canonicalize_name(via[1]), set()).add(name)
    needed: set[str] = set()
    queue = [*requirements()]
    while queue:
        needed.add(name := queue.pop())
        queue += asks_for.get(name, set()) - needed
    assert needed == set(locked())


def test_the_version_is_stated_once_and_cited():
    assert project()["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", lrsc.__version__)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == lrsc.__version__
    assert f"## [{lrsc.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_carries_the_book(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wheel.name == f"lrsc-{lrsc.__version__}-py3-none-any.whl"
    tracked = [
        path.relative_to(ROOT)
        for folder in ("book", "notebooks", "data_scripts")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    shipped = {f"lrsc/_shipped/{p.as_posix()}" for p in [Path("_config.yml"), Path("_toc.yml")]}
    shipped |= {f"lrsc/_shipped/{p.as_posix()}" for p in tracked}
    assert shipped <= names
    assert {"lrsc/__init__.py", "lrsc/experiments/tables/table_s1.csv"} <= names
    assert not [n for n in names if n.split("/")[0] not in {"lrsc", f"{wheel.stem[:10]}.dist-info"}]


@pytest.mark.parametrize("statement", ["import lrsc", "import lrsc; lrsc.fit, lrsc.measure"])
def test_import_is_light(statement):
    heavy = {
        "matplotlib", "torchvision", "sklearn", "captum", "dask", "distributed", "papermill",
        "nbformat", "IPython", "h5netcdf", "h5py", "yaml", "sphinx",
    }  # fmt: skip
    code = f"import sys; {statement}; print(*sorted({heavy!r} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
