"""What commands share: options, numbers and tables as people write and read them."""

import argparse
import ast
import contextlib
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lrsc import errors


class Parser(argparse.ArgumentParser):
    """A parser whose help lists the names that its arguments take, and that knows near options."""

    def format_help(self) -> str:
        actions = self._actions  # a parser has no public list of them
        taken = {a.dest: NAMES[a.dest]() for a in actions if a.dest in NAMES}
        lists = "".join(f"\n{name}: {', '.join(names)}" for name, names in taken.items())
        return super().format_help() + (f"\nNames:{lists}\n" if lists else "")

    def error(self, message: str) -> NoReturn:
        known = {
            o.lstrip("-").replace("-", "_"): o for a in self._actions for o in a.option_strings
        }
        for word in message.partition("unrecognized arguments: ")[2].split():
            near = word.startswith("--") and errors.nearest(word[2:].partition("=")[0], known)
            message += f". Did you mean {known[near]}?" if near else ""
        super().error(message)


def _names(module: str, name: str) -> Callable[[], list[str]]:
    """Names that a module holds, read when a help is asked for: torch takes seconds to load."""
    return lambda: sorted(getattr(importlib.import_module(f"lrsc.{module}"), name))


NAMES = {  # argument -> the names that it takes
    "dataset": _names("datasets", "MODULES"),
    "name": _names("datasets.raw.published", "TABLE"),
    "model": _names("models", "BUILDERS"),
    "experiment": _names("experiments", "EXPERIMENTS"),
    "profile": _names("experiments", "PROFILES"),
    "engine": _names("training", "ENGINES"),
    "statistics": _names("config", "STATISTICS"),
    "executor": _names("sweep.run", "EXECUTORS"),
    "write": _names("sweep.run", "WRITERS"),
}

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong use. Real data are read from $LRSC_DATA."
Option = tuple[str, dict[str, Any]]


def option(names: str, text: str | None = None, **settings: Any) -> Option:
    """An option by its names, or an argument by its name, with its help and argparse's settings."""
    return names, {"help": text, **settings}


def flag(names: str, text: str) -> Option:
    return option(names, text, action="store_true")


def setting(text: str) -> tuple:
    """'name=value' -> (name, value as JSON or Python has it, else as text)."""
    name, found, value = text.partition("=")
    if not name or not found:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError):
            return name, read(value)
    return name, value


def numbers(text: str) -> list:
    """'0.05,0.5' or '[0.05, 0.5]' -> numbers."""
    try:
        return [json.loads(part) for part in text.strip("[] ").split(",") if part.strip()]
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(
            f"expected numbers like 0.05,0.5, found {text!r}"
        ) from None


def path(text: str) -> Path:
    """A path, expanded where no shell has done so, as in --results='~/results'."""
    return errors.path("path", text)


NAMED: dict = {"type": setting, "action": "append", "default": []}  # of NAME=VALUE
JSON = flag("--json", "print the same rows as JSON")
RAW = flag("--raw", "also train runs that ship with the book, for their raw material")
PROFILE = option("--profile", "quick, desk or paper (default quick)", default="quick")
DATA_ROOT = option("--data-root", "data root (default $LRSC_DATA)", type=path)
RESULTS = option("--results", "results folder (default $LRSC_RESULTS, else results/)", type=path)
DEVICE = option("--device", "cpu, cuda, ... (default a GPU if there is one)")
THREADS = option("--threads", "CPU threads (default all)", type=int)
COMMON = (PROFILE, DATA_ROOT, RESULTS, DEVICE, THREADS)  # of what trains or measures in a profile


def add_command(
    group,
    name: str,
    run: Callable,
    text: str,
    *options: str | Option,
    example: str,
    **defaults: Any,
) -> None:
    """Add a command to a group: what it runs, its help, its arguments and options in order.

    example: a line that can be typed as it stands.
    """
    parser = group.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".",
        epilog=f"Example:\n  {example}\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for each in options:
        names, settings = (each, {}) if isinstance(each, str) else each
        parser.add_argument(*names.split(), **settings)
    parser.set_defaults(command=run, parser=parser, **defaults)


def use_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads; ValueError for less than one."""
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"--threads must be >= 1, found {threads}")
    import torch

    torch.set_num_threads(threads)


def hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def table(columns: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Rows of text and numbers under their heads; a dash for what there is not."""
    cells = [["-" if v is None or v == "" else str(v) for v in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = ["  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip()
             for row in [columns, ["-" * w for w in widths], *cells]]  # fmt: skip
    return "\n".join(lines)
