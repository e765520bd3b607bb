"""What commands share: options, numbers and tables as people write and read them."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong use. Real data are looked for under $LRSC_DATA."


def common(parser: argparse.ArgumentParser, profile: str = "") -> None:
    """Options of commands that train or measure."""
    if profile:
        parser.add_argument("--profile", default=profile, help=f"quick, desk or paper ({profile})")
    parser.add_argument("--data-root", type=Path, help="data root (default $LRSC_DATA)")
    parser.add_argument("--results", type=Path, help="results folder (default results/)")
    parser.add_argument("--device", help="cpu, cuda, ... (default a GPU where there is one)")
    if profile:
        parser.add_argument("--threads", type=int, help="CPU threads (default all)")


def numbers(text: str) -> list:
    """'0.05,0.5' or '[0.05, 0.5]' -> numbers."""
    try:
        return [json.loads(part) for part in text.strip("[] ").split(",") if part.strip()]
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(
            f"expected numbers like 0.05,0.5, found {text!r}"
        ) from None


def hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = ["  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip()
             for row in [columns, ["-" * w for w in widths], *rows]]  # fmt: skip
    return "\n".join(lines)
