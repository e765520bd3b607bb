"""What commands share: options, numbers and tables as people write and read them."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lrsc import errors

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong use. Real data are looked for under $LRSC_DATA."
Option = tuple[str, dict[str, Any]]


def option(names: str, text: str | None = None, **settings: Any) -> Option:
    """An option by its names, or an argument by its name, with its help and argparse's settings."""
    return names, {"help": text, **settings}


def flag(names: str, text: str) -> Option:
    return option(names, text, action="store_true")


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


JSON = flag("--json", "the same rows for programs")
RAW = flag("--raw", "train shipped runs too, for raw material")
PROFILE = option("--profile", "quick, desk or paper (quick)", default="quick")
DATA_ROOT = option("--data-root", "data root (default $LRSC_DATA)", type=path)
RESULTS = option("--results", "results folder (default $LRSC_RESULTS, else results/)", type=path)
DEVICE = option("--device", "cpu, cuda, ... (default a GPU where there is one)")
THREADS = option("--threads", "CPU threads (default all)", type=int)
COMMON = (PROFILE, DATA_ROOT, RESULTS, DEVICE, THREADS)  # of what trains or measures in a profile


def add_command(
    group, name: str, run: Callable, text: str, *options: str | Option, **defaults: Any
) -> None:
    """Add a command to a group: what it runs, its help, its arguments and options in order."""
    parser = group.add_parser(name, help=text, epilog=EPILOG)
    for each in options:
        names, settings = (each, {}) if isinstance(each, str) else each
        parser.add_argument(*names.split(), **settings)
    parser.set_defaults(command=run, **defaults)


def check_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise ValueError(f"--threads must be >= 1, found {threads}")


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
