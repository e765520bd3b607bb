"""The map of the code: every part of the library, what it is for, what it imports."""

from lrsc.bookbuild import modules


def page() -> str:
    """Markdown: a table of the parts from the bottom up, then the files of each package."""
    found = modules.read()
    graph = modules.parts(found)
    level = modules.levels(graph)
    order = sorted(graph, key=lambda name: (level[name], name))
    rows = ["| Level | Part | What it is | Imports | Imported by |", "|---|---|---|---|---|"]
    for name in order:
        users = sorted(other for other, needs in graph.items() if name in needs)
        rows.append(
            f"| {level[name]} | [`{name}`](#api-lrsc-{name}) | {_cell(found[name].doc)} | "
            f"{_names(sorted(graph[name]))} | {_names(users)} |"
        )
    packages = [name for name in order if found[name].is_package]
    return "\n".join([*rows, "", "### Inside the folders", "", *_files(packages, found)])


def _files(packages: list[str], found: dict[str, modules.Module]) -> list[str]:
    lines = []
    for package in packages:
        lines += [f"`{package}/`", f": {_cell(found[package].doc)}", ""]
        inside = [m for m in found.values() if m.part == package and m.name != package]
        lines += [f"  - `{_path(m)}`: {_cell(m.doc)}" for m in inside]
        lines += [""]
    return lines


def _path(module: modules.Module) -> str:
    inner = module.name.partition(".")[2].replace(".", "/")
    return inner + ("/" if module.is_package else ".py")


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("$", "\\$")
