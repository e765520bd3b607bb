"""The page that goes through the paper's figures: what stands for each here, and what it says."""

import html
import json
from collections import Counter
from pathlib import Path

from lrsc import claims, plots
from lrsc.bookbuild.figures import Shown
from lrsc.pages import by_figure


def page(folder: Path, shown: list[Shown]) -> str:
    """A sentence that counts, and a table: figure, content, where it stands here, what it says."""
    found = by_figure.figures(claims.verdicts())
    titles = {f["page"]: _title(folder / f"{f['page']}.ipynb") for f in found if f["page"]}
    rows = "\n".join(_row(figure, titles, shown) for figure in found)
    names = ("Paper", "It shows", "Here", "Result")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    agrees = _counted(f["agrees"] for f in found if f["status"] == "measured")
    return (
        f"Of the paper's {len(found)} figures and tables {_counted(f['status'] for f in found)}"
        + (f". The measured ones: {agrees}.\n\n" if agrees else ".\n\n")
        + f'```{{raw}} html\n<table class="paper-figures"><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{rows}\n</tbody></table>\n```"
    )


def _counted(words) -> str:
    return ", ".join(f"{count} *{word}*" for word, count in Counter(words).most_common())


def _row(figure: dict, titles: dict[str, str], shown: list[Shown]) -> str:
    place = ""
    if page := figure["page"]:
        address = f"../{page}.html"
        place = f'<a href="{address}">{html.escape(titles[page])}</a>'
        links = [
            f'<a href="{address}#{html.escape(s.anchor)}">{s.number}</a>'
            for s in shown
            if s.page == Path(f"{page}.ipynb") and figure["figure"] in by_figure.named(s.heading)
        ]
        place += f", figure{'s'[: len(links) > 1]} {', '.join(links)}" if links else ""
        place += "<br>"
    of = [figure["status"], ", ".join(map(_source, figure["sources"]))]
    if figure["sizes"]:
        of.append(" and ".join(f"{n:,}" for n in figure["sizes"]) + " training samples")
    cells = (
        html.escape(figure["content"]),
        place + "; ".join(filter(None, of)),
        f"<strong>{figure['agrees']}</strong><br>{html.escape(figure['why'])}",
    )
    kind = "Table" if figure["figure"].startswith("S") else "Figure"
    head = f'<th scope="row" id="paper-{figure["figure"]}">{kind} {figure["figure"]}</th>'
    return f"<tr>{head}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _source(source_id: str) -> str:
    return html.escape(plots.source(source_id).replace("`", ""))


def _title(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
