"""A campaign fills its time with the runs worth most, ends on time, and its packs come back."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from test_care import put, result

from lrsc import results
from lrsc.cli import main
from lrsc.sweep import campaign, care, packs
from lrsc.sweep.plan import COLUMNS, read_plan

HEAD = ",".join(COLUMNS)


def plan(path, *rows):
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return path


# the plan


def test_the_plan_that_ships_names_rows_that_exist_the_paper_s_first():
    items = read_plan()
    assert items[0].name == "colored_mnist resnet18 lr paper"
    assert [item.weight for item in items] == sorted((i.weight for i in items), reverse=True)
    runs = items[0].runs
    lrs = [c.train.lr for c in runs]
    values = sorted(set(lrs))
    n = len(values)
    assert set(lrs[:2]) == {values[0], values[-1]}  # both ends first
    assert {c.seed for c in runs[:n]} == {0} and sorted(lrs[:n]) == values
    assert {c.seed for c in runs[n : 2 * n]} == {1}


def test_values_and_seeds_of_a_plan_replace_or_restrict_the_row_s(tmp_path):
    file = plan(
        tmp_path / "plan.csv",
        "1,synthetic,parity,fcn,lr,quick,0.3 0.02,4 5",
        "2,hyperparameters,colored_mnist,resnet18,batch_size,paper,0.01,0",
    )
    sizes, lrs = read_plan(file)
    assert [(c.train.lr, c.seed) for c in lrs.runs] == [(0.3, 4), (0.02, 4), (0.3, 5), (0.02, 5)]
    assert [c.train.batch_size for c in sizes.runs] == [100]


@pytest.mark.parametrize(("row", "said"), [
    ("", "has no rows"),
    ("1,syntetic,parity,fcn,lr,quick,,", "Did you mean 'synthetic'"),
    ("1,synthetic,parity,fcn,momentum,quick,,", "line 2: unknown hyperparameter"),
    ("1,synthetic,parity,fcn,lr,desktop,,", "Did you mean 'desk'"),
    ("much,synthetic,parity,fcn,lr,quick,,", "could not convert"),
    ("nan,synthetic,parity,fcn,lr,quick,,", "weight must be a number"),
    ("2,hyperparameters,colored_mnist,resnet18,l2,paper,7,", "none of the values 7"),
    ("1,synthetic", "line 2"),
])  # fmt: skip
def test_a_plan_that_cannot_be_used_is_named_with_its_line(tmp_path, row, said):
    with pytest.raises(ValueError, match=said):
        read_plan(plan(tmp_path / "plan.csv", *([row] if row else [])))


def test_what_is_no_plan_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="lacks the columns weight"):
        read_plan(tmp_path / "other.csv")
    with pytest.raises(ValueError, match="cannot read the plan"):
        read_plan(tmp_path / "none.csv")


@pytest.mark.parametrize(("options", "said"), [
    ({"minutes": 0.1}, "minutes must be"),
    ({"minutes": float("nan")}, "minutes must be"),
    ({"minutes": 1, "device": "cuda:99"}, "cuda"),
    ({"minutes": 1, "engine": "fast"}, "unknown engine"),
    ({"minutes": 1, "workers": 0}, "workers must be"),
])  # fmt: skip
def test_wrong_arguments_are_refused_before_any_work(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        campaign.run(**{"out": tmp_path / "out", "root": tmp_path} | options)
    assert not list(tmp_path.glob("runs/*"))


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to"):
        campaign.run(1, out=tmp_path / "file" / "out", root=tmp_path)


# whole campaigns, as processes of their own


def command(tmp_path, file, *more):
    return [
        sys.executable, "-m", "lrsc", "campaign", "--device", "cpu", "--plan", str(file),
        "--results", str(tmp_path / "results"), "--out", str(tmp_path / "out"), "--raw", *more,
    ]  # fmt: skip


def test_killed_half_way_it_goes_on_and_what_it_packs_is_taken_elsewhere(tmp_path):
    file = plan(
        tmp_path / "plan.csv",
        "2,synthetic,parity,fcn,lr,quick,0.2 0.5,0 1",
        "1,semi_synthetic,colored_mnist,fcn,lr,quick,0.2,0",
    )
    runs = tmp_path / "results" / "runs"
    first = subprocess.Popen(command(tmp_path, file, "--minutes", "3"), start_new_session=True)
    while not list(runs.glob("*.nc")):
        assert first.poll() is None
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*.nc")}
    done = subprocess.run(
        command(tmp_path, file, "--minutes", "3"), check=True, text=True, capture_output=True
    )
    assert "2 of 2 rows whole" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}  # nothing twice
    assert len(list(runs.glob("*.nc"))) == 5
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert set(manifest["runs"]) == {path.stem for path in runs.glob("*.nc")}
    taken = tmp_path / "taken"
    found = list(care.merge((tmp_path / "out").glob("*.zip"), taken))
    assert [f.state for f in found] == ["taken"] * 5
    for path in runs.glob("*.nc"):
        assert results.load(taken / "runs" / path.name).equals(results.load(path))


def expecting(epochs, tmp_path, monkeypatch):
    """In processes that the test starts, runs are expected to take so many epochs."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text(
        f"import lrsc.experiments as e\ne.estimate_epochs = lambda *_: {epochs}\n"
    )


def test_it_ends_on_time_and_packs_the_checkpoint_of_what_it_cut_off(tmp_path, monkeypatch):
    file = plan(tmp_path / "plan.csv", "1,synthetic,parity,fcn,lr,paper,0.0001,0")
    expecting(1.0, tmp_path, monkeypatch)  # far too few epochs: it is started, and cut off
    started = time.monotonic()
    done = subprocess.run(
        command(tmp_path, file, "--minutes", "1.5"), text=True, capture_output=True, check=True
    )
    seconds = float(done.stdout.split(" s; packed")[0].split()[-1])
    assert seconds <= 90 and time.monotonic() - started < 105  # Python's own start and end
    assert "0 runs finished" in done.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (name,) = manifest["cut_off"]
    (found,) = care.merge([tmp_path / "out" / "pack-1.zip"], tmp_path / "taken")
    assert (found.state, found.detail) == ("taken", "checkpoint")
    (here,) = (tmp_path / "taken" / "checkpoints" / name).iterdir()
    assert here.read_bytes() == (
        tmp_path / "results" / "checkpoints" / name / here.name
    ).read_bytes()  # fmt: skip


def test_too_little_time_says_what_the_cheapest_takes(tmp_path, monkeypatch):
    file = plan(tmp_path / "plan.csv", "1,synthetic,parity,fcn,lr,paper,0.01,7")
    expecting(1e6, tmp_path, monkeypatch)
    done = subprocess.run(
        command(tmp_path, file, "--minutes", "1.5"), text=True, capture_output=True
    )
    assert done.returncode == 2
    assert "hold no run of the plan: the cheapest takes" in done.stderr


# packs


def packed(tmp_path, n, light=False):
    put(tmp_path / "results", *(result(seed) for seed in range(n)))
    names = sorted(p.stem for p in (tmp_path / "results" / "runs").glob("*.nc"))
    folder = packs.prepare(tmp_path / "out")
    return names, packs.write(folder, tmp_path / "results", names, light=light)


def test_losing_a_pack_loses_its_runs_only(tmp_path, monkeypatch):
    size = 0
    for seed in range(4):
        put(tmp_path / "one", result(seed))
    size = max(p.stat().st_size for p in (tmp_path / "one" / "runs").glob("*.nc"))
    monkeypatch.setattr(packs, "FILE_BYTES", packs._MARGIN + 2 * (size + 512))
    names, files = packed(tmp_path, 4)
    assert [p.name for p in files] == ["pack-1.zip", "pack-2.zip", "manifest.json"]
    assert all(p.stat().st_size <= packs.FILE_BYTES for p in files)
    states = [f.state for f in care.merge([files[1]], tmp_path / "half")]
    assert states == ["taken", "taken"]
    assert main(["results", "merge", str(files[0]), "--results", str(tmp_path / "half")]) == 0
    assert len(list((tmp_path / "half" / "runs").glob("*.nc"))) == 4


def test_what_has_no_room_is_left_out_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "FILES", 1)
    monkeypatch.setattr(packs, "FILE_BYTES", packs._MARGIN + 20_000)
    names, files = packed(tmp_path, 4)
    manifest = json.loads(files[-1].read_text())
    assert manifest["left_out"] and set(manifest["left_out"]) | set(manifest["runs"]) == set(names)


def test_light_packs_hold_measures_and_no_raw_material(tmp_path):
    names, files = packed(tmp_path, 1, light=True)
    list(care.merge(files[:1], tmp_path / "taken"))
    found = results.load(results.run_path(names[0], tmp_path / "taken"))
    whole = results.load(results.run_path(names[0], tmp_path / "results"))
    assert "representation" in whole and "representation" not in found
    np.testing.assert_array_equal(found["unbiased_accuracy"], whole["unbiased_accuracy"])
    assert found.attrs["config"] == whole.attrs["config"]


def test_runs_of_another_version_and_damaged_packs_are_named(tmp_path):
    names, files = packed(tmp_path, 2)
    whole = files[0].read_bytes()
    damaged = tmp_path / "damaged.zip"
    for content in (whole[: len(whole) // 2], b"no archive", b""):
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged\.zip is no pack"):
            list(care.merge([damaged], tmp_path / "taken"))
    foreign = tmp_path / "foreign.zip"
    for name in ("../runs/0123456789abcdef.nc", "runs/x.nc", "/etc/passwd"):
        with zipfile.ZipFile(foreign, "w") as archive:
            archive.writestr(name, b"1")
        with pytest.raises(ValueError, match="it holds"):
            list(care.merge([foreign], tmp_path / "taken"))
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("runs/0123456789abcdef.nc", b"not netCDF")
    (found,) = care.merge([foreign], tmp_path / "taken")
    assert found.state == "wrong"
    assert not list((tmp_path / "taken").glob("runs/*.nc"))
    assert not list((tmp_path / "taken").glob(".packs-*"))


def test_a_checkpoint_with_a_piece_lost_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "_PIECE", 1000)
    monkeypatch.setattr(packs, "FILE_BYTES", packs._MARGIN + 6 * 1600)
    path = results.checkpoints_path("0123456789abcdef", tmp_path / "results") / "lr-0.1-seed-0.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(np.random.default_rng(0).bytes(9000))
    files = packs.write(packs.prepare(tmp_path / "out"), tmp_path / "results", ["0123456789abcdef"])
    assert len(files) == 3
    assert not list(care.merge(files[:1], tmp_path / "taken"))
    (found,) = care.merge(files[:2], tmp_path / "taken")
    assert found.state == "taken"
    (here,) = tmp_path.glob("taken/checkpoints/*/*.pt")
    assert here.read_bytes() == path.read_bytes()
