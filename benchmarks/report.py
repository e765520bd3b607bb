"""What every benchmark prints: one table with medians, or the same rows as JSON (--json)."""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from lrsc.results import provenance


def arguments(
    about: str, others: Mapping[str, str | bool] | None = None, **defaults: int
) -> argparse.Namespace:
    """Parse --json, --output and whole-number options with these defaults; others: texts, flags."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="rows for programs")
    parser.add_argument("--output", default="", help="file for the same, as the book reads it")
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    for name, default in (others or {}).items():
        if default is False:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", default=default)
    return parser.parse_args()


def median(values) -> float:
    """Median of an iterable."""
    return statistics.median(list(values))


def show(rows: list[dict], as_json: bool, output: str = "") -> None:
    """Print rows (dicts with the same keys), and on what machine they were measured.

    output: file to write the JSON to as well.
    """
    machine = {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if output:
        made_by = f"python benchmarks/{Path(sys.argv[0]).name}"
        found = {
            "machine": machine | {"device": provenance(_device())["device_name"]},
            "made_by": made_by,
            "rows": rows,
        }
        Path(output).write_text(json.dumps(found, indent=1) + "\n")
    if as_json:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    columns = list(rows[0])
    text = [[_cell(row[c]) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *text]) for i in range(len(columns))]
    for line in [columns, *text]:
        print("  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip())
    print(", ".join(f"{k} {v}" for k, v in machine.items()))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _cell(value) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
