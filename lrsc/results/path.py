"""Where results stand: the results folder, files of runs, and what ships with the book."""

import os
from pathlib import Path

from lrsc import errors, files


def project_root() -> Path:
    """The folder that holds book/ and notebooks/: the checkout, or what the wheel ships."""
    package = Path(__file__).parents[1]
    shipped = package / "_shipped"
    return shipped if shipped.is_dir() else package.parent


def results_root(root: str | Path | None = None) -> Path:
    """Folder of local results: the argument, else as `default_root`."""
    return default_root() if root is None else errors.path("root", root)


def default_root() -> Path:
    """Folder of local results: $LRSC_RESULTS, else the checkout's results/, else the user's."""
    if "LRSC_RESULTS" in os.environ:
        return errors.path("LRSC_RESULTS", os.environ["LRSC_RESULTS"])
    if (project_root() / "pyproject.toml").is_file():
        return project_root() / "results"
    return files.user_folder("data") / "results"


def run_path(run_id: str, root: str | Path | None = None) -> Path:
    """Where the result of a run stands: the file is the only sign that the run is done."""
    return results_root(root) / "runs" / f"{run_id}.nc"


def weights_path(run_id: str, root: str | Path | None = None) -> Path:
    """Where the weights of a run stand; an aid, not evidence."""
    return results_root(root) / "weights" / f"{run_id}.pt"


def checkpoints_path(run_id: str, root: str | Path | None = None) -> Path:
    """Folder of the checkpoint of a run that is not done yet."""
    return results_root(root) / "checkpoints" / run_id


def shipped_folder() -> Path:
    """Where the measured results are that ship with the book."""
    return project_root() / "book" / "results"


def shipped_path(name: str) -> Path:
    """The measured results of an experiment that ship with the book."""
    return shipped_folder() / f"{name}.nc"
