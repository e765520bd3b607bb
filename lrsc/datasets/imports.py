"""Functions of a user's own, by an import path under which other processes find them too."""

import importlib
import inspect
import typing
from collections.abc import Callable, Container
from typing import Any

from lrsc import errors
from lrsc.errors import is_whole, shown

FORM = "package.module:function"


def is_path(name: object) -> bool:
    """Whether it is no name of a table, but where a function is imported from."""
    return isinstance(name, str) and ":" in name


def found(kind: str, path: str) -> Callable[..., Any]:
    """The function of an import path, package.module:function.

    Raises ValueError where the module cannot be imported or holds no such function.
    """
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError(f"{kind} must be a name or {FORM}, found {shown(path)}")
    try:
        held: Any = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{kind} {path!r}: {error}. Install the module, or start where it lies or with its "
            "folder in $PYTHONPATH"
        ) from error
    for part in name.split("."):
        if not hasattr(held, part):
            raise errors.unknown(f"function of {module}", name, _offered(held))
        held = getattr(held, part)
    if not callable(held):
        raise ValueError(f"{kind} {path!r} must be a function, found {type(held).__name__}")
    return held


def version(function: Callable[..., Any]) -> int:
    """VERSION of the module that a function is from, 1 where it has none."""
    return check_version(getattr(inspect.getmodule(function), "VERSION", 1))


def check_version(given: object) -> int:
    if not is_whole(given, 1):
        raise ValueError(f"version must be a whole number >= 1, found {shown(given)}")
    return errors.plain(given)


def path_of(kind: str, name: str, function: Callable[..., Any]) -> str:
    """Where another process can import a function from; ValueError where it cannot."""
    module = getattr(function, "__module__", "")
    path = f"{module}:{getattr(function, '__qualname__', '')}"
    try:
        if module != "__main__" and found(kind, path) is function:
            return path
    except ValueError:
        pass
    raise ValueError(
        f"{kind} {name!r} is a function of this process alone ({shown(function)}), and others are "
        f"to run it too: put it into a module, my_code.py, say, and import it from there, or use "
        f"its import path, {FORM}"
    )


def check_returns(kind: str, path: str, returned: type) -> None:
    """Raise ValueError unless a function says by its annotation that it returns this.

    What only a file names is called on this condition: a file cannot have any function called.
    """
    function = found(kind, path)
    try:
        says = function if isinstance(function, type) else typing.get_type_hints(function)["return"]
    except Exception:  # no annotation, or one that cannot be resolved
        says = None
    if not (isinstance(says, type) and issubclass(says, returned)):
        raise ValueError(
            f"{kind} {path!r}, which a result file names, is not run, since it does not say what "
            f"it returns: annotate it, def {path.rpartition(':')[2]}(...) -> {returned.__name__}"
        )


def check_new(kind: str, name: object, function: object, ours: Container[str]) -> None:
    """Raise ValueError for what cannot be registered."""
    fits = isinstance(name, str) and name.replace("-", "_").replace(".", "_").isidentifier()
    if not fits:
        raise ValueError(
            f"the name of a {kind} must be letters, digits, '_', '-' and '.', found {shown(name)}"
        )
    if name in ours:
        raise ValueError(f"{kind} {name!r} is one of this library's: take another name")
    if not callable(function):
        raise ValueError(f"{kind} {name!r} must be a function, found {shown(function)}")


def options(kind: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Names of a function's arguments -> their defaults, `inspect.Parameter.empty` without one."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ValueError(f"arguments of {kind} {shown(function)} are not known: {error}") from error
    return {a.name: a.default for a in arguments if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)}


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function takes arguments of any name, as **options."""
    parameters = inspect.signature(function).parameters.values()
    return any(a.kind == a.VAR_KEYWORD for a in parameters)


def own(kind: str) -> str:
    """What the error for an unknown name says of names of one's own."""
    return f" Of your own: lrsc.register_{kind}(name, ...), or {FORM}."


def _offered(held: object) -> list[str]:
    return [name for name, value in vars(held).items() if callable(value) and name[0] != "_"]
