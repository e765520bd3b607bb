"""Keys by which unchanged work is recognised: digests of contents and versions in ``book.json``."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lrsc import files

PACKAGE = Path(__file__).parent.parent  # the folder of lrsc
EXECUTED_WITH = (
    "torch", "torchvision", "numpy", "xarray", "h5netcdf", "scikit-learn", "matplotlib",
    "ipykernel", "papermill",
)  # fmt: skip
BUILT_WITH = (
    "jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb", "myst-parser",
    "sphinxcontrib-bibtex", "sphinx-mathjax-offline", "bokeh",
)  # fmt: skip


def digest(parts: Iterable[Any]) -> str:
    """SHA-256 of what is printed of the parts."""
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()


def contents(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Each file with the SHA-256 of what it holds."""
    return [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def versions(packages: Iterable[str]) -> list[tuple[str, str]]:
    """Each installed package with its version."""
    return [(name, importlib.metadata.version(name)) for name in packages]


def code() -> list[Path]:
    """Files of the library itself: modules and tables, without what the wheel ships beside."""
    shipped = PACKAGE / "_shipped"
    found = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".csv")]
    return sorted(p for p in found if not p.is_relative_to(shipped))


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], rules: Iterable[str] = ()) -> str:
    """A table in Markdown; rules: how the columns are aligned."""
    heads = list(heads)
    lines = [heads, list(rules) or ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listing(folder: Path) -> list[tuple[str, int]]:
    """Names and sizes three levels deep: which data are there, without reading them."""
    found = sorted(path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth))
    return [(str(path), path.stat().st_size if path.is_file() else -1) for path in found]


def read_state(output: Path) -> dict:
    """The keys of the last good build: ``notebooks``, the ``runs`` they made, and ``html``."""
    try:
        state = json.loads((output / "book.json").read_text(encoding="utf-8"))
        kept = {"notebooks": dict(state["notebooks"]), "html": str(state["html"])}
        return kept | {"runs": {str(name) for name in state["runs"]}}
    except (OSError, ValueError, KeyError, TypeError):
        return {"notebooks": {}, "html": "", "runs": set()}  # none yet, or not ours: all anew


def write_state(output: Path, state: dict) -> None:
    """Keep the keys, atomically."""
    output.mkdir(parents=True, exist_ok=True)
    with files.atomic(output / "book.json") as part:
        text = json.dumps(state | {"runs": sorted(state["runs"])}, indent=1)
        part.write_text(text, encoding="utf-8")
