"""The front page: its sentences and figure, from constructed rows and from the stored results."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from longform import LRS, assert_nothing_clipped, experiment

from lrsc import claims, pages, plots
from lrsc.claims import evidence
from lrsc.pages import front

PAGE = Path(__file__).parents[2] / "book" / "introduction.ipynb"


def row(dataset="parity", model="fcn", **options):
    found = experiment(**options)
    names = {"dataset": dataset, "model": model}
    columns = {n: ("run", np.full(found.sizes["run"], v, object)) for n, v in names.items()}
    file = np.full(found.sizes["run"], "book/results/synthetic.nc", object)
    return found.assign_coords(columns | {"file": ("run", file)})


def falling(found):
    return found.assign(prunability=-found["prunability"])


def test_sentences_count_what_rises_and_name_what_does_not():
    rows = [row(), row("moon_star"), falling(row("celeba", "swin_t"))]
    robust, compressible, exceptions = front.sentences(rows)
    rise = 40 * np.log(30) / np.log(100)  # of accuracy, as the rows are made
    assert f"unbiased accuracy rises in 3 of 3 networks measured (+{rise:.1f} percentage" in robust
    assert "prunability rises in 2 of 3" in compressible
    assert "activation compressibility rises in 3 of 3" in compressible
    assert exceptions.endswith("prunability does not rise for CelebA with Swin-T.")
    assert "in no row" in front.sentences(rows[:2])[2]


def test_what_is_shown_has_a_line_and_a_table_row_for_each_row(displayed_texts):
    pages.show_finding([row(), row("double_mnist", diverged=((0.3, 0),))])
    said, image, caption, table = displayed_texts
    assert said.count("\n") == 2 and image.count("<img ") == 1
    assert "Double MNIST, FCN: unbiased accuracy 50." in image  # the alternative text
    assert "[book/results/synthetic.nc](../book/results/synthetic.nc)" in caption
    assert "ource `generated`" in caption
    assert "12, of which 1 diverged" in table and "4, from 0.01 to 0.3" in table


def test_without_evidence_the_page_says_how_to_make_some(displayed_texts, monkeypatch, tmp_path):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    rows = pages.finding(tmp_path)
    pages.show_finding(rows)
    assert rows == [] and "lrsc sweep synthetic --profile desk" in displayed_texts[0]


def test_the_page_says_what_the_claims_rest_on(displayed_texts, tmp_path):
    namespace: dict = {}
    for cell in nbformat.read(PAGE, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
    of_claim = claims.CLAIMS["C1"].test(evidence.Open())["rows"]
    rises = sum(r["effect"] > 0 for r in of_claim)
    assert f"unbiased accuracy rises in {rises} of {len(of_claim)} networks" in displayed_texts[0]


NAMES = [(d, m) for d in ("corrupted_cifar10", "mnist_cifar", "colored_mnist")
         for m in ("fcn", "cnn", "resnet18", "resnet50", "wide_resnet101_2")]  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "rows",
    [
        [row()],
        [row(*names) for names in NAMES],
        [row(diverged=tuple((lr, s) for lr in LRS for s in (0, 1, 2))), falling(row())],
        [row(lrs=(0.1,))],
    ],
)
def test_the_figure_fits_however_many_rows(rows):
    figure = plots.finding(rows)
    assert_nothing_clipped(figure)
    assert len(figure.axes) == 3 and figure.get_label().endswith(".")
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert len(labels) == len(rows)


def test_a_fall_points_left():
    figure = plots.finding([falling(row())])
    markers = [{line.get_marker() for line in axes.lines} for axes in figure.axes]
    assert [">" in m for m in markers] == [True, False, True] and "<" in markers[1]


def test_no_rows_are_an_error():
    with pytest.raises(ValueError, match="rows is empty"):
        plots.finding([])
