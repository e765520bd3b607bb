"""The reference training loop: constant-LR SGD until 100 % training accuracy, all on the device.

It records every step's loss and loss ratio without a host synchronisation inside an epoch: each
step only copies its logits into a buffer, and the epoch's statistics are computed from it at once.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrsc import models
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.datasets.images import batches
from lrsc.metrics import loss_ratio

EVAL_BATCH = 1000  # samples a forward pass without gradient
BAR_STEPS = 50  # steps between two updates of the progress bar

Probe = Callable[[nn.Module], Tensor]


@dataclasses.dataclass
class Trained:
    """A trained model and how it got there.

    status: 'converged', 'cap' or 'diverged'. curves: `loss` and `loss_ratio` (bias-conflicting /
    total loss; absent without bias labels) of every step's mini-batch before its update,
    `accuracy` of every epoch's mini-batches, and for each probe its values at the iterations
    `probe_step`; CPU tensors. train_accuracy: a fraction, eval mode, all training samples; NaN
    where diverged.
    """

    model: nn.Module
    config: TrainConfig
    seed: int
    status: str
    curves: dict[str, Tensor]
    epochs: int
    steps: int
    train_accuracy: float
    seconds: float


def fit(
    model: str | nn.Module | Callable[[], nn.Module],
    dataset: BiasedDataset,
    config: TrainConfig | None = None,
    *,
    lrs: Iterable[float] | None = None,
    seeds: Iterable[int] | None = None,
    model_options: Mapping | None = None,
    probes: Mapping[str, Probe] | None = None,
    probe_every: int = 200,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> list[Trained]:
    """Train one model for each (LR, seed), LRs outermost; two equal runs on a CPU are bit-equal.

    model: a name (`models.build`; the data set's usual options unless given), a factory of
    modules, or one ready module (for a single run; it is trained in place). config defaults to
    TrainConfig(); lrs to [config.lr], seeds to [0]. probes: name -> function(net) -> tensor,
    called in eval mode every `probe_every` steps. device: a GPU where there is one, else the CPU.
    Only full batches are used: the remainder of an epoch's permutation is left out.
    Raises ValueError before any work for unknown names, LRs that are empty, not finite or <= 0,
    and models that do not fit the data.
    """
    config = config or TrainConfig()
    configs = [dataclasses.replace(config, lr=lr) for lr in _some("lrs", lrs, config.lr)]
    runs = [(c, seed) for c in configs for seed in _some("seeds", seeds, 0)]
    if isinstance(model, nn.Module) and len(runs) > 1:
        raise ValueError(
            f"a ready module is trained for one run, found {len(runs)} (lrs x seeds); "
            "give a factory: fit(lambda: MyModel(), ...)"
        )
    factory = _factory(model, dataset, model_options or {})
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if not isinstance(model, nn.Module):
        with seeded(0, device):
            models.check(factory(), dataset)
    train = dataset.train.to(device)
    return [
        _train(factory, dataset, train, config, seed, probes or {}, probe_every, device, progress)
        for config, seed in runs
    ]


def _train(factory, dataset, train, config, seed, probes, probe_every, device, progress):
    started = time.perf_counter()
    batch = min(config.batch_size, len(train))
    steps_per_epoch = len(train) // batch
    most = config.max_epochs * steps_per_epoch
    most = min(most, config.max_steps) if config.max_steps else most
    # on the CPU: one order, and the same crops and flips, on every device
    order = torch.Generator().manual_seed(seed + 0x5EED)
    augmentation = torch.Generator().manual_seed(seed + 0xA06)
    curves: dict[str, list[Tensor]] = {}
    conflicting = None if train.bias is None else train.conflicting
    done = epochs = 0
    status, accuracy = "cap", float("nan")
    with seeded(seed, device), _progress_bar(most, config.lr, seed, progress) as bar:
        net = factory().to(device)
        if device.type == "cpu":  # faster convolutions
            for p in net.parameters():
                if p.dim() == 4:
                    p.data = p.data.contiguous(memory_format=torch.channels_last)
        models.check(net, dataset)
        optimizer = torch.optim.SGD(
            net.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),  # one pass over the parameters
        )  # fmt: skip
        step = _step(net, optimizer)
        while done < most and status == "cap":
            steps = min(steps_per_epoch, most - done)
            chosen = torch.randperm(len(train), generator=order)[: steps * batch].to(device)
            logits = torch.empty(steps, batch, dataset.n_classes, device=device)
            net.train()
            parts = chosen.view(steps, batch)
            for i, x in enumerate(_samples(train, parts, augmentation)):
                if probes and (done + i) % probe_every == 0:
                    _probe(net, probes, done + i, curves)
                logits[i] = step(train.inputs(x), train.y[parts[i]])
                if bar is not None and i % BAR_STEPS == 0:
                    bar.update(min(BAR_STEPS, steps - i))
            done, epochs = done + steps, epochs + 1
            finite, seen = _record(logits, train.y[chosen], conflicting, chosen, curves)
            if not finite:  # with `seen`, the epoch's only host synchronisation
                status, accuracy = "diverged", float("nan")
            elif config.stop_at_accuracy is not None:
                accuracy = training_accuracy(net, train, config.stop_at_accuracy)
                status = "converged" if accuracy >= config.stop_at_accuracy else "cap"
            if bar is not None:
                bar.set_postfix_str(f"epoch {epochs}, accuracy {seen:.2%}")
        if probes and status != "diverged":
            _probe(net, probes, done, curves)
    if status == "cap":
        accuracy = training_accuracy(net, train)
    net.eval()
    seconds = time.perf_counter() - started
    together = {
        k: torch.cat(v).cpu() if k in ("loss", "loss_ratio") else torch.stack(v).cpu()
        for k, v in curves.items()
    }
    return Trained(net, config, seed, status, together, epochs, done, accuracy, seconds)


def _samples(train: Split, parts: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Raw samples of each step's indices, augmented where the split says how."""
    found = batches(train.x, parts)
    return found if train.augment is None else (train.augment(x, generator) for x in found)


def _step(net: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[Tensor, Tensor], Tensor]:
    def step(x: Tensor, y: Tensor) -> Tensor:
        logits = net(x)
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return logits.detach()

    return step


@torch.inference_mode()
def _record(logits, y, conflicting, chosen, curves) -> tuple[bool, float]:
    """Add an epoch's per-step curves; whether all losses are finite, and its running accuracy."""
    steps, batch, classes = logits.shape
    losses = F.cross_entropy(logits.view(-1, classes), y, reduction="none").view(steps, batch)
    curves.setdefault("loss", []).append(losses.mean(1))
    if conflicting is not None:
        ratio = loss_ratio(losses, conflicting[chosen].view(steps, batch))
        curves.setdefault("loss_ratio", []).append(ratio)
    accuracy = (logits.argmax(2).view(-1) == y).float().mean()
    curves.setdefault("accuracy", []).append(accuracy)
    finite, seen = torch.stack([losses.isfinite().all().float(), accuracy]).tolist()
    return bool(finite), seen


@torch.inference_mode()
def training_accuracy(net: nn.Module, split: Split, enough: float = 0.0) -> float:
    """Accuracy on all samples, eval mode; stops early, with an upper bound, below `enough`.

    The bound makes the check at the end of an epoch nearly free until the run converges: a target
    of 100 % is missed at the first error.
    """
    net.eval()
    n, wrong = len(split), 0
    order = torch.arange(n).split(EVAL_BATCH)
    for part, x in zip(order, split.batches(order), strict=True):
        wrong += int((net(x).argmax(1) != split.y[part.to(split.y.device)]).sum())
        if (n - wrong) / n < enough:
            break
    return (n - wrong) / n


@torch.no_grad()
def _probe(net, probes, step, curves) -> None:
    was_training = net.training
    net.eval()
    curves.setdefault("probe_step", []).append(torch.tensor(step))
    for name, probe in probes.items():
        curves.setdefault(name, []).append(torch.as_tensor(probe(net)))
    net.train(was_training)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device):
    """Run with torch's generators seeded, and put them back as they were afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _factory(model, dataset: BiasedDataset, model_options: Mapping) -> Callable[[], nn.Module]:
    if isinstance(model, str):
        options = models.options_for(model, dataset.name) | dict(model_options)
        return lambda: models.build(model, dataset.input_shape, dataset.n_classes, **options)
    if model_options:
        raise ValueError("model_options go with a model's name; build them into your own factory")
    if isinstance(model, nn.Module):
        return lambda: model
    if callable(model):
        return model
    raise ValueError(f"model must be a name, a factory or an nn.Module, found {model!r}")


def _some(name: str, values: Iterable | None, default) -> list:
    found = [default] if values is None else list(values)
    if not found:
        raise ValueError(f"{name} is empty: give at least one value")
    if name == "seeds" and any(not isinstance(s, int) or s < 0 for s in found):
        raise ValueError(f"seeds must be whole numbers >= 0, found {found!r}")
    return found


def _progress_bar(total: int, lr: float, seed: int, show: bool):
    import sys

    if not show or not sys.stderr.isatty():
        return contextlib.nullcontext()
    from tqdm import tqdm

    # time left counts to the cap: a run that converges ends before
    return tqdm(total=total, desc=f"lr {lr:g} seed {seed}", unit="step", leave=False)
