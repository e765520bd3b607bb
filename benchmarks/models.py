"""Time and peak memory of a training step: every model at every input size.

    python benchmarks/models.py [--steps 5] [--json] [--output book/results/step_times.json]

Batch 100, at 224 pixels 16, as in the paper; plain SGD in fp32 through `lrsc.fit`. Each row is a
process of its own: a round of warm-up, then the median of `--steps` steps; peak memory is the
process' resident peak (GPU: allocated). The share of the peak is arithmetic a second (counted by
torch, forward and backward) against a large fp32 matrix product measured in the same process
before and after. The last column is one checkpoint with momentum's state, written and synced, as
a share of the 30 s between two. Target there: at most 2 %.
"""

import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from report import arguments, median, show
from torch.utils.flop_counter import FlopCounterMode

import lrsc
from lrsc.datasets import BiasedDataset, Split

MODELS = ("fcn", "cnn", "resnet18", "resnet50", "wide_resnet101_2", "swin_t")
SIZES = (28, 32, 64, 224)
EVERY = 30.0  # seconds between checkpoints


def matrix_peak(device: str) -> float:
    """Floating-point operations a second of an fp32 matrix product."""
    n = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, n, n, device=device)
    times = []
    for _ in range(4):
        started = time.perf_counter()
        (a @ b).sum().item()
        times.append(time.perf_counter() - started)
    return 2 * n**3 / min(times)


def measure(model: str, size: int, steps: int) -> dict:
    """One row."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = 16 if size == 224 else 100
    x = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    split = Split(x, torch.arange(batch) % 10)
    dataset = BiasedDataset("random", split, split, n_classes=10)
    config = lrsc.TrainConfig(
        lr=1e-4, momentum=0.9, batch_size=batch, max_steps=steps + 2, stop_at_accuracy=None
    )
    times = []

    def clock(net):
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        return torch.zeros(())

    peaks = [matrix_peak(device)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (run,) = lrsc.fit(model, dataset, config, probes={"clock": clock}, probe_every=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() // 1024
    peaks.append(matrix_peak(device))
    seconds = median(b - a for a, b in itertools.pairwise(times[1:-1]))
    net = run.model.train()
    inputs = split.inputs(x).to(device)
    with FlopCounterMode(display=False) as counter:
        net(inputs).sum().backward()
    with tempfile.TemporaryDirectory() as folder:
        once = lrsc.TrainConfig(momentum=0.9, batch_size=batch, max_steps=1, stop_at_accuracy=None)
        lrsc.fit(model, dataset, once, checkpoints=folder)
        (path,) = Path(folder).iterdir()
        from lrsc.training import checkpoint

        held = torch.load(path, weights_only=True)
        started = time.perf_counter()
        checkpoint.save(path, held["made_by"], held["state"])
        saving = time.perf_counter() - started
    return {
        "model": model,
        "input": f"3 x {size} x {size}",
        "batch": batch,
        "device": device,
        "parameters_millions": sum(p.numel() for p in net.parameters()) / 1e6,
        "ms_a_step": 1000 * seconds,
        "peak_mb": peak / 1024,
        "of_it_torch_mb": before / 1024,
        "gflop_a_step": counter.get_total_flops() / 1e9,
        "share_of_peak": counter.get_total_flops() / seconds / max(peaks),
        "checkpoint_share": saving / EVERY,
    }


def main() -> None:
    if len(sys.argv) == 5 and sys.argv[1] == "--row":
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
        return
    args = arguments(__doc__, steps=5)
    rows = []
    for model in MODELS:
        for size in SIZES:
            command = [sys.executable, __file__, "--row", model, str(size), str(args.steps)]
            found = subprocess.run(command, capture_output=True, text=True)
            if found.returncode:
                reason = found.stderr.strip().splitlines()[-1]
                print(f"{model} at {size} pixels: {reason}", file=sys.stderr)
                continue
            rows.append(json.loads(found.stdout))
    show(rows, args.json, args.output)


if __name__ == "__main__":
    main()
