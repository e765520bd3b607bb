"""The command line: what it prints, its exit codes, and interruption."""

import json
import os
import signal
import subprocess
import sys

import pytest

from lrsc import cli, results

RUN = ["run", "parity", "fcn", "--lr", "0.5", "--max-epochs", "2"]


def test_run_trains_measures_and_resumes(tmp_path, capsys):
    assert cli.main([*RUN, "--results", str(tmp_path)]) == 0
    assert "1 trained, 0 done before" in capsys.readouterr().out
    assert len(results.local_runs(tmp_path)) == 1
    assert cli.main([*RUN, "--results", str(tmp_path)]) == 0
    assert "0 trained, 1 done before" in capsys.readouterr().out


def test_sweep_of_one_row(tmp_path, capsys):
    command = ["sweep", "synthetic", "--lrs", "0.75", "--seeds", "[0, 1]"]
    assert cli.main([*command, "--results", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "2 trained" in said.out and "unbiased accuracy" in said.err
    assert cli.main(["status", "--json", "--profile", "quick", "--results", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["experiment"] == "synthetic" and rows[0]["done"] == 2
    assert cli.main(["status", "--results", str(tmp_path)]) == 0
    assert "missing" in capsys.readouterr().out


def test_estimate_prints_times_and_trains_nothing(tmp_path, capsys):
    command = ["sweep", "synthetic", "--estimate", "--results", str(tmp_path)]
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
    seeds = ",".join(str(s) for s in range(50))
    command = ["sweep", "synthetic", "--lrs", "0.75", "--seeds", seeds, "--results", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command], stderr=subprocess.PIPE, text=True
    )
    first = process.stderr.readline()
    assert "run 1 of 50" in first
    os.kill(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "Traceback" not in rest
    assert "Finished runs are kept" in rest and "lrsc sweep synthetic" in rest
    assert 1 <= len(results.local_runs(tmp_path)) < 50
