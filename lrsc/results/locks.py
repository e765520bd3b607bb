"""What a sweep is at: runs that somebody trains now (locks), and runs that failed (notes)."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lrsc import files, results
from lrsc.config import RunConfig


def lock_path(run_id: str, root: str | Path | None = None) -> Path:
    """The file whose lock says that somebody trains a run."""
    path = results.run_path(run_id, root)
    return path.with_name(f".{path.stem}.lock")


def failure_path(run_id: str, root: str | Path | None = None) -> Path:
    """Where it is noted why a run failed."""
    return results.results_root(root) / "failed" / f"{run_id}.json"


@contextlib.contextmanager
def claim(
    run_id: str, root: str | Path | None = None, config: RunConfig | None = None
) -> Iterator[bool]:
    """Yield whether this process may train the run: a lock that ends with its process.

    The file of the lock says who holds it, since when and for which run, for `running`.
    """
    path = lock_path(run_id, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(path, remove=True) as mine:
        if mine:
            # no disk space for a note is no reason not to train
            with contextlib.suppress(OSError):
                path.write_text(_note(run_id, config, "since", pid=os.getpid()))
        yield mine


def _note(run_id: str, config: RunConfig | None, at: str, **more: object) -> str:
    """Which run, where, and when it is, under the name `at`; JSON."""
    asked = "" if config is None else config.to_json()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = {"run_id": run_id, "config": asked, "host": socket.gethostname(), at: now}
    return json.dumps(found | more)


def running(root: str | Path | None = None) -> list[dict]:
    """Runs that a process, here or on a machine that shares the folder, trains now.

    One dict a run, as its lock's file has it: run_id, config (JSON), host, pid, since.
    """
    paths = (results.results_root(root) / "runs").glob(".*.lock")
    return [found for path in sorted(paths) if files.is_locked(path) and (found := _read(path))]


def note_failure(
    run_id: str, config: RunConfig, reason: str, attempts: int = 1, root: str | Path | None = None
) -> None:
    """Keep why a run failed, until it is done; where it cannot be written it is lost."""
    note = _note(run_id, config, "when", reason=reason, attempts=attempts)
    with contextlib.suppress(OSError), files.atomic(failure_path(run_id, root)) as part:
        part.write_text(note)


def forget_failure(run_id: str, root: str | Path | None = None) -> None:
    """The run is done, or tried again."""
    with contextlib.suppress(OSError):
        failure_path(run_id, root).unlink(missing_ok=True)


def failures(root: str | Path | None = None) -> list[dict]:
    """Runs that failed and are not done since, as `note_failure` kept them."""
    paths = sorted((results.results_root(root) / "failed").glob("*.json"))
    return [
        found
        for path in paths
        if (found := _read(path)) and not results.run_path(path.stem, root).is_file()
    ]


def _read(path: Path) -> dict | None:
    """A note, or None where it is gone, half written or of something else."""
    try:
        found = json.loads(path.read_text())
        RunConfig.from_json(found["config"])
        return {"reason": "", **found}
    except (OSError, ValueError, KeyError, TypeError):
        return None
