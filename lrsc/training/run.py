"""The state of one run: what its steps need, and what a checkpoint holds."""

import dataclasses
import functools
import threading
import time
import weakref
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrsc import models, optimizers
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.models.draws import Draws
from lrsc.training import checkpoint, distributed, step

Probe = Callable[[nn.Module], Tensor | Mapping[str, Tensor]]
Callback = Callable[[dict[str, float]], object]
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
    probes: dict[str, Probe]
    every: dict[str, int]
    checkpoint_seconds: float | None
    checkpoint_steps: int | None
    device: torch.device
    asked: checkpoint.Asked
    callbacks: tuple[Callback, ...] = ()
    keep_zeros: bool = False
    channels_last: bool = False
    # a factory and the probes are the user's, and torch's generators are everyone's
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)
    # parameters and running means of networks that are still there, by their id
    made: MutableMapping[int, Tensor] = dataclasses.field(
        default_factory=weakref.WeakValueDictionary
    )

    @functools.cached_property
    def told(self) -> dict[str, str]:
        """What checkpoints say of the samples."""
        return {
            "samples": checkpoint.digest_of(self.train),
            "validation": checkpoint.digest_of(self.val),
            "augmentation": checkpoint.code_of(self.train.augment),
        }

    @property
    def epoch(self) -> int:
        """Steps an epoch."""
        return len(self.train) // self.batch

    def total(self, config: TrainConfig) -> int:
        """Steps at which a run is capped."""
        total = config.max_epochs * self.epoch
        return min(total, config.max_steps) if config.max_steps else total


@dataclasses.dataclass(frozen=True)
class Request:
    """A requested run; checkpoint: its file; name: what the caller calls it."""

    config: TrainConfig
    seed: int
    checkpoint: Path | None = None
    name: Any = None


class Run:
    """One run: what its steps need, and what changes along the way, which a checkpoint holds."""

    def __init__(self, job: Job, request: Request) -> None:
        config, seed = request.config, request.seed
        self.job, self.request, self.config, self.seed = job, request, config, seed
        self.started = time.perf_counter()
        self.total = job.total(config)
        self.dtype = torch.float64 if config.precision == "fp64" else torch.float32
        self.draws = Draws(seed, job.device)
        with self.draws.inside():
            self.net = self._new(job).to(job.device)
            if any(map(nn.parameter.is_lazy, self.net.parameters())):
                models.check(self.net, job.dataset)  # which gives them weights
            if self.dtype == torch.float64:
                self.net.double()
            if job.channels_last:  # faster convolutions
                for p in self.net.parameters():
                    if p.dim() == 4:
                        p.data = p.data.contiguous(memory_format=torch.channels_last)
        self.draws.drawn = False  # initial weights apart
        kept = request.checkpoint is not None
        self.initial = checkpoint.digest(self.net.state_dict().values()) if kept else ""
        self.zeros = step.zeros(self.net) if job.keep_zeros else ()
        self.optimizer = optimizers.build(config, self.net.parameters(), job.device.type, seed)
        # on the CPU: one order, and the same crops and flips, on every device
        self.order = torch.Generator().manual_seed(seed + 0x5EED)
        self.epoch_order = self.order.get_state()
        self.chosen: Tensor | None = None  # samples of each step of the epoch
        self.curves: dict[str, list[Tensor]] = {}
        self.right = torch.zeros((), dtype=torch.int64, device=job.device)
        self.finite = torch.ones((), dtype=torch.bool, device=job.device)
        self.done = self.epochs = 0
        self.status, self.accuracy, self.finished = "cap", float("nan"), False
        self.seen = 0  # samples of an epoch whose steps are done and whose end is not decided yet
        self.probed = False  # for the last time
        self.best: dict[str, Any] = {"epoch": None, "accuracy": -1.0, "weights": {}}
        self.seconds_before = 0.0
        self.keeper = checkpoint.Keeper(self, request.checkpoint, job.asked)
        if distributed.rank():  # the same weights, but other noise than the first process'
            self.draws.seed(seed + 0x1000003 * distributed.rank())

    @staticmethod
    def _new(job: Job) -> nn.Module:
        """The run's own network; ValueError for a factory that gives the same weights again."""
        net = job.factory()
        if isinstance(net, nn.Module) and not job.ready:
            own: list[tuple[str, Tensor]] = [
                (name, p) for name, p in net.named_parameters() if p.requires_grad
            ]
            means = [layer.running_mean for layer in models.batch_norms(net)]
            own += [("running_mean", mean) for mean in means if mean is not None]
            for name, p in own:
                if job.made.get(id(p)) is p:
                    raise ValueError(
                        f"the factory returned parameter {name!r} a second time; each run needs "
                        "weights of its own: build the whole network inside the factory"
                    )
                job.made[id(p)] = p
        return net

    @property
    def seconds(self) -> float:
        """Time in training, of all processes one after the other that were at it."""
        if self.finished:
            return self.seconds_before
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def over(self) -> bool:
        """Whether no step is left to do."""
        return not self.seen and (self.done >= self.total or self.status != "cap")

    @property
    def left(self) -> int:
        """Steps to the end of the epoch, the cap, or the next planned checkpoint."""
        job = self.job
        left = min(job.epoch - self.done % job.epoch, self.total - self.done)
        often = job.checkpoint_steps
        return min(left, often - self.done % often) if often and self.keeper.path else left

    def parts(self, n: int) -> Tensor:
        """Samples (n x batch) of the next n steps of this epoch; every process has its slice."""
        job = self.job
        first = self.done % job.epoch
        if self.chosen is None or first == 0:
            if first:  # resumed inside an epoch: its permutation is drawn again
                self.order.set_state(self.epoch_order)
            self.epoch_order = self.order.get_state()
            chosen = torch.randperm(len(job.train), generator=self.order)[: job.epoch * job.batch]
            self.chosen = distributed.share(chosen.view(job.epoch, job.batch).to(job.device), 1)
        return self.chosen[first : first + n]

    def advanced(self, n: int) -> None:
        """n more steps are done."""
        self.done += n
        first = self.done % self.job.epoch
        if first == 0 or self.done == self.total:
            self.end_epoch()

    def end_epoch(self) -> None:
        """No more steps in this epoch: its end is to be decided."""
        self.seen = (self.done % self.job.epoch or self.job.epoch) * self.job.batch

    def due(self, step: int) -> Callable[[], None] | None:
        """What calls the probes that look at the network before this step's update, if any do."""
        names = [name for name, every in self.job.every.items() if step % every == 0]
        return functools.partial(self.look, names, step) if names else None

    def look(self, names: list[str], step: int) -> None:
        """Call probes in eval mode; ValueError for what cannot be a curve."""
        with self.job.lock, models.modes_kept(self.net):
            self.net.eval()
            for name in names:
                found = self.job.probes[name](self.net)
                named = found if isinstance(found, Mapping) else {"": found}
                for key, value in {"step": torch.tensor(step), **named}.items():
                    curve = self.curves.setdefault(f"{name}_{key}" if key else name, [])
                    try:  # a copy: the network's own tensors go on changing
                        curve.append(torch.as_tensor(value).detach().clone())
                    except (TypeError, ValueError, RuntimeError) as error:
                        raise ValueError(
                            f"probe {name!r} must return a tensor or a mapping of tensors: {error}"
                        ) from error
                    if curve[-1].shape != curve[0].shape:
                        raise ValueError(
                            f"probe {name!r} returns shape {tuple(curve[-1].shape)} after "
                            f"{tuple(curve[0].shape)}: a curve is of values of one shape"
                        )

    def tell(self, **known: float) -> None:
        """Call the callbacks with the numbers of the epoch that has ended."""
        if not self.job.callbacks or distributed.rank():
            return
        steps = self.done % self.job.epoch or self.job.epoch
        found: dict[str, float] = {
            "lr": self.config.lr, "seed": self.seed, "epoch": self.epochs, "step": self.done,
            "accuracy": float(self.curves["accuracy"][-1]),
        }  # fmt: skip
        for name in PER_STEP:
            parts, held = list[Tensor](), 0
            for part in reversed(self.curves.get(name, ())):
                parts.append(part[max(0, len(part) - steps + held) :])
                held += len(parts[-1])
                if held >= steps:
                    break
            found |= {name: float(torch.cat(parts[::-1]).mean())} if parts else {}
        with self.job.lock:
            for callback in self.job.callbacks:
                callback(found | known)

    _PLAIN = (
        "done", "epochs", "status", "accuracy", "finished", "best", "epoch_order", "seen", "probed",
        "initial",
    )  # fmt: skip

    def identity(self) -> dict[str, str]:
        """What a checkpoint must say to be one of this run."""
        job = self.job
        shapes = {name: tuple(value.shape) for name, value in self.net.state_dict().items()}
        return checkpoint.identity(
            **{f"config.{k}": v for k, v in dataclasses.asdict(self.config).items()},
            seed=self.seed,
            data=f"{job.dataset.name} {job.dataset.options} {job.dataset.source_id}",
            **job.told,
            model=" ".join(f"{self.net} {shapes}".split()),
            forward=checkpoint.code_of(tuple(self.net.modules())),
            weights="ready" if job.ready else f"digest {self.initial}",
            probes=job.every,
            device=job.device.type,
            processes=distributed.world(),
            **({"zeros": "kept"} if job.keep_zeros else {}),
        )

    def state(self) -> dict:
        """All that a checkpoint holds: tensors and plain values."""
        return {name: getattr(self, name) for name in self._PLAIN} | {
            "seconds": self.seconds,
            "model": _own(self.net.state_dict()),
            "optimizer": _own(self.optimizer.state_dict()),
            "order": self.order.get_state(),
            "noise": distributed.everyones(self.draws.state()),
            "right": self.right,
            "finite": self.finite,
            "curves": {name: joined(name, parts) for name, parts in self.curves.items()},
        }

    def resume(self, state: dict) -> None:
        """Go on from a state; Refused where it is of a ready module with other weights."""
        if self.job.ready and self.initial not in (
            state["initial"], checkpoint.digest(state["model"].values())
        ):  # fmt: skip
            raise checkpoint.Refused(
                "the checkpoint is of a module with other initial weights, which it would replace. "
                f"Move or delete it to start over: {self.keeper.path}"
            )
        for name in self._PLAIN:
            setattr(self, name, state[name])
        self.seconds_before = state["seconds"]
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        self.draws.set_state(state["noise"][distributed.rank()])
        self.right = state["right"].to(self.job.device)
        self.finite = state["finite"].to(self.job.device)
        self.curves = {
            name: [curve.to(self.job.device)] if name in PER_STEP else list(curve)
            for name, curve in state["curves"].items()
        }


def joined(name: str, parts: list[Tensor]) -> Tensor:
    """A curve from its parts."""
    return torch.cat(parts) if name in PER_STEP else torch.stack([part.cpu() for part in parts])


def _own(state: Any) -> Any:
    """The state with memory of its own: torch.save writes all that a view is a part of."""
    if isinstance(state, Tensor):
        whole = state.untyped_storage().nbytes() > state.numel() * state.element_size()
        return state.clone() if whole else state
    if isinstance(state, dict):
        return {key: _own(value) for key, value in state.items()}
    return state
