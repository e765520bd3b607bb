"""Notebooks that changed are executed by papermill, some at a time, each in a kernel of its own."""

import concurrent.futures
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lrsc import experiments, results
from lrsc.bookbuild import keys
from lrsc.config import RunConfig
from lrsc.errors import BuildFailed

KERNEL_BYTES = 4 * 1024**3  # memory that a notebook's kernel may need
MOST_JOBS = 4  # kernels at once, however many cores there are, unless told otherwise
_log = logging.getLogger(__name__)


def execute_all(
    notebooks: list[Path],
    root: Path,
    output: Path,
    profile: str,
    data: Path,
    state: dict,
    force: bool = False,
    jobs: int | None = None,
) -> None:
    """Bring ``executed/`` up to date; the state is kept after each notebook.

    notebooks: relative to root. A failed one stops the rest: those at work are waited for and
    kept, no other is started. jobs: notebooks at once (default: what cores and memory allow).
    """
    shared = _shared_key(root, profile, data)
    found = {n.as_posix(): keys.digest([(root / n).read_bytes(), shared]) for n in notebooks}
    # the local results, but for those that the book's own live parts made
    runs = keys.digest(sorted(_local_runs() - state["runs"]))
    to_do = []
    for notebook in notebooks:
        name = notebook.as_posix()
        known = state["notebooks"].get(name) == [found[name], runs]
        if known and not force and (output / "executed" / notebook).is_file():
            _log.info("%s: unchanged, not executed again", name)
        else:
            to_do.append(notebook)
    if not to_do:
        return
    jobs = min(len(to_do), jobs or _fitting_jobs())
    before = _local_runs()

    def one(notebook: Path) -> None:
        started = time.monotonic()
        _execute(root / notebook, output, notebook, profile, data, _threads(jobs))
        _log.info("%s: executed in %.0f s", notebook.as_posix(), time.monotonic() - started)

    try:
        for done in _each(to_do, one, jobs):
            state["notebooks"][done.as_posix()] = [found[done.as_posix()], runs]
            state["runs"] |= _made_here(before, profile)
            keys.write_state(output, state)
    finally:
        state["runs"] |= _made_here(before, profile)
        keys.write_state(output, state)


def _each(notebooks: list[Path], one, jobs: int):
    """Yield each notebook when it is done; raise a failure once all at work have ended."""
    failed = threading.Event()

    def unless_failed(notebook: Path) -> bool:
        if failed.is_set():
            return False
        try:
            one(notebook)
        except BaseException:
            failed.set()  # here: the thread would take the next one before the failure is looked at
            raise
        return True

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(unless_failed, notebook): notebook for notebook in notebooks}
        try:
            for future in concurrent.futures.as_completed(waiting):
                if future.exception() is None and future.result():
                    yield waiting[future]
        except BaseException:  # Ctrl-C: the pool would wait for hours
            failed.set()
            _end_kernels()
            raise
    for future in waiting:
        future.result()


def _fitting_jobs() -> int:
    import torch

    from lrsc.training.memory import free_memory

    by_memory = free_memory(torch.device("cpu")) // KERNEL_BYTES
    return max(1, min(_cores(), MOST_JOBS, by_memory))


def _threads(jobs: int) -> int | None:
    """A kernel's share of the cores; None where it has them all, or the user has decided."""
    return None if jobs == 1 or "OMP_NUM_THREADS" in os.environ else max(1, _cores() // jobs)


def _cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- what a notebook's output rests on -----------------------------------------------------------


def _shared_key(root: Path, profile: str, data: Path) -> str:
    """What every notebook's output rests on beside its own source and the local runs.

    All result files, not those that a notebook names: its live part looks a run up in each. The
    code without what makes the pages from executed notebooks, which no notebook imports.
    """
    pages = {
        path for name in ("cli", "bookbuild") for path in (keys.PACKAGE / name).glob("*.py")
    } - {Path(__file__)}
    code = [path for path in keys.code() if path not in pages]
    files = sorted(p for p in (root / "book" / "results").glob("**/*") if p.is_file())
    parts: list[Any] = [profile, sys.version, keys.versions(keys.EXECUTED_WITH)]
    parts += [keys.contents([*code, *files]), str(data), *keys.listing(data)]
    return keys.digest(parts)


def _local_runs() -> set[str]:
    """Local results, each with its size and time: one that is measured again is another."""
    paths = (results.results_root() / "runs").glob("*.nc")
    return {f"{p.name} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in paths}


def _made_here(before: set[str], profile: str) -> set[str]:
    """Runs written since `before` by live parts: a sweep beside the build has other profiles."""
    made = set()
    for run in _local_runs() - before:
        found = results.load_run(results.run_path(run.split()[0].removesuffix(".nc")))
        config = None if found is None else RunConfig.from_json(found.attrs["config"])
        if config is None or experiments.profile_of(config) == profile:
            made.add(run)
    return made


# --- one notebook --------------------------------------------------------------------------------


def _execute(
    source: Path, output: Path, notebook: Path, profile: str, data: Path, threads: int | None
) -> None:
    """Execute one notebook into ``executed/``; on failure the partial copy is in ``failed/``."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.WARNING)
    partial = output / "failed" / notebook
    partial.parent.mkdir(parents=True, exist_ok=True)
    parameters = {"profile": profile} if "profile" in papermill.inspect_notebook(source) else {}
    _log.info("%s: executing ...", notebook.as_posix())
    try:
        papermill.execute_notebook(
            source,
            partial,
            parameters,
            kernel_name="python3",
            language="python",
            kernel_manager_class=_kernel_manager(data, threads),
            cwd=output,
            progress_bar=sys.stderr.isatty() and threads is None,
            start_timeout=300,
        )
    except papermill.PapermillExecutionError as error:
        code = "\n    ".join(error.source.strip().splitlines())
        raise BuildFailed(
            f"{notebook.as_posix()}: cell {error.cell_index} failed with {error.ename}: "
            f"{error.evalue}\n    {code}\nThe partly executed notebook, with the traceback: "
            f"{partial}. The last good book is kept."
        ) from None
    except DeadKernelError as error:
        raise BuildFailed(
            f"{notebook.as_posix()}: the process that executed it died ({error}); was there "
            f"enough memory? What was executed: {partial}. The last good book is kept."
        ) from None
    good = output / "executed" / notebook
    good.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, good)


_kernels: list[Any] = []  # managers of the kernels started, to end them when the user interrupts


def _end_kernels() -> None:
    for manager in _kernels:
        process = getattr(manager.provisioner, "process", None)
        if process is not None and process.poll() is None:
            process.kill()


def _kernel_manager(data: Path, threads: int | None) -> type:
    """A kernel of this interpreter that imports this lrsc, whatever kernels are registered."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    # absolute: the kernel works in another folder; a display of progress would stay on the page
    env = {"LRSC_DATA": str(data), "LRSC_PROGRESS": "off"}
    if threads is not None:
        env["OMP_NUM_THREADS"] = str(threads)
    checkout = keys.PACKAGE.parent
    if (checkout / "pyproject.toml").is_file():
        env["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(checkout), os.environ.get("PYTHONPATH")])
        )
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    # the kernel listens on this machine only: its warning about plain TCP says nothing here
    argv.append("--log-level=ERROR")
    spec = KernelSpec(argv=argv, display_name="Python 3", language="python", env=env)

    class ThisInterpreter(AsyncKernelManager):
        kernel_spec = spec

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            _kernels.append(self)

    return ThisInterpreter
