"""The folder that Jupyter Book reads: sources, executed notebooks, and what is made at build time.

A line ``% generated: NAME`` in a page (a comment in MyST) is replaced by what NAME makes.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from lrsc import errors
from lrsc.bookbuild import by_figure, explore, faults, figures, layout, made, reference, sections

_IGNORED = (".ipynb_checkpoints", "__pycache__", "_build", ".DS_Store")
_MARK = re.compile(r"^% generated: (\w+)$", re.MULTILINE)


def sources(root: Path) -> list[Path]:
    """Every file that a page may be made from."""
    found = [p for name in ("book", "notebooks") for p in (root / name).rglob("*") if p.is_file()]
    return sorted(p for p in found if not set(_IGNORED) & set(p.relative_to(root).parts))


def stage(root: Path, output: Path, chapters: dict[Path, int]) -> None:
    """Assemble ``stage/`` anew."""
    folder = output / "stage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, folder / name)
    for source in sources(root):
        target = folder / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    notebooks = [page for page in chapters if page.suffix == ".ipynb"]
    for page in notebooks:
        shutil.copy(output / "executed" / page, folder / page)
    shown = figures.number(folder, chapters)
    for page in notebooks:
        sections.complete(root, folder, page)
    makers: dict[str, Callable[[], str]] = {
        "api": reference.page,
        "by_figure": lambda: by_figure.page(folder, shown),
        "explore": lambda: explore.page(folder),
        "faults": faults.page,
        "figures": lambda: figures.index(folder, shown),
        "layout": layout.page,
        "made": lambda: made.page(folder, notebooks),
    }
    for page in (page for page in chapters if page.suffix == ".md"):
        text = (folder / page).read_text(encoding="utf-8")
        errors.check_names(f"generated part of {page}", _MARK.findall(text), makers)
        filled = _MARK.sub(lambda mark: makers[mark[1]](), text)
        (folder / page).write_text(filled, encoding="utf-8")
