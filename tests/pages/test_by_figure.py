"""The paper's figures: the table of them, what headings announce, and what is found of each."""

import json
import re
from pathlib import Path

import pytest
from longform import experiment

from lrsc.bookbuild import by_figure as built
from lrsc.bookbuild.figures import Shown
from lrsc.experiments import paper
from lrsc.pages import by_figure

ROOT = Path(__file__).parents[2]
TABLE = {line["figure"]: line for line in paper.table("figures")}
PAGES = {
    str(path.relative_to(ROOT).with_suffix("")): path
    for name in ("notebooks/*.ipynb", "book/*.ipynb", "book/*.md")
    for path in sorted(ROOT.glob(name))
}


def texts(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def named_by_headings() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for page, path in PAGES.items():
        for heading in re.findall(r"^#+ (.+)$", texts(path), re.MULTILINE):
            for figure in by_figure.named(heading):
                found.setdefault(figure, set()).add(page)
    return found


def test_the_table_has_each_figure_and_table_once():
    assert list(TABLE) == [*map(str, range(1, 37)), "S1", "S2"]
    for figure, line in TABLE.items():
        patterns = [p for p in line["rows"].split() if "/" in p]
        assert all(any(by_figure._keys(pattern)) for pattern in patterns), figure
        assert not line["page"] or line["page"] in PAGES, figure


def test_what_the_book_announces_it_has_and_what_it_has_a_heading_names():
    announced = {figure for path in PAGES.values() for figure in by_figure.named(texts(path))}
    assert [f for f in announced if not TABLE[f]["page"]] == []
    headings = named_by_headings()
    for figure, line in TABLE.items():
        if line["page"] and line["rows"]:
            assert line["page"] in headings[figure], figure


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Soups (figure 30, right)", ["30"]), ("Galleries (figures 31 to 33)", ["31", "32", "33"]),
        ("figures 6, 9 and 20 and table S2", ["6", "9", "20", "S2"]),
        ("Tables S1 and S2", ["S1", "S2"]), ("Figure by figure", []), ("10 figures", []),
    ],
)  # fmt: skip
def test_figures_are_read_from_a_text(text, names):
    assert by_figure.named(text) == names


def opened(monkeypatch, ds, profile="desk"):
    def measured(name, of, key):
        return ds if (name, of, key[0]) == ("synthetic", profile, "parity") else None

    monkeypatch.setattr("lrsc.claims.evidence.Open", lambda root: measured)
    monkeypatch.setattr("lrsc.results.derived", lambda name, needs: None)


def found(verdicts=()) -> dict[str, dict]:
    return {f["figure"]: f for f in by_figure.figures(verdicts)}


def test_a_figure_agrees_where_its_measures_rise_by_more_than_seeds_differ(monkeypatch):
    ds = experiment()
    opened(monkeypatch, ds)
    of = found()
    assert of["3"]["status"] == "measured" and of["3"]["agrees"] == "agrees"
    assert (of["3"]["sources"], of["3"]["sizes"]) == (["generated"], [10_000])
    assert "prunability rises (0.408 to" in of["3"]["why"]
    opened(monkeypatch, ds.assign(prunability=ds["prunability"] * 0 + 0.5))
    assert found()["3"]["agrees"] == "agrees in part"
    opened(monkeypatch, experiment(lrs=(0.1,)))
    assert found()["3"]["agrees"] == "cannot be said"
    assert "Fewer than two learning rates" in found()["3"]["why"]
    of = {name: of[name]["status"] for name in ("2", "15", "28")}
    assert of == {"2": "shown", "15": "absent", "28": "absent"}


def test_a_row_that_falls_within_the_spread_of_its_seeds_leaves_no_more_than_a_part():
    rising = experiment()
    noise = 0.05 * (rising["seed"].values - 1.0) - 0.02 * rising["lr"].values
    unclear = rising.assign(prunability=("run", 0.5 + noise))
    text, agrees = by_figure._of_measure([[rising], [unclear]], "prunability")
    assert text == "prunability rises in 1 of 2 rows, in 1 clearly" and agrees == [True, None]
    assert by_figure._word(agrees) == "agrees in part"
    assert by_figure._of_measure([[rising], [rising]], "prunability")[1] == [True, True]


def test_a_row_at_several_sizes_counts_once_and_a_part_that_is_silent_leaves_a_part():
    rising = experiment()
    falling = rising.assign(prunability=1 - rising["prunability"])
    text, agrees = by_figure._of_measure([[rising, falling], [rising]], "prunability")
    assert text == "prunability rises in 2 of 2 rows, in 2 clearly" and agrees == [True, True]
    noise = 0.05 * (rising["seed"].values - 1.0)
    unclear = [[rising.assign(prunability=("run", 0.5 + noise + slope * rising["lr"].values))]
               for slope in (0.02, -0.02)]  # fmt: skip
    for row in unclear:  # whichever way it goes, it does not settle the figure
        assert by_figure._of_measure([[falling], row], "prunability")[1] == [False, None]
    assert by_figure._of_measure([[rising], unclear[0]], "prunability")[1] == [True]
    assert by_figure._of_measure([[rising], unclear[1]], "prunability")[1] == [True, None]
    one = experiment(lrs=(0.1,))
    assert by_figure._of_measure([[one, rising]], "prunability")[1] == [True]
    of_one_seed = rising.isel(run=rising["seed"].values == 0)
    assert by_figure._of_measure([[of_one_seed, rising]], "prunability")[1] == [True]
    words = {(False, None): "disagrees in part", (False,): "disagrees", (None,): "cannot be said",
             (True, False): "agrees in part", (True, True): "agrees"}  # fmt: skip
    assert {known: by_figure._word(list(known)) for known in words} == words


def test_quick_runs_are_named_and_say_nothing(monkeypatch):
    opened(monkeypatch, experiment(), "quick")
    of = found()["3"]
    assert of["status"] == "quick only" and of["agrees"] == "cannot be said"
    assert of["why"] == "Not measured yet." and of["sizes"] == []


@pytest.mark.parametrize(
    ("verdict", "agrees"),
    [
        ("supported", "agrees"), ("contradicted", "disagrees"), ("no effect seen", "disagrees"),
        ("same direction, too few", "cannot be said"), ("not measured", "cannot be said"),
    ],
)  # fmt: skip
def test_a_figure_of_a_claim_has_its_verdict(monkeypatch, verdict, agrees):
    opened(monkeypatch, experiment())
    claim = {"id": "C7", "text": "x goes with y", "verdict": verdict, "rows": []}
    of = found([claim | {"small": False}])["17"]
    assert of["agrees"] == agrees and of["why"] == f"C7, x goes with y: {verdict}."
    assert found([claim | {"small": True}])["17"]["why"].endswith(", by a small effect.")


def test_the_page_links_each_figure_to_those_whose_heading_names_it(monkeypatch):
    opened(monkeypatch, experiment())
    monkeypatch.setattr("lrsc.claims.verdicts", lambda: [])
    page = Path("notebooks/synthetic.ipynb")
    shown = [
        Shown("4.1", page, "figure-a", "Parity (figure 3)", "", Path("a.png")),
        Shown("4.2", page, "figure-b", "Another (figure 15)", "", Path("b.png")),
    ]
    text = built.page(ROOT, shown)
    assert text.startswith("Of the paper's 38 figures and tables 34 *absent*")
    (line,) = [row for row in text.splitlines() if 'id="paper-3"' in row]
    assert ', figure <a href="../notebooks/synthetic.html#figure-a">4.1</a><br>measured;' in line
    assert "figure-b" not in line and "Synthetic data" in line and text.count("<tr>") == 39


def test_a_derived_result_that_cannot_be_used_counts_as_absent(monkeypatch):
    def damaged(name, needs):
        raise ValueError(f"{name} is damaged")

    opened(monkeypatch, experiment())
    monkeypatch.setattr("lrsc.results.derived", damaged)
    assert found()["31"]["status"] == "absent"
