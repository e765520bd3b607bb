"""The prose pages: what they name exists, what they show runs."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import lrsc
from lrsc import cli, measures

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "book").glob("*.md"))
RUN = (ROOT / "book" / "run_it_yourself.md").read_text(encoding="utf-8")
by_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@by_page
def test_every_name_of_the_library_exists(path):
    for name in re.findall(r"`lrsc\.([\w.]+)", path.read_text(encoding="utf-8")):
        found = lrsc
        for part in name.split("."):
            found = getattr(found, part)
        assert found is not None, name


@by_page
def test_every_link_to_a_file_finds_it(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not re.match(r"https?:", target):
            assert (path.parent / target).is_file(), target


@by_page
def test_every_citation_is_in_the_bibliography(path):
    keys = re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.M)
    assert len(set(keys)) == len(keys)
    for group in re.findall(r"\{cite:\w+\}`([^`]+)`", path.read_text(encoding="utf-8")):
        assert set(group.split(",")) <= set(keys), group


def test_the_metrics_page_defines_every_stored_measure_that_figures_show():
    page = (ROOT / "book" / "metrics.md").read_text(encoding="utf-8")
    for name in (
        "group_accuracies", "worst_group_accuracy", "adjusted_average", "sparsity",
        "compressibility", "pq_index", "class_separation", "class_selectivity", "loss_ratio",
        "prunability", "pruning_curve", "prune",
    ):  # fmt: skip
        assert f".{name}(" in page, name
    assert {"csi_all", "max_loss_ratio", "max_loss_ratio_fixed"} <= set(measures.VARIABLES)


def commands() -> list[str]:
    lines = "\n".join(blocks(RUN, "bash")).replace("\\\n", " ").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.startswith("lrsc ")]


@pytest.mark.parametrize("command", commands())
def test_every_command_is_understood(command):
    cli.parser().parse_args(shlex.split(command)[1:])


def test_the_table_of_parameters_is_that_of_the_experiments():
    lines = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (`.+) \| (`.+) \|$", RUN, re.M)
    told = {name: [set(re.findall(r"`(\w+)`", cell)) for cell in cells]
            for first, *cells in lines for name in re.findall(r"\w+", first)}  # fmt: skip
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks <= told.keys()
    for name in notebooks - {"compressibility"}:
        rows = lrsc.experiments.EXPERIMENTS[name]
        assert told[name] == [{row.dataset for row in rows}, {row.model for row in rows}], name


def rendered_texts() -> list[str]:
    """Every text in the library's code, with \0 for what is filled in."""
    found = []
    for path in (ROOT / "lrsc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value.replace("%s", "\0").replace("%d", "\0"))
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(
                    str(part.value) if isinstance(part, ast.Constant) else "\0"
                    for part in node.values
                ))  # fmt: skip
    return found


def test_the_messages_on_what_can_go_wrong_are_those_of_the_code():
    page = (ROOT / "book" / "what_can_go_wrong.md").read_text(encoding="utf-8")
    lines = "\n".join(blocks(page, "text")).splitlines()
    texts = "\1".join(rendered_texts())
    assert len(lines) > 20
    for line in lines:
        for fragment in line.split("..."):
            words = fragment.strip(" ;,:()")
            assert words in texts, f"{words!r} of {line!r}"
