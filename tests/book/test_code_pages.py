"""Pages made from the source: the map of modules, the reference; and the explore page's data."""

import ast
import graphlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import lrsc
from lrsc import experiments, plots
from lrsc.bookbuild import explore, layout, modules, reference

ROOT = Path(__file__).parents[2]


def test_the_map_sees_imports_at_the_top_and_in_functions(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "low.py").write_text('"""Low: the ground. More."""\n')
    (tmp_path / "deep" / "__init__.py").write_text('"""Deep."""\nfrom lrsc.deep.inner import f\n')
    (tmp_path / "deep" / "inner.py").write_text("import numpy\ndef f():\n    import lrsc.low\n")
    (tmp_path / "top.py").write_text("from lrsc import low\nfrom lrsc.deep import f\n")
    found = modules.read(tmp_path)
    graph = modules.parts(found)
    assert graph == {"low": set(), "deep": {"low"}, "top": {"low", "deep"}}
    assert modules.levels(graph) == {"low": 0, "deep": 1, "top": 2}
    assert [item.name for item in modules.offers(found["deep"], found)] == ["f"]
    assert found["low"].doc == "Low: the ground."


def test_a_ring_of_imports_is_named():
    with pytest.raises(graphlib.CycleError, match="'a', 'b', 'a'"):
        modules.levels({"a": {"b"}, "b": {"a"}, "c": {"a"}, "ground": set()})


def test_the_library_imports_in_one_direction():
    graph = modules.parts(modules.read())
    level = modules.levels(graph)
    upwards = [(name, need) for name in graph for need in graph[name] if level[need] >= level[name]]
    assert upwards == []
    assert level["config"] < level["results"] < level["experiments"] < level["sweep"] < level["cli"]


def test_the_layout_page_has_every_part_with_its_sentence():
    text = layout.page()
    for name in modules.parts(modules.read()):
        assert f"[`{name}`](#api-lrsc-{name})" in text
    assert "`raw/sources.py`: " in text


def test_the_layout_page_answers_with_files_that_are_there():
    text = (ROOT / "book" / "layout.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (.+\?) \| `(.+?)` \|$", text, re.M)
    assert len(table) == 10
    for name in re.findall(r"`(lrsc/[\w/]*(?:\.py|/))`", text):
        assert (ROOT / name).exists(), name


def test_the_library_has_no_other_rooms_at_its_top():
    names = {path.stem for path in (ROOT / "lrsc").iterdir() if not path.name.startswith("_")}
    assert names - set(lrsc._SUBMODULES) == set()


def test_the_reference_has_what_users_rely_on_and_nothing_private():
    text = reference.page()
    for name in (
        "datasets.load", "models.build", "models.representation", "training.fit",
        "config.TrainConfig", "measures.measure",
        "metrics.compressibility", "pruning.prunability", "pruning.shrink",
        "attribution.integrated_gradients", "results.to_grid", "experiments.open_experiment",
        "sweep.run", "bookbuild.build",
    ):  # fmt: skip
        assert f"### `lrsc.{name}`" in text, name
        item = lrsc
        for part in name.split("."):
            item = getattr(item, part)
        assert callable(item)
    assert not re.search(r"### `lrsc\.[\w.]*\._", text)
    labels = re.findall(r"^\((api-[^)]*)\)=$", text, re.MULTILINE)
    assert len(set(labels)) == len(labels) > 100


def test_a_long_signature_keeps_its_meaning():
    head = (
        "def f(first_argument: int, /, second_argument: str = 'x', *rest: float, "
        "third_argument: bool = False, **others: int) -> dict[str, float]: pass"
    )
    (function,) = ast.parse(head).body
    shown = reference._call(function)
    assert shown.count("\n") > 4
    (again,) = ast.parse(f"def {shown}: pass").body
    assert ast.unparse(again) == ast.unparse(function)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 <= x < 1, *args", r"0 &lt;= x &lt; 1, \*args"),
        ("under $LRSC_DATA", "under `$LRSC_DATA`"),
        ("keep `a < *b*` as is", "keep `a < *b*` as is"),
    ],
)
def test_docstrings_are_shown_as_they_are(text, expected):
    assert reference._markdown(text) == expected


@pytest.fixture(scope="module")
def explored() -> dict:
    return json.loads(json.dumps(explore.everything(), allow_nan=False))


def test_the_explore_page_holds_every_shipped_series_as_the_library_opens_it(tmp_path, explored):
    ds = experiments.open_experiment("synthetic", "paper", tmp_path, "parity", "fcn")
    (one,) = (
        s for s in explored["series"]
        if s["dataset"] == plots.name_of("parity")
        and s["label"].startswith("10,000 training samples, source")
    )  # fmt: skip
    assert one["lr"] == ds["lr"].values.tolist() and one["seed"] == ds["seed"].values.tolist()
    shown = np.array(one["values"]["unbiased_accuracy"], float)
    np.testing.assert_allclose(shown, 100 * ds["unbiased_accuracy"].values, rtol=1e-4)
    for series in explored["series"]:
        assert set(series["values"]) <= set(explored["measures"])
        for word in ("training samples", "profile", "source", "seed"):
            assert word in series["label"]
        assert all(len(v) == len(series["lr"]) for v in series["values"].values())


def test_a_curve_of_the_explore_page_holds_no_sizes_of_data_as_seeds(explored):
    names = [(s["dataset"], s["model"], s["label"]) for s in explored["series"]]
    assert len(set(names)) == len(names)
    for series in explored["series"]:  # a run comes once, whatever files hold it
        places = list(zip(series["lr"], series["seed"], strict=True))
        assert len(set(places)) == len(places), series["label"]
    sizes = {label.split(" training")[0] for _, model, label in names if model == "ResNet18"}
    assert {"60,000", "20,000", "10,000", "5,000"} <= sizes


def test_absent_and_foreign_results_leave_the_explore_page_empty(tmp_path, monkeypatch):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    (tmp_path / "synthetic.nc").write_bytes(b"from elsewhere")
    assert explore.everything() == {"measures": {}, "series": []}
    page = explore.page(tmp_path)
    assert '"series":[]' in page and (tmp_path / "book/_static/bokeh/bokeh.min.js").is_file()
