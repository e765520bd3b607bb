"""The API reference: signatures and docstrings of what the library offers, as MyST Markdown."""

import ast
import re

from lrsc.bookbuild import modules

_NEXT = re.compile(r", (?=\w+[:=]|[*/])")  # between two arguments
_CODE = re.compile(r"(`+[^`]+`+)")


def page() -> str:
    """A section for each part of the library, from the bottom of its imports up."""
    found = modules.read()
    level = modules.levels(modules.parts(found))
    names = sorted(level, key=lambda name: (level[name], name))
    sections = [_section(found[name], found) for name in names]
    return "\n\n".join(section for section in sections if section)


def _section(module: modules.Module, found: dict[str, modules.Module]) -> str:
    lines = [f"(api-lrsc-{module.name})=", f"## `lrsc.{module.name}`"]
    lines.append(_markdown(ast.get_docstring(module.tree) or ""))
    for item in modules.offers(module, found):
        whole = f"lrsc.{module.name}.{item.name}"
        kind = "-class" if isinstance(item, ast.ClassDef) else ""  # Audit and audit are two
        lines += [f"(api-{whole}{kind})=", f"### `{whole}`", _signature(item)]
        lines.append(_markdown(ast.get_docstring(item) or ""))
        if isinstance(item, ast.ClassDef):
            lines += _methods(item)
    return "\n\n".join(line for line in lines if line).replace(")=\n\n", ")=\n")


def _signature(item: modules.Offered) -> str:
    if isinstance(item, ast.FunctionDef):
        return f"```python\n{_call(item)}\n```"
    bases = ", ".join(ast.unparse(base) for base in item.bases)
    fields = [ast.unparse(n) for n in item.body if isinstance(n, ast.AnnAssign)]
    fields = [text for text in fields if not text.startswith("_")]
    head = f"class {item.name}({bases})" if bases else f"class {item.name}"
    return "\n".join(["```python", head, *(f"    {text}" for text in fields), "```"])


def _call(item: ast.FunctionDef) -> str:
    """The head of a function; on several lines where one would be too long."""
    arguments = ast.unparse(item.args)
    end = f" -> {ast.unparse(item.returns)}" if item.returns else ""
    if len(item.name + arguments + end) <= 86:
        return f"{item.name}({arguments}){end}"
    listed = _NEXT.sub(",\n    ", arguments)
    listed = re.sub(r"^( *\w+: .*?)=", r"\1 = ", listed, flags=re.MULTILINE)
    return f"{item.name}(\n    {listed},\n){end}"


def _methods(item: ast.ClassDef) -> list[str]:
    lines = []
    for node in item.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            said = _markdown(modules.first_sentence(ast.get_docstring(node) or ""))
            lines.append(f"`.{_call_inline(node)}`\n: {said or 'see the code.'}")
    return lines


def _call_inline(item: ast.FunctionDef) -> str:
    if any(isinstance(d, ast.Name) and "property" in d.id for d in item.decorator_list):
        return item.name
    names = [arg.arg for arg in (*item.args.args, *item.args.kwonlyargs)]
    return f"{item.name}({', '.join(n for n in names if n not in ('self', 'cls'))})"


def _markdown(docstring: str) -> str:
    """A docstring as Markdown: its code spans stay, other marks of Markdown are taken as text."""
    pieces = _CODE.split(docstring)
    for i in range(0, len(pieces), 2):
        text = re.sub(r"([*\[\]{}|])", r"\\\1", pieces[i].replace("<", "&lt;"))
        pieces[i] = re.sub(r"\$(\w+)", r"`$\1`", text)  # a variable of the environment
    return "".join(pieces)
