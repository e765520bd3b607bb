"""By which statistics batch normalisation normalises when a network is evaluated.

`running`: those kept along training, torch's eval mode. `batch`: those of the batch under
evaluation, as in training; nothing else is as in training. `recalibrated`: running statistics
estimated anew from training samples, which a network needs whose weights were changed after
training. A network without batch normalisation is the same in all three; torch's layers count as
such, not F.batch_norm in a forward of one's own.
"""

import contextlib
import copy
import functools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lrsc.config import STATISTICS
from lrsc.datasets import Split
from lrsc.errors import check_names, is_whole, shown
from lrsc.models.calls import as_taken, copied, input_errors
from lrsc.models.precision import matmul_precision

BATCH = 100  # samples whose statistics are taken together, as in training
SAMPLES = 2000  # training samples from which statistics are estimated anew


def batch_norms(net: nn.Module) -> list[_BatchNorm]:
    """Layers that normalise by the batch when the network trains.

    A layer that stays in eval mode when `train` is called (frozen) is not among them.
    """
    with modes_kept(net):
        return [m for m in net.train().modules() if isinstance(m, _BatchNorm) and m.training]


@contextlib.contextmanager
def alone(net: nn.Module) -> Iterator[None]:
    """Context in which other threads that use this network wait: they share its hooks and modes."""
    with _making:
        lock = _locks.setdefault(net, threading.RLock())
    with lock:
        yield


_locks: weakref.WeakKeyDictionary[nn.Module, Any] = weakref.WeakKeyDictionary()
_making = threading.Lock()


@contextlib.contextmanager
def modes_kept(net: nn.Module) -> Iterator[None]:
    """Context after which each module is back in its earlier mode, training or eval."""
    with alone(net):
        modes = [(module, module.training) for module in net.modules()]
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


@contextlib.contextmanager
def evaluating(net: nn.Module, statistics: str = "running") -> Iterator[bool]:
    """Context in which the network is in eval mode with these statistics; it is then restored.

    Yields whether outputs depend on which samples are in a batch. Raises ValueError for unknown
    names, for 'recalibrated', and for 'running' where a layer keeps no running statistics.
    """
    check_names("statistics", [statistics], STATISTICS)
    if statistics == "recalibrated":
        raise ValueError(
            "statistics='recalibrated' needs training samples: call "
            "lrsc.models.recalibrate(network, split), then use 'running'"
        )
    own = batch_norms(net)
    by_batch = statistics == "batch" and bool(own)
    if not by_batch:
        _check_running(own)
    tracked = [layer.track_running_stats for layer in own]
    with modes_kept(net):
        net.eval()
        try:
            if by_batch:
                for layer in own:
                    layer.training, layer.track_running_stats = True, False
            yield by_batch
        finally:
            for layer, tracks in zip(own, tracked, strict=True):
                layer.track_running_stats = tracks


def batches(n: int) -> tuple[Tensor, ...]:
    """Indices of n samples, in fixed random batches of about BATCH.

    A remainder of less than half a batch joins the previous one. Raises ValueError for fewer than
    two samples, since a single one has no statistics.
    """
    if n < 2:
        raise ValueError(
            f"{n} sample has no batch statistics, expected at least 2: use statistics='running'"
        )
    parts = list(torch.randperm(n, generator=torch.Generator().manual_seed(0)).split(BATCH))
    if len(parts) > 1 and 2 * len(parts[-1]) < BATCH:
        parts[-2:] = [torch.cat(parts[-2:])]
    return tuple(parts)


def in_batches(outputs: Callable[[Sequence[Tensor]], list[Tensor]], n: int) -> Tensor:
    """Outputs of n samples in their order; `outputs` gives those of each of the `batches`."""
    parts = batches(n)
    found = torch.cat(outputs(parts))
    return found[torch.cat(parts).argsort().to(found.device)]


def recalibrate(
    net: nn.Module, split: Split, samples: int = SAMPLES, batch: int = BATCH
) -> nn.Module:
    """Re-estimate the running statistics of a network's batch normalisation, in place.

    They become the mean over fixed random batches of `samples` of the split's samples (all if it
    has fewer), without labels; batch sizes are at most `batch` and differ by at most one. One
    forward pass, 1 to 2 s for ResNet18 and 2000 images of 28 x 28 on two cores. Weights, modes and
    layers frozen in eval mode stay as they are, as does a network without batch normalisation.
    Returns the network. Raises ValueError for fewer than two samples, inputs that the network does
    not take, and where a layer keeps no running statistics.
    """
    return recalibration(net, split, samples, batch)(net)


def recalibration(
    net: nn.Module, split: Split, samples: int = SAMPLES, batch: int = BATCH
) -> Callable[[nn.Module], nn.Module]:
    """`recalibrate` as a function of networks of this architecture; its samples are read once."""
    if not is_whole(samples, 2):
        raise ValueError(f"samples must be a whole number >= 2, found {shown(samples)}")
    own = batch_norms(net)
    _check_running(own)
    if not own:
        return lambda net: net
    if len(split) < 2:
        raise ValueError(f"split holds {len(split)} samples, expected training samples")
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:samples]
    chosen = split.take(order).loaded().to(next(net.parameters()).device)
    return functools.partial(_estimate, chosen=chosen, batch=batch)


@torch.no_grad()
def _estimate(net: nn.Module, chosen: Split, batch: int) -> nn.Module:
    own = batch_norms(net)
    momenta = [layer.momentum for layer in own]
    before = copy.deepcopy([layer.state_dict() for layer in own])
    with modes_kept(net), matmul_precision("fp32", chosen.y.device):
        net.eval()
        for layer in own:
            layer.reset_running_stats()
            layer.training, layer.momentum = True, None  # None: the mean over batches
        try:
            parts = torch.arange(len(chosen)).tensor_split(-(-len(chosen) // batch))
            for x in chosen.batches(parts):
                with input_errors(x):
                    net(as_taken(net, x))
        except BaseException:  # nothing is changed where it cannot be finished
            for layer, state in zip(own, before, strict=True):
                layer.load_state_dict(state)
            raise
        finally:
            for layer, momentum in zip(own, momenta, strict=True):
                layer.momentum = momentum
    return net


def check_statistics(statistics: str, train: Split | None) -> None:
    """Raise ValueError for an unknown name, and for 'recalibrated' without training samples."""
    check_names("statistics", [statistics], STATISTICS)
    if statistics == "recalibrated" and train is None:
        raise ValueError(
            "statistics='recalibrated' needs training samples, found none: give "
            "recalibrate=dataset.train"
        )


def settled(net: nn.Module, statistics: str, train: Split | None) -> tuple[nn.Module, str]:
    """The network to evaluate, and the statistics to evaluate it with: 'running' or 'batch'.

    For 'recalibrated', a recalibrated copy (ValueError without training samples); else itself.
    """
    check_statistics(statistics, train)
    if statistics != "recalibrated" or train is None:
        return net, statistics
    return (recalibrate(copied(net), train) if batch_norms(net) else net), "running"


def with_statistics_of(net: nn.Module, x: Tensor) -> nn.Module:
    """A copy in eval mode whose running statistics are those of the batch of network inputs x.

    Its outputs for x are those with batch statistics, yet each depends on its sample alone.
    Attributions in batch statistics are taken of this copy.
    """
    batches(len(x))
    made = copied(net)
    own = batch_norms(made)
    made.eval()

    def take(layer: _BatchNorm, args: tuple[Tensor, ...]) -> None:
        over = [i for i in range(args[0].dim()) if i != 1]
        # torch normalises a batch by the variance over n, and keeps the one over n - 1
        var, mean = torch.var_mean(args[0].detach(), over, correction=0)
        layer.running_mean, layer.running_var = mean, var

    hooks = [layer.register_forward_pre_hook(take) for layer in own]
    try:
        with torch.no_grad(), matmul_precision("fp32", x.device):
            made(as_taken(made, x))
    finally:
        for hook in hooks:
            hook.remove()
    return made


def _check_running(layers: Sequence[_BatchNorm]) -> None:
    if any(layer.running_mean is None or not layer.track_running_stats for layer in layers):
        raise ValueError(
            "a batch normalisation of the network keeps no running statistics "
            "(track_running_stats=False): use statistics='batch'"
        )
