"""Engines against the reference loop: equal runs, places given on, memory that runs out."""

import contextlib
import dataclasses
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import lrsc
from lrsc import TrainConfig
from lrsc.datasets import augment
from lrsc.training import Request, fixed_loss_ratio
from lrsc.training.engines import choose, stacked
from lrsc.training.engines.graphs import Graphs
from lrsc.training.engines.static import Static
from lrsc.training.fit import make_job
from lrsc.training.progress import Progress
from lrsc.training.run import Run

LONG = TrainConfig(max_steps=100, stop_at_accuracy=None, batch_size=20, lr=0.05)


def chain():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 16), nn.ReLU(),
        nn.Sequential(nn.Linear(16, 12, bias=False), nn.ReLU()), nn.Linear(12, 3),
    )  # fmt: skip


def normalised():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 3)
    )


def large():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 9000), nn.ReLU(), nn.Linear(9000, 3))


def hooked():
    layer = nn.Linear(4, 2)
    layer.weight.register_hook(lambda g: g * 0)
    return nn.Sequential(layer)


def noisy():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def train(model, dataset, configs, engine, seeds=None, **options):
    """Runs of different settings in one group, in the order of the configs."""
    seeds = seeds or range(len(configs))
    requests = [Request(c, s, name=i) for i, (c, s) in enumerate(zip(configs, seeds, strict=True))]
    found = {}
    lrsc.training.fit_each(
        model, dataset, configs, requests,
        lambda ended: found.update({request.name: run for request, run in ended}),
        engine=engine, keep=False, **options,
    )  # fmt: skip
    return [found[i] for i in range(len(configs))]


@pytest.fixture
def graphs_anywhere(monkeypatch):
    """The graphs engine without a GPU: the same step, called instead of replayed."""
    unfit = choose._unfit
    monkeypatch.setattr(
        choose, "_unfit", lambda name, *rest: None if name == "graphs" else unfit(name, *rest)
    )


VARIANTS = {
    "plain": [{"lr": 0.05}, {"lr": 0.02}, {"lr": 0.01}],
    "mixed": [
        {"momentum": 0.9, "lr": 0.01}, {"l2": 0.01}, {"l1": 1e-3}, {"focal_gamma": 2.0},
        {"weight_decay": 0.01, "momentum": 0.5}, {},
    ],
    "focal": [{"focal_gamma": 0.5}, {"focal_gamma": 0.0}, {"focal_gamma": 3.0}],
    "schedules": [{"schedule": "cosine"}, {"schedule": "step", "step_at": 50}, {}],
    "ends": [{"max_steps": 7}, {"max_steps": 31}, {"max_epochs": 4, "max_steps": None}, {}],
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_stacked_runs_equal_the_reference_in_double_precision(own_dataset, variant):
    configs = [dataclasses.replace(LONG, precision="fp64", **v) for v in VARIANTS[variant]]
    one, many = (train(chain, own_dataset, configs, e) for e in ("reference", "stacked"))
    for a, b, config in zip(one, many, configs, strict=True):
        assert b.engine == "stacked" and a.config == b.config == config
        assert a.curves["loss"].dtype == torch.float64
        torch.testing.assert_close(b.curves["loss"], a.curves["loss"], rtol=1e-9, atol=0)
        torch.testing.assert_close(b.curves["loss_ratio"], a.curves["loss_ratio"], rtol=1e-8,
                                   atol=1e-12)  # fmt: skip
        assert (a.steps, a.epochs, a.status, a.seed) == (b.steps, b.epochs, b.status, b.seed)
        assert b.train_accuracy == a.train_accuracy
        for name, value in a.model.state_dict().items():
            torch.testing.assert_close(
                b.model.state_dict()[name], value, rtol=1e-7, atol=1e-10, msg=name
            )


def test_a_hundred_steps_of_single_precision_are_near(parity):
    config = TrainConfig(max_steps=100, stop_at_accuracy=None)
    lrs = {"lrs": [0.01, 0.03, 0.05], "seeds": [0, 1]}
    one, many = (lrsc.fit("fcn", parity, config, **lrs, engine=e) for e in ("reference", "stacked"))
    for a, b in zip(one, many, strict=True):
        torch.testing.assert_close(b.curves["loss"], a.curves["loss"], rtol=1e-4, atol=0)
        assert torch.equal(b.curves["accuracy"], a.curves["accuracy"])


def test_half_precision_rounds_where_the_reference_does(parity):
    config = TrainConfig(max_steps=30, stop_at_accuracy=None, precision="bf16", lr=0.05)
    one, many = (
        lrsc.fit("fcn", parity, config, seeds=[0, 1], engine=e) for e in ("reference", "stacked")
    )
    full = lrsc.fit("fcn", parity, dataclasses.replace(config, precision="fp32"), seeds=[0, 1])
    for a, b, c in zip(one, many, full, strict=True):
        near = (a.curves["loss"] - b.curves["loss"]).abs().max()
        assert near < 0.1 * (a.curves["loss"] - c.curves["loss"]).abs().max()


@pytest.mark.parametrize("lr", [0.75, 5.0])
def test_one_step_from_equal_state_at_any_learning_rate(parity, lr):
    config = TrainConfig(max_steps=1, stop_at_accuracy=None)
    one, many = (
        lrsc.fit("fcn", parity, config, lrs=[lr, 0.1], engine=e)[0]
        for e in ("reference", "stacked")
    )
    for a, b in zip(one.model.parameters(), many.model.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6 * lr)


def test_final_accuracies_have_the_same_distribution(parity):
    config = TrainConfig(lr=0.3, max_epochs=40)
    one, many = (
        torch.tensor([
            float(lrsc.measure(run.model, parity, methods=[])["unbiased_accuracy"])
            for run in lrsc.fit("fcn", parity, config, seeds=range(10), engine=e)
        ])
        for e in ("reference", "stacked")
    )  # fmt: skip
    spread = (one.var() / 10 + many.var() / 10).sqrt()
    assert abs(one.mean() - many.mean()) < 3 * spread


def test_lanes_of_one_thread_are_the_reference_bit_for_bit(own_dataset):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = lrsc.fit(normalised, own_dataset, LONG, lrs=[0.02, 0.05], engine="reference")
    finally:
        torch.set_num_threads(2)
    try:
        together = lrsc.fit(normalised, own_dataset, LONG, lrs=[0.02, 0.05], engine="threads")
        assert torch.get_num_threads() == 2  # as it was
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a.curves["loss"], b.curves["loss"])
        assert all(
            torch.equal(p, q)
            for p, q in zip(
                a.model.state_dict().values(), b.model.state_dict().values(), strict=True
            )
        )
    assert (together[0].engine, together[0].replicas) == ("threads", 2)


GRAPHED = [
    {"lr": 0.02}, {"lr": 0.05, "momentum": 0.9, "l2": 0.01}, {"optimizer": "adam", "lr": 1e-3},
    {"optimizer": "adamw", "lr": 1e-3, "schedule": "cosine", "weight_decay": 0.01},
    {"schedule": "switch", "switch_at": 30}, {"asam_rho": 0.5}, {"focal_gamma": 2.0},
]  # fmt: skip


def test_the_graphs_step_is_the_reference(own_dataset, graphs_anywhere):
    probes = {"probes": {"ratio": fixed_loss_ratio(own_dataset, 30)}, "probe_every": 7}
    common = dataclasses.replace(LONG, precision="fp64")
    configs = [dataclasses.replace(common, max_steps=40 + i, **v) for i, v in enumerate(GRAPHED)]
    one = train(normalised, own_dataset, configs, "reference", **probes)
    many = train(normalised, own_dataset, configs, "graphs", **probes)
    for a, b in zip(one, many, strict=True):
        assert b.engine == "graphs" and a.steps == b.steps
        for name in ("loss", "ratio", "ratio_step"):
            # an optimiser that can be captured counts its steps, and schedules its LR, in float32
            torch.testing.assert_close(b.curves[name], a.curves[name], rtol=1e-5, atol=1e-7)
        assert isinstance(b.model, nn.Sequential)


class CaptureHere:
    """What CUDA does at a capture, without it: the step is recorded, not done; a replay does it."""

    def __init__(self, static):
        self.static = static

    def wait_stream(self, other):
        pass

    synchronize = record_stream = wait_stream

    def replay(self):
        type(self.static)._one(self.static)


@pytest.fixture
def captures_here(monkeypatch, graphs_anywhere):
    original = Static.__init__

    def with_stream(self, *args):
        original(self, *args)
        self.stream = CaptureHere(self)

    @contextlib.contextmanager
    def graph(made, stream):
        made.static = stream.static
        stream.static._one = lambda: None  # recorded
        yield
        del stream.static._one

    monkeypatch.setattr(Static, "__init__", with_stream)
    monkeypatch.setattr(CaptureHere, "synchronize", lambda self: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: CaptureHere(None))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: CaptureHere(None))
    monkeypatch.setattr(torch.cuda, "graph", graph)


@pytest.mark.parametrize(("engine", "model"), [("graphs", normalised), ("stacked", chain)])
@pytest.mark.parametrize("every", [1, 7, 1000])
def test_a_capture_changes_nothing_wherever_it_comes(
    own_dataset, captures_here, engine, model, every
):
    """Probes look at step 0, so that the capture comes later; warm-up calls are undone."""
    probes = {"probes": {"ratio": fixed_loss_ratio(own_dataset, 30)}, "probe_every": every}
    settings = GRAPHED if engine == "graphs" else [{"momentum": 0.9}, {"l2": 0.1}, {"lr": 0.02}]
    configs = [dataclasses.replace(LONG, precision="fp64", **v) for v in settings]
    one = train(model, own_dataset, configs, "reference", **probes)
    many = train(model, own_dataset, configs, engine, **probes)
    for a, b in zip(one, many, strict=True):
        for name in ("loss", "ratio", "ratio_step"):
            torch.testing.assert_close(b.curves[name], a.curves[name], rtol=1e-4, atol=1e-7)


def test_probes_see_each_run_its_own_gradient(own_dataset):
    def probe(net):
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        return {
            "gradients": torch.stack([g.norm() for g in gradients]) if gradients else torch.ones(5),
            "weights": torch.stack([p.detach().norm() for p in net.parameters()]),
        }

    options = {"lrs": [0.02, 0.05], "seeds": [0, 1], "probes": {"p": probe}, "probe_every": 5}
    config = dataclasses.replace(LONG, weight_decay=0.5, l2=0.3, l1=0.01)
    one, many = (lrsc.fit(chain, own_dataset, config, **options, engine=e)
                 for e in ("reference", "stacked"))  # fmt: skip
    for a, b in zip(one, many, strict=True):
        assert b.curves["p_step"].tolist() == [*range(0, 100, 5), 100]
        for name in ("p_gradients", "p_weights"):
            torch.testing.assert_close(b.curves[name], a.curves[name], rtol=1e-3, atol=1e-6)


def test_a_run_at_nan_changes_no_other_and_leaves(own_dataset):
    config = TrainConfig(batch_size=20, max_epochs=30, stop_at_accuracy=None)
    alone = lrsc.fit(chain, own_dataset, config, lrs=[0.01, 0.02], engine="stacked", replicas=3)
    fine, bad, other = lrsc.fit(
        chain, own_dataset, config, lrs=[0.01, 1e30, 0.02], engine="stacked", replicas=3
    )
    assert bad.status == "diverged" and bad.epochs < 30 and bad.train_accuracy != bad.train_accuracy
    for a, b in zip(alone, (fine, other), strict=True):
        torch.testing.assert_close(b.curves["loss"], a.curves["loss"], rtol=1e-4, atol=0)
        assert b.steps == 90 and b.curves["loss"].isfinite().all()


def test_a_place_that_is_free_is_given_to_the_next_run(parity):
    """Runs of different length, three places: the next begins when one ends, all equal theirs."""
    configs = [TrainConfig(lr=0.05, max_epochs=n, stop_at_accuracy=None) for n in (1, 5, 2, 3, 1)]
    asked, ended = [], []

    def requests():
        for number, config in enumerate(configs):
            asked.append((number, len(ended)))
            yield Request(config, number, name=number)

    found = {}

    def finish(runs):
        for request, run in runs:
            ended.append(request.name)
            found[request.name] = run

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        lrsc.training.fit_each(
            "fcn", parity, configs, requests(), finish, engine="stacked", replicas=3, keep=False
        )
    finally:
        torch.set_num_threads(threads)
    assert ended == [0, 2, 4, 1, 3] or ended == [0, 2, 4, 3, 1]
    assert asked == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2)]
    alone = train("fcn", parity, configs, "reference")
    for number, run in found.items():
        torch.testing.assert_close(
            run.curves["loss"], alone[number].curves["loss"], rtol=1e-4, atol=0
        )


class Full(torch.OutOfMemoryError):
    pass


@pytest.mark.parametrize("engine", ["stacked", "threads", "graphs"])
def test_out_of_memory_halves_the_group_and_loses_no_finished_run(
    own_dataset, monkeypatch, caplog, graphs_anywhere, engine
):
    """Memory for two at once, from the second epoch on: the finished first run is not repeated."""
    kind = {"stacked": stacked.Stacked, "graphs": Graphs}.get(engine, choose.Reference)
    advance, going = kind.advance, []

    def limited(self, runs, n, due):
        if runs[0].epochs and len(runs) > 2:
            raise Full("CUDA out of memory. Tried to allocate 1 GiB")
        if engine == "threads" and threading.active_count() > 2 and runs[0].epochs == 1:
            raise Full("DefaultCPUAllocator: can't allocate memory")
        return advance(self, runs, n, due)

    monkeypatch.setattr(kind, "advance", limited)
    configs = [dataclasses.replace(LONG, max_steps=s, lr=0.05) for s in (3, 30, 30, 30, 30)]
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if engine == "threads" else 1)
    try:
        found = {}

        def finish(ended):
            for request, run in ended:
                going.append(request.name)
                found[request.name] = run

        if engine == "threads":
            with pytest.raises(ValueError, match="out of memory in training"):
                train(chain, own_dataset, configs, engine)
            return
        lrsc.training.fit_each(
            chain, own_dataset, configs, [Request(c, i, name=i) for i, c in enumerate(configs)],
            finish, engine=engine, replicas=4, keep=False,
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    assert sorted(going) == [0, 1, 2, 3, 4] and "out of memory" in caplog.text
    alone = train(chain, own_dataset, configs, "reference")
    for number, run in found.items():
        assert run.steps == alone[number].steps
        torch.testing.assert_close(
            run.curves["loss"], alone[number].curves["loss"], rtol=1e-3, atol=0
        )


def test_a_lane_without_memory_leaves_its_run_to_the_other(own_dataset, monkeypatch):
    advance, failed = choose.Reference.advance, []

    def limited(self, runs, n, due):
        if runs[0].epochs == 1 and not failed:
            failed.append(runs[0].seed)
            raise Full("DefaultCPUAllocator: can't allocate memory")
        return advance(self, runs, n, due)

    monkeypatch.setattr(choose.Reference, "advance", limited)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = lrsc.fit(normalised, own_dataset, LONG, seeds=range(4), engine="threads")
    finally:
        torch.set_num_threads(threads)
    assert failed and [run.steps for run in runs] == [100] * 4


def test_out_of_memory_alone_says_what_needs_less(own_dataset, monkeypatch):
    def full(*_):
        raise Full("CUDA out of memory. Tried to allocate 1 GiB")

    monkeypatch.setattr(stacked.Stacked, "advance", full)
    with pytest.raises(lrsc.errors.OutOfMemory, match="a smaller batch_size"):
        lrsc.fit(chain, own_dataset, LONG, lrs=[0.1, 0.2], engine="stacked")


def test_a_group_goes_on_from_its_checkpoints(own_dataset, tmp_path):
    """Stopped inside an epoch; the runs, one of them finished, go on where they were."""
    calls = iter(range(10**6))

    def probe(net):
        if next(calls) == 9:
            raise KeyError("stop here")
        return torch.zeros(())

    options = {"lrs": [0.02, 0.05], "seeds": [0, 1], "engine": "stacked", "probe_every": 20}
    keep = {"checkpoints": tmp_path, "checkpoint_steps": 2}
    with pytest.raises(KeyError):
        lrsc.fit(chain, own_dataset, LONG, probes={"p": probe}, **options, **keep)
    done = [torch.load(p)["state"]["done"] for p in tmp_path.glob("*.pt")]
    assert len(done) == 4 and 0 < max(done) < 100
    assert all(p.stat().st_size < 100_000 for p in tmp_path.glob("*.pt"))  # not the whole stack
    zero = {"probes": {"p": lambda net: torch.zeros(())}}
    resumed = lrsc.fit(chain, own_dataset, LONG, **zero, **options, **keep)
    whole = lrsc.fit(chain, own_dataset, LONG, **zero, **options)
    for a, b in zip(whole, resumed, strict=True):
        torch.testing.assert_close(b.curves["loss"], a.curves["loss"], rtol=1e-4, atol=0)
        assert b.steps == a.steps and b.curves["p_step"].tolist() == a.curves["p_step"].tolist()


def test_momentum_goes_on_from_another_engines_checkpoint(own_dataset, tmp_path):
    config = dataclasses.replace(LONG, momentum=0.9, lr=0.01, precision="fp64")
    seen = []

    def stop(net):
        seen.append(1)
        if len(seen) > 12:
            raise KeyError
        return torch.zeros(())

    options = {"seeds": [0, 1], "checkpoints": tmp_path, "probe_every": 5}
    with pytest.raises(KeyError):
        lrsc.fit(chain, own_dataset, config, probes={"p": stop}, checkpoint_steps=3,
                 engine="reference", **options)  # fmt: skip
    quiet = {"probes": {"p": lambda net: torch.zeros(())}, "probe_every": 5, "seeds": [0, 1]}
    resumed = lrsc.fit(chain, own_dataset, config, engine="stacked", checkpoints=tmp_path, **quiet)
    whole = lrsc.fit(chain, own_dataset, config, engine="reference", **quiet)
    for a, b in zip(whole, resumed, strict=True):
        torch.testing.assert_close(b.curves["loss"], a.curves["loss"], rtol=1e-8, atol=0)


SIGNALLED = """
import sys, torch, lrsc
torch.set_num_threads(2)
ds = lrsc.datasets.load("parity", n_train=1000, n_noise=10, n_core=3, n_spurious=1)
def probe(net):
    print("looking", flush=True)
    return torch.zeros(())
lrsc.fit(sys.argv[2], ds, lrsc.TrainConfig(lr=1e-3, max_epochs=100000, stop_at_accuracy=None),
         seeds=range(4), checkpoints=sys.argv[1], probes={"p": probe}, probe_every=100,
         model_options={"hidden": (int(sys.argv[3]), 200)})
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("width", "running"), [(200, 4), (3000, 2)])  # one lane; two, a run each
def test_a_signal_keeps_all_runs_of_all_lanes(tmp_path, number, width, running):
    command = [sys.executable, "-c", SIGNALLED, str(tmp_path), "fcn", str(width)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(6):
        assert process.stdout.readline() == "looking\n"
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=1200)
    assert process.returncode == 143 if number == signal.SIGTERM else "KeyboardInterrupt" in said
    states = [torch.load(path)["state"] for path in tmp_path.glob("*.pt")]
    assert len(states) == running and all(state["done"] > 0 for state in states)
    assert all(len(state["curves"]["loss"]) == state["done"] for state in states)


def test_an_error_in_one_lane_ends_all(own_dataset):
    def probe(net):
        raise LookupError("a probe of mine")

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(LookupError, match="a probe of mine"):
            lrsc.fit(normalised, own_dataset, LONG, seeds=range(4), probes={"p": probe},
                     engine="threads")  # fmt: skip
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert not [t for t in threading.enumerate() if t.name.startswith("lane")]


@pytest.mark.parametrize("engine", ["stacked", "threads", "graphs"])
def test_what_has_ended_is_freed_at_once(own_dataset, graphs_anywhere, engine, monkeypatch):
    """Not when the garbage collector comes: on a GPU nothing tells it to."""
    seen, original = [], Run.__init__

    def remembered(self, *args):
        original(self, *args)
        seen.append(weakref.ref(self))

    monkeypatch.setattr(Run, "__init__", remembered)
    gc.collect()
    gc.disable()
    try:
        lrsc.fit(chain, own_dataset, LONG, seeds=range(3), engine=engine)
        assert len(seen) == 3 and not [run for run in seen if run() is not None]
    finally:
        gc.enable()


def test_memory_of_a_group_is_free_when_a_smaller_one_begins(own_dataset, monkeypatch):
    old, alive, advance = [], [], stacked.Stacked.advance

    def limited(self, runs, n, due):
        if len(runs) > 2:
            old.append(weakref.ref(self))
            old.extend(weakref.ref(run) for run in runs)
            raise Full("CUDA out of memory. Tried to allocate 1 GiB")
        alive.append(sum(ref() is not None for ref in old))
        return advance(self, runs, n, due)

    monkeypatch.setattr(stacked.Stacked, "advance", limited)
    runs = lrsc.fit(chain, own_dataset, LONG, seeds=range(4), engine="stacked")
    assert len(old) == 5 and len(runs) == 4 and set(alive) == {0}


def test_memory_that_runs_out_while_measuring_is_tried_again_without_the_others(own_dataset):
    configs = [dataclasses.replace(LONG, max_steps=n) for n in (3, 30, 30)]
    tried, found = [], {}

    def finish(ended):
        tried.append([request.name for request, _ in ended])
        if len(tried) == 1:
            raise Full("CUDA out of memory. Tried to allocate 1 GiB")
        found.update({request.name: run for request, run in ended})

    lrsc.training.fit_each(
        chain, own_dataset, configs, [Request(c, i, name=i) for i, c in enumerate(configs)],
        finish, engine="stacked", keep=False,
    )  # fmt: skip
    assert tried == [[0], [0], [1, 2]] and sorted(found) == [0, 1, 2]
    alone = train(chain, own_dataset, configs, "reference")
    for number, run in found.items():
        torch.testing.assert_close(
            run.curves["loss"], alone[number].curves["loss"], rtol=1e-3, atol=0
        )


def test_a_signal_while_a_run_is_measured_keeps_the_others(own_dataset, tmp_path):
    configs = [dataclasses.replace(LONG, max_steps=n) for n in (3, 3000, 3000)]
    requests = [Request(c, i, tmp_path / f"{i}.pt", i) for i, c in enumerate(configs)]
    with pytest.raises(SystemExit):
        lrsc.training.fit_each(
            chain, own_dataset, configs, requests,
            lambda ended: signal.raise_signal(signal.SIGTERM), engine="stacked",
        )  # fmt: skip
    assert len(list(tmp_path.glob("*.pt"))) == 3


def test_models_that_come_back_own_their_weights(own_dataset):
    runs = lrsc.fit(chain, own_dataset, LONG, seeds=[0, 1, 2], engine="stacked")
    for run in runs:
        for p in run.model.parameters():
            assert p.untyped_storage().nbytes() == p.numel() * p.element_size()
            assert p.grad is None


def test_what_auto_chooses(own_dataset):
    def chosen(model=chain, engine="auto", replicas=None, dataset=own_dataset, n=4, **settings):
        config = dataclasses.replace(LONG, **settings)
        job = make_job(model, dataset, [config], {}, {}, 200, None, None, "cpu")
        return choose.plan(job, [config] * n, engine, replicas)

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert chosen() == choose.Plan("stacked", 1, 4, False)
        assert chosen(n=1) == choose.Plan("reference", 1, 1)
        assert chosen(n=24) == choose.Plan("stacked", 1, 24, False)
        assert chosen(n=24, replicas=3) == choose.Plan("stacked", 1, 3, False)
        assert chosen(normalised) == choose.Plan("threads", 2, 1, True)
        assert chosen(optimizer="adam") == choose.Plan("threads", 2, 1, True)
        assert chosen(noisy).engine == chosen(optimizer="psgd_kron").engine == "reference"
        crops = dataclasses.replace(own_dataset.train, augment=augment.random_resized_crop_flip)
        crops = dataclasses.replace(own_dataset, train=crops)
        assert chosen(dataset=crops).engine == "reference"
        assert chosen(large, n=24) == choose.Plan("stacked", 2, 1, True)
    finally:
        torch.set_num_threads(threads)


def test_fewer_replicas_where_memory_is_short(own_dataset, monkeypatch):
    monkeypatch.setattr(choose, "free_memory", lambda device: 10_000)
    job = make_job(chain, own_dataset, [LONG], {}, {}, 200, None, None, "cpu")
    assert choose.plan(job, [LONG] * 8) == choose.Plan("stacked", 1, 1, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"engine": "stackd"}, "'stacked'"),
        ({"engine": "stacked", "model": normalised}, "not a chain of linear layers"),
        ({"engine": "threads", "model": noisy}, "draws random numbers in training"),
        ({"engine": "graphs"}, "need a GPU"),
        (
            {"engine": "stacked", "config": {"optimizer": "adam"}},
            "SGD only, found",
        ),
        ({"engine": "stacked", "config": {"sam_rho": 0.1}}, "sharpness-aware"),
        ({"replicas": 0}, "replicas must be a whole number >= 1"),
    ],
)
def test_an_engine_that_cannot_is_refused_with_the_reason(own_dataset, arguments, words):
    if arguments.get("engine") == "graphs" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so the engine graphs is not refused")
    config = dataclasses.replace(LONG, **arguments.pop("config", {}))
    model = arguments.pop("model", chain)
    with pytest.raises(ValueError, match=words):
        lrsc.fit(model, own_dataset, config, lrs=[0.1, 0.2], device="cpu", **arguments)


@pytest.mark.parametrize(
    ("device", "words"), [("cuda:99", "finds . GPUs"), ("cdua", "is unknown: use 'cpu', 'cuda'")]
)
def test_a_device_that_is_not_here_is_named(own_dataset, device, words):
    with pytest.raises(ValueError, match=words):
        lrsc.fit(chain, own_dataset, LONG, device=device)
    with pytest.raises(ValueError, match=words):
        lrsc.sweep.run("synthetic", device=device)


def test_runs_of_one_group_must_agree_in_what_they_share(own_dataset):
    configs = [LONG, dataclasses.replace(LONG, batch_size=10)]
    with pytest.raises(ValueError, match="must agree in batch_size"):
        train(chain, own_dataset, configs, "auto")


@pytest.mark.parametrize("model", [chain, normalised], ids=["stacked", "graphs"])
def test_on_a_gpu_captured_steps_equal_the_reference(own_dataset, model):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here: CUDA graphs cannot be captured and compared")
    configs = [dataclasses.replace(LONG, lr=lr, precision="fp64") for lr in (0.02, 0.05)]
    one = train(model, own_dataset, configs, "reference", device="cuda")
    many = train(model, own_dataset, configs, "auto", device="cuda")
    for a, b in zip(one, many, strict=True):
        assert b.engine == ("stacked" if model is chain else "graphs")
        torch.testing.assert_close(b.curves["loss"], a.curves["loss"], rtol=1e-9, atol=0)


def test_on_a_gpu_every_graphed_setting_equals_the_reference(own_dataset):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here: CUDA graphs cannot be captured and compared")
    configs = [dataclasses.replace(LONG, **v) for v in GRAPHED]
    half = torch.full((3,), 0.5)  # standardised, with a probe at step 0: as a sweep has it
    split = dataclasses.replace(own_dataset.train, mean=half, std=half)
    dataset = dataclasses.replace(own_dataset, train=split, test=split)
    probes = {"probes": {"ratio": fixed_loss_ratio(dataset, 30)}, "probe_every": 7}
    one = train(normalised, dataset, configs, "reference", device="cuda", **probes)
    many = train(normalised, dataset, configs, "graphs", device="cuda", **probes)
    for a, b in zip(one, many, strict=True):
        torch.testing.assert_close(b.curves["loss"], a.curves["loss"], rtol=1e-3, atol=1e-5)


def test_the_display_counts_runs_and_the_time_left():
    now = [0.0]
    shown = Progress(of=4, images=100_000, bound=True, show=False, clock=lambda: now[0])

    class Fake:
        def __init__(self, lr, status="cap", done=0, total=250):
            self.status, self.done, self.total = status, done, total
            self.request, self.job = Request(LONG, 0), SimpleNamespace(batch=100, epoch=40)
            self.config, self.accuracy = dataclasses.replace(LONG, lr=lr), float("nan")

    runs = [Fake(0.02), Fake(0.2)]
    for run in runs:
        shown.started(run)
    for _ in range(100):
        shown.step(200)
    now[0] = 10.0
    runs[1].done, runs[1].accuracy = 100, 0.45
    assert shown.text == (
        "2 running (epoch 0.0 to 2.5, LR 0.02 to 0.2, accuracy 45.0 %), 0 of 4 done, "
        "2,000 images/s, at most 40 s left"
    )
    assert shown.share == pytest.approx(0.2)
    runs[0].status, runs[0].done = "diverged", 100
    shown.ended([runs[0]])
    assert shown.text == (
        "1 running (epoch 2.5, LR 0.2, accuracy 45.0 %), 1 of 4 done, 1 diverged, 2,000 images/s, "
        "at most 32 s left"
    )


class Kernel:
    """What a notebook's shell is told apart by."""

    kernel = True


@pytest.mark.parametrize("where", ["log", "notebook", "terminal", "off"])
def test_progress_is_shown_where_there_is_no_terminal(where, monkeypatch, capsys):
    import IPython

    shown, now = [], [0.0]

    class Handle:
        def update(self, line):
            shown.append(line.data)

    def display(line, display_id):
        Handle().update(line)
        return Handle()

    monkeypatch.delenv("LRSC_PROGRESS", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: where == "terminal", raising=False)
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(IPython, "get_ipython", Kernel if where == "notebook" else lambda: None)
    if where == "off":
        monkeypatch.setenv("LRSC_PROGRESS", "off")
    progress = Progress(of=2, images=10_000, bound=False, clock=lambda: now[0])
    for _ in range(90):  # seconds
        now[0] += 1
        progress.step(100)
    progress.close()
    said = capsys.readouterr().err
    if where == "log":  # a line every 30 s
        lines = said.splitlines()
        assert len(lines) == 3 and "30%: 0 running, 0 of 2 done, 100 images/s, about" in lines[0]
    elif where == "notebook":
        assert len(shown) == 91 and "value='0.900'" in shown[-2] and shown[-1] == "" == said
    else:
        assert shown == [] and ("images/s" in said) == (where == "terminal")


def test_a_stack_gives_the_logits_of_its_networks(own_dataset):
    nets = [chain() for _ in range(3)]
    stack = lrsc.models.Stack(nets)
    x = own_dataset.test.inputs(own_dataset.test.x)
    found = stack.logits(x)
    for k, net in enumerate(nets):
        torch.testing.assert_close(found[k], net(x))
    torch.testing.assert_close(stack.take([2, 0]).logits(x), found[[2, 0]])


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
        nn.Sequential(nn.Flatten(2), nn.Linear(4, 2)),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))),
        nn.Sequential(nn.Linear(4, 2).half()),
        nn.Sequential(nn.Linear(4, 2).requires_grad_(False)),
        hooked(),
        nn.Sequential(),
    ],
)
def test_other_networks_are_not_chains(net):
    assert lrsc.models.linear_layers(net) is None


def test_a_run_that_is_stacked_is_named_in_its_result(parity):
    runs = lrsc.fit("fcn", parity, TrainConfig(max_epochs=1), seeds=[0, 1])
    assert [run.engine for run in runs] == ["stacked", "stacked"] and runs[0].replicas >= 1
    assert all(isinstance(run, lrsc.Trained) for run in runs) and Run is not None
