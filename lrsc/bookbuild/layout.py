"""The map of the code: every part of the library, what it is for, what it imports."""

from collections.abc import Iterable

from lrsc.bookbuild import keys, modules


def page() -> str:
    """Markdown: a table of the parts from the bottom up, then the files of each package."""
    found = modules.read()
    graph = modules.parts(found)
    level = modules.levels(graph)
    order = sorted(graph, key=lambda name: (level[name], name))
    rows = []
    for name in order:
        users = [other for other, needs in graph.items() if name in needs]
        about = str(level[name]), f"[`{name}`](#api-lrsc-{name})", _cell(found[name].doc)
        rows.append([*about, _names(graph[name]), _names(users)])
    table = keys.table(("Level", "Part", "What it is", "Imports", "Imported by"), rows)
    packages = [name for name in order if found[name].is_package]
    return "\n".join([table, "", "### Inside the folders", "", *_files(packages, found)])


def _files(packages: list[str], found: dict[str, modules.Module]) -> list[str]:
    lines = []
    for package in packages:
        lines += [f"`{package}/`", f": {_cell(found[package].doc)}", ""]
        for module in found.values():
            if module.part == package and module.name != package:
                inner = module.name.partition(".")[2].replace(".", "/")
                end = "/" if module.is_package else ".py"
                lines.append(f"  - `{inner}{end}`: {_cell(module.doc)}")
        lines += [""]
    return lines


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "–"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("$", "\\$")
