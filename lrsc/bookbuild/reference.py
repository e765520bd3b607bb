"""The API reference: signatures and docstrings of what the library offers, as MyST Markdown."""

import ast
import re

from lrsc.bookbuild import modules

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
        lines += [f"(api-{whole})=", f"### `{whole}`", _signature(item)]
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
    end = f" -> {ast.unparse(item.returns)}" if item.returns else ""
    one = f"{item.name}({ast.unparse(item.args)}){end}"
    if len(one) <= 88:
        return one
    a = item.args
    plain = [*a.posonlyargs, *a.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(a.defaults))
    defaults += a.defaults
    texts = [_argument(arg, default) for arg, default in zip(plain, defaults, strict=True)]
    if a.posonlyargs:
        texts.insert(len(a.posonlyargs), "/")
    if a.vararg:
        texts.append(f"*{_argument(a.vararg, None)}")
    elif a.kwonlyargs:
        texts.append("*")
    texts += [_argument(g, d) for g, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    texts += [f"**{_argument(a.kwarg, None)}"] if a.kwarg else []
    return f"{item.name}(\n" + "".join(f"    {text},\n" for text in texts) + f"){end}"


def _argument(arg: ast.arg, default: ast.expr | None) -> str:
    text = arg.arg + (f": {ast.unparse(arg.annotation)}" if arg.annotation else "")
    if default is None:
        return text
    return (
        f"{text} = {ast.unparse(default)}" if arg.annotation else f"{text}={ast.unparse(default)}"
    )


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
