"""The book: notebooks are executed by papermill, staged with the prose, and built to HTML.

Under the output folder: ``executed/`` the last good copy of every notebook, ``stage/`` what Jupyter
Book reads, ``html/`` the book, ``book.json`` the keys by which unchanged work is left alone.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lrsc import experiments, results
from lrsc.datasets.sources import data_root as find_data_root
from lrsc.errors import check_names

_log = logging.getLogger(__name__)

_NEEDS = ("ipykernel", "jupyter_book", "nbformat", "papermill", "sphinx-mathjax-offline", "yaml")
_EXECUTED_WITH = (
    "torch", "torchvision", "numpy", "xarray", "h5netcdf", "scikit-learn", "matplotlib",
    "ipykernel", "papermill",
)  # fmt: skip
_BUILT_WITH = (
    "jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb", "myst-parser",
    "sphinxcontrib-bibtex", "sphinx-mathjax-offline",
)  # fmt: skip
_IGNORED = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "_build", ".DS_Store")


class BuildFailed(RuntimeError):
    """A notebook failed, or Jupyter Book warned; the text says where. The last good book stays."""


def build(
    profile: str = "quick",
    root: str | Path | None = None,
    output: str | Path | None = None,
    force: bool = False,
    data_root: str | Path | None = None,
) -> Path:
    """Execute the book's notebooks and build it; returns its ``index.html``.

    ``profile``: of the notebooks' live parts. ``root``: folder with ``_config.yml``, ``_toc.yml``
    and ``book/`` (default: the checkout, or what the wheel ships). ``output``: folder to build in
    (default: ``_build`` in the checkout, else in the current folder). What did not change since
    the last good build is not done again, unless ``force``. Raises ValueError for an unknown
    profile, a folder without a book or missing packages; BuildFailed where a notebook or the
    build fails.
    """
    check_names("profile", [profile], experiments.PROFILES)
    _check_packages()
    root = results.project_root() if root is None else Path(root).resolve()
    pages = _pages(root)
    if output is None:
        output = (root if (root / "pyproject.toml").is_file() else Path.cwd()) / "_build"
    output = Path(output).resolve()
    data = find_data_root(data_root).expanduser().resolve()

    state = _read_state(output)
    notebooks = [page for page in pages if page.suffix == ".ipynb"]
    _execute_all(notebooks, root, output, profile, data, state, force)
    _stage(root, output, pages)
    _make_html(output, pages, state, force)
    return output / "html" / "index.html"


def _check_packages() -> None:
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the book needs packages that are not installed ({', '.join(missing)}): "
            "pip install 'lrsc[book]'"
        )


def _pages(root: Path) -> list[Path]:
    """Sources of the pages that the table of contents names, relative to root."""
    import yaml

    missing = [n for n in ("_config.yml", "_toc.yml", "book") if not (root / n).exists()]
    if missing:
        raise ValueError(
            f"root {root} holds no book: {', '.join(missing)} not found; give the folder of a "
            "checkout, or none for the book that is installed"
        )
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [_source(root, name) for name in _toc_names(toc)]


def _toc_names(entry: Any) -> Iterator[str]:
    if isinstance(entry, list):
        for item in entry:
            yield from _toc_names(item)
    elif isinstance(entry, dict):
        yield from (entry[key] for key in ("root", "file") if key in entry)
        yield from _toc_names(list(entry.values()))


def _source(root: Path, name: str) -> Path:
    for suffix in (".md", ".ipynb"):
        if (root / f"{name}{suffix}").is_file():
            return Path(f"{name}{suffix}")
    raise ValueError(f"_toc.yml names {name!r}, but {root} holds neither {name}.md nor .ipynb")


# --- notebooks -----------------------------------------------------------------------------------


def _execute_all(
    notebooks: list[Path],
    root: Path,
    output: Path,
    profile: str,
    data: Path,
    state: dict,
    force: bool,
) -> None:
    """Bring ``executed/`` up to date; the state is kept after each notebook."""
    shared = _shared_key(root, profile, data)
    for notebook in notebooks:
        name = notebook.as_posix()
        key, runs = _digest([(root / notebook).read_bytes(), shared]), _local_runs_key()
        known = state["notebooks"].get(name) == [key, runs]
        if known and not force and (output / "executed" / notebook).is_file():
            _log.info("%s: unchanged, not executed again", name)
            continue
        started = time.monotonic()
        try:
            _execute(root / notebook, output, notebook, profile, data)
            state["notebooks"][name] = [key, runs]
            _log.info("%s: executed in %s", name, _took(started))
        finally:  # runs that this notebook's live part wrote count as seen by every notebook
            new_runs = _local_runs_key()
            for seen in state["notebooks"].values():
                seen[1] = new_runs if seen[1] == runs else seen[1]
            _write_state(output, state)


def _shared_key(root: Path, profile: str, data: Path) -> str:
    """What every notebook's output rests on beside its own source and the local runs."""
    package = Path(__file__).parent
    code = [p for p in package.rglob("*") if p.suffix in (".py", ".csv")]
    shipped = package / "_shipped"
    files = [p for p in code if not p.is_relative_to(shipped)]
    files += [p for p in (root / "book" / "results").glob("**/*") if p.is_file()]
    parts: list[Any] = [profile, sys.version, _versions(_EXECUTED_WITH)]
    return _digest([*parts, _contents(sorted(files)), str(data), *_listing(data)])


def _listing(folder: Path, depth: int = 3) -> list[tuple[str, int]]:
    """Names and sizes down to a depth: which data are there, without reading them."""
    found = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        found.append((str(entry), entry.stat().st_size if entry.is_file() else -1))
        if depth > 1 and entry.is_dir():
            found += _listing(entry, depth - 1)
    return found


def _local_runs_key() -> str:
    runs = sorted((results.results_root() / "runs").glob("*.nc"))
    return _digest([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in runs])


def _execute(source: Path, output: Path, notebook: Path, profile: str, data: Path) -> None:
    """Execute one notebook into ``executed/``; on failure the partial copy is in ``failed/``."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.WARNING)
    partial = output / "failed" / notebook
    partial.parent.mkdir(parents=True, exist_ok=True)
    parameters = {"profile": profile} if _takes_profile(source) else {}
    _log.info("%s: executing ...", notebook.as_posix())
    try:
        papermill.execute_notebook(
            source,
            partial,
            parameters,
            kernel_name="python3",
            language="python",
            kernel_manager_class=_kernel_manager(data),
            cwd=output,
            progress_bar=sys.stderr.isatty(),
            start_timeout=300,
        )
    except papermill.PapermillExecutionError as error:
        code = "\n    ".join(error.source.strip().splitlines())
        raise BuildFailed(
            f"{notebook.as_posix()}: cell {error.cell_index} failed with {error.ename}: "
            f"{error.evalue}\n    {code}\nThe partly executed notebook, with the traceback: "
            f"{partial}. The last good book is kept."
        ) from None
    except DeadKernelError as error:
        raise BuildFailed(
            f"{notebook.as_posix()}: the process that executed it died ({error}); was there "
            f"enough memory? What was executed: {partial}. The last good book is kept."
        ) from None
    good = output / "executed" / notebook
    good.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, good)


def _takes_profile(source: Path) -> bool:
    import nbformat

    cells = nbformat.read(source, as_version=4).cells
    tagged = (c.source for c in cells if "parameters" in c.metadata.get("tags", []))
    return any(re.search(r"^profile\s*=", text, re.MULTILINE) for text in tagged)


def _kernel_manager(data: Path) -> type:
    """A kernel of this interpreter that imports this lrsc, whatever kernels are registered."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    env = {"LRSC_DATA": str(data)}  # absolute: the kernel works in another folder
    checkout = Path(__file__).parent.parent
    if (checkout / "pyproject.toml").is_file():
        env["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(checkout), os.environ.get("PYTHONPATH")])
        )
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    # the kernel listens on this machine only: its warning about plain TCP says nothing here
    argv.append("--log-level=ERROR")
    spec = KernelSpec(argv=argv, display_name="Python 3", language="python", env=env)

    class ThisInterpreter(AsyncKernelManager):
        kernel_spec = spec

    return ThisInterpreter


# --- pages ---------------------------------------------------------------------------------------


def _stage(root: Path, output: Path, pages: list[Path]) -> None:
    """Assemble what Jupyter Book reads: configuration, contents, prose, executed notebooks."""
    stage = output / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, stage / name)
    for folder in ("book", "notebooks"):
        if (root / folder).is_dir():
            shutil.copytree(root / folder, stage / folder, ignore=_IGNORED)
    for page in pages:
        if page.suffix == ".ipynb":
            shutil.copy(output / "executed" / page, stage / page)


def _make_html(output: Path, pages: list[Path], state: dict, force: bool) -> None:
    """Build ``html/`` from ``stage/``, unless nothing changed; the old one stays if it fails."""
    html = output / "html"
    files = sorted(p for p in (output / "stage").rglob("*") if p.is_file())
    key = _digest([_contents(files), _versions(_BUILT_WITH)])
    if state["html"] == key and not force and not _missing(html, pages):
        _log.info("pages: unchanged, not built again")
        return
    started = time.monotonic()
    work = output / "building"
    shutil.rmtree(work, ignore_errors=True)
    _run_jupyter_book(output / "stage", work, output / "jupyter-book.log")
    built = work / "_build" / "html"
    missing = _missing(built, pages)
    if missing:
        raise BuildFailed(
            f"Jupyter Book reported success, but {', '.join(missing)} is missing or empty in "
            f"{built}; its log: {output / 'jupyter-book.log'}"
        )
    shutil.rmtree(html, ignore_errors=True)
    os.replace(built, html)
    shutil.rmtree(work)
    state["html"] = key
    _write_state(output, state)
    _log.info("pages: %d built in %s", len(pages), _took(started))


def _run_jupyter_book(stage: Path, work: Path, log: Path) -> None:
    command = [
        sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(stage),
        "--path-output", str(work), "-n", "-W", "--keep-going",
    ]  # fmt: skip
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        errors="replace", env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    log.write_text(text, encoding="utf-8")
    if done.returncode:
        lines = [line for line in text.splitlines() if re.search("WARNING|ERROR|rror:", line)]
        shown = "\n    ".join(lines[:20] or text.splitlines()[-20:])
        raise BuildFailed(f"Jupyter Book failed or warned:\n    {shown}\nThe whole log: {log}")


def _missing(html: Path, pages: list[Path]) -> list[str]:
    """Pages that were not built, have no heading, or show no output of their notebook."""
    found = ["index.html"] if not (html / "index.html").is_file() else []
    for page in pages:
        path = html / page.with_suffix(".html")
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        text = text.partition("<article")[2]
        if "<h1>" not in text or (page.suffix == ".ipynb" and "cell_output" not in text):
            found.append(page.with_suffix(".html").as_posix())
    return found


# --- keys ----------------------------------------------------------------------------------------


def _digest(parts: Iterable[Any]) -> str:
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()


def _contents(files: Iterable[Path]) -> list[tuple[str, str]]:
    return [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def _versions(packages: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, importlib.metadata.version(name)) for name in packages]


def _read_state(output: Path) -> dict:
    try:
        state = json.loads((output / "book.json").read_text(encoding="utf-8"))
        return {"notebooks": dict(state["notebooks"]), "html": str(state["html"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"notebooks": {}, "html": ""}  # none yet, or not ours: everything is done again


def _write_state(output: Path, state: dict) -> None:
    output.mkdir(parents=True, exist_ok=True)
    with results.atomic(output / "book.json") as part:
        part.write_text(json.dumps(state, indent=1), encoding="utf-8")


def _took(started: float) -> str:
    return f"{time.monotonic() - started:.0f} s"
