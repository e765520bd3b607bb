"""Opening an experiment of thousands of runs: seconds and memory. Targets: 5 s, 60 s, 1 GiB.

    python benchmarks/store.py [--runs 10000] [--changed 10] [--json] [--output FILE]

A small run is trained, measured and stored; its file is copied under other seeds and LRs, with the
raw material zeroed so that thousands fit on a disk. Nothing of these copies is a result: they are
generated, in a temporary folder, for an experiment that only this script knows. Each row is a fresh
process whose files have been dropped from the page cache, with the largest memory it held (Linux;
that of the imports is beside it) and the processor's seconds, which a busy machine does not change
much. `files`: no table yet, each run's file is read, and the table written. `table`: it is there.
`changed`: some files are new since.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from report import arguments, show

from lrsc import RunConfig, TrainConfig, experiments, results, sweep
from lrsc.experiments.rows import Plan, Row
from lrsc.results import consolidated, netcdf
from lrsc.runs import identify

LRS = 100  # values of the experiment
OPEN = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import xarray as xr
from store import experiments, peak, planned
planned(int(sys.argv[3]))
xr.Dataset({"a": ("run", [0.0])})  # what xarray imports late
imported = peak()
started, busy = time.perf_counter(), time.process_time()
found = experiments.open_experiment("thousands", "quick", Path(sys.argv[2]))
print(json.dumps({
    "seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - busy,
    "runs": int(found.sizes["run"]),
    "peak_mib": peak(), "imports_mib": imported,
}))
"""


def planned(runs: int) -> list[RunConfig]:
    """An experiment of so many runs, known in this process."""
    values = tuple(np.geomspace(0.001, 1, LRS).round(6).tolist())
    plan = Plan(values, tuple(range(-(-runs // LRS))), 1000)
    experiments.EXPERIMENTS["thousands"] = (Row("colored_mnist", "fcn", {"quick": plan}),)
    return experiments.configs("thousands", "quick")[:runs]


def peak() -> float:
    """MiB that this process has held at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


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


def put(source: Path, config: RunConfig, root: Path) -> Path:
    """The file copied under another run's name and configuration."""
    name = identify(config)
    path = results.run_path(name, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    with h5py.File(path, "r+") as file:
        file.attrs.update({"run_id": name, "config": config.to_json(), "device_name": "none"})
    netcdf.sign(path)
    return path


def out_of_cache(root: Path) -> None:
    """Drop the files from the page cache, so that they are read from the disk."""
    os.sync()
    for path in root.rglob("*.nc"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def opened(case: str, root: Path, runs: int) -> dict:
    """Time and memory of a fresh process."""
    out_of_cache(root)
    command = [sys.executable, "-c", OPEN, str(Path(__file__).parent), str(root), str(runs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {"case": case} | json.loads(done.stdout)


def main() -> None:
    options = arguments(__doc__.splitlines()[0], runs=10_000, changed=10)
    configs = planned(options.runs)
    first = options.runs - options.changed
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        source = first_run(Path(folder) / "first")
        for config in configs[:first]:
            put(source, config, root)
        rows = [opened(case, root, options.runs) for case in ("files", "table")]
        for config in configs[first:]:
            put(source, config, root)
        rows.append(opened(f"table, {options.changed} changed", root, options.runs))
        size = consolidated.table_path(root).stat().st_size / 2**20
    show([row | {"table_mib": size} for row in rows], options.json, options.output)


if __name__ == "__main__":
    main()
