"""The book: notebooks are executed by papermill, staged with the prose, and built to HTML.

Under the output folder: ``executed/`` the last good copy of every notebook, ``stage/`` what Jupyter
Book reads, ``html/`` the book, ``book.json`` the keys by which unchanged work is skipped.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from lrsc import errors, experiments, results
from lrsc.bookbuild import contents, execution, html, keys
from lrsc.bookbuild.pdf import print_pdf
from lrsc.bookbuild.release import archive, serve
from lrsc.datasets.raw.sources import data_root as find_data_root
from lrsc.errors import BuildFailed, check_names

_NEEDS = (
    "bokeh", "ipykernel", "jupyter_book", "nbformat", "papermill", "pypdf",
    "sphinx-mathjax-offline", "sphinx_external_toc",
)  # fmt: skip


def build(
    profile: str = "quick",
    root: str | Path | None = None,
    output: str | Path | None = None,
    force: bool = False,
    data_root: str | Path | None = None,
    only: Sequence[str] | None = None,
    jobs: int | None = None,
) -> Path:
    """Execute the book's notebooks and build it; returns its ``index.html``.

    ``profile``: of the notebooks' live parts. ``root``: folder with ``_config.yml``, ``_toc.yml``
    and ``book/`` (default: the checkout, or what the wheel ships). ``output``: folder to build in
    (default: ``_build`` in the checkout, else in the current folder). What did not change since
    the last good build is not done again, unless ``force``. ``only``: names of the notebooks that
    may be executed; the pages of the others show their last execution. ``jobs``: notebooks
    executed at once (default: what cores and memory allow, at most four). Raises ValueError for an
    unknown profile or page, a folder without a book or missing packages; BuildFailed where a
    notebook or the build fails.
    """
    check_names("profile", [profile], experiments.PROFILES)
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be >= 1, found {jobs}: give the number of notebooks at once")
    _check_packages()
    root = results.project_root() if root is None else errors.path("root", root).resolve()
    chapters = contents.read(root)
    if output is None:
        output = (root if (root / "pyproject.toml").is_file() else Path.cwd()) / "_build"
    output = errors.path("output", output).resolve()
    data = find_data_root(data_root).expanduser().resolve()

    state = keys.read_state(output)
    notebooks = _chosen(list(chapters), only, output)
    execution.execute_all(notebooks, root, output, profile, data, state, force, jobs)
    html.make(root, output, chapters, state, force)
    return output / "html" / "index.html"


def _check_packages() -> None:
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the book needs packages that are not installed ({', '.join(missing)}): "
            "pip install 'lrsc[book]'"
        )


def _chosen(pages: list[Path], only: Sequence[str] | None, output: Path) -> list[Path]:
    """Notebooks to bring up to date: all, or those named by path or by last name."""
    notebooks = [page for page in pages if page.suffix == ".ipynb"]
    if only is None:
        return notebooks
    names = {n: page for page in pages for n in (page.stem, page.with_suffix("").as_posix())}
    check_names("page", only, names)
    chosen = [page for page in notebooks if page in {names[name] for name in only}]
    never = [n for n in notebooks if n not in chosen and not (output / "executed" / n).is_file()]
    if never:
        raise ValueError(
            f"only: {', '.join(n.stem for n in never)} was never executed in {output}, so that "
            "its page cannot be left as it is: build the whole book once"
        )
    return chosen
