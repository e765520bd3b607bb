"""Reproducible research on large learning rates, spurious correlations and compressibility."""

import importlib

__version__ = "0.1.0"

_SUBMODULES = (
    "attribution", "bookbuild", "claims", "cli", "config", "datasets", "errors", "experiments",
    "files", "losses", "measures", "metrics", "models", "optimizers", "pages", "plots",
    "pruning", "reach", "results", "runs", "schedules", "significance", "studies", "sweep",
    "training",
)  # fmt: skip
_NAMES = {
    "Audit": "reach", "LargestLR": "reach", "RunConfig": "config", "TrainConfig": "config",
    "Trained": "training", "audit": "reach", "fit": "training", "largest_lr": "reach",
    "measure": "measures", "register_dataset": "datasets", "register_model": "models",
}  # fmt: skip

__all__ = [*_SUBMODULES, *_NAMES]


def __getattr__(name: str):
    """Import submodules and public names when they are first used: `import lrsc` stays quick."""
    if name in _NAMES:
        return getattr(importlib.import_module(f"lrsc.{_NAMES[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"lrsc.{name}")
    raise AttributeError(f"module 'lrsc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
