"""The graphs engine: every run's whole step is a CUDA graph, replayed on a stream of its own.

A small network on a large GPU waits for kernel launches; a replay is one launch, and the kernels
of different runs fill the device together.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lrsc import optimizers
from lrsc.training import step
from lrsc.training.engines.reference import Reference
from lrsc.training.engines.static import Static
from lrsc.training.run import Job, Run

QUEUED = 50  # steps that the host is ahead of the device at most


class Graphs(Reference):
    """Any model without noise; SGD, Adam or AdamW. Where there is no GPU nothing is captured."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.statics: dict[Run, Static] = {}

    def advance(
        self, runs: Sequence[Run], n: int, due: Callable[[int], bool]
    ) -> tuple[Tensor, Tensor]:
        """At most n steps of every run, as `Reference.advance` does one's."""
        for run in runs:
            run.net.train()
            if run not in self.statics:
                self.statics[run] = _static(run)
        statics = [self.statics[run] for run in runs]
        streams = [s.stream for s in statics if s.stream is not None]  # each its own, on a GPU
        chosen = [run.parts(n) for run in runs]
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream(self.job.device))
        for static, parts in zip(statics, chosen, strict=True):
            with torch.cuda.stream(static.stream):
                static.load(parts[:, None], n)
        done = 0
        while done < n:
            for run, static in zip(runs, statics, strict=True):
                with torch.cuda.stream(static.stream):
                    static.step(run.due(run.done + done))
            done += 1
            if done % QUEUED == 0:  # a signal is not to find an epoch of queued work
                for stream in streams:
                    stream.synchronize()
            if due(done):
                break
        for stream in streams:
            torch.cuda.current_stream(self.job.device).wait_stream(stream)
        logits = torch.cat([static.logits[:done] for static in statics], 1)
        return logits, torch.stack(chosen, 1)[:done]

    def leave(self, runs: Sequence[Run]) -> None:
        """Free the runs' graphs."""
        for run in runs:
            self.statics.pop(run, None)
            optimizers.set_lr(run.optimizer, run.config.lr)


def _static(run: Run) -> Static:
    config = run.config
    take = step.step(run.net, run.net, run.optimizer, config, run.zeros)
    group = run.optimizer.param_groups[0]
    if "capturable" in group:
        group["capturable"] = True
    scheduled = config.schedule != "constant"
    if scheduled:  # a place that the graph reads; a number would be part of the graph
        cuda = run.job.device.type == "cuda"  # whose fused optimisers read the LR as float32
        dtype = torch.float32 if cuda else run.dtype
        group["lr"] = torch.tensor(config.lr, dtype=dtype, device=run.job.device)

    def body(x: Tensor, y: Tensor, lrs: Tensor, look: Callable[[], None] | None) -> Tensor:
        if scheduled:
            group["lr"].copy_(lrs[0])
        return take(x, y, look)

    def places() -> list[Tensor]:
        states = [run.optimizer.state[p] for p in run.net.parameters()]
        kept = [v for state in states for v in state.values() if isinstance(v, Tensor)]
        return [*(p.detach() for p in run.net.parameters()), *run.net.buffers(), *kept]

    return Static(run.job, [run], body, places)
