"""Pages on a results folder that is empty, damaged, of another version or in other units."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
import xarray as xr

from lrsc import claims, experiments, results
from lrsc.bookbuild import explore
from lrsc.claims import scorecard

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "book" / "results").iterdir())
PAGES = [p for p in (*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.ipynb"))
         if p.stem != "datasets"]  # which shows data, no results  # fmt: skip

ON_FILES = {p.stem for p in FILES} & {p.stem for p in PAGES} | {
    "introduction", "scorecard", "compressibility", "speed",
}  # fmt: skip


def truncated(path: Path, target: Path) -> None:
    target.write_bytes(path.read_bytes()[:200])


def foreign(path: Path, target: Path) -> None:
    if path.suffix == ".json":
        target.write_text(json.dumps(["something", "else"]))
    else:
        xr.Dataset({"temperature": ("time", [1.0, 2.0])}).to_netcdf(target, engine="h5netcdf")


def changed(change):
    """Some runs of each result file, changed; other files as `foreign`."""

    def write(path: Path, target: Path) -> None:
        found = results.load(path) if path.suffix == ".nc" else xr.Dataset()
        if "config" in found.coords:
            results.save(change(found.isel(run=slice(0, 2))), target)
        else:
            foreign(path, target)

    return write


def in_percent(found: xr.Dataset) -> xr.Dataset:
    for name in found.data_vars:
        if found[name].attrs.get("units") == "1":
            found[name] = (100 * found[name]).assign_attrs(units="%")
    return found


def of_a_later_version(found: xr.Dataset) -> xr.Dataset:
    texts = [json.dumps(json.loads(t) | {"new": 1}) for t in found["config"].values]
    return found.assign_coords(config=("run", np.array(texts, object)))


def of_an_early_version(found: xr.Dataset) -> xr.Dataset:
    kept = [n for n in ("unbiased_accuracy", "epochs") if n in found]
    return found[kept].drop_vars(["hyperparameter", "value", "precision"], errors="ignore")


KINDS = {
    "absent": lambda path, target: None,
    "truncated": truncated,
    "foreign": foreign,
    "in other units": changed(in_percent),
    "of a later version": changed(of_a_later_version),
    "of an early version": changed(of_an_early_version),
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory) -> tuple[str, Path]:
    """The kind of a results folder, and where it is."""
    made = tmp_path_factory.mktemp("results")
    for path in FILES:
        KINDS[request.param](path, made / path.name)
    return request.param, made


@pytest.fixture
def kind(folder, monkeypatch) -> str:
    """A results folder in place of the book's, and no local results."""
    kind, made = folder
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: made)
    monkeypatch.setattr("lrsc.results.path.default_root", lambda: made / "local")
    return kind


def test_every_page_says_what_is_absent_and_how_to_make_it(kind, folder, displayed_texts):
    for path in PAGES:
        displayed_texts.clear()
        page: dict = {}
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and not cell.id.startswith(("live", "propositions")):
                exec(cell.source, page)
        said = "\n".join(displayed_texts)
        assert str(folder[1]) not in said, path.stem
        assert "lrsc " in said, path.stem
        if kind == "absent":
            assert "Not read" not in said, path.stem
        elif kind != "of an early version" and path.stem in ON_FILES:  # that can be read
            assert "**Not read:** `book/results/" in said, path.stem


def test_score_and_explore_take_it_for_not_measured(kind):
    rows, verdicts = scorecard.rows(), claims.verdicts()
    assert len(rows) == 48 and len(verdicts) == 18
    if kind != "of an early version":
        assert {row["status"] for row in rows} == {"not measured"}
        assert {claim["verdict"] for claim in verdicts} == {"not measured"}
        assert explore.everything()["series"] == []


def test_a_file_that_cannot_be_used_is_not_written_over(kind):
    if kind in ("absent", "of an early version"):
        return
    with pytest.raises(ValueError, match="move it away first"):
        experiments.export("synthetic")
