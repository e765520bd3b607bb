"""Opening the results of thousands of runs: seconds and memory. Targets: 5 s, 60 s, 1 GiB.

    python benchmarks/store.py [--runs 10000] [--changed 10] [--json] [--output FILE]

A small run is trained, measured and stored; its file is copied under other seeds and LRs, with the
raw material zeroed so that thousands fit on a disk. Nothing of these copies is a result: they are
generated, in a temporary folder. Each row is a fresh process whose files have been dropped from the
page cache, with the largest memory it held (Linux; that of the imports is beside it). `files`: no
table yet, each run's file is read, and the table written. `table`: it is there. `changed`: some
files are new since. Each opens an experiment, and all runs by their configurations.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from report import arguments, show

from lrsc import RunConfig, TrainConfig, consolidated, experiments, netcdf, results, sweep

OPEN = """
import json, sys, time
from pathlib import Path
import xarray as xr
from lrsc import RunConfig, experiments
xr.Dataset({"a": ("run", [0.0])})  # what xarray imports late
root, wanted = Path(sys.argv[1]), Path(sys.argv[2])
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
imported = peak()
started = time.perf_counter()
found = experiments.open_experiment("semi_synthetic", "quick", root)
opened = time.perf_counter() - started
configs = [RunConfig.from_json(text) for text in wanted.read_text().splitlines()]
started = time.perf_counter()
runs = experiments.open_runs(configs, root)
print(json.dumps({
    "open_experiment_s": opened, "of_experiment": int(found.sizes["run"]),
    "open_runs_s": time.perf_counter() - started, "runs": int(runs.sizes["run"]),
    "peak_mib": peak(), "imports_mib": imported,
}))
"""


def first_run(root: Path) -> Path:
    """The file of a short run, its raw material zeroed."""
    config = RunConfig(
        "colored_mnist", "fcn", TrainConfig(lr=0.06, max_epochs=1), source="embedded"
    )
    (name,) = sweep.run([config], root=root, device="cpu").trained
    path = results.run_path(name, root)
    found = results.load(path)
    for variable in found.data_vars:
        if not set(found[variable].dims) <= results.LABELS:
            found[variable] = found[variable].copy(data=np.zeros_like(found[variable].values))
    results.save(found, path)
    return path


def configurations(n: int) -> list[RunConfig]:
    """The runs of an experiment's quick plan first, then others at many seeds and LRs."""
    planned = experiments.configs("semi_synthetic", "quick", "colored_mnist", "fcn")
    lrs = np.geomspace(0.001, 1, 97).round(6).tolist()
    more = (
        RunConfig("colored_mnist", "fcn", TrainConfig(lr=lrs[k % 97]), k, source="embedded")
        for k in range(100, 100 + n)
    )
    return [*planned, *more][:n]


def put(source: Path, config: RunConfig, root: Path) -> Path:
    """The file copied under another run's name and configuration."""
    name = sweep.identify(config)
    path = results.run_path(name, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    netcdf.assign(path, {"run_id": name, "config": config.to_json(), "device_name": "none"})
    return path


def out_of_cache(root: Path) -> None:
    """Drop the files from the page cache, so that they are read from the disk."""
    os.sync()
    for path in root.rglob("*.nc"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def opened(case: str, root: Path, wanted: Path) -> dict:
    """Times of a fresh process."""
    out_of_cache(root)
    command = [sys.executable, "-c", OPEN, str(root), str(wanted)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {"case": case} | json.loads(done.stdout)


def main() -> None:
    options = arguments(__doc__.splitlines()[0], runs=10_000, changed=10)
    with tempfile.TemporaryDirectory() as folder:
        root, wanted = Path(folder) / "results", Path(folder) / "wanted"
        source = first_run(Path(folder) / "first")
        configs = configurations(options.runs + options.changed)
        wanted.write_text("\n".join(config.to_json() for config in configs))
        for config in configs[: options.runs]:
            put(source, config, root)
        rows = [opened("files", root, wanted), opened("table", root, wanted)]
        for config in configs[options.runs :]:
            put(source, config, root)
        rows.append(opened(f"table, {options.changed} changed", root, wanted))
        size = consolidated.table_path(root).stat().st_size / 2**20
    for row in rows:
        row["table_mib"] = size
    show(rows, options.json, options.output)


if __name__ == "__main__":
    main()
