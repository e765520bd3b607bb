"""One run on several processes, started by torchrun: each computes a slice of every batch.

Without a process group every function here is that of a single process and costs nothing.
"""

import contextlib
import datetime
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


def start(device: str | None = None) -> str | None:
    """Join the group that torchrun announces, if there is one; the device of this process.

    nccl and a GPU each where there are GPUs, else (or if device is 'cpu') gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return device
    cuda = device != "cpu" and torch.cuda.is_available()
    # the first process measures, and the others wait for it: hours on a large test set
    dist.init_process_group("nccl" if cuda else "gloo", timeout=datetime.timedelta(hours=12))
    if not cuda:
        return "cpu"
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return f"cuda:{os.environ['LOCAL_RANK']}"


def end() -> None:
    """Leave the group, if there is one."""
    if world() > 1:
        dist.destroy_process_group()


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; the first is the only one that writes."""
    return dist.get_rank() if world() > 1 else 0


def share(x: Tensor, dim: int = 0) -> Tensor:
    """This process' slice of x along a dimension that all processes divide."""
    return x.chunk(world(), dim)[rank()] if world() > 1 else x


def gather(x: Tensor, dim: int = 0) -> Tensor:
    """The slices of all processes, joined in their order: the inverse of `share`."""
    if world() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts, dim)


def total(x: Tensor) -> Tensor:
    """Sum over the processes."""
    if world() > 1:
        dist.all_reduce(x)
    return x


def everyones(value: Any) -> list:
    """The values of all processes, in every process."""
    if world() == 1:
        return [value]
    values = [None] * world()
    dist.all_gather_object(values, value)
    return values


def first_says(value: Any) -> Any:
    """The first process' value, in every process."""
    return everyones(value)[0]


@contextlib.contextmanager
def parallel(net: nn.Module) -> Iterator[nn.Module]:
    """Yield the network as the steps call it: gradients are means over the processes.

    Batch statistics are those of the whole batch, as in a single process; the network's own
    layers are put back at the end.
    """
    if world() == 1:
        yield net
        return
    kinds = {m: type(m) for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    for module in kinds:
        module.__class__ = _BatchNorm  # same parameters, same state_dict
    device = next(net.parameters()).device
    try:
        # channels_last and contiguous are the same layout for 1 x 1 kernels, which torch calls odd
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        yield nn.parallel.DistributedDataParallel(
            net, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
        )
    finally:
        for module, kind in kinds.items():
            module.__class__ = kind


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over all processes; torch's SyncBatchNorm knows GPUs only."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            raise ValueError(
                "BatchNorm without running statistics or momentum cannot be trained on several "
                "processes: use BatchNorm(..., track_running_stats=True, momentum=0.1)"
            )
        axes = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1] * world()
        wide = x.float()
        mean = all_reduce(wide.sum(axes)) / count
        shape = (1, -1) + (1,) * (x.dim() - 2)
        centred = wide - mean.view(shape)
        variance = all_reduce(centred.square().sum(axes)) / count
        if self.track_running_stats:
            with torch.no_grad():
                unbiased = variance * (count / max(count - 1, 1))
                self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
                self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)
