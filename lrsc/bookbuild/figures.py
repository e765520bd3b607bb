"""Figures of the executed notebooks: numbered, as files that can be enlarged, and in an index."""

import base64
import dataclasses
import html
import re
from pathlib import Path
from typing import Any

FOLDER = Path("book/_static/figures")  # in the staging folder; served as _static/figures
THUMBNAIL = (240, 180)  # pixels
_IMAGE = re.compile(
    r'<img src="data:image/png;base64,(?P<data>[^"]+)" alt="(?P<alt>[^"]*)"'
    r'(?P<kind> class="drawn")?(?: style="[^"]*")?>'
)


@dataclasses.dataclass(frozen=True)
class Shown:
    """A figure (one or more images over one caption) as the index has it."""

    number: str  # "4.2": chapter, place in it
    page: Path
    anchor: str
    heading: str  # the last one above it
    caption: str  # its first sentence, plain text
    image: Path  # its first image, in the staging folder


def number(folder: Path, chapters: dict[Path, int]) -> list[Shown]:
    """Number the figures of the staged notebooks; their images become files beside the pages."""
    import nbformat

    found: list[Shown] = []
    counts: dict[int, int] = {}
    for page in chapters:
        if page.suffix != ".ipynb":
            continue
        notebook = nbformat.read(folder / page, as_version=4)
        heading = page.stem
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                heading = (_headings(cell.source) or [heading])[-1]
                continue
            for at, output in enumerate(cell.get("outputs", [])):
                if not _IMAGE.search(output.get("data", {}).get("text/html", "")):
                    continue
                chapter = chapters[page]
                counts[chapter] = counts.get(chapter, 0) + 1
                name = f"{chapter}.{counts[chapter]}"
                anchor = f"figure-{cell.id}" + (f"-{at}" if at else "")
                image = _with_files(output, folder, page, anchor)
                caption = _with_number(cell.outputs, at, name)
                found.append(Shown(name, page, anchor, heading, caption, image))
        nbformat.write(notebook, folder / page)
    return found


def index(folder: Path, shown: list[Shown]) -> str:
    """The index: a small copy of each figure with its number, heading and first sentence."""
    items = []
    for figure in shown:
        small = FOLDER / "small" / figure.image.name
        _shrink(folder / figure.image, folder / small)
        url = f"../{figure.page.with_suffix('.html').as_posix()}#{figure.anchor}"
        items.append(
            f'<li><img src="../{small.relative_to("book").as_posix()}" '
            f'alt="Small copy of figure {figure.number}"><div>'
            f'<a href="{html.escape(url)}">Figure {figure.number}</a> '
            f"{html.escape(figure.heading)}<br>{html.escape(figure.caption)}</div></li>"
        )
    listed = "\n".join(items) or "<li>No page has a figure.</li>"
    return f'```{{raw}} html\n<ul class="figure-index">\n{listed}\n</ul>\n```'


def _with_files(output: Any, folder: Path, page: Path, anchor: str) -> Path:
    """Move an output's images to files, each in a link that opens it; the path of the first."""
    from PIL import Image

    up = "../" * len(page.parent.parts)
    stem = "-".join([*page.with_suffix("").parts[1:], anchor.removeprefix("figure-")])
    paths: list[Path] = []

    def replace(match: re.Match) -> str:
        path = FOLDER / f"{stem}{f'-{len(paths) + 1}' if paths else ''}.png"
        paths.append(path)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(base64.b64decode(match["data"]))
        url = up + path.relative_to("book").as_posix()
        with Image.open(folder / path) as image:
            width, height = image.size
        return (
            f'<a class="enlarge" href="{url}"><img src="{url}" alt="{match["alt"]}"'
            f'{match["kind"] or ""} width="{width}" height="{height}"></a>'
        )

    changed = _IMAGE.sub(replace, output.data["text/html"])
    output.data["text/html"] = (
        f'<div class="shown-figure" id="{html.escape(anchor)}">{changed}</div>'
    )
    return paths[0]


def _with_number(outputs: list, at: int, name: str) -> str:
    """Put a figure's number before its caption, the next output; the caption's first sentence."""
    import nbformat

    after: Any = outputs[at + 1] if at + 1 < len(outputs) else {}
    caption = after.get("data", {}).get("text/markdown")
    if caption is None:
        new = nbformat.v4.new_output("display_data", {"text/markdown": f"**Figure {name}.**"})
        outputs.insert(at + 1, new)
        return ""
    after["data"]["text/markdown"] = f"**Figure {name}.** {caption}"
    return re.split(r"(?<=[.])\s", _plain(caption), maxsplit=1)[0]


def _headings(markdown: str) -> list[str]:
    outside = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    return [_plain(text) for text in re.findall(r"^#{1,4} +(.+)$", outside, re.MULTILINE)]


def _plain(markdown: str) -> str:
    """Without the marks of links, code and emphasis."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"[`*]", "", text).strip()


def _shrink(source: Path, target: Path) -> None:
    from PIL import Image

    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        small = image.convert("RGB")
        small.thumbnail(THUMBNAIL)
        small.quantize(64).save(target, optimize=True)
