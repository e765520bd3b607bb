"""The care for a results folder: merge, verify, gc; the file of a run is never lost."""

import json
import os
import shutil
import time
import zipfile

import numpy as np
import pytest
from longform import stored

from lrsc import RunConfig, TrainConfig, files, results
from lrsc.cli import main
from lrsc.results import locks
from lrsc.runs import identify
from lrsc.sweep import care

OLD = 3 * care.DAY


@pytest.fixture(autouse=True)
def nothing_shipped(monkeypatch, tmp_path):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path / "shipped")
    monkeypatch.setattr(care, "shipped_ids", frozenset)


def result(seed=0, accuracy=0.5, **attrs):
    """A result under its own name."""
    config = RunConfig("parity", "fcn", TrainConfig(lr=0.2), seed, source="embedded")
    found = stored(identify(config), accuracy=accuracy, config=config.to_json(), **attrs)
    about = {"units": "1", "long_name": "for a test"}
    for name in ("epochs", "steps", "train_accuracy", "prunability"):
        found[name] = ((), 1.0, about)
    found["representation"].attrs = about
    return found.assign_attrs({"source_id": "generated", "checksum": ""} | attrs)


def put(root, *found, weights=True):
    for each in found:
        name = each.attrs["run_id"]
        results.save(each, results.run_path(name, root))
        if weights:
            path = results.weights_path(name, root)
            path.parent.mkdir(exist_ok=True)
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("data.pkl", b"weights of " + name.encode())


def states_of(findings):
    return [found.state for found in findings]


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_runs_and_weights_are_brought_and_once_only(tmp_path):
    a, b, here = tmp_path / "a", tmp_path / "b", tmp_path / "here"
    put(a, result(0), result(1))
    put(b, result(1), result(2), weights=False)
    before = content(a), content(b)
    assert states_of(care.merge([a, b], here)) == ["taken", "taken", "same", "taken"]
    assert (
        len(list((here / "runs").iterdir())) == 3 and len(list((here / "weights").iterdir())) == 2
    )
    assert states_of(care.merge([a, b], here)) == ["same"] * 4
    assert (content(a), content(b)) == before
    assert states_of(care.verify(here)) == ["ok"] * 3


def test_what_is_here_is_never_replaced(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    put(there, result(0, accuracy=0.9))
    put(here, result(0, accuracy=0.5), weights=False)
    before = content(here)
    (found,) = care.merge([there], here)
    assert found.state == "different" and "which stays" in found.detail
    assert content(here) == before


def test_provenance_makes_no_difference(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    put(there, result(0, wall_seconds=1.0))
    put(here, result(0, wall_seconds=2.0), weights=False)
    assert states_of(care.merge([there], here)) == ["same"]
    assert list((here / "weights").iterdir())


@pytest.mark.parametrize("damage", ["truncated", "flipped", "renamed", "other data"])
def test_what_is_damaged_or_misnamed_is_not_brought(tmp_path, damage):
    there, here = tmp_path / "there", tmp_path / "here"
    put(there, result(0), result(1))
    path = results.run_path(result(0).attrs["run_id"], there)
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        at = data.index(np.linspace(0.9, 0.1, 9).tobytes())
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif damage == "renamed":
        path = path.rename(path.with_name("f" * 16 + ".nc"))
    else:
        results.save(results.load(path).assign_attrs(checksum="0" * 64), path)
    before = content(there)
    found = {f.path: f.state for f in care.merge([there], here)}
    assert found.pop(path) == "wrong" and list(found.values()) == ["taken"]
    assert [p.name for p in (here / "runs").iterdir()] == [f"{result(1).attrs['run_id']}.nc"]
    assert content(there) == before


def test_a_damaged_run_here_is_replaced_by_a_whole_one(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    put(there, result(0))
    put(here, result(0))
    path = results.run_path(result(0).attrs["run_id"], here)
    path.write_bytes(b"damaged")
    assert states_of(care.merge([there], here)) == ["taken"]
    assert path.with_name(f"{path.name}.damaged").read_bytes() == b"damaged"
    assert results.load_run(path) is not None


def test_a_merge_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    there, here = tmp_path / "there", tmp_path / "here"
    put(there, result(0), result(1))
    calls = []
    copy = shutil.copyfile

    def interrupted(source, target):
        calls.append(source)
        if len(calls) == 4:  # the second run, its weights are here by then
            with open(target, "wb") as file:
                file.write(b"half")
            raise KeyboardInterrupt
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(care.merge([there], here))
    assert len(list((here / "runs").iterdir())) == 1
    assert sorted(states_of(care.merge([there], here))) == ["same", "taken"]
    assert content(here) == content(there)


def test_a_run_that_appears_meanwhile_stays(tmp_path, monkeypatch):
    there, here = tmp_path / "there", tmp_path / "here"
    put(there, result(0), weights=False)
    path = results.run_path(result(0).attrs["run_id"], here)
    copy = shutil.copyfile

    def overtaken(source, target):
        put(here, result(0, accuracy=0.9), weights=False)
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", overtaken)
    assert states_of(care.merge([there], here)) == ["different"]
    assert float(results.load(path)["unbiased_accuracy"]) == 0.9
    assert list(path.parent.iterdir()) == [path]


def test_wrong_sources(tmp_path):
    put(tmp_path, result(0))
    with pytest.raises(ValueError, match="is the results folder itself"):
        list(care.merge([tmp_path], tmp_path))
    with pytest.raises(ValueError, match=r"nowhere is no results folder"):
        list(care.merge([tmp_path / "nowhere"], tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.assign_attrs(status="fine"), "unknown status 'fine'"),
        (lambda f: f.drop_vars("prunability"), "prunability is missing"),
        (lambda f: f.assign(unbiased_accuracy=f["epochs"] * np.nan), "unbiased_accuracy is mis"),
        (lambda f: f.assign(csi=((), 0.5)), "no units or long_name: csi"),
        (lambda f: f.assign_attrs(checksum="0"), "the name of another configuration"),
        (lambda f: f.assign_attrs(config='{"dataset": "parity"}'), "no valid configuration"),
    ],
)
def test_verify_says_what_is_wrong(tmp_path, change, words):
    name = result(0).attrs["run_id"]
    results.save(change(result(0)), results.run_path(name, tmp_path))
    (found,) = care.verify(tmp_path)
    assert found.state == "wrong" and words in found.detail
    assert results.run_path(name, tmp_path).is_file()


def test_a_diverged_run_needs_no_measures(tmp_path):
    found = result(0, status="diverged").drop_vars(["unbiased_accuracy", "prunability"])
    put(tmp_path, found, weights=False)
    assert states_of(care.verify(tmp_path)) == ["ok"]


def test_shipped_results_are_verified(tmp_path):
    put(tmp_path, result(0), weights=False)
    results.save(results.combine([result(0), result(1)]), results.shipped_path("good"))
    wrong = results.combine([result(0), result(1).assign_attrs(checksum="0")])
    results.save(wrong, results.shipped_path("wrong"))
    assert states_of(care.verify(tmp_path)) == ["ok", "ok", "wrong"]
    assert states_of(care.verify(tmp_path, shipped=False)) == ["ok"]


@pytest.fixture
def littered(tmp_path):
    """A folder with everything that may be left over."""
    root = tmp_path / "results"
    done, absent, under_way = (result(seed).attrs["run_id"] for seed in range(3))
    put(root, result(0))
    shutil.copy(results.weights_path(done, root), results.weights_path(absent, root))
    for name in (done, under_way):
        folder = results.checkpoints_path(name, root)
        folder.mkdir(parents=True)
        (folder / "lr.pt").write_bytes(b"state")
    runs = root / "runs"
    (runs / ".new.nc.a.part").write_bytes(b"")
    (runs / ".old.nc.a.part").write_bytes(b"")
    os.utime(runs / ".old.nc.a.part", (time.time() - OLD,) * 2)
    (runs / f".{absent}.lock").touch()
    (runs / f"{under_way}.nc.damaged").write_bytes(b"")
    return root


def test_gc_lists_first_and_removes_what_is_not_needed(littered, capsys):
    done, absent, under_way = (result(seed).attrs["run_id"] for seed in range(3))
    before = content(littered)
    needless = {f".{absent}.lock", ".old.nc.a.part", done}
    with locks.claim(under_way, littered):
        assert main(["results", "gc", "--results", str(littered)]) == 0
        shown = capsys.readouterr().out
        assert "4 left over" not in shown and "3 left over" in shown and "--yes" in shown
        assert content(littered).keys() - before.keys() == {
            locks.lock_path(under_way, littered).relative_to(littered)
        }
        assert {p.path.name for p in care.garbage(littered)} == needless
        assert main(["results", "gc", "--yes", "--results", str(littered)]) == 0
        assert "3 removed" in capsys.readouterr().out
        assert locks.lock_path(under_way, littered).exists()
    left = {path.name for path in content(littered)}
    assert {f"{done}.nc", f"{done}.pt", f"{absent}.pt", ".new.nc.a.part"} <= left
    assert not needless & left and results.checkpoints_path(under_way, littered).is_dir()
    assert not results.checkpoints_path(done, littered).exists()
    assert main(["results", "gc", "--yes", "--weights", "--results", str(littered)]) == 0
    assert not results.weights_path(absent, littered).exists()


def test_a_checkpoint_stays_where_the_result_is_damaged(littered):
    done = result(0).attrs["run_id"]
    results.run_path(done, littered).write_bytes(b"damaged")
    assert done not in {p.path.name for p in care.garbage(littered)}


def test_parts_of_processes_that_ended_go_after_an_hour(tmp_path):
    path = tmp_path / "runs" / "a.nc"
    with files.atomic(path) as part:
        mine = part.name
        assert not files.left_behind(part)
    folder, other = path.parent, mine.replace(f"-{os.getpid()}.", "-4194305.")
    for name in (mine, other, mine.replace(mine.split(".")[-3], "0-4194305")):
        (folder / name).write_bytes(b"")
    assert list(care.garbage(tmp_path)) == []
    for part in folder.glob(".*.part"):
        os.utime(part, (time.time() - 2 * care.HOUR,) * 2)
    assert [found.path.name for found in care.garbage(tmp_path)] == [other]


def test_verify_lists_what_is_left_over(littered, capsys):
    assert main(["results", "verify", "--json", "--results", str(littered)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"ok": 1, "wrong": 1, "left over": 4, "in use": 1, "kept": 1}
    (wrong,) = [row for row in found["rows"] if row["state"] == "wrong"]
    assert wrong["path"].endswith(".damaged")
    assert main(["results", "verify", "--results", str(littered.parent / "nothing")]) == 0


def test_merge_from_the_command_line(tmp_path, capsys):
    there, here = tmp_path / "there", tmp_path / "here"
    put(there, result(0), result(1, accuracy=0.9))
    put(here, result(1, accuracy=0.5))
    command = ["results", "merge", str(there), "--results", str(here)]
    assert main(command) == 1  # one is different
    shown = capsys.readouterr().out
    assert "1 taken" in shown and "1 different" in shown
    results.run_path(result(1).attrs["run_id"], here).unlink()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"same": 1, "taken": 1}
