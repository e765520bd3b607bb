"""Sweeps: resume, kill, two processes, damaged results, measures from stored material."""

import dataclasses
import importlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import lrsc
from lrsc import RunConfig, TrainConfig, attribution, experiments, files, measures, results, sweep
from lrsc.errors import DataMissing
from lrsc.runs import identify, load_checkpoint

RUN = importlib.import_module("lrsc.sweep.run")  # `lrsc.sweep.run` is its function

FAST = TrainConfig(lr=0.3, max_epochs=3)


def tiny(seed=0, **train):
    import dataclasses

    data = {"n_train": 500, "n_noise": 5, "n_core": 3}
    return RunConfig("parity", "fcn", dataclasses.replace(FAST, **train), seed, data=data)


@pytest.fixture
def calls(monkeypatch):
    """Counts trainings."""
    seen = []
    real = RUN.fit_each

    def counting(model, dataset, configs, requests, *args, **kwargs):
        def counted():
            for request in requests:
                seen.append(request.config.lr)
                yield request

        return real(model, dataset, configs, counted(), *args, **kwargs)

    monkeypatch.setattr(RUN, "fit_each", counting)
    return seen


def test_what_is_done_is_not_trained_again(tmp_path, calls):
    first = sweep.run([tiny(0), tiny(1)], root=tmp_path)
    assert len(first.trained) == 2 and len(calls) == 2
    second = sweep.run([tiny(0), tiny(1), tiny(2)], root=tmp_path)
    assert second.done_before == first.trained and len(second.trained) == 1 and len(calls) == 3


def test_a_result_holds_measures_raw_material_and_provenance(tmp_path):
    (name,) = sweep.run([tiny()], root=tmp_path).trained
    found = results.load(results.run_path(name, tmp_path))
    for variable in (
        "unbiased_accuracy", "worst_group_accuracy", "adjusted_average", "sparsity", "csi", "bsi",
        "activation_compressibility", "pq_index", "class_separation", "prunability",
        "prunability_magnitude", "accuracy_pruned_column", "max_loss_ratio", "train_accuracy",
        "max_loss_ratio_fixed", "representation", "logits", "filter_norm", "curve_loss",
    ):  # fmt: skip
        assert variable in found, variable
        assert {"units", "long_name"} <= set(found[variable].attrs)
    assert found["representation"].dtype == np.float32 and found["representation"].shape == (
        1000,
        200,
    )
    assert found["logits"].shape == (10_000, 2)
    for attribute in (
        "run_id", "config", "status", "source_id", "checksum", "lrsc_version", "commit",
        "torch_version", "device", "device_name", "threads", "precision", "started", "wall_seconds",
    ):  # fmt: skip
        assert attribute in found.attrs, attribute
    assert RunConfig.from_json(found.attrs["config"]) == tiny()
    assert results.weights_path(name, tmp_path).is_file()


def test_resumed_equals_uninterrupted(tmp_path):
    sweep.run([tiny(0)], root=tmp_path / "a")
    sweep.run([tiny(0), tiny(1)], root=tmp_path / "a")
    sweep.run([tiny(1), tiny(0)], root=tmp_path / "b", engine="reference")
    for one in sorted((tmp_path / "a" / "runs").glob("*.nc")):
        other = results.load(tmp_path / "b" / "runs" / one.name)
        assert results.load(one).equals(other)


def test_a_truncated_result_is_set_aside_and_run_again(tmp_path, calls, caplog):
    (name,) = sweep.run([tiny()], root=tmp_path).trained
    path = results.run_path(name, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    assert sweep.run([tiny()], root=tmp_path).trained == (name,)
    assert len(calls) == 2 and "set aside" in caplog.text
    assert path.with_name(path.name + ".damaged").is_file() and results.load(path)


def test_a_checkpoint_that_cannot_go_on_is_kept_until_the_run_is_done(tmp_path, monkeypatch):
    name, measured = identify(tiny()), []
    path = results.checkpoints_path(name, tmp_path) / f"lr-{FAST.lr!r}-seed-0.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"of another version")
    real = RUN.result_each

    def looking(*args):
        measured.append((path.parent / f"{path.name}.older").read_bytes())
        return real(*args)

    monkeypatch.setattr(RUN, "result_each", looking)
    assert sweep.run([tiny()], root=tmp_path).trained == (name,)
    assert measured == [b"of another version"] and not path.parent.exists()


def test_repeated_defaults_name_the_same_run():
    plain = RunConfig("parity", "fcn")
    said = RunConfig("parity", "fcn", data={"rho": 0.1}, model_options={"hidden": (200, 200)})
    assert identify(plain) == identify(said)
    assert identify(RunConfig("parity", "fcn", data={"rho": 0.2})) != identify(plain)


def test_a_diverged_run_is_a_result_without_measures(tmp_path):
    config = RunConfig(
        "colored_mnist", "fcn", TrainConfig(lr=1e6, max_epochs=4), source="embedded",
        model_options={"hidden": (8, 8)},
    )  # fmt: skip
    (name,) = sweep.run([config], root=tmp_path).trained
    found = results.load(results.run_path(name, tmp_path))
    assert found.attrs["status"] == "diverged" and np.isnan(found["unbiased_accuracy"])
    assert np.isnan(found["accuracy_pruned_column"]).all() and "representation" not in found
    assert np.isnan(found["train_accuracy"]) and "curve_loss" in found
    assert sweep.run([config], root=tmp_path).done_before == (name,)


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (RunConfig("party", "fcn"), ValueError, "'parity'"),
        (RunConfig("parity", "fnc"), ValueError, "'fcn'"),
        (RunConfig("parity", "fcn", data={"roh": 0.1}), ValueError, "'rho'"),
        (RunConfig("parity", "fcn", model_options={"hide": 1}), ValueError, "'hidden'"),
        (RunConfig("colored_mnist", "fcn", source="real"), DataMissing, "MNIST is not complete"),
    ],
)
def test_errors_come_before_any_work(tmp_path, calls, config, error, words):
    with pytest.raises(error, match=words):
        sweep.run([tiny(), config], root=tmp_path, data_root=tmp_path)
    assert not calls and not (tmp_path / "runs").exists()


def test_no_runs_and_unknown_executor():
    with pytest.raises(ValueError, match="no runs"):
        sweep.run([])
    with pytest.raises(ValueError, match="'serial'"):
        sweep.run([tiny()], executor="seriall")


def test_a_list_of_runs_takes_no_profile():
    with pytest.raises(ValueError, match="profile='desk' is of an experiment's name"):
        sweep.run([tiny()], profile="desk")


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from lrsc import RunConfig, TrainConfig, sweep
data = {"n_train": 500, "n_noise": 5, "n_core": 3}
runs = [RunConfig("parity", "fcn", TrainConfig(lr=0.3, max_epochs=3), s, data=data)
        for s in range(%d)]
print(sweep.run(runs, root=sys.argv[1], on_result=lambda *a: print("one", flush=True)))
"""


def test_sigkill_loses_nothing_that_had_finished(tmp_path, calls):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT % 40, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(2):
        assert process.stdout.readline() == "one\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {p.stem: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.nc")}
    assert 2 <= len(kept) < 40
    report = sweep.run([tiny(s) for s in range(len(kept) + 1)], root=tmp_path)
    assert set(report.done_before) == set(kept) and len(report.trained) == 1 == len(calls)
    assert all((tmp_path / "runs" / f"{k}.nc").stat().st_mtime_ns == t for k, t in kept.items())


def test_two_processes_share_a_sweep_and_train_nothing_twice(tmp_path):
    command = [sys.executable, "-c", SCRIPT % 6, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate(timeout=1200)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert sum(text.count("one\n") for text in said) == 6
    assert len(results.local_runs(tmp_path)) == 6
    assert not list((tmp_path / "runs").glob(".*.part"))


def test_a_run_another_process_is_at_is_left_to_it(tmp_path, calls):
    path = results.run_path(identify(tiny()), tmp_path)
    path.parent.mkdir(parents=True)
    with files.locked(path.with_name(f".{path.stem}.lock")):
        report = sweep.run([tiny()], root=tmp_path)
    assert report.elsewhere == (path.stem,) and not calls


def test_shipped_runs_count_as_done_unless_raw_is_asked_for(tmp_path, monkeypatch, calls):
    monkeypatch.setattr(RUN, "shipped_ids", lambda: frozenset({identify(tiny())}))
    assert len(sweep.run([tiny()], root=tmp_path).done_before) == 1 and not calls
    assert len(sweep.run([tiny()], root=tmp_path, raw=True).trained) == 1


@pytest.mark.parametrize("keep_weights", [True, False])
def test_measuring_again_restores_changed_measures(tmp_path, keep_weights):
    (name,) = sweep.run([tiny()], root=tmp_path).trained
    path = results.run_path(name, tmp_path)
    before = results.load(path)
    changed = before.copy(deep=True)
    for variable in ("csi", "unbiased_accuracy", "class_separation"):
        changed[variable] = changed[variable] * 0 + 9.0
    results.save(changed, path)
    if not keep_weights:
        results.weights_path(name, tmp_path).unlink()
    (line,) = sweep.measure_again(root=tmp_path)
    assert name in line and ("weights" in line) == keep_weights
    after = results.load(path)
    for variable in ("csi", "unbiased_accuracy", "class_separation", "prunability"):
        # the stored representation is fp16
        assert float(after[variable]) == pytest.approx(float(before[variable]), rel=2e-3)
    assert after.attrs["run_id"] == name


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="does not hold weights of 'fcn'"):
        load_checkpoint(path, tiny())
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match="does not hold weights"):
        load_checkpoint(path, tiny())


def test_estimate_uses_done_runs_and_the_cap(tmp_path):
    (row,) = sweep.estimate([tiny(0), tiny(1)], root=tmp_path)
    assert row["runs"] == row["to_do"] == 2 and row["step_ms"] > 0
    assert row["seconds"] == pytest.approx(row["at_most_seconds"])
    assert row["at_most_seconds"] == pytest.approx(2 * 3 * 5 * row["step_ms"] / 1000)
    sweep.run([tiny(0), tiny(1)], root=tmp_path)
    (row,) = sweep.estimate([tiny(0), tiny(1)], root=tmp_path)
    assert row["to_do"] == 0 and row["seconds"] == 0


def test_public_names_resolve_after_import_lrsc_alone():
    code = (
        "import lrsc; lrsc.datasets.load, lrsc.TrainConfig, lrsc.models.build, lrsc.fit, "
        "lrsc.models.representation, lrsc.metrics.sparsity, lrsc.pruning.prune, "
        "lrsc.results.to_grid, "
        "lrsc.experiments.open_experiment, lrsc.sweep.run, lrsc.measure; "
        "import lrsc.measures; assert lrsc.measure is lrsc.measures.measure"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_measure_of_any_module(own_dataset):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(192, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )
    found = lrsc.measure(net, own_dataset)
    assert found.sizes["kappa"] == 9 and 0 <= float(found["unbiased_accuracy"]) <= 1
    predicted = lrsc.models.evaluate(net, own_dataset.test.inputs(own_dataset.test.x)).argmax(1)
    expected = float((predicted == own_dataset.test.y).double().mean())
    assert float(found["unbiased_accuracy"]) == pytest.approx(expected)
    with pytest.raises(ValueError, match="inputs of shape"):
        lrsc.measure(torch.nn.Linear(5, 3), own_dataset)
    without = lrsc.measure(net, own_dataset, methods=[])
    assert "prunability" not in without and "csi" in without


def test_time_of_a_started_run_is_utc(tmp_path):
    (name,) = sweep.run([tiny()], root=tmp_path).trained
    started = results.load(results.run_path(name, tmp_path)).attrs["started"]
    assert started.startswith(time.strftime("%Y", time.gmtime())) and started.endswith("+00:00")


def test_runs_of_one_model_train_together_and_others_in_groups_of_their_own(tmp_path, calls):
    runs = [tiny(s, lr=lr) for lr in (0.1, 0.3) for s in (0, 1)]
    runs += [tiny(0, optimizer="adam", lr=1e-3), tiny(0, batch_size=50), tiny(5, momentum=0.5)]
    report = sweep.run(runs, root=tmp_path)
    names = [identify(run) for run in runs]
    assert report.trained == tuple(names) and len(calls) == len(runs)
    found = {name: results.load(results.run_path(name, tmp_path)) for name in names}
    engines = [found[name].attrs["engine"] for name in names]
    assert engines == ["stacked"] * 4 + ["reference"] * 2 + ["stacked"]
    alone = sweep.run(runs, root=tmp_path / "alone", engine="reference")
    assert alone.trained == report.trained
    for name in names:
        other = results.load(results.run_path(name, tmp_path / "alone"))
        for variable in ("unbiased_accuracy", "csi", "prunability", "curve_loss"):
            np.testing.assert_allclose(found[name][variable], other[variable], atol=2e-2)
        assert found[name]["epochs"] == other["epochs"]
        assert not results.checkpoints_path(name, tmp_path).exists()


def test_an_unknown_engine_is_refused_before_any_work(tmp_path, calls):
    with pytest.raises(ValueError, match="'stacked'"):
        sweep.run([tiny()], root=tmp_path, engine="stackt")
    with pytest.raises(ValueError, match="need a GPU"):
        sweep.run([tiny(0), tiny(1)], root=tmp_path, engine="graphs", device="cpu")
    assert not calls


GROUP = """
import sys, torch
torch.set_num_threads(2)
from lrsc import RunConfig, TrainConfig, sweep
data = {"n_train": 500, "n_noise": 5, "n_core": 3}
runs = [RunConfig("parity", "fcn", TrainConfig(lr=1e-3, max_epochs=n, stop_at_accuracy=None), s,
                  data=data)
        for n in (2, 1500) for s in range(3)]
loop = __import__("importlib").import_module("lrsc.training.fit")
job = loop.make_job
loop.make_job = lambda *a: __import__("dataclasses").replace(job(*a), checkpoint_seconds=0.05)
print(sweep.run(runs, root=sys.argv[1], on_result=lambda *a: print("one", flush=True)))
"""


def test_sigkill_of_a_group_loses_no_finished_run_and_the_others_go_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", GROUP, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(3):  # the short ones
        assert process.stdout.readline() == "one\n"
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline:
        written = list((tmp_path / "checkpoints").glob("*/*.pt"))
        if len(written) == 3:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(list((tmp_path / "runs").glob("*.nc"))) == 3 and len(written) == 3
    states = [torch.load(path)["state"] for path in written]
    assert all(0 < state["done"] < 7_500 for state in states)
    data = {"n_train": 500, "n_noise": 5, "n_core": 3}
    long = TrainConfig(lr=1e-3, max_epochs=1500, stop_at_accuracy=None)
    runs = [RunConfig("parity", "fcn", long, s, data=data) for s in range(3)]
    report = sweep.run(runs, root=tmp_path)
    assert len(report.trained) == 3 and not list((tmp_path / "checkpoints").glob("*"))
    for name in report.trained:
        found = results.load(results.run_path(name, tmp_path))
        assert found["steps"] == 7_500 and found["curve_loss"][-1] < found["curve_loss"][0]


MEASURING = """
import sys, time
from lrsc import RunConfig, TrainConfig, sweep
run = __import__("importlib").import_module("lrsc.sweep.run")
def forever(*args, **options):
    print("measuring", flush=True)
    while True:
        time.sleep(0.01)  # between two forward passes
if sys.argv[2] == "hang":
    run.result_each = forever
config = RunConfig("parity", "fcn", TrainConfig(max_epochs=2), data={"n_train": 300})
print(sweep.run([config], root=sys.argv[1]), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_network_is_measured_ends_at_once_and_keeps_its_training(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", MEASURING, str(tmp_path), "hang"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "measuring\n"
    process.send_signal(number)
    error = process.communicate(timeout=1200)[1]
    assert process.returncode == 143 if number == signal.SIGTERM else "KeyboardInterrupt" in error
    (path,) = (tmp_path / "checkpoints").glob("*/*.pt")
    assert not list(tmp_path.glob("runs/*.nc"))
    kept = files.load(path)
    kept["state"]["seconds"] += 1000
    files.save(kept, path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURING, str(tmp_path), "go on"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (run,) = results.local_runs(tmp_path)
    assert run["steps"] == 6 and not list((tmp_path / "checkpoints").glob("*"))
    # what was trained before counts
    assert run.attrs["wall_seconds"] > run.attrs["train_seconds"] > 1000


def test_a_result_older_than_a_coordinate_still_opens(tmp_path, monkeypatch):
    sweep.run([tiny()], root=tmp_path)
    (old,) = results.local_runs(tmp_path)
    del old.attrs["engine"], old.attrs["replicas"]
    found = results.combine([old])
    assert found["engine"].values.tolist() == [""] and found["replicas"].values.tolist() == [0]


def test_a_row_that_records_has_its_curves_in_the_result_and_in_the_experiment(tmp_path):
    (run,) = experiments.configs("synthetic", "quick", "parity", lrs=[0.75], seeds=[0])
    assert experiments.recording(run) == {"attribution": 10}
    run = dataclasses.replace(run, train=dataclasses.replace(run.train, max_epochs=2))
    (name,) = sweep.run([run], root=tmp_path).trained
    found = results.load(results.run_path(name, tmp_path))
    assert found["attribution_step"].values[:3].tolist() == [0, 10, 20]
    shares = [
        found[f"curve_attribution_{region}"].values for region in ("core", "spurious", "noise")
    ]
    np.testing.assert_allclose(np.sum(shares, 0), 1, atol=1e-5)
    opened = experiments.open_runs([run], tmp_path)
    np.testing.assert_array_equal(opened["curve_attribution_core"].values[0], shares[0])
    assert "representation" not in opened


def test_raw_material_asked_for_means_the_curves_too(tmp_path, calls):
    (run,) = experiments.configs("synthetic", "quick", "parity", lrs=[0.75], seeds=[0])
    run = dataclasses.replace(run, train=dataclasses.replace(run.train, max_epochs=1))
    (name,) = sweep.run([run], root=tmp_path).trained
    path = results.run_path(name, tmp_path)
    found = results.load(path)
    results.save(found.drop_vars(n for n in found if "attribution_" in str(n)), path)
    assert sweep.run([run], root=tmp_path).done_before == (name,)
    assert sweep.run([run], root=tmp_path, raw=True).trained == (name,)
    assert len(calls) == 2


def test_a_quick_run_records_what_quick_rows_ask_for_only():
    """What the desk rows record of single neurons takes longer than a quick run."""
    run = experiments.run_config("double_mnist", "fcn", 0.2, 0, "quick", 40)
    assert experiments.recording(run) == {}
    desk = experiments.run_config("double_mnist", "fcn", 0.2, 0, "desk", 500)
    assert set(experiments.recording(desk)) == {"dynamics", "attribution", "neurons"}


def test_attributions_in_a_result_are_those_of_the_methods(tmp_path):
    (name,) = sweep.run([tiny()], root=tmp_path).trained
    found = results.load(results.run_path(name, tmp_path))
    net, dataset = load_checkpoint(results.weights_path(name, tmp_path), tiny())
    split = measures.fixed_samples(dataset.test, 100)
    a = attribution.integrated_gradients(net, split.inputs(split.x), split.y)
    assert float(found["attribution_entropy"]) == pytest.approx(
        float(attribution.entropy(a).mean())
    )
    share = float(attribution.share(a, split.core_mask).mean())
    assert float(found["attribution_core"]) == pytest.approx(share, rel=1e-4)
    assert found["map_integrated_gradients"].shape == a.shape
    assert 0 <= float(found["completeness_error"]) < 1e-3
    assert float(found["attribution_agreement"]) > 0.9
