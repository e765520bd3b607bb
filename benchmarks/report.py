"""What every benchmark prints: one table with medians, or the same rows as JSON (--json)."""

import argparse
import json
import os
import platform
import statistics

import torch


def arguments(about: str, **defaults: int) -> argparse.Namespace:
    """Parse --json and whole-number options with these defaults."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="rows for programs")
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    return parser.parse_args()


def median(values) -> float:
    """Median of an iterable."""
    return statistics.median(list(values))


def show(rows: list[dict], as_json: bool) -> None:
    """Print rows (dicts with the same keys), and on what machine they were measured."""
    machine = {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if as_json:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    columns = list(rows[0])
    text = [[_cell(row[c]) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *text]) for i in range(len(columns))]
    for line in [columns, *text]:
        print("  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip())
    print(", ".join(f"{k} {v}" for k, v in machine.items()))


def _cell(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
