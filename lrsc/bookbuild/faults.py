"""The counts of the fault-injection suite as a Markdown table, made when the pages are built."""

import json

from lrsc import results
from lrsc.bookbuild import keys

_COLUMNS = {
    "kind": "Fault",
    "faults": "Faults",
    "runs_lost": "Runs lost",
    "runs_repeated": "Finished runs repeated",
    "corrupted_accepted": "Corrupted files accepted",
    "half_written_visible": "Incomplete files under their final name",
    "other_problems": "Other problems",
}


def page() -> str:
    """The table of `book/results/faults.json`, or how to make that file."""
    how = "`make soak` injects faults for an hour and writes this table."
    path = results.shipped_path("faults").with_suffix(".json")
    if not path.is_file():
        return f"*Not measured yet.* {how}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return "\n\n".join([_table(found["rows"]), _about(found)])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"*`book/results/faults.json` cannot be read.* {how}"


def _table(rows: list[dict]) -> str:
    sums = {k: sum(row[k] for row in rows) for k in _COLUMNS if k != "kind"}
    cells = [[str(row[k]) for k in _COLUMNS] for row in rows]
    cells.append([f"**{text}**" for text in ("all", *sums.values())])
    return keys.table(_COLUMNS.values(), cells, ["---", *("---:" for _ in sums)])


def _about(found: dict) -> str:
    machine, commit = found["machine"], found["commit"]
    commit = commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")
    resumed = [r["resume_seconds"] for r in found["rows"] if r["resume_seconds"] is not None]
    return (
        f"A sweep took at most {max(resumed, default=float('nan')):.2f} s from its start to the "
        f"first step after a checkpoint; before that, a new process takes "
        f"{found['loading_seconds']:.1f} s to load Python, PyTorch and the library. "
        f"The suite ran for {found['seconds'] / 60:.0f} minutes, from {found['started'][:16]} UTC, "
        f"on {machine['device']}, {machine['cores']} cores, at commit `{commit}`, "
        f"seed {found['seed']}. Made by `{found['made_by']}`."
    )
