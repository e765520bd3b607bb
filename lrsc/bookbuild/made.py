"""How the book was made: the time of each notebook, versions and machine, as Markdown tables."""

import dataclasses
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lrsc import results
from lrsc.bookbuild import keys


@dataclasses.dataclass(frozen=True)
class Timing:
    """When and how long a notebook was executed, as papermill noted in it."""

    page: Path
    seconds: float
    started: str
    slowest: str  # id of the cell that took longest
    slowest_seconds: float
    cells: int


def timings(folder: Path, notebooks: list[Path]) -> list[Timing]:
    """What the executed notebooks in a folder say of their execution; absent times are NaN."""
    import nbformat

    found = []
    for page in notebooks:
        notebook = nbformat.read(folder / page, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        took = {cell.id: _seconds(cell.metadata.get("papermill", {})) for cell in code}
        known = {name: seconds for name, seconds in took.items() if seconds == seconds}
        slowest = max(known, key=lambda name: known[name], default="")
        said = notebook.metadata.get("papermill", {})
        started = str(said.get("start_time") or "")[:16].replace("T", " ")
        found.append(Timing(
            page, _seconds(said), started, slowest, known.get(slowest, float("nan")), len(code)
        ))  # fmt: skip
    return found


def page(found: list[Timing]) -> str:
    """The tables of the page: notebooks, machine, versions."""
    rows = []
    for timing in found:
        link = f"[{timing.page.stem}](../{timing.page.as_posix()})"
        slow = f"`{timing.slowest}` ({_plain(timing.slowest_seconds)})" if timing.slowest else "–"
        rows.append((link, _plain(timing.seconds), str(timing.cells), slow, timing.started or "–"))
    total = sum(t.seconds for t in found if t.seconds == t.seconds)
    heads = ("Notebook", "Seconds", "Code cells", "Longest cell (seconds)", "Executed (UTC)")
    return "\n\n".join([
        "## Notebooks",
        f"All notebooks together took {total:.0f} s of execution. Those that had not changed keep "
        "the time of their last execution.",
        _table(heads, rows),
        "## Machine and code",
        _table(("What", "Value"), list(_machine().items())),
        "## Versions",
        _table(("Package", "Version"), _versions()),
    ])  # fmt: skip


def _seconds(said: Any) -> float:
    value = said.get("duration")
    return float(value) if isinstance(value, int | float) else float("nan")


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
        return f"not told on {sys.platform}"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1024**3:.0f} GiB"


def _versions() -> list[tuple[str, str]]:
    return keys.versions(dict.fromkeys((*keys.EXECUTED_WITH, *keys.BUILT_WITH)))


def _plain(seconds: float) -> str:
    return "–" if seconds != seconds else f"{seconds:.1f}"


def _table(heads: tuple[str, ...], rows: list) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
