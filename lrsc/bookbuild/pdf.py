"""The whole book as one PDF: a headless browser prints every page, and the prints are joined."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lrsc import files, results
from lrsc.bookbuild import contents
from lrsc.errors import BuildFailed

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def print_pdf(html: Path, root: str | Path | None = None) -> Path:
    """Print a built book; returns ``book.pdf`` beside its folder, with a bookmark for each page.

    root: as in `build`. Raises ValueError if no browser of the Chromium family is found
    (``LRSC_BROWSER`` names another), BuildFailed if it prints nothing.
    """
    browser = _browser()
    pages = contents.read(results.project_root() if root is None else Path(root))
    import pypdf

    whole = pypdf.PdfWriter()
    with tempfile.TemporaryDirectory() as folder:
        for i, page in enumerate(pages):
            source = (html / page).with_suffix(".html")
            part = Path(folder) / f"{i}.pdf"
            _print(browser, source, part, Path(folder) / "profile")
            whole.append(part, outline_item=_title(source))
        path = html.parent / "book.pdf"
        with files.atomic(path) as temporary:
            whole.write(temporary)
    return path


def _browser() -> str:
    chosen = os.environ.get("LRSC_BROWSER")
    names = (chosen,) if chosen else BROWSERS
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise ValueError(
            f"a PDF needs a browser that prints, found {f'no {chosen!r}' if chosen else 'none'}: "
            f"install one of {', '.join(BROWSERS)}, or name its program in LRSC_BROWSER"
        )
    return found


def _print(browser: str, source: Path, target: Path, profile: Path) -> None:
    command = [
        browser, "--headless", "--disable-gpu", "--no-sandbox", "--no-pdf-header-footer",
        "--allow-file-access-from-files", f"--user-data-dir={profile}",
        "--virtual-time-budget=20000",  # milliseconds of the page's clock, for formulas and fonts
        f"--print-to-pdf={target}", source.resolve().as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)
    if done.returncode or not target.is_file():
        last = "\n    ".join(done.stderr.strip().splitlines()[-5:])
        raise BuildFailed(f"{browser} did not print {source}:\n    {last}")


def _title(source: Path) -> str:
    text = source.read_text(encoding="utf-8")
    found = re.search(r"<title>(.*?)(?: &#8212;| —|</title>)", text, re.DOTALL)
    return found[1].strip() if found else source.stem
