"""Training steps a second of many runs side by side: every engine against a good sequential loop.

    python benchmarks/replicas.py [--rounds 3] [--json] [--output book/results/replicas.json]
                                  [--device cuda --short]

Batch 100, plain SGD, Colored MNIST's shapes and parity's. The sequential loop is a bare one, a run
after the other with all threads: data on the device, one fused optimiser step, no host
synchronisation. Engines are timed in the middle of training, from `advance` alone; `processes` is
the bare loop in one single-threaded process a core; `vmap` stacks the networks with torch.func.
Each round times all of a case in turn; rates are medians over rounds, ratios medians of the
rounds' ratios to the sequential loop.

replicas: runs in the queue; how many of them are side by side is the engine's choice, but in the
rows of table 'growth', where it is 1 to 64. --short: three models on one device, 1, 8 and 24
replicas, in fp32 and tf32, in a minute on a GPU. share_of_peak: arithmetic a second (counted by
torch) against the largest matrix product of all rounds. floor_*: steps a second at that peak, and
at the measured copy bandwidth if each weight is read and written once. Rows of a GPU are empty
where there is none. Targets: GPU, 24 replicas, 40 % of the peak for the ResNets, 60 % for the FCN,
50 times for parity; CPU 1.8 times for parity, 85 % of the peak for the FCN, never slower than the
sequential loop.
"""

import copy
import dataclasses
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import torch
from report import arguments, median, show
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import lrsc
from lrsc.datasets import BiasedDataset, Split
from lrsc.training import Request
from lrsc.training.engines import choose
from lrsc.training.fit import make_job
from lrsc.training.run import Run

BATCH, N, LR = 100, 10_000, 1e-3
SHAPES = {"parity": (38,), "colored_mnist": (3, 28, 28)}
CLASSES = {"parity": 2, "colored_mnist": 10}
# (data set, model) -> runs, seconds a measurement takes about, candidates on the CPU
CASES = {
    ("parity", "fcn"): (24, 1.0, ("stacked", "threads", "processes")),
    ("colored_mnist", "fcn"): (24, 2.0, ("stacked", "threads", "processes")),
    ("colored_mnist", "cnn"): (2, 4.0, ("threads",)),
    ("colored_mnist", "resnet18"): (4, 3.0, ("threads", "processes", "vmap")),
    ("colored_mnist", "resnet50"): (2, 4.0, ("threads",)),
}
GPU_CASES = (
    ("parity", "fcn"), ("colored_mnist", "fcn"), ("colored_mnist", "resnet18"),
    ("colored_mnist", "resnet50"),
)  # fmt: skip
GROWTH = {("parity", "fcn"): 64, ("colored_mnist", "fcn"): 64, ("colored_mnist", "resnet18"): 2}


def dataset(name: str) -> BiasedDataset:
    """Random samples of a data set's shape: the speed does not depend on what they show."""
    shape = (N, *SHAPES[name])
    x = torch.randn(shape) if name == "parity" else torch.randint(0, 256, shape, dtype=torch.uint8)
    half = torch.full((3,), 0.5)
    constants = {} if name == "parity" else {"mean": half, "std": half}
    split = Split(x, torch.arange(N) % CLASSES[name], **constants)
    return BiasedDataset(name, split, split, n_classes=CLASSES[name])


def build(ds: BiasedDataset, model: str) -> torch.nn.Module:
    options = lrsc.models.options_for(model, ds.name)
    return lrsc.models.build(model, ds.input_shape, ds.n_classes, **options)


def flops(ds: BiasedDataset, model: str) -> float:
    """Of one step."""
    net = build(ds, model).train()
    x = ds.train.inputs(ds.train.x[:BATCH])
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(x), ds.train.y[:BATCH]).backward()
    return counter.get_total_flops()


def peak(device: str, precision: str = "fp32") -> float:
    """Operations a second of the largest matrix product, in this precision, TF32 as it is set."""
    n = 8192 if device == "cuda" else 2048
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, n, n, device=device).to(kind)
    out = torch.empty_like(a)
    return 2 * n**3 / min(_seconds(device, lambda: torch.mm(a, b, out=out)) for _ in range(8))


def bandwidth(device: str) -> float:
    """Bytes a second, read plus written, of a large copy."""
    a = torch.empty(2**30 if device == "cuda" else 2**26, device=device)
    b = torch.empty_like(a)
    return 8 * a.numel() / min(_seconds(device, lambda: b.copy_(a)) for _ in range(6))


def _seconds(device: str, call) -> float:
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def sequential(ds: BiasedDataset, model: str, device: str, seconds: float, precision="fp32"):
    """Steps a second of a bare loop."""
    torch.manual_seed(0)
    net, train = build(ds, model).to(device).train(), ds.train.to(device)
    if device == "cpu":
        for p in net.parameters():
            if p.dim() == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), LR, fused=True)
    order = torch.randperm(N).view(-1, BATCH).to(device)

    def step(i: int) -> None:
        index = order[i % len(order)]
        x, y = train.inputs(train.x.index_select(0, index)), train.y[index]
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()

    return _rate(step, device, seconds)


def _rate(step, device: str, seconds: float) -> float:
    """Calls a second: after three calls, as many as take about so long, at least 3."""
    for i in range(3):
        step(i)
    once = min(_seconds(device, lambda: step(0)) for _ in range(2))
    n = max(3, int(seconds / once))
    return n / _seconds(device, lambda: [step(i) for i in range(n)])


def engine(
    ds: BiasedDataset, model: str, device: str, name: str, runs: int, replicas: int | None,
    seconds: float, precision: str,
) -> float:  # fmt: skip
    """Model-steps a second of an engine for so many runs, all lanes at work at once.

    replicas: side by side, None as the engine's plan has it.
    """
    config = lrsc.TrainConfig(lr=LR, batch_size=BATCH, precision=precision)
    job = make_job(model, ds, [config], {}, {}, 200, None, None, device)
    plan = choose.plan(job, [config] * runs, name, replicas)
    lanes = []
    for k in range(plan.lanes):
        group = []
        for seed in range(plan.width):
            group.append(Run(job, Request(config, 100 * k + seed)))
        lanes.append((plan.make(job), group))
    if len(lanes) == 1:
        with lrsc.models.matmul_precision(precision, job.device):
            rate = _rate(lambda i: _advance(*lanes[0]), device, seconds)
        return rate * plan.width
    gate, done, threads = threading.Barrier(len(lanes) + 1), [], torch.get_num_threads()

    def work(made, group) -> None:
        torch.set_num_threads(1)
        for _ in range(3):
            _advance(made, group)
        gate.wait()
        end, n = time.perf_counter() + seconds, 0
        started = time.perf_counter()
        while time.perf_counter() < end or n < 3:
            _advance(made, group)
            n += 1
        done.append(n * len(group) / (time.perf_counter() - started))

    workers = [threading.Thread(target=work, args=lane) for lane in lanes]
    for worker in workers:
        worker.start()
    gate.wait()
    for worker in workers:
        worker.join()
    torch.set_num_threads(threads)
    return sum(done)


def _advance(made, runs) -> None:
    """One step of every run; the epoch begins again when it is through."""
    if made.__class__.__name__ == "Reference":
        for run in runs:
            made.advance([run], 1, lambda done: False)
    else:
        made.advance(runs, 1, lambda done: False)
    for run in runs:
        run.done = (run.done + 1) % run.job.epoch


def processes(ds: BiasedDataset, model: str, seconds: float) -> float:
    """The bare loop in one process a core."""
    command = [sys.executable, __file__, "--worker", ds.name, model, str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(torch.get_num_threads())]
    for worker in workers:
        worker.stdout.readline()  # ready
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return sum(float(worker.communicate()[0].split()[-1]) for worker in workers)


def worker(name: str, model: str, seconds: str) -> None:
    torch.set_num_threads(1)
    ds = dataset(name)
    print("ready", flush=True)
    sys.stdin.readline()
    print(sequential(ds, model, "cpu", float(seconds)))


def stacked_by_vmap(ds: BiasedDataset, model: str, replicas: int, seconds: float) -> float:
    """torch.func's way: convolutions become grouped ones; without running statistics."""
    nets = [_without_statistics(build(ds, model)).train() for _ in range(replicas)]
    params, buffers = stack_module_state(nets)
    base = copy.deepcopy(nets[0]).to("meta")

    def loss(p, b, x, y):
        return F.cross_entropy(functional_call(base, (p, b), (x,)), y)

    slope = vmap(grad(loss))
    x = ds.train.inputs(ds.train.x[: BATCH * replicas]).view(replicas, BATCH, *ds.input_shape)
    y = ds.train.y[: BATCH * replicas].view(replicas, BATCH)

    def step(i: int) -> None:
        gradients = slope(params, buffers, x, y)
        with torch.no_grad():
            values = [params[name] for name in gradients]
            torch._foreach_add_(values, list(gradients.values()), alpha=-LR)

    return replicas * _rate(step, "cpu", seconds)


def _without_statistics(net: torch.nn.Module) -> torch.nn.Module:
    for module in net.modules():
        if type(module) is lrsc.models.SmallMapConv2d:
            module.__class__ = torch.nn.Conv2d
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return net


def one(ds, model, device, name, replicas, seconds, precision, fixed) -> float:
    if name == "sequential":
        return sequential(ds, model, device, seconds, precision)
    if name == "processes":
        return processes(ds, model, seconds)
    if name == "vmap":
        return stacked_by_vmap(ds, model, replicas, seconds)
    side_by_side = replicas if fixed else None
    return engine(ds, model, device, name, replicas, side_by_side, seconds, precision)


@dataclasses.dataclass
class Case:
    """What is timed in turn: (engine, replicas) pairs, the sequential loop first."""

    dataset: str
    model: str
    device: str
    entries: list[tuple[str, int]]
    seconds: float
    table: str
    precision: str = "fp32"

    def rows(self, rounds: int) -> list[dict]:
        ds, rates, peaks = dataset(self.dataset), [], []
        fixed = self.table == "growth" or self.device == "cuda"
        with lrsc.models.matmul_precision(self.precision, torch.device(self.device)):
            for _ in range(rounds):
                peaks.append(peak(self.device, self.precision))
                rates.append([
                    one(ds, self.model, self.device, name, n, self.seconds, self.precision, fixed)
                    for name, n in self.entries
                ])  # fmt: skip
            peaks.append(peak(self.device, self.precision))
        work = flops(ds, self.model)
        top = max(peaks)  # another process on the machine lowers a single one
        net = build(ds, self.model)
        bytes_ = 8 * sum(p.numel() for p in net.parameters())
        found = []
        for k, (name, n) in enumerate(self.entries):
            rate = median(r[k] for r in rates)
            found.append(self.row(name, n) | {
                "steps_per_second": rate,
                "ratio": median(r[k] / r[0] for r in rates),
                "share_of_peak": rate * work / top,
                "floor_arithmetic": top / work,
                "floor_bytes": bandwidth(self.device) / bytes_,
            })  # fmt: skip
        return found

    def row(self, name: str, replicas: int) -> dict:
        """Without what is measured."""
        measured = ("steps_per_second", "ratio", "share_of_peak", "floor_arithmetic", "floor_bytes")
        return {
            "table": self.table, "dataset": self.dataset, "model": self.model,
            "device": self.device, "precision": self.precision, "replicas": replicas,
            "engine": name,
        } | dict.fromkeys(measured)  # fmt: skip


def short(device: str) -> Iterator[list[dict]]:
    """Rows of the models that a campaign trains most, the quickest first, one round."""
    for (name, model), seconds in {
        ("parity", "fcn"): 0.7, ("colored_mnist", "fcn"): 0.7, ("colored_mnist", "resnet18"): 1.5
    }.items():  # fmt: skip
        kind = "stacked" if model == "fcn" else "graphs" if device == "cuda" else "threads"
        for precision in ("fp32", "tf32") if device == "cuda" else ("fp32",):
            most = (1, 8, 24) if device == "cuda" or model == "fcn" else (1, 2)
            entries = [("sequential", 1), *((kind, n) for n in most)]
            yield Case(name, model, device, entries, seconds, "growth", precision).rows(1)


def main() -> None:
    options = arguments(__doc__, {"device": "", "short": False}, rounds=3)
    rows = []
    if options.short:
        for found in short(options.device or "cpu"):  # what is done is kept, if time runs out
            rows += found
            show(rows, options.json, options.output)
        return
    gpu = torch.cuda.is_available()
    for (name, model), (runs, seconds, candidates) in CASES.items():
        entries = [("sequential", 1), *((c, 2 if c == "vmap" else runs) for c in candidates)]
        rows += Case(name, model, "cpu", entries, seconds, "engines").rows(options.rounds)
    for (name, model), precision in itertools.product(GPU_CASES, ("fp32", "tf32", "bf16")):
        kind = "stacked" if model == "fcn" else "graphs"
        entries = [("sequential", 1), (kind, 24)]
        case = Case(name, model, "cuda", entries, 2.0, "engines", precision)
        rows += case.rows(options.rounds) if gpu else [case.row(*entries[1])]
    device = "cuda" if gpu else "cpu"
    for (name, model), most in GROWTH.items():
        steps = [2**k for k in range(7) if gpu or 2**k <= most]
        kind = "stacked" if model == "fcn" else "graphs" if gpu else "threads"
        entries = [("sequential", 1), *((kind, n) for n in steps)]
        rows += Case(name, model, device, entries, 0.7, "growth").rows(options.rounds)
    show(rows, options.json, options.output)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        main()
