"""`lrsc repro`: the same again is bit-equal; what differs is named; nothing stored changes."""

import dataclasses
import json

import numpy as np
import pytest

import lrsc
from lrsc import RunConfig, TrainConfig, experiments, results, sweep
from lrsc.cli import main
from lrsc.studies import reproduce

TINY = RunConfig(
    "parity", "fcn", TrainConfig(lr=0.3, max_epochs=3),
    data={"n_train": 300, "n_noise": 5, "n_core": 3},
    model_options={"hidden": (16, 16)}, source="embedded",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One stored run."""
    root = tmp_path_factory.mktemp("stored")
    sweep.run([TINY], root=root, device="cpu")
    return root


@pytest.fixture(scope="module")
def again(folder):
    (path,) = (folder / "runs").glob("*.nc")
    before = path.read_bytes()
    found = reproduce.reproduce(path.stem, root=folder)
    assert path.read_bytes() == before
    return found


def tampered(folder, tmp_path, **attrs):
    """A copy of the run with other attributes, and with another accuracy if none are given."""
    (path,) = (folder / "runs").glob("*.nc")
    found = results.load(path)
    if not attrs:
        found["unbiased_accuracy"] = found["unbiased_accuracy"] + 0.25
    copy = tmp_path / path.name
    results.save(found.assign_attrs(attrs), copy)
    return copy


def test_the_same_again_is_equal_bit_for_bit(again):
    assert again.ok and not again.differences and not again.lost
    assert all(row["equal"] for row in again.rows) and "equal bit for bit" in again.verdict
    names = {row["name"] for row in again.rows}
    assert {"unbiased_accuracy", "curve_loss", "representation", "logits"} <= names


def test_a_value_that_is_not_what_the_run_gives_is_reported(folder, tmp_path, capsys):
    path = tampered(folder, tmp_path)
    assert main(["repro", str(path), "--data-root", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    (line,) = [row for row in shown.splitlines() if row.startswith("unbiased_accuracy")]
    assert line.split()[-1] == "0.25"
    assert "not reproduced: nothing is different, but unbiased_accuracy" in shown


def test_another_version_of_torch_is_named(folder, tmp_path, capsys):
    path = tampered(folder, tmp_path, torch_version="1.0.0")
    assert main(["repro", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [d.partition(",")[0] for d in found["differences"]] == ["torch_version: stored 1.0.0"]
    assert found["ok"] and "with other torch_version" in found["verdict"]


def test_a_result_of_another_engine_is_made_again_alone(tmp_path):
    runs = [dataclasses.replace(TINY, seed=seed) for seed in (0, 1)]
    for engine in ("stacked", "threads"):
        first, _ = sweep.run(runs, root=tmp_path / engine, engine=engine, device="cpu").trained
        found = reproduce.reproduce(first, root=tmp_path / engine)
        assert found.ok
        if engine == "threads":
            assert not found.differences
        else:
            assert {d.partition(":")[0] for d in found.differences} >= {"engine"}


def test_other_data_are_refused_before_any_training(folder, tmp_path, monkeypatch):
    path = tampered(folder, tmp_path, checksum="0" * 64)
    monkeypatch.setattr(sweep, "run", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="not those of run .* found generated:, .*generated:000"):
        reproduce.reproduce(path)


@pytest.mark.parametrize("name", ["0123456789abcdef", "nowhere.nc"])
def test_what_is_not_there_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match=f"{name}.* is no file, no run in .* and none that ships"):
        reproduce.reproduce(name, root=tmp_path)


def test_a_damaged_file_is_refused_and_stays(folder, tmp_path):
    path = tampered(folder, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        reproduce.reproduce(path)
    assert path.is_file()


def test_a_shipped_run_is_found_without_the_padding_of_others(folder, tmp_path, monkeypatch):
    (path,) = (folder / "runs").glob("*.nc")
    run = results.load(path)
    wide = run.copy()
    wide.attrs["run_id"] = "f" * 16
    wide["group_accuracy"] = (("class", "bias"), np.ones((5, 5)))
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    results.save(results.combine([run, wide]), results.shipped_path(experiments.names()[0]))
    found = reproduce.reproduce(path.stem, root=tmp_path)
    assert found.ok and not found.differences and "equal bit for bit" in found.verdict


@pytest.mark.parametrize(
    ("change", "ok", "words"),
    [
        ({}, True, "equal bit for bit"),
        ({"csi": 1e-4}, True, "within the tolerance with other commit: 1 of"),
        ({"csi": 1.0}, False, "not reproduced with other commit: csi beyond"),
        ({"csi": np.nan}, False, "not reproduced with other commit: csi beyond"),
    ],
)
def test_elsewhere_a_tolerance_holds(folder, change, ok, words):
    (path,) = (folder / "runs").glob("*.nc")
    run = results.load(path)
    stored = run.assign_attrs(commit="another") if change else run
    now = run.assign({name: run[name] + by for name, by in change.items()})
    found = reproduce.compare(stored, now)
    assert found.ok == ok and words in found.verdict


def test_a_run_that_ends_otherwise_is_not_reproduced(folder):
    (path,) = (folder / "runs").glob("*.nc")
    run = results.load(path)
    found = reproduce.compare(run, run.assign_attrs(status="diverged").drop_vars("csi"))
    assert not found.ok and "csi" in found.verdict and "status" in found.verdict


def test_a_result_says_what_computed_it(folder):
    (path,) = (folder / "runs").glob("*.nc")
    attrs = results.load(path).attrs
    assert attrs["packages"].startswith("python 3") and "torch " in attrs["packages"]
    assert len(attrs["lock"]) == 16 and attrs["cpu_capability"]
    assert attrs["lrsc_version"] == lrsc.__version__
