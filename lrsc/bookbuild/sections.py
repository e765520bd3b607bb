"""The end of each notebook page: the command that re-runs it, and its result files as downloads.

The result files are those that the page's own output names, so nothing is listed by hand.
"""

import ast
import json
import logging
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lrsc import results

FOLDER = Path("book/downloads")  # in the staging folder
_NAMED = re.compile(r"book/results/([\w-]+\.(?:nc|json))")
_log = logging.getLogger(__name__)


def complete(root: Path, folder: Path, page: Path) -> None:
    """Append "Re-run this page" and "Files" to a staged notebook."""
    import nbformat

    notebook = nbformat.read(folder / page, as_version=4)
    for cell in notebook.cells:  # which "Re-run this page" repeats
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"].append("remove-cell")
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    source = FOLDER / "-".join(page.parts[1:])
    shutil.copy(root / page, folder / source)  # as committed: ready to be run
    links = [(source, "this page as a notebook, without output")]
    for name in _shown_files(notebook):
        if (folder / "book" / "results" / name).is_file():
            links += _result_links(folder, Path("book/results") / name)
    up = "../" * len(page.parent.parts)
    listed = "\n".join(f"- {{download}}`{p.name} <{up}{p.as_posix()}>`: {t}" for p, t in links)
    text = (
        "## Re-run this page\n\nIn a checkout, after `make setup` and in its environment:\n\n"
        f"```bash\n{command(folder, page)}\n```\n\n**Files.**\n\n{listed}"
    )
    notebook.cells.append(nbformat.v4.new_markdown_cell(text, id="re-run"))
    nbformat.write(notebook, folder / page)


def command(folder: Path, page: Path) -> str:
    """The papermill command that makes a notebook of a folder as it was executed."""
    import nbformat
    import papermill

    found = papermill.inspect_notebook(folder / page)
    given = {name: ast.literal_eval(about["default"]) for name, about in found.items()}
    said = nbformat.read(folder / page, as_version=4).metadata.get("papermill", {})
    given |= said.get("parameters", {})
    chosen = [f"-p {name} {_shell(value)}" for name, value in given.items() if value is not None]
    parts = [f"papermill {page.as_posix()} _build/{page.stem}.ipynb", *chosen]
    return " \\\n    ".join([parts[0], " ".join(parts[1:])]) if chosen else parts[0]


def _shell(value: Any) -> str:
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


def _shown_files(notebook: Any) -> list[str]:
    """Names of the result files that the output names, in the order of the page."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return list(dict.fromkeys(_NAMED.findall(str(outputs))))


def _result_links(folder: Path, path: Path) -> list[tuple[Path, str]]:
    """Links to a result file and, made from it here, its table as CSV."""
    if path.suffix == ".json":
        return [(path, "measured times")]
    links = [(path, "results with all curves (netCDF)")]
    table = FOLDER / f"{path.stem}.csv"
    try:
        if not (folder / table).is_file():
            as_table(results.load(folder / path)).to_csv(folder / table, index=False)
        links.append((table, "the same as a table, without curves and images (CSV)"))
    except (ValueError, KeyError) as error:  # evidence that cannot be read does not stop the book
        _log.warning("no CSV of %s: %s", path, error)
        links[0] = (path, "a result file that could not be read")
    return links


def as_table(found: xr.Dataset):
    """A row a run (pandas); kappa, statistics, q and kept spread over columns, no other arrays.

    Where samples are compared, a row a run and sample; a file without runs becomes long: a row for
    each combination of its dimensions.
    """
    if "run" not in found.dims:
        return found.to_dataframe().reset_index()
    if "sample" in found.dims:
        here = found.drop_dims(set(found.dims) - {"run", "sample"})
        return here.to_dataframe().reset_index(drop=True)
    flat = {}
    for name, variable in found.variables.items():
        run, *others = variable.dims or ("",)
        if run != "run" or not set(others) <= {"statistics", "kappa", "q", "kept"}:
            continue
        for at in np.ndindex(variable.shape[1:]):
            labels = {d: found[d].values[i] for d, i in zip(others, at, strict=True)}
            said = ", ".join(f"{d}={v if isinstance(v, str) else format(v, 'g')}"
                             for d, v in labels.items())  # fmt: skip
            flat[f"{name}[{said}]" if said else str(name)] = variable.values[:, *at]
    import pandas

    return pandas.DataFrame(flat)
