"""Sweeps on a Dask cluster: order, retries, versions, limits, who writes, what status says."""

import contextlib
import dataclasses
import gc
import importlib
import re
import warnings

import dask
import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster

from lrsc import RunConfig, TrainConfig, cli, experiments, results, sweep
from lrsc.results import locks
from lrsc.runs import identify
from lrsc.sweep import dask as cluster
from lrsc.sweep import on_worker
from lrsc.sweep.dask import Task

RUN = importlib.import_module("lrsc.sweep.run")  # `lrsc.sweep.run` is its function

ENDLESS = {"max_epochs": 10**6, "stop_at_accuracy": None}
calls: list[str] = []  # of functions that a worker calls: they are sent by name


def tiny(seed=0, **train):
    data = {"n_train": 500, "n_noise": 5, "n_core": 3}
    config = dataclasses.replace(TrainConfig(lr=0.3, max_epochs=3), **train)
    return RunConfig("parity", "fcn", config, seed, data=data)


def call(name, error=None, until=0):
    """Notes its name; raises while it was called no more than so many times."""
    calls.append(name)
    if error is not None and calls.count(name) <= until:
        raise error(f"{name} is wrong")
    return name


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


@pytest.fixture(scope="module")
def client():
    """One worker with one thread, in this process: what is patched here is patched there."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as local,
        Client(local) as found,
    ):
        yield found


def test_the_longest_are_done_first_and_those_of_unknown_length_before_them(client):
    lengths = {"b": 2.0, "a": 1.0, "c": float("inf"), "d": 3}
    tasks = [Task(name, (name,), seconds) for name, seconds in lengths.items()]
    assert {task.name: found for task, found in cluster.each(call, tasks, client)} == {
        name: name for name in lengths
    }
    assert calls == ["c", "d", "b", "a"]


def test_a_task_is_tried_again_up_to_a_cap_but_not_after_an_error_of_the_user(client):
    tasks = [
        Task("user", ("user", ValueError, 1), 3.0),
        Task("sometimes", ("sometimes", RuntimeError, 2), 2.0),
        Task("always", ("always", RuntimeError, 9), 1.0),
    ]
    assert {task.name: found for task, found in cluster.each(call, tasks, client)} == {
        "user": cluster.Failure("user is wrong", 1),
        "sometimes": "sometimes",
        "always": cluster.Failure("RuntimeError: always is wrong", 3),
    }
    assert [calls.count(n) for n in ("user", "sometimes", "always")] == [1, 3, 3]
    ((_, failed),) = cluster.each(call, [Task("x", ("x", OSError, 1))], client, retries=0)
    assert failed.attempts == 1


def test_tasks_are_taken_one_by_one_and_may_be_left_out(client):
    started = []

    def start(task):
        started.append(task.name)
        return None if task.name == "2" else task

    tasks = [Task(str(i), (str(i),), 9.0 - i) for i in range(5)]
    found = cluster.each(call, tasks, client, room=lambda: 1, start=start)
    assert next(found)[1] == "0"
    assert started == ["0", "1"], "the next is handed out when one is done"
    assert [result for _, result in found] == ["1", "3", "4"]


def test_a_result_that_is_lost_on_its_way_is_no_silence(client, monkeypatch):
    from distributed import Client

    async def lost(*args, **kwargs):
        raise OSError("gone")

    with Client(client.scheduler.address) as own:  # which is of no use afterwards
        monkeypatch.setattr(own, "_gather_remote", lost)
        with pytest.raises(ConnectionError, match="the same command"):
            list(cluster.each(call, [Task("a", ("a",))], own))


def test_a_worker_of_other_versions_is_refused(client, monkeypatch):
    mine = cluster.versions()
    assert {"lrsc", "torch", "numpy", "python"} <= set(mine)
    with pytest.raises(ValueError, match="worker tcp://x .*torch '1.0', expected"):
        cluster.check_versions(mine, "worker tcp://x", mine | {"torch": "1.0"})
    # one that comes later is found out by its first task
    asked = iter([mine | {"torch": "9"}])
    monkeypatch.setattr(cluster, "versions", lambda: next(asked, mine))
    ((_, failed),) = cluster.each(call, [Task("a", ("a",))], client)
    assert "is not like the client: torch" in failed.reason and failed.attempts == 1


def test_no_scheduler_is_an_error_that_names_the_address():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ValueError, match="no Dask scheduler answers at 'tcp://127.0.0.1:9'"),
        cluster.connect("tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.parametrize("write", sweep.WRITERS)
def test_results_are_those_of_the_serial_executor(client, tmp_path, monkeypatch, write):
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))
    configs = [tiny(0), tiny(1)]
    sweep.run(configs[:1], root=tmp_path / "serial")
    numbers = []
    report = sweep.run(
        configs, "dask", root=tmp_path / "dask", scheduler=client, write=write,
        on_result=lambda number, of, found: numbers.append((number, of, found.attrs["run_id"])),
    )  # fmt: skip
    assert len(report.trained) == 2 and not report.failed
    assert sorted(numbers) == [(1, 2, report.trained[0]), (2, 2, report.trained[1])]
    one, other = (
        results.load(results.run_path(report.trained[0], tmp_path / folder))
        for folder in ("serial", "dask")
    )
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))
    assert results.weights_path(report.trained[1], tmp_path / "dask").is_file()
    left = [p.name for p in (tmp_path / "dask" / "runs").iterdir() if p.suffix != ".nc"]
    assert left == [], "locks and the shared file are gone"
    again = sweep.run(configs, "dask", root=tmp_path / "dask", scheduler=client, write=write)
    assert set(again.done_before) == set(report.trained) and not again.trained


def test_what_came_back_before_but_was_not_written_is_not_trained_again(
    client, tmp_path, monkeypatch
):
    """The client was killed when the worker was done: the worker still has the result."""
    monkeypatch.setenv("LRSC_CACHE", str(tmp_path / "cache"))
    options = {"executor": "dask", "scheduler": client, "write": "client"}
    first = sweep.run([tiny()], root=tmp_path / "lost", **options)
    second = sweep.run([tiny()], root=tmp_path / "kept", **options)
    assert second.done_before == first.trained
    assert results.run_path(first.trained[0], tmp_path / "kept").is_file()


def test_several_runs_are_trained_side_by_side_on_a_worker(client, tmp_path):
    report = sweep.run(
        [tiny(s) for s in range(3)], "dask", root=tmp_path, scheduler=client, replicas=2
    )
    engines = [results.load(results.run_path(n, tmp_path)).attrs["engine"] for n in report.trained]
    assert sorted(engines) == ["reference", "stacked", "stacked"]


def test_a_run_at_its_time_limit_fails_keeps_its_checkpoint_and_goes_on_later(
    client, tmp_path, monkeypatch
):
    endless = tiny(**ENDLESS)
    options = {"executor": "dask", "root": tmp_path, "scheduler": client}
    report = sweep.run([endless], time_limit=0.5, **options)
    (name,) = report.failed
    assert "stopped at its time limit" in report.failed[name]
    (noted,) = locks.failures(tmp_path)
    assert noted["run_id"] == name and noted["attempts"] == 1
    (checkpoint,) = results.checkpoints_path(name, tmp_path).glob("*.pt")
    done = torch.load(checkpoint, weights_only=True)["state"]["done"]
    sweep.run([endless], time_limit=0.5, **options)
    assert torch.load(checkpoint, weights_only=True)["state"]["done"] > done


def test_failed_and_running_runs_are_in_the_status(client, tmp_path, monkeypatch, capsys):
    config = experiments.configs("synthetic", "quick")[0]
    name = identify(config)
    locks.note_failure(name, config, "the machine is on fire", 3, tmp_path)
    arguments = ["status", "--profile", "quick", "--results", str(tmp_path)]
    row = experiments.status("quick", tmp_path)[0]
    assert (row["failed"], row["running"], row["missing"]) == (1, 0, row["runs"] - row["done"])
    assert cli.main(arguments) == 0
    assert "tried 3 x: the machine is on fire" in capsys.readouterr().out
    with locks.claim(name, tmp_path, config) as mine, locks.claim(name, tmp_path) as again:
        assert mine and not again
        after = experiments.status("quick", tmp_path)[0]
        assert (after["running"], after["missing"]) == (1, row["missing"] - 1)
        assert cli.main(arguments) == 0
        assert f"running: {name} (parity fcn lr 0.01 seed 0)" in capsys.readouterr().out
    assert locks.running(tmp_path) == []
    locks.forget_failure(name, tmp_path)
    assert locks.failures(tmp_path) == []


def test_an_error_of_a_serial_sweep_is_noted_for_the_runs_under_way(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        for request in args[3]:
            raise RuntimeError(f"no {request.name}")

    monkeypatch.setattr(RUN, "fit_each", fails)
    with pytest.raises(RuntimeError):
        sweep.run([tiny(0), tiny(1)], root=tmp_path)
    (noted,) = locks.failures(tmp_path)
    assert noted["reason"].startswith("RuntimeError: no ")


def test_a_worker_with_other_data_or_without_the_folder_says_so(tmp_path):
    config = tiny()
    options = {"token": "", "data_root": None, "code": []}
    with pytest.raises(ValueError, match="parity on this worker is other data than on the client"):
        RUN._on_worker({"0" * 16: config.to_json()}, options)
    options["token"], options["root"] = str(tmp_path / "not-here"), "/results"
    with pytest.raises(ValueError, match="does not see the client's results folder /results"):
        RUN._on_worker({identify(config): config.to_json()}, options)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"executor": "slurm"}, "unknown executor 'slurm'"),
        ({"write": "nobody"}, "unknown write 'nobody'"),
        ({"scheduler": "tcp://x:1"}, "scheduler is for executor='dask'"),
        ({"time_limit": 5.0}, "time_limit is for executor='dask'"),
        ({"executor": "dask", "time_limit": 0}, "time_limit must be > 0 seconds"),
        ({"executor": "dask", "retries": -1}, "retries must be a whole number >= 0"),
    ],
)
def test_wrong_options_are_named_before_any_work(tmp_path, wrong, text):
    with pytest.raises(ValueError, match=text):
        sweep.run([tiny()], root=tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_each_worker_process_takes_a_gpu_of_its_own(tmp_path, monkeypatch):
    """Two processes on a machine with two GPUs, then a third."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: type("P", (), {"uuid": i}))
    monkeypatch.setattr(on_worker.tempfile, "gettempdir", lambda: str(tmp_path))
    taken = []
    with contextlib.ExitStack() as processes:
        for _ in range(3):
            monkeypatch.setattr(on_worker, "_held", processes.enter_context(contextlib.ExitStack()))
            taken.append(on_worker.own_gpu.__wrapped__())
    assert taken[:2] == ["cuda:0", "cuda:1"] and taken[2] in ("cuda:0", "cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert on_worker.own_gpu.__wrapped__() is None


def test_the_command_line_sweeps_on_the_workers_and_fails_where_runs_fail(
    client, tmp_path, capsys, monkeypatch
):
    address = client.scheduler.address
    command = [
        "sweep", "synthetic", "--dataset", "parity", "--lrs", "0.1", "--seeds", "0", "--results",
        str(tmp_path), "--executor", "dask", "--scheduler", address,
    ]  # fmt: skip
    assert cli.main([*command, "--time-limit", "0.000001"]) == 1
    assert "0 trained, 0 done before, 1 failed" in capsys.readouterr().out
    assert cli.main(command) == 0
    assert "1 trained, 0 done before" in capsys.readouterr().out


def test_the_slurm_job_of_the_book_starts_a_worker_of_one_thread(capsys):
    page = (results.project_root() / "book" / "run_it_yourself.md").read_text()
    (block,) = re.findall(r"```python\n(from dask_jobqueue.*?)```", page, re.DOTALL)
    with warnings.catch_warnings():  # of a port that is taken, and sockets that Dask leaves open
        warnings.simplefilter("ignore")
        names: dict = {}
        exec(block, names)  # a dry run: it prints the script and submits nothing
        names.pop("cluster").close()
        gc.collect()
    script = capsys.readouterr().out
    for line in ("#SBATCH --gres=gpu:1", "#SBATCH -t 04:00:00", "export LRSC_DATA=/shared/data"):
        assert line in script.splitlines()
    assert "dask_worker tcp://" in script and "--nthreads 1" in script
