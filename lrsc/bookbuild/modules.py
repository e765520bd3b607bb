"""The library read as source: its modules, what each imports, and what it offers. Runs nothing."""

import ast
import dataclasses
import functools
import graphlib
import re
from pathlib import Path

from lrsc.bookbuild import keys

Offered = ast.FunctionDef | ast.ClassDef


@dataclasses.dataclass(frozen=True)
class Module:
    """One file: its name below lrsc ("datasets.sources"; a package is its ``__init__``)."""

    name: str
    doc: str  # the first sentence of its docstring
    tree: ast.Module
    imports: frozenset[str]  # modules of lrsc that it names, at the top or in a function
    is_package: bool

    @property
    def part(self) -> str:
        """The first name: the file or folder directly in lrsc/."""
        return self.name.partition(".")[0]


@functools.cache
def read(package: Path = keys.PACKAGE) -> dict[str, Module]:
    """All modules but ``lrsc/__init__.py`` and what the wheel ships beside the code, by name."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and not name.startswith("_"):
            paths[name] = path
    found = {}
    for name, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = frozenset(_imports(tree, set(paths)) - {name})
        doc = first_sentence(ast.get_docstring(tree) or "")
        found[name] = Module(name, doc, tree, imports, path.name == "__init__.py")
    return found


def first_sentence(docstring: str) -> str:
    """The first sentence, on one line."""
    text = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=[.:])\s+(?=[A-Z])", text, maxsplit=1)[0]


def parts(found: dict[str, Module]) -> dict[str, set[str]]:
    """Each file or folder in lrsc/ -> those it imports, itself left out."""
    graph: dict[str, set[str]] = {}
    for module in found.values():
        graph.setdefault(module.part, set()).update(n.partition(".")[0] for n in module.imports)
    return {name: needs - {name} for name, needs in graph.items()}


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """How many imports lie under each part at most: 0 imports none. CycleError for a ring."""
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    found: dict[str, int] = {}
    while ready := sorter.get_ready():
        found |= {n: 1 + max((found[need] for need in graph[n]), default=-1) for n in ready}
        sorter.done(*ready)
    return found


def offers(module: Module, found: dict[str, Module]) -> list[Offered]:
    """Public functions and classes of a module, or those that a package defines or passes on."""
    own = [n for n in module.tree.body if isinstance(n, Offered) and not n.name.startswith("_")]
    if not module.is_package:
        return own
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom):
            source = found.get((node.module or "").removeprefix("lrsc."))
            if source is not None and source.part == module.part:
                names = {alias.name for alias in node.names if alias.asname in (None, alias.name)}
                own += [n for n in source.tree.body if isinstance(n, Offered) and n.name in names]
    return own


def _imports(tree: ast.Module, known: set[str]) -> set[str]:
    """Modules of lrsc that a file imports anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("lrsc.") for a in node.names if a.name[:5] == "lrsc."}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "lrsc":
            base = (node.module or "").removeprefix("lrsc").removeprefix(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}".removeprefix(".")
                found.add(whole if whole in known else base)
    return found & known
