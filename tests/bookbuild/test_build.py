"""lrsc.bookbuild on a small book of its own: two pages of prose and one notebook of one cell."""

import json
import logging
import re
import sys
import tarfile
import threading
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
import xarray as xr

from lrsc import bookbuild

CONFIG = """
title: A small book
author: nobody
execute: {execute_notebooks: "off"}
only_build_toc_files: true
sphinx: {extra_extensions: [sphinx-mathjax-offline]}
"""
TOC = "format: jb-book\nroot: book/first\nchapters:\n- file: notebooks/live\n- file: book/second\n"
CELL = "import sys\nprint(profile, 'profile by', sys.executable)"


def notebook(path: Path, *cells: str) -> None:
    """A notebook with a title, a parameters cell that sets profile, and `cells`."""
    new = nbformat.v4
    parameters = new.new_code_cell("profile = 'none'", metadata={"tags": ["parameters"]})
    all_cells = [new.new_markdown_cell("# Live"), parameters, *map(new.new_code_cell, cells)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "P", "language": "python"}}
    path.write_text(nbformat.writes(new.new_notebook(cells=all_cells, metadata=metadata)))


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Folder of the small book; local results are looked for beside it."""
    monkeypatch.setattr("lrsc.results.path.default_root", lambda: tmp_path / "results")
    root = tmp_path / "small"
    (root / "book").mkdir(parents=True)
    (root / "notebooks").mkdir()
    (root / "_config.yml").write_text(CONFIG)
    (root / "_toc.yml").write_text(TOC)
    (root / "book" / "first.md").write_text("# First\n\nSee [the other](second.md), $x^2$.\n")
    (root / "book" / "second.md").write_text(
        "# Second\n\nBack to [live](../notebooks/live.ipynb).\n"
    )
    notebook(root / "notebooks" / "live.ipynb", CELL)
    return root


@pytest.fixture
def no_pages(monkeypatch) -> list[Path]:
    """Jupyter Book replaced by a stand-in that writes a page for each source; lists its calls."""
    calls = []

    def write_pages(stage: Path, work: Path, log: Path) -> None:
        calls.append(stage)
        html = work / "_build" / "html"
        for page in (*stage.rglob("*.md"), *stage.rglob("*.ipynb")):
            path = html / page.relative_to(stage).with_suffix(".html")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("<article><h1>title</h1><div class='cell_output'></div>")
        (html / "index.html").write_text("go to the first page")

    monkeypatch.setattr(bookbuild.html, "_run_jupyter_book", write_pages)
    return calls


@pytest.fixture
def no_kernel(monkeypatch) -> list[Path]:
    """Execution replaced by a copy; lists the notebooks executed."""
    executed = []

    def copy(source: Path, output: Path, notebook: Path, *_) -> None:
        executed.append(notebook)
        good = output / "executed" / notebook
        good.parent.mkdir(parents=True, exist_ok=True)
        good.write_bytes(source.read_bytes())

    monkeypatch.setattr(bookbuild.execution, "_execute", copy)
    return executed


def test_builds_html_from_the_notebook_as_executed_here(root, tmp_path, monkeypatch):
    # another kernel under the same name must not be used
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text('{"argv": ["false"], "display_name": "P"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.chdir(tmp_path)
    source = (root / "notebooks" / "live.ipynb").read_bytes()
    index = bookbuild.build("quick", root=root, output="out")
    assert index == tmp_path / "out" / "html" / "index.html" and index.is_file()
    page = (index.parent / "notebooks" / "live.html").read_text()
    assert f"quick profile by {sys.executable}" in page
    assert "mathjax/tex-chtml.js" in (index.parent / "book" / "first.html").read_text()
    assert (index.parent / "_static" / "mathjax" / "tex-chtml.js").is_file()
    assert (root / "notebooks" / "live.ipynb").read_bytes() == source


def test_a_warning_fails_the_build_and_keeps_the_last_book(root, tmp_path):
    html = tmp_path / "out" / "html"
    html.mkdir(parents=True)
    (html / "index.html").write_text("the last good book")
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/first\n")
    (root / "book" / "first.md").write_text("# First\n\n[nowhere](missing.md)\n")
    with pytest.raises(bookbuild.BuildFailed, match=r"(?s)missing\.md.*jupyter-book\.log"):
        bookbuild.build(root=root, output=tmp_path / "out")
    assert (html / "index.html").read_text() == "the last good book"


def test_unchanged_work_is_not_done_again(root, tmp_path, no_pages, no_kernel, caplog):
    caplog.set_level(logging.INFO, "lrsc.bookbuild")
    bookbuild.build(root=root, output=tmp_path / "out")
    bookbuild.build(root=root, output=tmp_path / "out")
    assert len(no_kernel) == len(no_pages) == 1
    assert "notebooks/live.ipynb: unchanged" in caplog.text and "pages: unchanged" in caplog.text

    (root / "book" / "second.md").write_text("# Second\n\nNew words.\n")  # prose alone
    bookbuild.build(root=root, output=tmp_path / "out")
    assert (len(no_kernel), len(no_pages)) == (1, 2)


@pytest.mark.parametrize("change", ["profile", "source", "evidence", "local run", "data", "force"])
def test_a_change_executes_again(root, tmp_path, no_pages, no_kernel, change):
    options = {"root": root, "output": tmp_path / "out", "data_root": tmp_path / "data"}
    runs, data = tmp_path / "results" / "runs", tmp_path / "data" / "MNIST"
    for folder in (runs, data, root / "book" / "results"):
        folder.mkdir(parents=True)
    bookbuild.build(**options)
    if change == "profile":
        options["profile"] = "desk"
    elif change == "source":
        notebook(root / "notebooks" / "live.ipynb", CELL, "1 + 1")
    elif change == "evidence":
        (root / "book" / "results" / "synthetic.nc").write_bytes(b"measured")
    elif change == "local run":
        (runs / "0123456789abcdef.nc").write_bytes(b"measured")
    elif change == "data":
        (data / "train").write_bytes(b"digits")
    elif change == "force":
        options["force"] = True
    bookbuild.build(**options)
    assert len(no_kernel) == 2


def test_runs_that_a_notebook_itself_makes_count_as_seen(root, tmp_path, no_pages, monkeypatch):
    executed = []

    def train(source: Path, output: Path, notebook: Path, *_) -> None:
        executed.append(notebook)
        good = output / "executed" / notebook
        for path in (good, tmp_path / "results" / "runs" / f"{len(executed)}.nc"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read_bytes())

    monkeypatch.setattr(bookbuild.execution, "_execute", train)
    bookbuild.build(root=root, output=tmp_path / "out")
    bookbuild.build(root=root, output=tmp_path / "out")
    assert len(executed) == 1


def test_a_failing_notebook_is_reported_and_the_last_good_copy_kept(root, tmp_path, no_pages):
    out = tmp_path / "out"
    good = out / "executed" / "notebooks" / "live.ipynb"
    good.parent.mkdir(parents=True)
    good.write_text("the last good copy")
    notebook(root / "notebooks" / "live.ipynb", "print('so far')", "lr = 1 / 0")
    with pytest.raises(bookbuild.BuildFailed) as failed:
        bookbuild.build(root=root, output=out)
    partial = out / "failed" / "notebooks" / "live.ipynb"
    for part in ("notebooks/live.ipynb", "ZeroDivisionError", "lr = 1 / 0", str(partial)):
        assert part in str(failed.value)
    assert "so far" in partial.read_text()
    assert good.read_text() == "the last good copy"
    assert json.loads((out / "book.json").read_text())["notebooks"] == {}  # not done


def test_a_book_without_a_page_is_no_success(root, tmp_path, no_pages, no_kernel, monkeypatch):
    write_pages = bookbuild.html._run_jupyter_book

    def lose_one(stage: Path, work: Path, log: Path) -> None:
        write_pages(stage, work, log)
        (work / "_build" / "html" / "book" / "second.html").write_text("")

    monkeypatch.setattr(bookbuild.html, "_run_jupyter_book", lose_one)
    with pytest.raises(bookbuild.BuildFailed, match=r"book/second\.html"):
        bookbuild.build(root=root, output=tmp_path / "out")


def test_wrong_use_is_named_before_any_work(root, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"unknown profile 'quik'\. Did you mean 'quick'\?"):
        bookbuild.build("quik", root=root, output=tmp_path / "out")
    with pytest.raises(ValueError, match=r"holds no book: _config\.yml, _toc\.yml, book not found"):
        bookbuild.build(root=tmp_path / "empty", output=tmp_path / "out")
    (root / "book" / "second.md").unlink()
    with pytest.raises(ValueError, match="names 'book/second'"):
        bookbuild.build(root=root, output=tmp_path / "out")
    monkeypatch.setattr(bookbuild, "_NEEDS", ("papermill", "not_installed_here"))
    with pytest.raises(ValueError, match=r"\(not_installed_here\): pip install 'lrsc\[book\]'"):
        bookbuild.build(root=root, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def second_notebook(root: Path, *cells: str) -> None:
    notebook(root / "notebooks" / "other.ipynb", *cells)
    with open(root / "_toc.yml", "a") as toc:
        toc.write("- file: notebooks/other\n")


def test_notebooks_run_at_the_same_time_with_a_share_of_the_cores(
    root, tmp_path, no_pages, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(bookbuild.execution, "_cores", lambda: 6)
    meet = f"""
import os, pathlib, time
folder = pathlib.Path({str(tmp_path)!r})
(folder / f"{{os.getpid()}}.here").touch()
end = time.time() + 60
while len(list(folder.glob("*.here"))) < 2 and time.time() < end:
    time.sleep(0.05)
print("met", len(list(folder.glob("*.here"))), "with", os.environ["OMP_NUM_THREADS"])
"""
    notebook(root / "notebooks" / "live.ipynb", meet)
    second_notebook(root, meet)
    bookbuild.build(root=root, output=tmp_path / "out", jobs=2)
    for name in ("live", "other"):
        text = (tmp_path / "out" / "executed" / "notebooks" / f"{name}.ipynb").read_text()
        assert "met 2 with 3" in text


def test_a_failure_keeps_what_ran_beside_it_and_starts_no_other(
    root, tmp_path, no_pages, monkeypatch
):
    second_notebook(root, CELL)
    notebook(root / "notebooks" / "third.ipynb", CELL)
    with open(root / "_toc.yml", "a") as toc:
        toc.write("- file: notebooks/third\n")
    other_runs, failed, ran = threading.Event(), threading.Event(), []

    def stand_in(source: Path, output: Path, page: Path, *_) -> None:
        ran.append(page.stem)
        if page.stem == "live":
            assert other_runs.wait(60)
            failed.set()
            raise bookbuild.BuildFailed("live: cell 1 failed")
        other_runs.set()
        assert failed.wait(60)
        time.sleep(0.3)  # the failure is seen first
        good = output / "executed" / page
        good.parent.mkdir(parents=True, exist_ok=True)
        good.write_bytes(source.read_bytes())

    monkeypatch.setattr(bookbuild.execution, "_execute", stand_in)
    with pytest.raises(bookbuild.BuildFailed, match="live: cell 1"):
        bookbuild.build(root=root, output=tmp_path / "out", jobs=2)
    kept = json.loads((tmp_path / "out" / "book.json").read_text())["notebooks"]
    assert set(kept) == {"notebooks/other.ipynb"} and no_pages == []
    assert sorted(ran) == ["live", "other"]


def test_only_names_what_may_be_executed(root, tmp_path, no_pages, no_kernel):
    second_notebook(root, CELL)
    options = {"root": root, "output": tmp_path / "out"}
    with pytest.raises(ValueError, match="other was never executed.*build the whole book once"):
        bookbuild.build(only=["live"], **options)
    bookbuild.build(**options)
    for name in ("live", "other"):
        notebook(root / "notebooks" / f"{name}.ipynb", CELL, "1 + 1")
    bookbuild.build(only=["notebooks/other"], **options)
    assert [p.stem for p in no_kernel] == ["live", "other", "other"] and len(no_pages) == 2
    bookbuild.build(**options)  # what was left out is made up for
    assert [p.stem for p in no_kernel][3:] == ["live"]
    with pytest.raises(ValueError, match=r"unknown page 'lvie'\. Did you mean 'live'\?"):
        bookbuild.build(only=["lvie"], **options)
    with pytest.raises(ValueError, match="jobs must be >= 1, found 0"):
        bookbuild.build(jobs=0, **options)


def test_a_run_of_another_profile_written_meanwhile_executes_again(
    root, tmp_path, no_pages, monkeypatch
):
    """A sweep beside the build is no live part of it, and what it measured is shown next time."""
    executed = []
    config = bookbuild.execution.experiments.configs("synthetic", "paper", dataset="moon_star")[0]

    def sweep_beside(source: Path, output: Path, page: Path, *_) -> None:
        executed.append(page)
        (output / "executed" / page).parent.mkdir(parents=True, exist_ok=True)
        (output / "executed" / page).write_bytes(source.read_bytes())
        path = tmp_path / "results" / "runs" / "0123456789abcdef.nc"
        if not path.exists():
            attrs = {"run_id": path.stem, "config": config.to_json()}
            bookbuild.results.save(xr.Dataset(attrs=attrs), path)

    monkeypatch.setattr(bookbuild.execution, "_execute", sweep_beside)
    for _ in range(3):
        bookbuild.build(root=root, output=tmp_path / "out")
    assert len(executed) == 2


def test_a_build_that_was_killed_between_two_renames_leaves_a_book(
    root, tmp_path, no_pages, no_kernel
):
    index = bookbuild.build(root=root, output=tmp_path / "out")
    index.parent.rename(tmp_path / "out" / "html.old")
    bookbuild.build(root=root, output=tmp_path / "out")
    assert index.is_file() and len(no_pages) == 1


def test_the_archive_has_one_top_folder_and_no_names(root, tmp_path, no_pages, no_kernel):
    index = bookbuild.build(root=root, output=tmp_path / "out")
    path = bookbuild.archive(index.parent, tmp_path)
    with tarfile.open(path) as file:
        members = file.getmembers()
    assert {m.name.split("/")[0] for m in members} == {path.name.removesuffix(".tar.gz")}
    assert f"{members[0].name}/index.html" in [m.name for m in members]
    assert {(m.uid, m.uname) for m in members} == {(0, "")}
    with pytest.raises(ValueError, match="no book in"):
        bookbuild.archive(tmp_path / "none", tmp_path)


def test_the_book_is_served_on_this_machine(tmp_path, caplog):
    (tmp_path / "index.html").write_text("the book")
    caplog.set_level(logging.INFO, "lrsc.bookbuild")
    threading.Thread(target=bookbuild.serve, args=(tmp_path, 0), daemon=True).start()
    end = time.monotonic() + 600
    while not (found := re.search(r"http://localhost:\d+/", caplog.text)):
        assert time.monotonic() < end
        time.sleep(0.01)
    with urllib.request.urlopen(found[0]) as answer:
        assert answer.read() == b"the book"


def test_a_pdf_without_a_browser_says_what_to_install(root, tmp_path, monkeypatch):
    monkeypatch.setenv("LRSC_BROWSER", "no-such-browser")
    with pytest.raises(ValueError, match="found no 'no-such-browser'.*install one of chromium"):
        bookbuild.print_pdf(tmp_path, root)
