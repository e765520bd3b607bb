"""Pages to HTML: built in a folder beside, which takes the old book's place if all is well."""

import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from lrsc.bookbuild import keys, staging
from lrsc.errors import BuildFailed

_log = logging.getLogger(__name__)


def make(root: Path, output: Path, chapters: dict[Path, int], state: dict, force: bool) -> None:
    """Build ``html/`` from sources and executed notebooks, unless nothing changed.

    The old book stays where the build fails.
    """
    html = output / "html"
    old = _old(html)
    if old.is_dir() and not html.is_dir():  # a build was ended between the two renames
        os.replace(old, html)
    key = _key(root, output, chapters)
    if state["html"] == key and not force and not _missing(html, chapters):
        _log.info("pages: unchanged, not built again")
        return
    started = time.monotonic()
    stage, work = output / "stage", output / "building"
    staging.stage(root, output, chapters)
    shutil.rmtree(work, ignore_errors=True)
    _run_jupyter_book(stage, work, output / "jupyter-book.log")
    built = work / "_build" / "html"
    missing = _missing(built, chapters)
    if missing:
        raise BuildFailed(
            f"Jupyter Book reported success, but {', '.join(missing)} is missing or empty in "
            f"{built}; its log: {output / 'jupyter-book.log'}"
        )
    _mend_bibliography(built, chapters)
    _put(built, html)
    shutil.rmtree(work)
    state["html"] = key
    keys.write_state(output, state)
    _log.info("pages: %d built in %.0f s", len(chapters), time.monotonic() - started)


def _mend_bibliography(html: Path, pages: Iterable[Path]) -> None:
    """Remove a role that docutils gives the list, not its entries: it misleads screen readers."""
    for page in pages:
        path = html / page.with_suffix(".html")
        text = path.read_text(encoding="utf-8")
        mended = text.replace('role="list" class="citation-list"', 'class="citation-list"')
        if mended != text:
            path.write_text(mended, encoding="utf-8")


def _put(built: Path, html: Path) -> None:
    """Two renames, so that the book is the old one or the new one whatever ends the process."""
    shutil.rmtree(_old(html), ignore_errors=True)
    if html.is_dir():
        os.replace(html, _old(html))
    os.replace(built, html)
    shutil.rmtree(_old(html), ignore_errors=True)


def _old(html: Path) -> Path:
    return html.with_name(html.name + ".old")


def _key(root: Path, output: Path, chapters: dict[Path, int]) -> str:
    """What the pages rest on; the code too, of which they hold a reference."""
    files = [root / "_config.yml", root / "_toc.yml", *staging.sources(root)]
    files += [output / "executed" / page for page in chapters if page.suffix == ".ipynb"]
    return keys.digest([keys.contents([*files, *keys.code()]), keys.versions(keys.BUILT_WITH)])


def _run_jupyter_book(stage: Path, work: Path, log: Path) -> None:
    command = [
        sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(stage),
        "--path-output", str(work), "-n", "-W", "--keep-going",
    ]  # fmt: skip
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        errors="replace", env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    log.write_text(text, encoding="utf-8")
    if done.returncode:
        lines = [line for line in text.splitlines() if re.search("WARNING|ERROR|rror:", line)]
        shown = "\n    ".join(lines[:20] or text.splitlines()[-20:])
        raise BuildFailed(f"Jupyter Book failed or warned:\n    {shown}\nThe whole log: {log}")


def _missing(html: Path, pages: Iterable[Path]) -> list[str]:
    """Pages that were not built, have no heading, or show no output of their notebook."""
    found = ["index.html"] if not (html / "index.html").is_file() else []
    for page in pages:
        path = html / page.with_suffix(".html")
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        text = text.partition("<article")[2]
        if "<h1>" not in text or (page.suffix == ".ipynb" and "cell_output" not in text):
            found.append(page.with_suffix(".html").as_posix())
    return found
