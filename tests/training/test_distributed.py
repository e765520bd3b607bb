"""One run on two processes (gloo, CPU): the same losses as one process with the same batches."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import lrsc
from lrsc import results
from lrsc.training import distributed

SCRIPT = """
import sys, torch
from torch import nn
import lrsc
from lrsc.datasets import BiasedDataset, Split
from lrsc.training import distributed

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(3)
y = torch.arange(80) % 3
x = torch.randint(0, 256, (80, 3, 8, 8), generator=generator, dtype=torch.uint8)
split = Split(x, y, bias=torch.where(torch.arange(80) % 5 == 0, (y + 1) % 3, y))
dataset = BiasedDataset("own", split, split, n_classes=3)
fcn = lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 3))
cnn = lambda: nn.Sequential(
    nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(144),
    nn.Linear(144, 3))
CASES = {
    "fcn": (fcn, {}),
    "parts": (fcn, {"accumulation": 2, "momentum": 0.9}),
    "adam, focal, l1": (fcn, {"optimizer": "adam", "lr": 0.003, "focal_gamma": 1.0, "l1": 1e-4}),
    "batch statistics": (cnn, {}),
    "asam, batch statistics": (cnn, {"asam_rho": 0.5}),
    "selection": (cnn, {"validation_share": 0.25, "select_by": "worst_group"}),
}
distributed.start()
found = {}
for name, (factory, fields) in CASES.items():
    config = lrsc.TrainConfig(
        **({"lr": 0.05, "batch_size": 10, "max_epochs": 3, "stop_at_accuracy": None} | fields))
    (run,) = lrsc.fit(
        factory, dataset, config, checkpoints=f"{sys.argv[2]}/{name}", checkpoint_steps=5)
    found[name] = {
        "curves": run.curves, "weights": run.model.state_dict(), "accuracy": run.train_accuracy}
    assert not any(type(m).__module__.startswith("lrsc") for m in run.model.modules())
    assert len(distributed.everyones(0)) == distributed.world()
if distributed.rank() == 0:
    torch.save(found, sys.argv[1])
distributed.end()
"""


def torchrun(*command, **options):
    return [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0",
        "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", *map(str, command),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What the script found in one process and in two."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "script.py").write_text(SCRIPT)
    found = []
    for start in ([sys.executable], torchrun()):
        out = folder / f"{len(found)}.pt"
        done = subprocess.run(
            [*start, folder / "script.py", out, folder / f"checkpoints-{len(found)}"],
            capture_output=True, text=True, timeout=1200, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(torch.load(out, weights_only=True))
    return found


@pytest.mark.parametrize(
    "name",
    ["fcn", "parts", "adam, focal, l1", "batch statistics", "asam, batch statistics", "selection"],
)
def test_two_processes_train_as_one(both, name):
    one, two = (found[name] for found in both)
    for curve in ("loss", "loss_ratio", "accuracy"):
        torch.testing.assert_close(
            two["curves"][curve], one["curves"][curve], rtol=2e-3, atol=1e-4, msg=curve
        )
    assert one["weights"].keys() == two["weights"].keys()
    for key, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][key], value, rtol=5e-3, atol=5e-4)
    assert two["accuracy"] == pytest.approx(one["accuracy"], abs=0.03)


def lrsc_run(results_folder, *more):
    return torchrun(
        "-m", "lrsc", "run", "imagenet", "resnet18", "--max-epochs", "1", "--lr", "0.01",
        "--data", "size=32", "--data", "n_train=64", "--results", results_folder, *more,
    )  # fmt: skip


def test_torchrun_trains_the_miniature_imagenet(tmp_path):
    done = subprocess.run(
        lrsc_run(tmp_path), capture_output=True, text=True, timeout=1200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("1 trained, 0 done before") == 1
    (run,) = results.local_runs(tmp_path)
    assert run.attrs["processes"] == 2 and run.attrs["status"] in ("cap", "converged")
    assert json.loads(run.attrs["config"])["train"]["batch_size"] == 16
    assert not list((tmp_path / "checkpoints").iterdir())


def test_sigterm_of_torchrun_keeps_a_checkpoint(tmp_path):
    command = lrsc_run(tmp_path, "--max-epochs", "500", "--set", "stop_at_accuracy=null")
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    claimed = Path(tmp_path) / "runs"
    deadline = time.monotonic() + 1200
    while not claimed.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(8)  # into the training
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=1200)
    (file,) = (tmp_path / "checkpoints").rglob("*.pt")
    state = torch.load(file, weights_only=True)["state"]
    assert state["done"] > 0 and len(state["noise"]) == 2


def test_without_a_group_every_function_is_that_of_one_process():
    x = torch.arange(6).view(2, 3)
    assert distributed.world() == 1 and distributed.rank() == 0
    assert distributed.share(x) is x and distributed.gather(x) is x and distributed.total(x) is x
    assert distributed.everyones("a") == ["a"] and distributed.first_says(3) == 3
    assert distributed.start("cpu") == "cpu"


def test_a_batch_that_the_processes_do_not_divide_is_refused(own_dataset, monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 3)
    config = lrsc.TrainConfig(batch_size=20)
    with pytest.raises(ValueError, match=r"batch_size=20 cannot be shared by 3 processes"):
        lrsc.fit("fcn", own_dataset, config)
