"""What the scorecard shows: the paper's rows and claims beside ours, to be sorted and filtered.

The tables are plain HTML; `book/_static/scorecard.js` brings the sorting and the filters.
"""

import html
import math
from collections.abc import Sequence

from lrsc import plots
from lrsc.claims import scorecard
from lrsc.experiments import paper
from lrsc.pages.display import plain, say, say_unread, show_html

_HEADS = {"value": "Swept value", **{m: plots.heading(m) for m in scorecard.MEASURES}}
_EFFECT, _P = "Effect (95 % interval)", "p (Holm)"
Cell = tuple[str, float | str]  # its HTML, and what it is sorted by


def show_headline(rows: Sequence[dict], verdicts: Sequence[dict]) -> None:
    """Display how many rows are measured, at what size, and how many claims have which verdict.

    Result files that could not be read are named.
    """
    say(scorecard.headline(list(rows), list(verdicts)))
    say_unread()


def show_score_rows(rows: Sequence[dict]) -> None:
    """Display the 48 rows of tables S1 and S2: the paper's ranges, ours, their difference.

    Beside a row that is not measured stands the command that measures it.
    """
    heads = [
        "Row", "Status", *(label[0].upper() + label[1:] for label in _HEADS.values()),
        "Sets it apart", "Table", "Paper's size and range", "Training samples", "Seeds",
        "Statistics of batch normalisation", "Measure it with",
    ]  # fmt: skip
    _show_sortable("Rows of tables S1 and S2", "Status", heads, [_row_cells(row) for row in rows])


def show_claims(verdicts: Sequence[dict]) -> None:
    """Display the 18 claims with verdict, effect, and the smallest effect that could be seen."""
    heads = ["Claim", "What it says", "Verdict", _EFFECT, "Smallest that could be seen",
             "Evidence"]  # fmt: skip
    _show_sortable("Claims", "Verdict", heads, [_claim_cells(claim) for claim in verdicts])


def show_claim_tests(verdicts: Sequence[dict]) -> None:
    """Display the p of each claim, its effect in each row, and what measures it."""
    heads = ["Claim", "Verdict", "The effect is", _P, "Rows", "Measured by"]
    lines = [
        [_claim_cells(c)[0], _text(c["verdict"]), _text(c["effect_is"]), _number(c["p"], "{:.2g}"),
         _rows_of(c), _text(c["needs"])]
        for c in verdicts
    ]  # fmt: skip
    _show_sortable("Tests of the claims", "Verdict", heads, lines)


def show_variants(verdicts: Sequence[dict]) -> None:
    """Display the verdicts of claims that are tested in several ways, one line for each way."""
    heads = ["Claim", "With", "Verdict", _EFFECT, _P, "Rows"]
    lines = []
    for claim in verdicts:
        for with_, found in next((v for k, v in claim.items() if k.startswith("by_")), {}).items():
            first, _, verdict, effect, *_ = _claim_cells(claim | found)
            p = _number(found["p"], "{:.2g}")
            lines.append([first, _text(with_), verdict, effect, p, _rows_of(found)])
    _show_sortable("Claims tested in several ways", "Claim", heads, lines)


def show_disagreements() -> None:
    """Display where tables S1 and S2 report the same setting, and how far apart they are."""
    heads = ["Data set", "Lower end of", "Unbiased accuracy (%)", "Prunability", "CSI"]
    lines = []
    for found in scorecard.disagreements():
        name = plots.hyperparameter(found["hyperparameter"])[0]
        cells = [_text(found["dataset"]), _text(f"{found['table']}, {name}")]
        for measure in ("unbiased_accuracy", "prunability", "csi"):
            value, apart = found[measure], found["difference"].get(measure)
            shown = plain(measure, value)
            if apart is not None:
                shown += f" ({_signed(measure, apart)})"
            cells.append((shown, value))
        lines.append(cells)
    _show_sortable("Tables S1 and S2 at equal settings", "Data set", heads, lines)


def _row_cells(row: dict) -> list[Cell]:
    names = [paper.DATASETS[row["dataset"]], paper.MODELS[row["model"]]]
    if row["hyperparameter"] != "lr" or row["table"] == "S2":
        names.append(plots.hyperparameter(row["hyperparameter"])[0])
    status = "needs data" if scorecard.needs_data(row) else row["status"]
    cells = [_text(", ".join(names)), _text(status)]
    cells += [_ranges(row, measure) for measure in _HEADS]
    far = ", ".join(plots.STYLES[m][0].lower() for m in scorecard.unexplained(row))
    cells.append(_text(", ".join([*row["apart"], *([f"open: {far}"] if far else [])]) or "–"))
    sized = "yes" if row["profile"] == "paper" else "no" if row["profile"] else "–"
    cells += [_text(row["table"]), _text(sized), _count(row["n"])]
    cells += [_count(row["seeds"]), _text(row["statistics"] or "–")]
    command = scorecard.command(row) if row["status"] == "not measured" else ""
    return [*cells, (f"<code>{html.escape(command)}</code>" if command else "–", command)]


def _ranges(row: dict, measure: str) -> Cell:
    """The paper's range, ours and the differences of their ends; sorted by the larger of these."""
    paper, ours = (found.get(measure) if found else None for found in (row["paper"], row["ours"]))
    lines = []
    for who, found in (("paper", paper), ("ours", ours)):
        if found is not None:
            ends = (f"{v:.3g}" if measure == "value" else plain(measure, v) for v in found)
            lines.append(f"{who} {' to '.join(ends)}")
    if measure == "prunability" and row["ours"] and scorecard.CORRECTED in row["ours"]:
        ends = (plain(scorecard.CORRECTED, v) for v in row["ours"][scorecard.CORRECTED])
        lines.append(f"chance-corrected {' to '.join(ends)}")
    apart = scorecard.difference(row, measure)
    if apart is not None and measure != "value":
        lines.append("difference " + ", ".join(_signed(measure, d) for d in apart))
    largest = max(map(abs, apart)) if apart is not None else math.nan
    return "".join(f"<span>{line}</span>" for line in lines) or "–", largest


def _claim_cells(claim: dict) -> list[Cell]:
    shown, size = _number(claim["effect"])
    if claim["low"] is not None:
        shown += f"</span><span>({_plus(claim['low'])} to {_plus(claim['high'])})"
    if claim["small"]:
        shown += "</span><span>small"
    corrected = [row["corrected"] for row in claim["rows"] if row.get("corrected") is not None]
    if corrected and len(corrected) == len(claim["rows"]):
        mean = _plus(sum(corrected) / len(corrected))
        shown += f"</span><span>chance-corrected {mean}"
    seeds = seeds_of(claim)
    rows = f"<span>{_many(claim['n_rows'], 'row')}</span><span>{seeds}</span>"
    return [
        (claim["id"], int(claim["id"][1:])), _text(claim["text"]), _text(claim["verdict"]),
        (f"<span>{shown}</span>", size), _number(claim["smallest"], "{:.3f}"),
        (rows if seeds else "–", claim["n_rows"]),
    ]  # fmt: skip


def seeds_of(claim: dict) -> str:
    """How many seeds a claim's rows have, as '3 to 5 seeds'; empty where that is not known."""
    known = sorted({row["seeds"] for row in claim["rows"] if "seeds" in row})
    ends = dict.fromkeys(known[:1] + known[-1:])
    return _many(" to ".join(map(str, ends)), "seed") if known else ""


def _rows_of(claim: dict) -> Cell:
    """How many rows there are, with the effect in each, or each part of it, behind it."""
    if not claim["n_rows"]:
        return "0", 0
    listed = ""
    for r in claim["rows"]:
        names = [plots.name_of(r["dataset"]), plots.name_of(r["model"]), r.get("name")]
        of = html.escape(", ".join(n.replace("_", " ") for n in names if n))
        effect = _plus(r["effect"])
        if r["low"] is not None:
            effect += f" ({_plus(r['low'])} to {_plus(r['high'])})"
        if r.get("corrected") is not None:
            effect += f", chance-corrected {_plus(r['corrected'])}"
        listed += f"<li>{of} ({r['profile']}, {_many(r['seeds'], 'seed')}): {effect}</li>"
    shown = f"<details><summary>{claim['n_rows']}</summary><ul>{listed}</ul></details>"
    return shown, claim["n_rows"]


def _many(number: int | str, of: str) -> str:
    return f"{number} {of}{'' if str(number) == '1' else 's'}"


def _text(text: str) -> Cell:
    return html.escape(text), text


def _count(value: int | None) -> Cell:
    return ("–", math.nan) if value is None else (f"{value:,}", value)


def _number(value: float | None, form: str = "{:+.3f}") -> Cell:
    if value is None:
        return "–", math.nan
    return form.format(value).replace("-", "−"), value


def _signed(measure: str, value: float) -> str:
    return ("+" if value >= 0 else "−") + plain(measure, abs(value))


def _plus(value: float) -> str:
    return _number(value)[0]


def _show_sortable(
    name: str, kind: str, heads: Sequence[str], lines: Sequence[Sequence[Cell]]
) -> None:
    """Display a table with a text filter, a filter by the column `kind`, and heads that sort."""
    of_lines = [html.escape(str(cells[heads.index(kind)][1]), quote=True) for cells in lines]
    kinds = "".join(f"<option>{text}</option>" for text in dict.fromkeys(of_lines))
    head = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{html.escape(text)}'
        f'<span aria-hidden="true"></span></button></th>'
        for text in heads
    )
    body = "".join(
        f'<tr data-kind="{of}">'
        + "".join(_cell(cell, first=not i) for i, cell in enumerate(cells))
        + "</tr>"
        for of, cells in zip(of_lines, lines, strict=True)
    )
    show_html(
        f'<div class="scorecard"><form hidden role="search" aria-label="Filter: {name}">'
        f'<label>Text <input type="search" name="text"></label>'
        f'<label>{kind} <select name="kind"><option value="">all</option>{kinds}</select></label>'
        f'<p role="status">{len(lines)} of {len(lines)} shown</p></form>'
        f'<div class="scorecard-box" tabindex="0" role="region" aria-label="{name}">'
        f'<table class="scorecard-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _cell(cell: Cell, first: bool) -> str:
    shown, key = cell
    value, kind = html.escape(str(key), quote=True), ""
    if not isinstance(key, str):
        value, kind = "" if math.isnan(key) else value, ' data-number=""'
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    return f'<{tag}{scope} data-sort="{value}"{kind}>{shown}</{tag}>'
