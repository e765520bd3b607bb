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
    try:
        import fcntl
    except ImportError:  # not on this system: two processes may then train the same run twice
        yield True
        return
    path = lock_path(run_id, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # whoever held it may have removed it meanwhile: this would be a lock on nothing
            mine = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except (BlockingIOError, FileNotFoundError):
            mine = False
        except OSError as error:  # not a lock that another one holds
            raise OSError(
                error.errno, f"{error.strerror}: the results folder needs file locks", str(path)
            ) from error
        if not mine:
            yield False
            return
        try:
            # no disk space for a note is no reason not to train
            with contextlib.suppress(OSError):
                _note(file, run_id, config)
            yield True
        finally:
            path.unlink(missing_ok=True)


def _note(file, run_id: str, config: RunConfig | None) -> None:
    file.truncate(0)
    json.dump(
        {
            "run_id": run_id,
            "config": "" if config is None else config.to_json(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        file,
    )
    file.flush()


def running(root: str | Path | None = None) -> list[dict]:
    """Runs that a process, here or on a machine that shares the folder, trains now.

    One dict a run, as its lock's file has it: run_id, config (JSON), host, pid, since.
    """
    paths = (results.results_root(root) / "runs").glob(".*.lock")
    return [found for path in sorted(paths) if _is_held(path) and (found := _read(path))]


def _is_held(path: Path) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    try:
        with open(path) as file:
            # a shared lock: two that only look do not take one another for a trainer
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def note_failure(
    run_id: str, config: RunConfig, reason: str, attempts: int = 1, root: str | Path | None = None
) -> None:
    """Keep why a run failed, until it is done; where it cannot be written it is lost."""
    found = {
        "run_id": run_id,
        "config": config.to_json(),
        "reason": reason,
        "attempts": attempts,
        "host": socket.gethostname(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with contextlib.suppress(OSError), files.atomic(failure_path(run_id, root)) as part:
        part.write_text(json.dumps(found))


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
