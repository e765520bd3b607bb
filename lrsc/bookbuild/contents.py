"""The table of contents: which pages the book has, in which order, and their chapter numbers."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Contents:
    """Sources of the pages, relative to the root, in reading order; and each one's chapter."""

    pages: list[Path]
    chapters: dict[Path, int]  # 0 is the front page


def read(root: Path) -> Contents:
    """The pages that ``_toc.yml`` names; ValueError where the folder holds no such book."""
    import yaml

    missing = [n for n in ("_config.yml", "_toc.yml", "book") if not (root / n).exists()]
    if missing:
        raise ValueError(
            f"root {root} holds no book: {', '.join(missing)} not found; give the folder of a "
            "checkout, or none for the book that is installed"
        )
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    front = _source(root, toc["root"])
    chapters = {front: 0}
    tops = [*toc.get("chapters", ())]
    tops += [top for part in toc.get("parts", ()) for top in part["chapters"]]
    for number, top in enumerate(tops, 1):
        chapters |= {_source(root, name): number for name in _names(top)}
    return Contents(list(chapters), chapters)


def _names(entry: Any) -> Iterator[str]:
    if isinstance(entry, list):
        for item in entry:
            yield from _names(item)
    elif isinstance(entry, dict):
        yield from (entry[key] for key in ("file",) if key in entry)
        yield from _names(list(entry.values()))


def _source(root: Path, name: str) -> Path:
    for suffix in (".md", ".ipynb"):
        if (root / f"{name}{suffix}").is_file():
            return Path(f"{name}{suffix}")
    raise ValueError(f"_toc.yml names {name!r}, but {root} holds neither {name}.md nor .ipynb")
