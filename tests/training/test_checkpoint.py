"""Checkpoints: a run killed anywhere and resumed equals the uninterrupted one, bit for bit."""

import copy
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import lrsc
from lrsc import TrainConfig
from lrsc.datasets import augment
from lrsc.training import checkpoint, evaluation

CONFIGS = {
    "plain": {},
    "momentum": {"momentum": 0.9, "l2": 0.01},
    "adam and step": {"optimizer": "adam", "schedule": "step", "step_at": 10},
    "adamw and cosine": {"optimizer": "adamw", "schedule": "cosine"},
    "kron and wsd": {"optimizer": "psgd_kron", "schedule": "wsd"},
    "asam": {"asam_rho": 0.5},
    "selection": {"validation_share": 0.2, "select_by": "mean", "batch_size": 6},
    "parts": {"accumulation": 2},
}


def config(**fields):
    return TrainConfig(**{"lr": 0.02, "batch_size": 8, "max_steps": 24, "stop_at_accuracy": None}
                       | fields)  # fmt: skip


def model():
    """Batch statistics and noise, so that there is more to restore than weights."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(144, 3),
    )  # fmt: skip


class Killed(Exception):
    pass


def norm(net):
    return torch.stack([p.detach().norm() for p in net.parameters()])


def killer(at):
    """A probe that looks like `norm` and ends the run at its call number `at`."""
    calls = iter(range(10**6))

    def probe(net):
        if next(calls) == at:
            raise Killed
        return norm(net)

    return probe


def same(one, two):
    assert one.curves.keys() == two.curves.keys()
    for name, curve in one.curves.items():
        assert torch.equal(curve, two.curves[name]), name
    for (name, a), b in zip(
        one.model.state_dict().items(), two.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    fields = ("status", "epochs", "steps", "train_accuracy", "selected_epoch")
    assert [getattr(one, f) for f in fields] == [getattr(two, f) for f in fields]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("at", [5, 8, 15])  # in an epoch, at an epoch's end, in a later one
def test_killed_and_resumed_equals_uninterrupted(own_dataset, tmp_path, name, at):
    crops = dataclasses.replace(own_dataset.train, augment=augment.random_resized_crop_flip)
    dataset = dataclasses.replace(own_dataset, train=crops)
    settings = config(**CONFIGS[name])
    arguments = {"checkpoints": tmp_path, "checkpoint_steps": 1, "probe_every": 1, "seeds": [3]}
    (whole,) = lrsc.fit(model, dataset, settings, seeds=[3], probes={"n": norm}, probe_every=1)
    with pytest.raises(Killed):
        lrsc.fit(model, dataset, settings, probes={"n": killer(at)}, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["lr-0.02-seed-3.pt"]
    (resumed,) = lrsc.fit(model, dataset, settings, probes={"n": norm}, **arguments)
    same(resumed, whole)


def test_a_finished_run_is_read_and_not_trained(own_dataset, tmp_path):
    arguments = {"checkpoints": tmp_path, "seeds": [0, 1]}
    trained = lrsc.fit(model, own_dataset, config(), **arguments)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = lrsc.fit(model, own_dataset, config(), **arguments)
    for one, two in zip(trained, again, strict=True):
        same(one, two)
        assert one.seconds == two.seconds
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_near_learning_rates_have_files_of_their_own(own_dataset, tmp_path):
    lrsc.fit(model, own_dataset, config(), lrs=[0.1234567, 0.1234568], checkpoints=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("where", ["validation_accuracy", "training_accuracies", "training_loss"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_signal_during_an_evaluation_loses_nothing(
    own_dataset, tmp_path, monkeypatch, where, epoch
):
    settings = config(
        validation_share=0.2, select_by="mean", batch_size=6, stop_at_accuracy=1e-6,
        stop_at_loss=1e-6,
    )  # fmt: skip
    probes = {"probes": {"n": norm}, "probe_every": 5}
    (whole,) = lrsc.fit(model, own_dataset, settings, **probes)
    called, original = [], getattr(evaluation, where)

    def interrupted(*args, **kwargs):
        called.append(1)
        if len(called) == epoch:
            signal.raise_signal(signal.SIGTERM)
        return original(*args, **kwargs)

    monkeypatch.setattr(evaluation, where, interrupted)
    with pytest.raises(SystemExit) as stopped:
        lrsc.fit(model, own_dataset, settings, checkpoints=tmp_path, **probes)
    assert stopped.value.code == 143
    (resumed,) = lrsc.fit(model, own_dataset, settings, checkpoints=tmp_path, **probes)
    same(resumed, whole)


def test_writing_takes_no_more_than_its_share_of_the_time(own_dataset, tmp_path, monkeypatch):
    slow = checkpoint.save

    def save(*args):
        time.sleep(0.05)
        slow(*args)

    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda *args: (saved.append(1), save(*args)))
    lrsc.fit(model, own_dataset, config(), checkpoints=tmp_path, checkpoint_seconds=1e-9)
    assert len(saved) == 2  # the first, which tells how long one takes, and the last


def test_recording_in_parts_changes_nothing(own_dataset, tmp_path, monkeypatch):
    whole = lrsc.fit(model, own_dataset, config())[0]
    monkeypatch.setattr("lrsc.training.engines.lanes._RECORDED", 3 * 8 * 3)  # three steps at a time
    same(lrsc.fit(model, own_dataset, config())[0], whole)
    often = {"checkpoints": tmp_path, "checkpoint_steps": 2}
    same(lrsc.fit(model, own_dataset, config(), **often)[0], whole)


def refused(own_dataset, folder, match, *, factory=model, **fields):
    with pytest.raises(ValueError, match=match) as error:
        lrsc.fit(factory, own_dataset, config(**fields), checkpoints=folder)
    assert "Move or delete it" in str(error.value)


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(own_dataset, tmp_path):
    lrsc.fit(model, own_dataset, config(), checkpoints=tmp_path)
    refused(own_dataset, tmp_path, r"config.momentum: checkpoint 0.0, now 0.5", momentum=0.5)
    wide = lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3))  # noqa: E731
    refused(
        own_dataset,
        tmp_path,
        r"model: checkpoint Sequential\( \(0\): Conv2d.*, now .*Flatten",
        factory=wide,
    )
    other = dataclasses.replace(own_dataset, source_id="1")
    refused(other, tmp_path, r"data: checkpoint own")
    smooth = lambda: nn.Sequential(*[nn.Tanh() if type(m) is nn.ReLU else m for m in model()])  # noqa: E731
    refused(own_dataset, tmp_path, r"model: checkpoint .*ReLU.*, now .*Tanh", factory=smooth)
    halves = dataclasses.replace(own_dataset.train, x=own_dataset.train.x // 2)
    refused(
        dataclasses.replace(own_dataset, train=halves), tmp_path, r"samples: checkpoint 60, dig"
    )


def test_other_initial_weights_are_another_run(own_dataset, tmp_path):
    lrsc.fit(model, own_dataset, config(), checkpoints=tmp_path)

    def larger():
        net = model()
        with torch.no_grad():
            net[0].weight.mul_(2)
        return net

    refused(own_dataset, tmp_path, "weights: checkpoint digest", factory=larger)


def test_a_checkpoint_of_other_code_is_refused(own_dataset, tmp_path, monkeypatch):
    lrsc.fit(model, own_dataset, config(), checkpoints=tmp_path)
    monkeypatch.setattr(checkpoint, "__version__", "9.9")
    refused(own_dataset, tmp_path, r"lrsc: checkpoint .*, now 9\.9")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other content", "one byte"])
def test_a_damaged_checkpoint_is_refused_and_kept(own_dataset, tmp_path, damage):
    lrsc.fit(model, own_dataset, config(), checkpoints=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage == "one byte":
        at = whole.index(torch.load(path)["state"]["model"]["5.weight"].numpy().tobytes())
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    elif damage == "other content":
        torch.save({"model": torch.zeros(1)}, path)
    else:
        path.write_bytes({"truncated": whole[:-300], "empty": b"", "text": b"no"}[damage])
    held = path.read_bytes()
    refused(own_dataset, tmp_path, "cannot be read")
    assert path.read_bytes() == held


def test_code_in_a_checkpoint_is_not_run(own_dataset, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"made_by": {}, "state": Evil()}, tmp_path / "lr-0.02-seed-0.pt")
    refused(own_dataset, tmp_path, "cannot be read")
    assert not (tmp_path / "evil").exists()


SCRIPT = """
import sys, time, torch, lrsc
torch.set_num_threads(1)
def slow(net):
    print("step", flush=True)
    time.sleep(0.02)
    return torch.zeros(())
ds = lrsc.datasets.load("parity", n_train=1000, n_noise=10, n_core=3, n_spurious=1)
config = lrsc.TrainConfig(max_steps=400, stop_at_accuracy=None)
lrsc.fit("fcn", ds, config, probes={"slow": slow}, probe_every=1, checkpoints=sys.argv[1])
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_a_signal_writes_a_checkpoint_and_ends_the_process(tmp_path, number, status):
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", start + SCRIPT, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(5):
        assert process.stdout.readline() == "step\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=1200)
    if number == signal.SIGTERM:
        assert process.returncode == status and "Traceback" not in error
    else:
        assert "KeyboardInterrupt" in error
    (path,) = tmp_path.iterdir()
    state = torch.load(path, weights_only=True)["state"]
    assert 5 <= state["done"] < 400 and not state["finished"]
    assert len(state["curves"]["loss"]) == state["done"]


def test_signals_are_as_before_afterwards(own_dataset, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    lrsc.fit(model, own_dataset, config(), checkpoints=tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("name", ["checkpoint_seconds", "checkpoint_steps"])
def test_intervals_are_positive(own_dataset, name):
    with pytest.raises(ValueError, match=f"{name} must be > 0"):
        lrsc.fit(model, own_dataset, config(), **{name: 0})


def scaled(x, generator, by):
    return (x.float() * by).to(x.dtype)


class Scaled:
    def __init__(self, by):
        self.by = by

    def __call__(self, x, generator):
        return scaled(x, generator, self.by)


class Own(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.a, self.b, self.activation = nn.Linear(192, 8), nn.Linear(8, 3), activation

    def forward(self, x):
        return self.b(self.activation(self.a(x.flatten(1))))


class Other(Own):
    def forward(self, x):
        return self.b(self.activation(-self.a(x.flatten(1))))


def augmented(data, augment):
    return dataclasses.replace(data, train=dataclasses.replace(data.train, augment=augment))


def turned(data, sample):
    x = data.train.x.clone()
    x[sample] = 255 - x[sample]
    return dataclasses.replace(data, train=dataclasses.replace(data.train, x=x))


def validated(data, shift):
    part = dataclasses.replace(data.test, y=(data.test.y + shift) % 3)
    return dataclasses.replace(data, val=part)


Other.__qualname__ = "Own"
Other.__name__ = "Own"
PAIRS = {
    "a sample in the middle": lambda d, k: (turned(d, 30) if k else d, model),
    "a lambda's own": lambda d, k: (augmented(d, lambda x, g: scaled(x, g, 1 + k)), model),
    "a partial's": lambda d, k: (augmented(d, functools.partial(scaled, by=1 + k)), model),
    "an object's": lambda d, k: (augmented(d, Scaled(1 + k)), model),
    "validation": lambda d, k: (validated(d, k), model),
    "an activation": lambda d, k: (d, lambda: Own([torch.relu, torch.tanh][k])),
    "a slope": lambda d, k: (d, lambda: Own(lambda x: torch.relu(x) * (1 + k))),
    "a forward": lambda d, k: (d, [lambda: Own(torch.relu), lambda: Other(torch.relu)][k]),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_whatever_a_training_depends_on_makes_it_another(own_dataset, tmp_path, kind):
    def fit(k, **more):
        data, factory = PAIRS[kind](own_dataset, k)
        return lrsc.fit(factory, data, config(max_steps=4), progress=False, **more)[0]

    first = fit(0, checkpoints=tmp_path)
    same(fit(0, checkpoints=tmp_path), first)  # made anew, as in another process
    with pytest.raises(ValueError, match="is of another run"):
        fit(1, checkpoints=tmp_path)


def test_a_checkpoint_of_another_ready_module_is_refused(own_dataset, tmp_path):
    one, other = model(), model()
    copied = copy.deepcopy(one)
    first = lrsc.fit(one, own_dataset, config(), checkpoints=tmp_path, progress=False)[0]
    weights = copy.deepcopy(other.state_dict())
    refused(own_dataset, tmp_path, "module with other initial weights", factory=other)
    assert all(torch.equal(v, weights[name]) for name, v in other.state_dict().items())
    for net in (copied, one):  # the module as it was, and as the first training has left it
        again = lrsc.fit(net, own_dataset, config(), checkpoints=tmp_path, progress=False)[0]
        same(again, first)


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_of_a_shared_trunk_are_not_those_of_several_runs(own_dataset, frozen):
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    trunk.requires_grad_(False)
    if frozen:
        trunk.train = lambda mode=True: nn.Module.train(trunk, False)
        trunk.eval()
    nets = lambda: nn.Sequential(trunk, nn.Linear(144, 3))  # noqa: E731
    fit = functools.partial(lrsc.fit, nets, own_dataset, config(max_steps=3), progress=False)
    if frozen:
        assert len(fit(seeds=[0, 1], engine="reference")) == 2
        return
    with pytest.raises(ValueError, match=r"running_mean.*second time"):
        fit(seeds=[0, 1], engine="reference")
