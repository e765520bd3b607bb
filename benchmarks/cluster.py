"""What a local Dask cluster costs a run, and what a second worker gives.

    python benchmarks/cluster.py [--rounds 3] [--tasks 500] [--runs 8] [--json] [--output FILE]

Overhead: tasks that do nothing, with a run's arguments, on two workers that are up; milliseconds a
task, as the client sees it (target: under 20). Speed: whole runs (parity, fully connected, one
thread each, trained, measured and written), on one worker and on two, in turn; the median of the
rounds' ratios (target: at least 1.75 x on two idle cores). Both clusters are started beforehand.
"""

import contextlib
import tempfile
import time

from distributed import Client, LocalCluster
from report import arguments, median, show

from lrsc import RunConfig, TrainConfig, sweep
from lrsc.sweep.dask import Task, each

DATA = {"n_train": 2000, "n_noise": 20}
TRAIN = TrainConfig(lr=0.1, max_epochs=10**6, max_steps=4000, stop_at_accuracy=None)


def nothing(*arguments) -> None:
    """A run that takes no time."""


@contextlib.contextmanager
def workers(n: int):
    """A client of n workers, each of which has trained once: what is imported late is there."""
    with (
        LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address="127.0.0.1:0") as local,
        Client(local) as client,
    ):
        config = RunConfig("parity", "fcn", TrainConfig(lr=0.1, max_steps=10), data=DATA)
        for _ in range(2):
            client.run(warm, config.to_json())
        yield client


def warm(config: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sweep.run([RunConfig.from_json(config)], root=folder)


def overhead_ms(client, n: int) -> float:
    config = RunConfig("parity", "fcn", TRAIN, data=DATA).to_json()
    tasks = [Task(str(i), ({str(i): config}, {}, {"root": "/results"})) for i in range(n)]
    started = time.perf_counter()
    for _ in each(nothing, tasks, client):
        pass
    return 1000 * (time.perf_counter() - started) / n


def runs_seconds(client, n: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        configs = [RunConfig("parity", "fcn", TRAIN, seed, data=DATA) for seed in range(n)]
        report = sweep.run(configs, "dask", root=folder, scheduler=client)
        if len(report.trained) != n:
            raise SystemExit(f"not all runs were trained: {report}")
        return time.perf_counter() - started


def main() -> None:
    options = arguments(__doc__.splitlines()[0], rounds=3, tasks=500, runs=8)
    with workers(1) as one, workers(2) as two:
        cases = {
            f"empty task, ms each of {options.tasks}": lambda w: overhead_ms(w, options.tasks),
            f"{options.runs} runs of {TRAIN.max_steps} steps, s": lambda w: runs_seconds(
                w, options.runs
            ),
        }
        rows = []
        for case, measured in cases.items():
            pairs = [(measured(one), measured(two)) for _ in range(options.rounds)]
            rows.append({
                "case": case,
                "one_worker": median(a for a, _ in pairs),
                "two_workers": median(b for _, b in pairs),
                "rounds": options.rounds,
                "ratio": median(a / b for a, b in pairs),
            })  # fmt: skip
    show(rows, options.json, options.output)


if __name__ == "__main__":
    main()
