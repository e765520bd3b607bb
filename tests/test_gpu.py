"""What must hold on a GPU before its minutes are spent: `pytest -m gpu`, in a minute.

LRSC_TEST_DEVICE=cpu rehearses the same without one.
"""

import dataclasses
import os

import pytest
import torch

import lrsc
from lrsc import TrainConfig

DEVICE = os.environ.get("LRSC_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("default"),  # torch's own, of features that it calls prototypes
    pytest.mark.skipif(not DEVICE, reason="no GPU here; LRSC_TEST_DEVICE=cpu rehearses them"),
]
CUDA = DEVICE.startswith("cuda")
# in fp64: roundoff grows along a training, tenfold in a few steps of a ResNet
CONFIG = TrainConfig(lr=0.02, batch_size=20, max_steps=4, stop_at_accuracy=None, precision="fp64")
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module")
def few():
    """Colored digits, few enough for seconds."""
    found = lrsc.datasets.load("colored_mnist", source="embedded", n_train=100)
    return dataclasses.replace(found, test=found.test.take(torch.arange(100)))


@pytest.mark.parametrize(("model", "settings", "expected"), [
    ("fcn", {}, "stacked"), ("cnn", {}, "graphs"), ("resnet18", {}, "graphs"),
    ("fcn", {"optimizer": "adam", "lr": 1e-3}, "graphs"), ("fcn", {"sam_rho": 0.05}, "graphs"),
])  # fmt: skip
def test_runs_side_by_side_equal_the_reference(few, model, settings, expected):
    config = dataclasses.replace(CONFIG, **settings)
    runs = {"seeds": [0, 1], "device": DEVICE}
    one = lrsc.fit(model, few, config, engine="reference", progress=False, **runs)
    many = lrsc.fit(model, few, config, progress=False, **runs)
    for a, b in zip(one, many, strict=True):
        assert b.engine == expected or not CUDA
        torch.testing.assert_close(b.curves["loss"], a.curves["loss"], **CLOSE)


@pytest.mark.parametrize("model", ["fcn", "resnet18"])
def test_a_run_goes_on_from_its_checkpoint(few, model, tmp_path):
    options = {"seeds": [0, 1], "device": DEVICE, "progress": False}
    whole = lrsc.fit(model, few, CONFIG, **options)
    kept = {"checkpoints": tmp_path, "checkpoint_steps": 1, "checkpoint_seconds": None} | options

    def stop(net):
        stop.calls += 1
        if stop.calls == 3:
            raise InterruptedError
        return torch.zeros(())

    stop.calls = 0
    with pytest.raises(InterruptedError):
        lrsc.fit(model, few, CONFIG, probes={"stop": stop}, probe_every=1, **kept)
    stop.calls = 10
    again = lrsc.fit(model, few, CONFIG, probes={"stop": stop}, probe_every=1, **kept)
    for a, b in zip(whole, again, strict=True):
        torch.testing.assert_close(b.curves["loss"], a.curves["loss"], **CLOSE)


def test_measures_on_the_device_equal_those_on_the_cpu(few):
    config = dataclasses.replace(CONFIG, precision="fp32")
    (run,) = lrsc.fit("resnet18", few, config, device=DEVICE, progress=False)
    options = {"prune_samples": 50, "methods": ["column"], "statistics": lrsc.models.STATISTICS}
    there = lrsc.measure(run.model, few, device=DEVICE, **options)
    here = lrsc.measure(run.model, few, device="cpu", **options)
    for name in here.data_vars:
        left, right = there[name].values, here[name].values
        torch.testing.assert_close(
            torch.from_numpy(left), torch.from_numpy(right), rtol=0.02, atol=0.03, equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )  # fmt: skip
