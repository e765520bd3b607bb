"""The table of contents: which pages the book has, in which order, and their chapter numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read(root: Path) -> dict[Path, int]:
    """The chapter of each page that ``_toc.yml`` names, in reading order; the front page has 0.

    Pages are sources relative to the root. Raises ValueError where the folder holds no such book.
    """
    from sphinx_external_toc.parsing import parse_toc_yaml

    missing = [n for n in ("_config.yml", "_toc.yml", "book") if not (root / n).exists()]
    if missing:
        raise ValueError(
            f"root {root} holds no book: {', '.join(missing)} not found; give the folder of a "
            "checkout, or none for the book that is installed"
        )
    toc = parse_toc_yaml(root / "_toc.yml")
    chapters = {_source(root, toc.root.docname): 0}
    tops = [name for tree in toc.root.subtrees for name in tree.files()]
    for number, top in enumerate(tops, 1):
        chapters |= {_source(root, name): number for name in _below(toc, top)}
    return chapters


def _below(toc: Any, name: str) -> Iterator[str]:
    """A page and all that the table of contents has under it."""
    yield name
    for tree in toc[name].subtrees:
        for child in tree.files():
            yield from _below(toc, child)


def _source(root: Path, name: str) -> Path:
    for suffix in (".md", ".ipynb"):
        if (root / f"{name}{suffix}").is_file():
            return Path(f"{name}{suffix}")
    raise ValueError(f"_toc.yml names {name!r}, but {root} holds neither {name}.md nor .ipynb")
