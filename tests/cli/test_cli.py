"""The command line: what it prints, its exit codes, and interruption."""

import importlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lrsc import cli, results

RUN = ["run", "parity", "fcn", "--lr", "0.5", "--max-epochs", "2"]
MNIST = Path("MNIST") / "raw"


def test_run_trains_measures_and_resumes(tmp_path, capsys):
    assert cli.main([*RUN, "--results", str(tmp_path)]) == 0
    assert "1 trained, 0 done before" in capsys.readouterr().out
    assert len(results.local_runs(tmp_path)) == 1
    assert cli.main([*RUN, "--results", str(tmp_path)]) == 0
    assert "0 trained, 1 done before" in capsys.readouterr().out


def test_run_takes_every_knob(tmp_path, capsys):
    command = [
        *RUN, "--set", "optimizer=adamw", "--set", "schedule=cosine", "--set",
        "stop_at_accuracy=null", "--data", "rho=0.2", "--model-option", "hidden=[20, 20]",
        "--results", str(tmp_path),
    ]  # fmt: skip
    assert cli.main(command) == 0
    (run,) = results.local_runs(tmp_path)
    config = json.loads(run.attrs["config"])
    assert config["train"]["optimizer"] == "adamw" and config["train"]["schedule"] == "cosine"
    assert config["data"] == {"rho": 0.2} and config["model_options"] == {"hidden": [20, 20]}
    capsys.readouterr()
    assert cli.main([*RUN, "--set", "optimiser=adam", "--results", str(tmp_path)]) == 2
    assert "Did you mean 'optimizer'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*RUN, "--set", "momentum"])
    assert "expected NAME=VALUE" in capsys.readouterr().err


def test_sweep_of_one_row(tmp_path, capsys):
    command = ["sweep", "synthetic", "--dataset", "parity", "--lrs", "0.75", "--seeds", "[0, 1]"]
    assert cli.main([*command, "--results", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "2 trained" in said.out and "unbiased accuracy" in said.err
    assert cli.main(["status", "--json", "--profile", "quick", "--results", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["experiment"] == "synthetic" and rows[0]["done"] == 2
    assert cli.main(["status", "--results", str(tmp_path)]) == 0
    assert "missing" in capsys.readouterr().out


def test_estimate_prints_times_and_trains_nothing(tmp_path, capsys):
    command = [
        "sweep",
        "synthetic",
        "--dataset",
        "parity",
        "--estimate",
        "--results",
        str(tmp_path),
    ]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "at most" in said and "parity" in said and not (tmp_path / "runs").exists()


def test_measure_a_checkpoint(tmp_path, capsys):
    cli.main([*RUN, "--results", str(tmp_path)])
    (weights,) = (tmp_path / "weights").iterdir()
    capsys.readouterr()
    output = tmp_path / "measures.nc"
    command = ["measure", str(weights), "--dataset", "parity", "--model", "fcn"]
    assert cli.main([*command, "--output", str(output)]) == 0
    assert "unbiased_accuracy" in capsys.readouterr().out
    (stored,) = results.local_runs(tmp_path)
    assert float(results.load(output)["csi"]) == pytest.approx(float(stored["csi"]))
    assert cli.main(["measure", "--again", "--results", str(tmp_path)]) == 0
    assert "measured again from weights" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["run", "party", "fcn"], 2, "'parity'"),
        (["run", "parity", "fnc"], 2, "'fcn'"),
        (["run", "parity", "fcn", "--lr", "-1"], 2, "lr must be"),
        (["run", "parity", "fcn", "--profile", "fast"], 2, "profile"),
        (["run", "parity", "fcn", "--threads", "0"], 2, "--threads"),
        (["sweep", "synthetics"], 2, "'synthetic'"),
        (["sweep", "synthetic", "--lrs", "[]"], 2, "must not be empty"),
        (["sweep", "semi_synthetic", "--profile", "paper"], 1, "MNIST is not complete"),
        (["measure"], 2, "CHECKPOINT"),
        (["measure", "nowhere.pt", "--dataset", "parity", "--model", "fcn"], 2, "nowhere.pt"),
        (["results", "export", "synthetics"], 2, "'synthetic'"),
        (["book", "--profile", "fast"], 2, "profile"),
    ],
)
def test_errors_and_exit_codes(tmp_path, monkeypatch, capsys, command, code, words):
    monkeypatch.setenv("LRSC_DATA", str(tmp_path))
    if command[0] in ("run", "sweep"):
        command = [*command, "--results", str(tmp_path)]
    assert cli.main(command) == code
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


@pytest.mark.parametrize("command", [["sweeep"], ["run"], ["sweep", "synthetic", "--lrs", "a"], []])
def test_wrong_use_is_exit_code_2(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert stopped.value.code == 2


def test_ctrl_c_keeps_finished_runs_and_says_how_to_resume(tmp_path):
    # a process started in the background may have inherited an ignored SIGINT
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from lrsc.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    seeds = ",".join(str(s) for s in range(12))
    command = [
        "sweep",
        "synthetic",
        "--dataset",
        "parity",
        "--lrs",
        "0.75",
        "--seeds",
        seeds,
        "--results",
        str(tmp_path),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command], stderr=subprocess.PIPE, text=True
    )
    while not re.match(r"run \d+ of 12", line := process.stderr.readline()):
        assert "running" in line  # progress, every 30 s
    os.kill(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=1200)[1]
    assert process.returncode == 1 and "Traceback" not in rest
    assert "Finished runs and checkpoints are kept" in rest and "lrsc sweep synthetic" in rest
    assert 1 <= len(results.local_runs(tmp_path)) < 12


def test_data_list_names_every_set(tmp_path, capsys):
    assert cli.main(["data", "list", "--json", "--data-root", str(tmp_path)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {"parity", "mnist_cifar", "imagenet"} < rows.keys()
    assert rows["mnist_cifar"]["needs"] == ["mnist", "cifar10"]
    assert rows["cifar10"]["size"] == 170_498_071 and rows["cifar10"]["present"] == "no"
    raw = MNIST / "train-labels-idx1-ubyte"
    (tmp_path / raw.parent).mkdir(parents=True)
    (tmp_path / raw).write_bytes(b"1")
    assert cli.main(["data", "list", "--root", str(tmp_path)]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["name"] == ["name", "present", "size", "licence", "source", "needs"]
    assert lines["mnist"][1:4] == ["partly", "12", "MB"]
    assert lines["parity"][1] == "generated" and lines["imagenet"][1:4] == ["no", "154.6", "GB"]


def test_data_check_fails_for_what_is_wrong_not_for_what_is_absent(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LRSC_DATA", str(tmp_path))
    assert cli.main(["data", "check"]) == 0
    assert "mnist: not here" in capsys.readouterr().out
    assert cli.main(["data", "check", "mnist"]) == 1
    assert "train-images-idx3-ubyte: missing" in capsys.readouterr().out
    assert cli.main(["data", "check", "moon_star"]) == 0
    (tmp_path / "cifar-10-python.tar.gz.part").write_bytes(b"1")  # begun: missing, not wrong
    assert cli.main(["data", "check"]) == 0
    assert "cifar-10-batches-py/test_batch: missing" in capsys.readouterr().out
    (tmp_path / MNIST).mkdir(parents=True)
    (tmp_path / MNIST / "train-labels-idx1-ubyte").write_bytes(b"1")
    for command in (["data", "check"], ["data", "check", "colored_mnist"]):
        assert cli.main(command) == 1
        said = capsys.readouterr().out
        assert "train-labels-idx1-ubyte: wrong (MD5 found c4ca4238a0b923820dcc509a6f75849b" in said


def test_data_path(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))
    assert cli.main(["data", "path", "--data-root", str(tmp_path / "data")]) == 0
    root, cache = capsys.readouterr().out.splitlines()
    assert root.endswith(f"{tmp_path / 'data'} (not there yet)")
    assert cache.endswith(str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["get", "cifar1O"], 2, "Did you mean 'cifar10'"),
        (["check", "waterbird"], 2, "Did you mean 'waterbirds'"),
        (["get", "cifar10-jpeg"], 1, "no fixed address"),
        (["get", "celeba"], 1, "has to be fetched by hand"),
        (["check", "mnist"], 1, "checksums.json is damaged"),
    ],
)
def test_data_errors_and_exit_codes(tmp_path, capsys, command, code, words):
    if command == ["check", "mnist"]:
        (tmp_path / "checksums.json").write_text("[")
    assert cli.main(["data", *command, "--data-root", str(tmp_path)]) == code
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


@pytest.mark.parametrize("command", [["data"], ["data", "fetch"], ["data", "get"]])
def test_wrong_use_of_data_is_exit_code_2(command):
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert stopped.value.code == 2


def test_a_data_root_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "data").write_text("a file, not a folder")
    root = str(tmp_path / "data" / "root")
    assert cli.main(["data", "get", "mnist", "--data-root", root]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said and "Not a directory" in said


def test_ctrl_c_of_data_get_says_what_is_kept(tmp_path, monkeypatch, capsys):
    from lrsc.datasets.raw import on_disk

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(on_disk, "get", interrupted)
    assert cli.main(["data", "get", "mnist", "--data-root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "What was fetched is kept" in said and "lrsc data get mnist --data-root" in said


@pytest.mark.parametrize(
    "name", ["mnist", "cifar10", "cifar100", "celeba", "waterbirds", "imagenet"]
)
def test_the_data_script_checks_each_set(tmp_path, capsys, name):
    path = Path(__file__).parents[2] / "data_scripts" / "get.py"
    spec = importlib.util.spec_from_file_location("get_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main([name, "--check", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    folder = {"mnist": "MNIST", "cifar10": "cifar-10", "cifar100": "cifar-100"}.get(name, name)
    assert said.count("missing") == len(said.splitlines()) > 0
    assert all(line.startswith(folder) for line in said.splitlines())
    with pytest.raises(SystemExit) as stopped:
        script.main(["--help"])
    assert stopped.value.code == 0 and name in capsys.readouterr().out


def test_bench_runs_scripts_by_name_and_refuses_others(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "report.py").write_text("raise SystemExit('no benchmark')")
    (folder / "one.py").write_text("import sys; open('called', 'a').write(str(sys.argv[1:]))")
    (folder / "bad.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr("lrsc.results.project_root", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "one", "--json"]) == 0
    assert (tmp_path / "called").read_text() == "['--json']"
    assert cli.main(["bench"]) == 1, "one of them failed"
    assert cli.main(["bench", "report"]) == 2
    assert "unknown benchmark 'report'" in capsys.readouterr().err
    monkeypatch.setattr("lrsc.results.project_root", lambda: tmp_path / "elsewhere")
    assert cli.main(["bench"]) == 2
    assert "of a checkout" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    """As `lrsc score | head -1`."""
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-m", "lrsc", "data", "list"], stdout=writes, stderr=subprocess.PIPE
    )
    os.close(writes)
    assert done.returncode == 1 and done.stderr == b""


def test_score_in_unknown_statistics_is_wrong_use(capsys):
    assert cli.main(["score", "--statistics", "runing"]) == 2
    assert "Did you mean 'running'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said", "not_said"),
    [
        (["--lr", "nan"], "lr must be", "give one"),
        (["--lr", "0.1", "--set", "lr=0.2"], "--lr 0.1 and --set lr=0.2: give one", "must"),
        (["--set", "seed=3"], "give --seed 3", "schedule"),
    ],
)
def test_settings_that_contradict_or_belong_elsewhere(more, said, not_said, capsys):
    assert cli.main(["run", "parity", "fcn", *more]) == 2
    found = capsys.readouterr().err
    assert said in found and not_said not in found


def test_sigterm_while_nothing_is_trained_says_how_to_resume(tmp_path, monkeypatch, capsys):
    def stopped(*args, **options):
        raise SystemExit(128 + signal.SIGTERM)

    monkeypatch.setattr("lrsc.sweep.run", stopped)
    assert cli.main([*RUN, "--results", str(tmp_path)]) == 143
    assert "resume with the same command" in capsys.readouterr().err


def test_an_estimate_of_nothing_to_do_has_no_step_time(capsys):
    rows = [{"dataset": "a", "model": "b", "runs": 1, "to_do": 0, "step_ms": float("nan"),
             "seconds": 0.0, "at_most_seconds": 0.0}]  # fmt: skip
    importlib.import_module("lrsc.cli.train")._print_estimate(rows)
    assert "nan" not in capsys.readouterr().out
