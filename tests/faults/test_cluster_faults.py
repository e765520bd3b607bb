"""Sweeps on a Dask cluster whose parts are killed: nothing is lost, nothing done is done again."""

import concurrent.futures
import contextlib
import dataclasses
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributed import Client

from lrsc import RunConfig, TrainConfig, results, sweep
from lrsc.sweep import care

RUNS = 4


def runs() -> list[RunConfig]:
    """About a second each."""
    train = TrainConfig(lr=0.1, max_epochs=10**6, max_steps=1500, stop_at_accuracy=None)
    data = {"n_train": 500, "n_noise": 5, "n_core": 3}
    return [RunConfig("parity", "fcn", train, seed, data=data) for seed in range(RUNS)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@dataclasses.dataclass
class Cluster:
    """A scheduler and a worker as processes of their own."""

    folder: Path
    port: int = dataclasses.field(default_factory=free_port)
    processes: dict[str, subprocess.Popen] = dataclasses.field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start(self, part: str) -> None:
        arguments = {
            "scheduler": ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"],
            "worker": [self.address, "--nthreads", "1", "--no-dashboard", "--local-directory",
                       str(self.folder), "--death-timeout", "60"],
        }[part]  # fmt: skip
        command = [sys.executable, "-m", f"distributed.cli.dask_{part}", *arguments]
        with open(self.folder / f"{part}.log", "a") as log:
            self.processes[part] = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, part: str) -> None:
        """The process and, of a worker, the nanny's child."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes.pop(part).pid, signal.SIGKILL)

    def close(self) -> None:
        for part in list(self.processes):
            self.kill(part)


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    made.start("scheduler")
    made.start("worker")
    try:
        with Client(made.address, timeout=1200) as client:
            client.wait_for_workers(1, timeout=1200)
        yield made
    finally:
        made.close()
        gc.collect()  # sockets that Dask leaves open


@contextlib.contextmanager
def sweeping(cluster: Cluster, root: Path, write: str):
    """A sweep in another thread; yields its future once the first run is done."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            sweep.run, runs(), "dask", root=root, scheduler=cluster.address, write=write
        )
        until = time.monotonic() + 1200
        while not list((root / "runs").glob("*.nc")) and time.monotonic() < until:
            if future.done():
                break
            time.sleep(0.02)
        yield future


def finished(root: Path) -> dict[str, int]:
    """Results and when they were written, to the nanosecond."""
    return {path.stem: path.stat().st_mtime_ns for path in (root / "runs").glob("*.nc")}


def check(root: Path, before: dict[str, int], report: sweep.Report) -> None:
    """All runs are done, those that were done are untouched, and no leftovers are in sight."""
    after = finished(root)
    assert len(after) == RUNS and not report.failed
    assert {name: after[name] for name in before} == before, "a finished run was done again"
    for name in after:
        assert results.load_run(results.run_path(name, root)) is not None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_killed_worker_and_a_lost_scheduler_lose_nothing(cluster, tmp_path):
    """The run of the worker is tried again; without its scheduler the sweep ends, and goes on."""
    root = tmp_path / "results"
    with sweeping(cluster, root, "worker") as future:
        with Client(cluster.address, timeout=1200) as client:
            (worker,) = client.run(os.getpid).values()
        time.sleep(random.uniform(0, 0.5))
        before = finished(root)
        os.kill(worker, signal.SIGKILL)  # its nanny starts another
        until = time.monotonic() + 1200
        while finished(root) == before and not future.done() and time.monotonic() < until:
            time.sleep(0.05)
        before = finished(root)
        cluster.kill("scheduler")
        cluster.kill("worker")
        with pytest.raises(ConnectionError, match="the same command goes on from there"):
            future.result(timeout=1200)
    cluster.start("scheduler")
    cluster.start("worker")
    check(root, before, sweep.run(runs(), "dask", root=root, scheduler=cluster.address))
    for found in care.garbage(root):  # the lock of a worker killed after it had written a result
        assert care.remove(found)
    assert not list((root / "runs").glob(".*.lock"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_closed_connection_loses_nothing(cluster, tmp_path):
    """The client's connection is closed under it: it frees what it claimed, and goes on later."""
    root, options = tmp_path / "results", {"root": tmp_path / "results", "write": "client"}
    with Client(cluster.address, timeout=1200) as client, concurrent.futures.ThreadPoolExecutor(1) as pool:  # fmt: skip  # noqa: E501
        future = pool.submit(sweep.run, runs(), "dask", scheduler=client, **options)
        while not finished(root) and not future.done():
            time.sleep(0.02)
        client.loop.add_callback(client.scheduler_comm.comm.abort)
        with pytest.raises(ConnectionError, match="All finished runs are kept"):
            future.result(timeout=1200)
        while client.status == "connecting":  # closed before, it would leave its socket open
            time.sleep(0.02)
    before = finished(root)
    check(root, before, sweep.run(runs(), "dask", scheduler=cluster.address, **options))
