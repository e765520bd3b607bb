"""Errors that name what was found, what was expected, and what to do."""

import contextlib
import difflib
import math
import numbers
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

ELSEWHERE = {  # names of other tools -> ours
    "learning_rate": "lr", "learning_rates": "lrs", "epochs": "max_epochs",
    "num_epochs": "max_epochs", "steps": "max_steps", "bs": "batch_size", "wd": "weight_decay",
    "optim": "optimizer", "scheduler": "schedule", "lr_scheduler": "schedule",
    "random_state": "seed", "arch": "model", "mlp": "fcn", "output_dir": "results",
}  # fmt: skip
LARGEST = 2**53  # whole number: what JSON and float64 hold exactly


class DataMissing(ValueError, FileNotFoundError):
    """Published data are missing from the data root; the message says what to put where."""

    def __str__(self) -> str:  # FileNotFoundError would show an errno form
        return str(self.args[0])


class ResultMissing(ValueError, OSError):
    """The runs that a command needs have not been done here; the message says what to run first."""


class Unreadable(ValueError, OSError):
    """A file exists but cannot be opened or read now; its content may be intact."""


class OutOfMemory(ValueError, MemoryError):
    """The device has too little memory; the message says which settings need less."""


class TimeLimit(ValueError):
    """A run was stopped at its time limit; its checkpoint is kept."""


class BuildFailed(RuntimeError):
    """A notebook or page of the book failed; the message says where. The last good book is kept."""


def unknown(kind: str, found: object, valid: Iterable[str]) -> ValueError:
    """The error for an unknown name: it gives the name, the nearest valid one and all of them."""
    names = sorted(valid)
    by_lower = {name.lower(): name for name in names}
    said = found if isinstance(found, str) else shown(found)
    near = nearest(said, by_lower)
    hint = f" Did you mean {by_lower[near]!r}?" if near else ""
    return ValueError(f"unknown {kind} {shown(found)}.{hint} Valid: {', '.join(names) or 'none'}.")


def nearest(name: str, valid: Collection[str]) -> str | None:
    """The valid name that was meant: one called so elsewhere, else the nearest, else None."""
    lower = name.lower().replace("-", "_")[:100]
    if (ours := ELSEWHERE.get(lower)) in valid:
        return ours
    return next(iter(difflib.get_close_matches(lower, valid, n=1, cutoff=0.5)), None)


def shown(value: object, most: int = 100) -> str:
    """A value as an error message shows it, shortened if it is long."""
    try:
        text = repr(value)
    except Exception as error:  # a number of more digits than Python prints, a foreign class
        return f"a {type(value).__name__} that cannot be shown ({error})"
    return text if len(text) <= most else f"{text[:most]}..."


def plain(value: Any) -> Any:
    """Numbers of NumPy, torch and others as Python's int, float or bool; other values unchanged.

    Floats of fewer than 64 bits become the shortest equivalent number: 0.1 for float32's 0.1.
    """
    if type(value) in (int, float, bool, str):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        item = value.item()
        short = isinstance(item, float) and value.dtype.itemsize < 8
        if short:
            import numpy as np

            item = float(str(value if isinstance(value, np.generic) else np.float32(item)))
        value = item
    if type(value) in (int, float, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    with contextlib.suppress(OverflowError):
        return float(value) if isinstance(value, numbers.Real) else value
    return value


def is_whole(value: object, least: int = 0) -> bool:
    """Whether the value is a whole number in [least, 2^53], and neither True nor False."""
    value = plain(value)
    return type(value) is int and least <= value <= LARGEST


def is_number(value: object) -> bool:
    """Whether the value is a finite real number, and neither True nor False."""
    value = plain(value)
    return is_whole(value, -LARGEST) or (type(value) is float and math.isfinite(value))


def path(name: str, value: object) -> Path:
    """A path with `~` and environment variables expanded; else ValueError naming the argument."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{name} must be a path, found {shown(value)}")
    given = os.fspath(value)
    if os.path.lexists(given):
        return Path(given)
    found = os.path.expandvars(os.path.expanduser(given))
    if found.startswith("~"):
        raise ValueError(f"{name}={given!r}: no such home folder is known; give the whole path")
    if unset := re.search(r"\$(\w+|\{\w+\})", found):
        raise ValueError(f"{name}={given!r}: {unset[0]} is not set; set it or give the whole path")
    return Path(found)


def check_names(kind: str, found: Iterable[str], valid: Iterable[str]) -> None:
    """Raise ValueError for the first name found that is not valid."""
    names = list(valid)
    for name in found:
        if not isinstance(name, str) or name not in names:
            raise unknown(kind, name, names)
