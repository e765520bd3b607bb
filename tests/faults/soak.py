"""All faults, again and again with new random seeds, until the time is over: `make soak`.

Prints what came of them, and writes it where --output says, for the book's page "What can go
wrong". Exit code 1 if anything was lost, repeated, half written or wrongly accepted.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import bad_inputs
import damaged
import killed
import refused
import torch
from injection import Counts

from lrsc import files, results

CLUSTER = Path(__file__).parent / "test_cluster_faults.py"


def cluster(rng: random.Random, folder: Path) -> Counts:
    """A worker, a scheduler and a connection killed: the tests of the Dask executor."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(CLUSTER)]
    command.append(f"--basetemp={folder / 'pytest'}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    wrong = [] if done.returncode == 0 else [done.stdout[-3000:]]
    return Counts(faults=3, wrong=wrong)


KINDS: dict[str, Callable[[random.Random, Path], Counts]] = {
    "wrong arguments": bad_inputs.configurations,
    "metrics fed with NaN, infinity, constants, absent classes": bad_inputs.metrics_fed,
    "files truncated, flipped, replaced": lambda r, f: damaged.files_damaged(r, f, each=50),
    "checkpoint write killed": lambda r, f: killed.checkpoint_killed(r, f, kills=10),
    "cache build killed": lambda r, f: killed.cache_killed(r, f, kills=10),
    "sweep killed": lambda r, f: killed.sweep_killed(r, f, kills=5, n=6),
    "two processes at one sweep": lambda r, f: killed.sweep_shared(r, f, 2, kills=r.randrange(2)),
    "eight processes at one sweep": lambda r, f: killed.sweep_shared(
        r, f, 8, n=8, kills=r.randrange(7)
    ),
    "result damaged between two sweeps": damaged.result_damaged_in_a_sweep,
    "disk full": refused.disk_full,
    "device full": refused.full_device,
    "disk full in a sweep": refused.sweep_on_a_full_disk,
    "folder takes no files": refused.refusing_folders,
    "too many open files": refused.too_many_open_files,
    "clock set back": killed.clock_set_back,
    "worker, scheduler, connection killed": cluster,
    "book build killed": lambda r, f: killed.book_killed(r, f, kills=3, pages=True),
}
RESUMES = ("sweep killed",)  # of which the time to go on is measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="default 3600")
    parser.add_argument("--output", type=Path, help="file for the counts, as the book reads them")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    began, when = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    results.commit()
    found = {kind: Counts() for kind in KINDS}
    rounds = 0
    while time.monotonic() - began < args.seconds:
        rounds += 1
        for kind in KINDS:
            if time.monotonic() - began >= args.seconds:
                break
            found[kind] += _once(kind, f"{args.seed} {rounds} {kind}")
        _show(found)
        if args.output:  # after each round: a suite that is stopped keeps what it found
            seconds = round(time.monotonic() - began)
            _write(args.output, found, started=when, seconds=seconds, seed=args.seed)
    return int(not all(counts.harmless for counts in found.values()))


def _write(output: Path, found: dict[str, Counts], **about) -> None:
    machine = results.provenance(torch.device("cpu"))
    whole = {
        "made_by": "make soak",
        "machine": {
            "device": machine["device_name"], "cores": os.cpu_count(),
            "python": platform.python_version(), "torch": machine["torch_version"],
        },
        "commit": results.commit(),
        **about,
        "loading_seconds": _loading(),
        "rows": [_row(kind, counts) for kind, counts in found.items()],
        "problems": [f"{kind}: {text}" for kind, c in found.items() for text in c.wrong][:100],
    }  # fmt: skip
    files.write(output, (json.dumps(whole, indent=1) + "\n").encode())


def _once(kind: str, seed: str) -> Counts:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            counts = KINDS[kind](random.Random(seed), Path(folder))
        except Exception as error:  # the suite itself failed: told, and the others go on
            counts = Counts(faults=1, wrong=[f"the suite failed: {error!r}"])
    if not counts.harmless:
        print(f"{kind}, seed {seed!r}: {counts}", flush=True)
    return counts


def _row(kind: str, counts: Counts) -> dict:
    return {
        "kind": kind,
        "faults": counts.faults,
        "runs_lost": counts.lost,
        "runs_repeated": counts.repeated,
        "corrupted_accepted": counts.accepted,
        "half_written_visible": counts.half_written,
        "other_problems": len(counts.wrong),
        "resume_seconds": round(counts.resume_seconds, 3) if kind in RESUMES else None,
    }


def _show(found: dict[str, Counts]) -> None:
    """One line a kind."""
    for kind, counts in found.items():
        row = _row(kind, counts)
        print("  ".join(f"{k} {v}" for k, v in row.items() if v is not None), flush=True)
    total = sum(found.values(), Counts())
    print(f"{total.faults} faults, harmless: {total.harmless}", flush=True)


def _loading() -> float:
    """Seconds that a new process takes until a sweep can start."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import lrsc.sweep, torch._dynamo"], check=True)
    return round(time.monotonic() - began, 3)


if __name__ == "__main__":
    sys.exit(main())
