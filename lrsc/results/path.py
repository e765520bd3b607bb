"""Where results stand: the results folder, files of runs, and what ships with the book."""

import os
from pathlib import Path

from lrsc import errors, files


def project_root() -> Path:
    """The folder that holds book/ and notebooks/: the checkout, or what the wheel ships."""
    package = Path(__file__).parents[1]
    shipped = package / "_shipped"
    return shipped if shipped.is_dir() else package.parent


def in_checkout() -> bool:
    """Whether the library runs from a checkout, where results can ship."""
    return (project_root() / "pyproject.toml").is_file()


_chosen: list[Path] = []  # the folder of `choose`, at most one


def choose(root: str | Path | None) -> None:
    """Set this process's results folder from now on; None restores the usual one."""
    _chosen[:] = [] if root is None else [errors.path("results", root).resolve()]


def results_root(root: str | Path | None = None) -> Path:
    """Folder of local results: the argument, else as `default_root`."""
    return default_root() if root is None else errors.path("root", root)


def default_root() -> Path:
    """Folder of local results: that of `choose`, else $LRSC_RESULTS, else results/ of the checkout,
    else the user's."""
    if _chosen:
        return _chosen[0]
    if os.environ.get("LRSC_RESULTS"):
        return errors.path("LRSC_RESULTS", os.environ["LRSC_RESULTS"])
    if in_checkout():
        return project_root() / "results"
    return files.user_folder("data") / "results"


def run_path(run_id: str, root: str | Path | None = None) -> Path:
    """Path of a run's result; that file is the only sign that the run is done."""
    return results_root(root) / "runs" / f"{run_id}.nc"


def weights_path(run_id: str, root: str | Path | None = None) -> Path:
    """Path of a run's weights; an aid, not evidence."""
    return results_root(root) / "weights" / f"{run_id}.pt"


def checkpoints_path(run_id: str, root: str | Path | None = None) -> Path:
    """Folder of the checkpoint of a run that is not done yet."""
    return results_root(root) / "checkpoints" / run_id


def shipped_folder() -> Path:
    """Where the measured results are that ship with the book."""
    return project_root() / "book" / "results"


def shipped_path(name: str) -> Path:
    """Path of the measured results of an experiment that ship with the book."""
    return shipped_folder() / f"{name}.nc"
