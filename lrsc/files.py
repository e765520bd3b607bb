"""Files: written completely or not at all, and locked; tensors are read without running code."""

import contextlib
import errno
import functools
import hashlib
import os
import pickle
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch


@contextlib.contextmanager
def atomic(path: Path, replace: bool = True):
    """Yield a temporary path in the same folder; sync and rename it into place at the end.

    Another process sees the old file or the new one, never a part; a failure leaves no trace.
    replace=False: FileExistsError if the path exists by then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.{_machine()}-{os.getpid()}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        if replace:
            os.replace(name, path)
        else:
            _place(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _place(name: str, path: Path) -> None:
    """Rename, unless the path exists: FileExistsError then."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(name, path)
    else:
        os.unlink(name)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yield an empty folder in a hidden `.part` beside `folder`, and rename it into place.

    An existing folder is replaced; if an exception is raised, nothing changes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}."
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=prefix, suffix=".part"))
    try:
        part = work / "new"
        part.mkdir()
        yield part
        if folder.exists():
            folder.rename(work / "old")
        part.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def left_behind(part: Path) -> bool:
    """Whether a `.part` file belongs to a process on this machine that has ended."""
    machine, _, process = part.name.split(".")[-3].partition("-")
    if os.name != "posix" or machine != _machine() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # of another user, and alive
        return False
    return False


@functools.cache
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically; OSError naming it if it does not fit."""
    with atomic(path) as part:
        try:
            part.write_bytes(content)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: is the disk full? What was there before is kept",
                str(path),
            ) from error


def save(content: Any, path: Path) -> None:
    """Write tensors and plain values atomically. OSError naming the file if they do not fit."""
    with atomic(path) as part:
        try:
            torch.save(content, part)
        except RuntimeError as error:  # torch's word for a write that failed
            text = f"{path} could not be written: is the disk full? What was there before is kept"
            raise OSError(text) from error


def load(path: Path) -> Any:
    """What `save` (or torch.save) wrote, on the CPU: tensors and plain values, nothing else.

    Raises ValueError naming a file that is damaged or holds anything else, OSError for one that
    cannot be opened.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) == b"PK":  # torch reads the parts without their checksums
                with zipfile.ZipFile(file) as archive:
                    if damaged := archive.testzip():
                        raise ValueError(f"{damaged} is damaged")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        if isinstance(error, OSError) and error.errno:  # the disk's word, not the content's
            raise
        said = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch's text advises to run the code in it
            said = (
                "it is damaged, or holds other things than tensors and plain values, which are "
                "not read since they can run code"
            )
        raise ValueError(f"{path} cannot be read: {said}") from error


@contextlib.contextmanager
def locked(path: Path, wait: bool = False, remove: bool = False) -> Iterator[bool]:
    """Lock a file and yield whether this process now holds the lock, which ends with the process.

    wait: wait for the present holder; otherwise yield False if the lock is held, even by this
    process. remove: delete the file at the end, while nobody else can lock it. Raises OSError if
    the file cannot be written or its folder does not support locks.
    """
    import filelock

    lock = filelock.FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        said = f"{error.strerror}: the folder needs file locks"
        raise OSError(error.errno, said, str(path)) from error
    try:
        yield lock.is_locked
    finally:
        if remove and lock.is_locked:
            with contextlib.suppress(PermissionError):  # on Windows, while it is open
                path.unlink(missing_ok=True)
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether some process holds a lock file; one that cannot be read counts as held.

    Nothing is written: the folder may be another user's.
    """
    try:
        import fcntl
    except ImportError:  # not on this system: nobody can tell
        return False
    try:
        with path.open("rb") as file:
            # a shared lock: two that only look do not take one another for a holder
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def user_folder(kind: str) -> Path:
    """The user's lrsc folder for 'data' or 'cache': on Linux $XDG_DATA_HOME/lrsc or similar.

    Raises ValueError, naming the variables to set, if there is no home folder.
    """
    import platformdirs

    try:
        return getattr(platformdirs, f"user_{kind}_path")("lrsc", appauthor=False)
    except RuntimeError as error:
        raise ValueError(
            f"no folder for {kind} is known, since this user has no home folder: set $HOME, or "
            "$LRSC_DATA, $LRSC_CACHE and $LRSC_RESULTS, to folders for data, caches and results"
        ) from error
