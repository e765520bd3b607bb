"""Our own studies of finished results: contrasts, soups, cross-fitting, theory, repetition."""

import importlib

__all__ = ["compressibilities", "contrast", "reproduce", "soups", "theory"]


def __getattr__(name: str):
    """Each study when it is first used."""
    if name in __all__:
        return importlib.import_module(f"lrsc.studies.{name}")
    raise AttributeError(f"module 'lrsc.studies' has no attribute {name!r}")
