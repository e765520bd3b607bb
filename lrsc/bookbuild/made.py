"""How the book was made: the time of each notebook, versions and machine, as Markdown tables."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lrsc import results
from lrsc.bookbuild import keys


def page(folder: Path, notebooks: list[Path]) -> str:
    """The tables of the page: notebooks as papermill timed them in a folder, machine, versions."""
    import nbformat

    rows, total = [], 0.0
    for page in notebooks:
        notebook = nbformat.read(folder / page, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        took = {cell.id: _seconds(cell) for cell in code}
        slowest = max(took, key=lambda name: took[name], default="")
        slow = f"`{slowest}` ({took[slowest]:.1f})" if took.get(slowest) else "–"
        seconds, said = _seconds(notebook), notebook.metadata.get("papermill", {})
        started = str(said.get("start_time") or "–")[:16].replace("T", " ")
        total += seconds
        link = f"[{page.stem}](../{page.as_posix()})"
        rows.append((link, f"{seconds:.1f}" if seconds else "–", str(len(code)), slow, started))
    heads = ("Notebook", "Seconds", "Code cells", "Longest cell (seconds)", "Executed (UTC)")
    packages = dict.fromkeys((*keys.EXECUTED_WITH, *keys.BUILT_WITH))
    return "\n\n".join([
        "## Notebooks",
        f"Executing all notebooks took {total:.0f} s. Unchanged notebooks keep the time of their "
        "last execution.",
        keys.table(heads, rows),
        "## Machine and code",
        keys.table(("What", "Value"), _machine().items()),
        "## Versions",
        keys.table(("Package", "Version"), keys.versions(packages)),
    ])  # fmt: skip


def _seconds(timed: Any) -> float:
    """What papermill noted of a notebook or a cell; 0 for nothing."""
    return timed.metadata.get("papermill", {}).get("duration") or 0.0


def _machine() -> dict[str, str]:
    import torch

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    made_by = results.provenance(device)
    return {
        "Built": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Commit": f"`{made_by['commit']}`" if made_by["commit"] else "none: not from a checkout",
        "lrsc": str(made_by["lrsc_version"]),
        "Python": platform.python_version(),
        "System": f"{platform.system()} {platform.machine()}",
        "Processor": str(results.provenance(torch.device("cpu"))["device_name"]),
        "Cores": str(os.cpu_count()),
        "Memory": _memory(),
        "GPU": str(made_by["device_name"]) if cuda else "none",
    }


def _memory() -> str:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return f"unknown on {sys.platform}"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1024**3:.0f} GiB"
