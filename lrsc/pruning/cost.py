"""What a network costs: parameters, multiplications, bytes on disk, seconds."""

import dataclasses
import io
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Cost:
    """Size and speed of one network.

    parameters: how many numbers are trained. macs: multiply-accumulates of matrix products and
    convolutions for one sample, as executed. bytes: the file that torch.save makes of the state
    dict. seconds: median wall time of a forward pass of the given batch.
    """

    parameters: int
    macs: int
    bytes: int
    seconds: float


def costs(networks: Sequence[nn.Module], x: Tensor, runs: int) -> list[Cost]:
    """Cost of each network for a batch x, in eval mode on the batch's device.

    The networks take turns, so that a machine that gets slower or faster favours none.
    """
    x = x.clone()  # a network may work in place
    seconds = _seconds(networks, x, runs)
    return [
        Cost(sum(p.numel() for p in net.parameters()), _macs(net, x[:1]), _bytes(net), median)
        for net, median in zip(networks, seconds, strict=True)
    ]


@torch.no_grad()
def _macs(net: nn.Module, x: Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        net(x)
    return counter.get_total_flops() // 2


def _bytes(net: nn.Module) -> int:
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    return file.tell()


@torch.inference_mode()
def _seconds(networks: Sequence[nn.Module], x: Tensor, runs: int) -> list[float]:
    times: list[list[float]] = [[] for _ in networks]
    for turn in range(runs + 2):  # the first two are not counted: caches and kernels get ready
        for net, measured in zip(networks, times, strict=True):
            started = _now(x.device)
            net(x)
            if turn >= 2:
                measured.append(_now(x.device) - started)
    return [statistics.median(measured) for measured in times]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
