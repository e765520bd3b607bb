"""Figures of staged notebooks: numbers, files, the index; and what is appended to each page."""

import base64
import io
from pathlib import Path

import nbformat
import numpy as np
import pytest
import xarray as xr
from PIL import Image

from lrsc import results
from lrsc.bookbuild import figures, made, sections

PAGE = Path("notebooks/live.ipynb")
OTHER = Path("book/deep/more.ipynb")
KERNEL = {"kernelspec": {"name": "python3", "display_name": "P", "language": "python"}}


def png(size=(500, 330)) -> str:
    file = io.BytesIO()
    Image.new("RGB", size, "white").save(file, format="png")
    return base64.b64encode(file.getvalue()).decode()


def display(**data):
    data = {kind.replace("_", "/"): text for kind, text in data.items()}
    return nbformat.v4.new_output("display_data", data)


def figure(alt="A line", images=1):
    image = f'<img src="data:image/png;base64,{png()}" alt="{alt}" class="drawn" style="flex:1">'
    return display(text_html=f"<div>{image * images}</div>")


def write(folder: Path, page: Path, *cells) -> None:
    """A notebook: strings are Markdown, lists are the outputs of a code cell."""
    made_cells = []
    for i, cell in enumerate(cells):
        if isinstance(cell, str):
            made_cells.append(nbformat.v4.new_markdown_cell(cell, id=f"text-{i}"))
        else:
            new = nbformat.v4.new_code_cell("x", id=f"cell-{i}", outputs=cell)
            made_cells.append(new)
    (folder / page).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made_cells, metadata=KERNEL), folder / page)


def outputs(folder: Path, page: Path) -> list[str]:
    cells = nbformat.read(folder / page, as_version=4).cells
    return [
        next(iter(output.data.values()))
        for cell in cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]


@pytest.fixture
def shown(tmp_path) -> list[figures.Shown]:
    caption = display(text_markdown="Two `curves` of [a file](a.nc). Made elsewhere.")
    write(
        tmp_path, PAGE, "# Live\n```\n# no heading\n```", [figure(images=2), caption], "## Then",
        [figure(alt="B &lt; C")],
    )  # fmt: skip
    write(tmp_path, OTHER, "# More", [display(text_markdown="no figure"), figure()])
    prose = Path("book/prose.md")
    return figures.number(tmp_path, {prose: 0, PAGE: 3, OTHER: 4})


def test_figures_are_numbered_by_chapter_with_their_heading_and_first_sentence(shown, tmp_path):
    assert [(f.number, f.heading, f.caption) for f in shown] == [
        ("3.1", "Live", "Two curves of a file."),
        ("3.2", "Then", ""),
        ("4.1", "More", ""),
    ]
    texts = outputs(tmp_path, PAGE)
    assert texts[1] == "**Figure 3.1.** Two `curves` of [a file](a.nc). Made elsewhere."
    assert texts[3] == "**Figure 3.2.**"  # a figure without a caption has its number still


def test_images_become_files_that_their_page_links_to(shown, tmp_path):
    first, _, second, _ = outputs(tmp_path, PAGE)
    assert "base64" not in first + second and first.count('<a class="enlarge"') == 2
    assert 'alt="B &lt; C" class="drawn" width="500" height="330"' in second
    assert f'id="{shown[0].anchor}"' in first
    for name in ("live-cell-1.png", "live-cell-1-2.png"):
        assert f'href="../_static/figures/{name}"' in first
        assert (tmp_path / "book/_static/figures" / name).is_file()
    assert 'src="../../_static/figures/deep-more-cell-1-1.png"' in outputs(tmp_path, OTHER)[1]


def test_the_index_links_small_copies_to_the_figures(shown, tmp_path):
    text = figures.index(tmp_path, shown)
    assert text.count("<li>") == 3
    assert '<a href="../notebooks/live.html#figure-cell-1">Figure 3.1</a> Live' in text
    small = tmp_path / "book/_static/figures/small/live-cell-1.png"
    with Image.open(small) as image:
        assert image.size[0] <= figures.THUMBNAIL[0] and image.size[1] <= figures.THUMBNAIL[1]
    assert "No page has a figure" in figures.index(tmp_path, [])


def runs() -> xr.Dataset:
    values = np.array([[0.5, 0.4], [0.9, np.nan]])
    return xr.Dataset(
        {
            "unbiased_accuracy": ("run", [0.5, 0.9]),
            "accuracy_pruned_column": (("run", "kappa"), values),
            "curve_loss": (("run", "step"), np.zeros((2, 5))),
        },
        {"lr": ("run", [0.1, 0.2]), "kappa": [0.1, 0.9]},
    )


def test_a_table_has_a_row_a_run_and_no_curves_along_training():
    table = sections.as_table(runs())
    assert set(table.columns) == {
        "lr", "unbiased_accuracy", "accuracy_pruned_column[kappa=0.1]",
        "accuracy_pruned_column[kappa=0.9]",
    }  # fmt: skip
    assert table["accuracy_pruned_column[kappa=0.1]"].tolist() == [0.5, 0.9] and len(table) == 2
    long = xr.Dataset({"accuracy": (("kappa", "criterion"), np.ones((2, 3)))})
    assert len(sections.as_table(long)) == 6


def test_a_table_of_compared_samples_has_their_measures():
    shares = np.arange(6.0).reshape(2, 3)
    found = xr.Dataset(
        {
            "deeplift_background": (("run", "sample"), shares),
            "map_deeplift": (("group", "shown", "row"), np.zeros((2, 2, 4))),
            "label": ("sample", [7, 8, 9]),
        },
        {"lr": ("run", [0.001, 0.1]), "group": ["low", "high"]},
    )
    table = sections.as_table(found)
    assert set(table.columns) == {"lr", "label", "deeplift_background"}
    assert table["deeplift_background"].tolist() == list(shares.flat)
    assert table["label"].tolist() == [7, 8, 9] * 2 and set(table["lr"][:3]) == {0.001}


def test_a_page_gets_its_command_and_the_files_that_it_names(tmp_path):
    root, stage = tmp_path / "root", tmp_path / "stage"
    names = "See `book/results/good.nc`, `book/results/bad.nc` and `book/results/absent.nc`."
    for folder in (root, stage):
        write(folder, PAGE, "# Live", [display(text_markdown=names)])
    results.save(runs(), stage / "book" / "results" / "good.nc")
    (stage / "book" / "results" / "bad.nc").write_bytes(b"from elsewhere")
    sections.complete(root, stage, PAGE)
    text = nbformat.read(stage / PAGE, as_version=4).cells[-1].source
    assert "papermill notebooks/live.ipynb _build/live.ipynb" in text
    assert "<../book/results/good.nc>" in text and "<../book/downloads/good.csv>" in text
    assert "could not be read" in text and "bad.csv" not in text and "absent" not in text
    assert (stage / "book/downloads/live.ipynb").read_bytes() == (root / PAGE).read_bytes()
    assert len((stage / "book/downloads/good.csv").read_text().splitlines()) == 3


def test_the_command_has_the_parameters_as_executed(tmp_path):
    source = 'profile = "none"  # size\nlrs = None  # rates\nmodel = "fcn"  # model'
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    given = KERNEL | {"papermill": {"parameters": {"profile": "quick", "lrs": [0.1, 0.2]}}}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata=given)
    (tmp_path / PAGE).parent.mkdir()
    nbformat.write(notebook, tmp_path / PAGE)
    assert sections.command(tmp_path, PAGE).split() == [
        "papermill", "notebooks/live.ipynb", "_build/live.ipynb", "\\", "-p", "profile", "quick",
        "-p", "lrs", "'[0.1,", "0.2]'", "-p", "model", "fcn",
    ]  # fmt: skip


def test_times_come_from_what_papermill_noted(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("x", id=name, metadata={"papermill": {"duration": seconds}})
        for name, seconds in (("quick-one", 0.5), ("slow-one", 3.25), ("not-run", None))
    ]
    said = {"papermill": {"duration": 4.5, "start_time": "2026-01-02T03:04:05.6"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=said), tmp_path / "a.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "b.ipynb")
    text = made.page(tmp_path, [Path("a.ipynb"), Path("b.ipynb")])
    assert "| [a](../a.ipynb) | 4.5 | 3 | `slow-one` (3.2) | 2026-01-02 03:04 |" in text
    assert "| [b](../b.ipynb) | – | 0 | – | – |" in text and "took 4 s" in text
