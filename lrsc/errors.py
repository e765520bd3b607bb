"""Errors that name what was found, what was expected, and what to do."""

import difflib
from collections.abc import Iterable


class DataMissing(ValueError, FileNotFoundError):
    """Published data are not under the data root; the text says what to put where."""

    def __str__(self) -> str:  # FileNotFoundError would show an errno form
        return str(self.args[0])


class OutOfMemory(ValueError, MemoryError):
    """The device's memory does not suffice; the text says which settings need less."""


class TimeLimit(ValueError):
    """A run was stopped at its time limit; its checkpoint is kept."""


class BuildFailed(RuntimeError):
    """A notebook or a page of the book failed; the text says where. The last good book stays."""


def unknown(kind: str, found: object, valid: Iterable[str]) -> ValueError:
    """The error for a name that does not exist: the name, the nearest valid one, the list."""
    names = sorted(valid)
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(found).lower(), by_lower, n=1, cutoff=0.4)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    return ValueError(f"unknown {kind} {found!r}.{hint} Valid: {', '.join(names) or 'none'}.")


def check_names(kind: str, found: Iterable[str], valid: Iterable[str]) -> None:
    """Raise for the first of the names found that is not a valid one."""
    names = list(valid)
    for name in found:
        if name not in names:
            raise unknown(kind, name, names)
