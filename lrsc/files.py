"""Files of tensors: written whole or not at all, read without running code, damage noticed."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from lrsc.results import atomic


def save(content: Any, path: Path) -> None:
    """Write tensors and plain values, atomically. OSError naming the file if they do not fit."""
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
