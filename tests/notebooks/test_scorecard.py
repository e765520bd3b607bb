"""The Scorecard page against `lrsc score`, and what its tables hold."""

import json
import re
from pathlib import Path

import IPython.display
import nbformat
import pytest

from lrsc import claims, cli, experiments, pages
from lrsc.claims import scorecard

PAGE = Path(__file__).parents[2] / "book" / "scorecard.ipynb"


@pytest.fixture
def shown(monkeypatch) -> list[str]:
    """Collects the HTML or Markdown of what is displayed."""
    found: list[str] = []
    monkeypatch.setattr(IPython.display, "display", lambda *all: found.extend(o.data for o in all))
    return found


def cells(table: str) -> list[list[str]]:
    """The text of each cell of a table's body."""
    body = table.partition("<tbody>")[2]
    return [
        [
            re.sub(r"<[^>]+>", " ", cell).strip()
            for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", r)
        ]
        for r in re.findall(r"<tr.*?>(.*?)</tr>", body)
    ]


def test_the_page_and_lrsc_score_agree(shown, monkeypatch, capsys):
    verdicts = claims.verdicts()  # once: both read the same files
    verdicts[0] |= {"verdict": "supported", "effect": 0.125, "low": 0.0, "high": 0.25}
    monkeypatch.setattr(claims, "verdicts", lambda *_: verdicts)
    assert cli.main(["score", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    page: dict = {}
    for cell in nbformat.read(PAGE, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, page)
    headline, of_claims, tests, variants, rows, apart, *_ = shown

    assert headline == scorecard.headline(said["rows"], said["claims"])
    statuses = ["needs data" if scorecard.needs_data(r) else r["status"] for r in said["rows"]]
    assert [c[9] for c in cells(rows)] == [r["table"] for r in said["rows"]]
    assert [c[1] for c in cells(rows)] == statuses and statuses.count("needs data") == 1
    sized = {"paper": "yes", "desk": "no", None: "–"}
    assert [c[10] for c in cells(rows)] == [sized[r["profile"]] for r in said["rows"]]
    for line, row in zip(cells(rows), said["rows"], strict=True):
        low, high = (f"{100 * v:.1f}" for v in row["paper"]["unbiased_accuracy"])
        assert f"paper {low} to {high}" in line[3]
        if row["ours"]:
            low, high = (f"{100 * v:.1f}" for v in row["ours"]["unbiased_accuracy"])
            assert f"ours {low} to {high}" in line[3] and "chance-corrected" in line[4]
    commands = ["–" if r["ours"] else scorecard.command(r) for r in said["rows"]]
    assert [c[-1] for c in cells(rows)] == commands
    assert [[c[0], c[2]] for c in cells(of_claims)] == [
        [c["id"], c["verdict"]] for c in said["claims"]
    ]
    assert " ".join(cells(of_claims)[0][3].split()) == "+0.125 (+0.000 to +0.250)"
    assert [c[:2] for c in cells(tests)] == [[c["id"], c["verdict"]] for c in said["claims"]]
    assert [c[0] for c in cells(variants)] == ["C2"] * 3 + ["C7"] * 2
    assert len(cells(apart)) == 18


def test_a_row_shows_both_ranges_and_their_difference(shown):
    row = scorecard.rows("no results here")[0]
    assert row["status"] in ("measured", "not measured")
    row |= {"status": "measured", "profile": "desk", "n": 10000, "seeds": 2, "apart": [],
            "paper": {"value": (0.001, 0.01), "unbiased_accuracy": (0.35, 0.4), "csi": (0.1, 0.2)},
            "ours": {"value": (0.001, 0.01), "unbiased_accuracy": (0.3, 0.42)}}  # fmt: skip
    pages.show_score_rows([row])
    (line,) = cells(shown[0])
    assert line[:2] + line[9:13] == ["MNIST-CIFAR, FCN", "measured", "S1", "no", "10,000", "2"]
    assert line[8] == "open: unbiased accuracy"
    assert " ".join(line[2].split()) == "paper 0.001 to 0.01 ours 0.001 to 0.01"
    assert " ".join(line[3].split()) == "paper 35.0 to 40.0 ours 30.0 to 42.0 difference −5.0, +2.0"
    assert "difference" not in line[6]
    assert f'data-sort="{0.35 - 0.3}"' in shown[0]  # the larger difference


@pytest.mark.parametrize(
    ("apart", "values", "open_"),
    [
        ([], (0.01, 0.1), ["unbiased_accuracy"]),
        (["fewer training samples"], (0.01, 0.1), []),
        (["a part of the range"], (0.01, 0.05), []),  # the end that is met is measured alone
        (["a part of the range"], (0.02, 0.1), ["unbiased_accuracy"]),
    ],
)
def test_a_difference_is_open_where_nothing_known_may_explain_it(apart, values, open_):
    row = {"paper": {"value": (0.01, 0.1), "unbiased_accuracy": (0.5, 0.9), "csi": (0.1, 0.2)},
           "ours": {"value": values, "unbiased_accuracy": (0.51, 0.8), "csi": (0.15, 0.2)},
           "apart": apart}  # fmt: skip
    assert scorecard.unexplained(row) == open_
    assert scorecard.unexplained(row | {"ours": None}) == []


def test_a_command_plans_enough_to_measure_its_row():
    """Each row's own command, as it would be typed, has the values and seeds that count."""
    for row in scorecard.rows("no results here"):
        name, *options = scorecard.command(row).removeprefix("lrsc sweep ").split()
        args = cli.parser().parse_args(["sweep", name, *options])
        runs = experiments.configs(
            name, args.profile, args.dataset, args.model, hyperparameter=args.hyperparameter
        )
        assert {(c.dataset, c.model) for c in runs} == {(row["dataset"], row["model"])}
        assert len({c.train for c in runs}) >= scorecard.VALUES, row
        assert len({c.seed for c in runs}) >= scorecard.SEEDS, row


def test_the_tables_disagree_as_they_are_written():
    found = scorecard.disagreements()
    assert {f["dataset"] for f in found} == {"Colored MNIST", "Double MNIST", "MNIST-CIFAR"}
    keys = ("table", "dataset", "hyperparameter")
    (of_lr,) = (f for f in found if [f[k] for k in keys] == ["S2", "Colored MNIST", "lr"])
    assert of_lr["difference"]["unbiased_accuracy"] == pytest.approx(0.72297 - 0.68343)
    assert of_lr["difference"]["csi"] == pytest.approx(0.441 - 0.38)
