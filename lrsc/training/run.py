"""The state of one run: what its steps need, and what a checkpoint holds."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrsc import models, optimizers
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.training import checkpoint, distributed

Probe = Callable[[nn.Module], Tensor | Mapping[str, Tensor]]
PER_STEP = ("loss", "loss_ratio")  # curves that come in pieces of many steps


@dataclasses.dataclass(frozen=True)
class Job:
    """What the runs of one call share."""

    factory: Callable[[], nn.Module]
    ready: bool
    dataset: BiasedDataset
    train: Split
    val: Split | None
    batch: int
    total: int
    probes: dict[str, Probe]
    every: dict[str, int]
    checkpoints: Path | None
    checkpoint_seconds: float | None
    checkpoint_steps: int | None
    device: torch.device
    progress: bool

    @property
    def epoch(self) -> int:
        """Steps an epoch."""
        return len(self.train) // self.batch


class Run:
    """One run: what its steps need, and what changes along the way, which a checkpoint holds."""

    def __init__(self, job: Job, config: TrainConfig, seed: int) -> None:
        self.job, self.config, self.seed = job, config, seed
        self.started = time.perf_counter()
        self.net = job.factory().to(job.device)
        if job.device.type == "cpu":  # faster convolutions
            for p in self.net.parameters():
                if p.dim() == 4:
                    p.data = p.data.contiguous(memory_format=torch.channels_last)
        models.check(self.net, job.dataset)
        # a ready module is trained in place: it may have been trained before
        fresh = not job.ready and job.checkpoints is not None
        self.initial = checkpoint.digest(self.net.state_dict().values()) if fresh else ""
        self.optimizer = optimizers.build(config, self.net.parameters(), job.device.type)
        # on the CPU: one order, and the same crops and flips, on every device
        self.order = torch.Generator().manual_seed(seed + 0x5EED)
        self.epoch_order = self.order.get_state()
        self.curves: dict[str, list[Tensor]] = {}
        self.right = torch.zeros((), dtype=torch.int64, device=job.device)
        self.finite = torch.ones((), dtype=torch.bool, device=job.device)
        self.done = self.epochs = 0
        self.status, self.accuracy, self.finished = "cap", float("nan"), False
        self.seen = 0  # samples of an epoch whose steps are done and whose end is not decided yet
        self.probed = False  # for the last time
        self.best: dict[str, Any] = {"epoch": None, "accuracy": -1.0, "weights": {}}
        self.seconds_before = 0.0
        if distributed.rank():  # the same weights, but other noise than the first process'
            torch.manual_seed(seed + 0x1000003 * distributed.rank())

    @property
    def seconds(self) -> float:
        """Time in training, of all processes one after the other that were at it."""
        if self.finished:
            return self.seconds_before
        return self.seconds_before + time.perf_counter() - self.started

    _PLAIN = (
        "done", "epochs", "status", "accuracy", "finished", "best", "epoch_order", "seen", "probed",
    )  # fmt: skip

    def identity(self) -> dict[str, str]:
        """What a checkpoint must say to be one of this run."""
        job, train = self.job, self.job.train
        rows = [t for t in (train.y, train.bias, train.x[:8], train.x[-8:]) if t is not None]
        constants = [t for t in (train.mean, train.std) if t is not None]
        shapes = {name: tuple(value.shape) for name, value in self.net.state_dict().items()}
        return checkpoint.identity(
            **{f"config.{k}": v for k, v in dataclasses.asdict(self.config).items()},
            seed=self.seed,
            data=f"{job.dataset.name} {job.dataset.options} {job.dataset.source_id}",
            samples=f"{len(train)}, digest {checkpoint.digest(rows + constants)}",
            augmentation=getattr(train.augment, "__qualname__", type(train.augment).__name__),
            model=" ".join(f"{self.net} {shapes}".split()),
            weights=f"digest {self.initial}",
            probes=job.every,
            device=job.device.type,
            processes=distributed.world(),
        )

    def state(self) -> dict:
        """All that a checkpoint holds: tensors and plain values."""
        cuda = torch.cuda.get_rng_state(self.job.device) if self.job.device.type == "cuda" else None
        return {name: getattr(self, name) for name in self._PLAIN} | {
            "seconds": self.seconds,
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "noise": distributed.everyones((torch.get_rng_state(), cuda)),
            "right": self.right,
            "finite": self.finite,
            "curves": {name: joined(name, parts) for name, parts in self.curves.items()},
        }

    def resume(self, state: dict) -> None:
        """Go on from a state."""
        for name in self._PLAIN:
            setattr(self, name, state[name])
        self.seconds_before = state["seconds"]
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        noise, cuda = state["noise"][distributed.rank()]
        torch.set_rng_state(noise)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, self.job.device)
        self.right = state["right"].to(self.job.device)
        self.finite = state["finite"].to(self.job.device)
        self.curves = {
            name: [curve.to(self.job.device)] if name in PER_STEP else list(curve)
            for name, curve in state["curves"].items()
        }


def joined(name: str, parts: list[Tensor]) -> Tensor:
    """A curve from its parts."""
    return torch.cat(parts) if name in PER_STEP else torch.stack([part.cpu() for part in parts])
