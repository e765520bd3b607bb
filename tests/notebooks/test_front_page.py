"""The front page: its lines and figure, from constructed rows and from the stored results."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from longform import LRS, assert_nothing_clipped, experiment

from lrsc import pages, plots
from lrsc.pages import answers, front

PAGE = Path(__file__).parents[2] / "book" / "introduction.ipynb"


def row(dataset="parity", model="fcn", **options):
    found = experiment(**options)
    names = {"dataset": dataset, "model": model}
    columns = {n: ("run", np.full(found.sizes["run"], v, object)) for n, v in names.items()}
    file = np.full(found.sizes["run"], "book/results/synthetic.nc", object)
    return found.assign_coords(columns | {"file": ("run", file)})


def falling(found):
    return found.assign(prunability=-found["prunability"])


def claim(name, verdict, *effects):
    rows = [{"dataset": "parity", "model": "fcn", "effect": effect} for effect in effects]
    return {
        "id": name,
        "text": f"text of {name}",
        "verdict": verdict,
        "rows": rows,
        "n_rows": len(rows),
        "small": False,
    }


def table_row(status="measured", **about):
    row = {"table": "S1", "status": status, "profile": "desk", "n": 10_000, "seeds": 2,
           "statistics": "running", "apart": [], "paper": {"unbiased_accuracy": (0.5, 0.9)},
           "ours": {"unbiased_accuracy": (0.48, 0.88)}}  # fmt: skip
    return row | about


def test_claims_are_counted_by_word_and_named_by_text():
    does, does_not, is_open = answers.by_verdict([
        claim("C1", "supported", 0.1, 0.2, -0.1), claim("C2", "no effect seen", -0.1),
        claim("C3", "contradicted", -0.2), claim("C4", "same direction, too few", 0.3),
        claim("C5", "not measured"), claim("C6", "not measured"),
    ])  # fmt: skip
    assert does.startswith("1 of the paper's 6 claims ([Scorecard]")
    assert does.endswith(": text of C1 (C1, 2 of 3 rows). 1 contradicted.")
    assert does_not.startswith("Contradicted: text of C3 (C3, one row). No effect is seen")
    assert is_open.startswith("1 more point the paper's way") and "decide (C4)." in is_open
    assert is_open.endswith("2 are not measured: text of C5 (C5); text of C6 (C6).")
    assert answers.by_verdict([])[1:] == ("", "")


def test_rows_are_counted_by_size_and_by_what_they_have_of_the_papers_numbers():
    table = [table_row(), table_row(profile="paper", seeds=5), table_row(n=60_000),
             table_row("not measured", ours=None),
             table_row(ours={"unbiased_accuracy": (0.4, 0.9)})]  # fmt: skip
    said = answers.scale(table)
    assert said.startswith("4 of the 5 rows") and "1 of them at the paper's size" in said
    assert "2 with 10,000 and 1 with 60,000 training images" in said and "2 to 5 seeds" in said
    assert "unbiased accuracy within 3 points in 3 of 4 rows" in answers.against_paper(table)
    assert answers.against_paper([]) == "" and "None of the 0 rows" in answers.scale([])


def test_prunability_and_the_mechanism_have_a_sentence_each():
    numbers = {"effect": 0.03, "low": -0.06, "high": 0.1}
    one = claim("C2", answers.FEW, 0.1) | numbers
    both = [one | {"by_statistics": {"running": one | {"effect": -0.01}}}]
    said = answers.prunability(both, [table_row(dataset="parity", model="fcn", statistics=None)])
    assert "(C2): undecided." in said and "+0.030 (\u22120.060 to +0.100, 1 rows)" in said
    assert "in networks without batch normalisation (1 of these rows)" in said
    assert "With running means it changes by \u22120.010" in said and "falls" not in said
    assert "corrected" not in said
    one["rows"][0]["corrected"] = -0.02
    said = answers.prunability([one], [])
    assert "; corrected for chance, by \u22120.020 (0 of 1 rows rise)." in said
    none = claim("C2", "no effect seen", 0.1) | numbers
    assert "no effect seen" in answers.prunability([none], [])
    assert answers.prunability([claim("C2", "supported", 0.1) | numbers], []) == ""
    ratio = claim("C7", answers.FEW, 0.1) | numbers
    said = answers.mechanism([ratio | {"by_definition": {"mini-batches": ratio}}])
    assert "rank correlation (C7) of +0.030" in said and answers.mechanism([]) == ""
    holds = ratio | {"verdict": "supported"}
    assert answers.mechanism([holds | {"by_definition": {"mini-batches": holds}}]) == ""
    said = answers.mechanism([holds | {"by_definition": {"one": holds, "other": ratio}}])
    assert " on one" in said and " on other" in said


def test_rows_that_fall_beyond_the_spread_of_seeds_are_named():
    one = claim("C2", answers.FEW, -0.2) | {"effect": -0.2, "low": -0.3, "high": -0.1}
    one["rows"][0]["high"] = -0.1
    said = answers.prunability([one], [])
    assert said.endswith(" vary with FCN on Parity (\u22120.200); why is open.")
    one["rows"][0]["high"] = 0.1
    assert "falls" not in answers.prunability([one], [])


def test_the_verdict_counts_rows_in_the_claims_direction_and_those_that_are_smaller():
    verdicts = [claim("C1", "supported", 0.1, -0.1), claim("C2", answers.FEW, 0.1),
                claim("C3", "not measured")]  # fmt: skip
    said = answers.in_short(verdicts, [table_row(), table_row(profile="paper")])
    assert "robustness is supported (C1, 1 of 2 rows)" in said
    assert "activations is not measured (C3), and" in said
    assert "is undecided (C2, 1 of 1 rows). 1 of the 2 measured rows have fewer" in said


def test_a_row_that_is_drawn_at_two_sizes_is_said_to_be():
    small, large = row(), row(seeds=(0,))
    large["n_train"] = large["n_train"] * 6
    said = answers.drawn([small, large, row("double_mnist")], [table_row(), table_row(table="S2")])
    assert said.startswith("1 of the measured rows are S1's") and "the figure has 3 lines" in said
    assert "draws FCN on Parity at several sizes" in said
    assert said.endswith("; of one seed at an end: FCN on Parity with 60,000 images.")


def test_why_is_read_from_the_stored_choices(monkeypatch, tmp_path):
    said = answers.why_prunability([table_row(), table_row(statistics=None)])
    assert "ResNet18 on Colored MNIST (60,000 images, not" in said and "0.771)" in said
    assert "1 of the 1 measured rows with batch normalisation use running means" in said
    assert "with 10,000 of them and" in answers.why_accuracy([table_row()])
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    monkeypatch.setattr("lrsc.results.path.default_root", lambda: tmp_path)
    assert answers.why_prunability([]) == answers.why_accuracy([table_row()]) == ""


def test_what_is_shown_has_a_line_and_a_table_row_for_each_row(displayed_texts):
    pages.show_finding([row(), row("double_mnist", diverged=((0.3, 0),))])
    image, caption, table = displayed_texts
    assert image.count("<img ") == 1
    assert "Double MNIST, FCN, 10,000 samples: unbiased accuracy 50." in image
    assert "[book/results/synthetic.nc](../book/results/synthetic.nc)" in caption
    assert "ource `generated`" in caption
    assert "12, of which 1 diverged" in table and "4, from 0.01 to 0.3" in table


def test_a_row_at_two_sizes_is_two_rows(monkeypatch):
    small, large = row(), row()
    large["n_train"] = large["n_train"] * 6
    of = {"desk": small, "paper": large}
    monkeypatch.setattr(
        "lrsc.claims.evidence.Open",
        lambda root: lambda name, profile, key: of.get(profile) if key[0] == "parity" else None,
    )
    found = pages.finding()
    assert [plots.samples_of(ds) for ds in found] == ["60,000", "10,000"]
    labels = [t.get_text() for t in plots.finding(found).axes[0].get_yticklabels()]
    assert labels == ["Parity\nFCN, 60k", "Parity\nFCN, 10k"]


def test_without_evidence_the_page_says_how_to_make_some(displayed_texts, monkeypatch, tmp_path):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    rows = pages.finding(tmp_path)
    pages.show_answers(rows)
    pages.show_finding(rows)
    assert rows == [] and len(displayed_texts) == 1
    assert "lrsc sweep synthetic --profile desk" in displayed_texts[0]


def test_the_page_has_a_verdict_five_lines_and_one_figure(displayed_texts, monkeypatch):
    monkeypatch.setattr("lrsc.pages.finding", lambda: [row()])
    of_page = [claim(name, "supported", 0.1) for name in ("C1", "C2", "C3")]
    monkeypatch.setattr("lrsc.claims.verdicts", lambda: of_page)
    monkeypatch.setattr("lrsc.claims.scorecard.rows", lambda: [table_row()])
    monkeypatch.setattr("lrsc.pages.by_figure.figures", lambda verdicts: [{"status": "absent"}])
    namespace: dict = {}
    for cell in nbformat.read(PAGE, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
    verdict, lines, image, _, _, install = displayed_texts
    assert verdict.startswith("**Of the paper's findings") and verdict.endswith(".**")
    assert [line.partition(":")[0] for line in lines.splitlines()] == [
        "- **What reproduces", "- **What does not", "- **Why", "- **What is open",
        "- **At what scale",
    ]  # fmt: skip
    assert "1 of the paper's 1 figures and tables have" in lines and "<img " in image
    assert install == "Install it with `pip install .` in the folder of the source."


def test_the_address_of_the_source_is_shown_where_there_is_one(
    displayed_texts, monkeypatch, tmp_path
):
    (tmp_path / "_config.yml").write_text("repository:\n  url: https://example.org/lrsc\n")
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path / "book" / "results")
    pages.show_install()
    assert '"lrsc @ git+https://example.org/lrsc"' in displayed_texts[0]


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


def test_prunability_above_one_is_explained_where_there_is_any():
    above = row()
    above["prunability"] = above["prunability"] + 1
    assert "Prunability above 1: pruned networks" in front._caption([row(), above])
    assert "Prunability above 1" not in front._caption([row()])


def test_no_rows_are_an_error():
    with pytest.raises(ValueError, match="rows is empty"):
        plots.finding([])
