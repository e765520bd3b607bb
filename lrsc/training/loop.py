"""The reference training loop: one run after the other, data and statistics on the device.

It records every step's loss and loss ratio without a host synchronisation inside an epoch: each
step only copies its logits into a buffer, and the statistics of many steps are computed at once.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrsc import models, optimizers, schedules
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset
from lrsc.datasets.images import batches
from lrsc.errors import OutOfMemory
from lrsc.metrics import loss_ratio
from lrsc.training import arguments, checkpoint, distributed, evaluation, steps
from lrsc.training.checkpoint import Keeper
from lrsc.training.run import Job, Probe, Run, joined

BAR_STEPS = 50  # steps between two updates of the progress bar
_RECORDED = 2**24  # logits that are buffered before their losses are computed


@dataclasses.dataclass
class Trained:
    """A trained model and how it got there.

    status: 'converged', 'cap' or 'diverged'. curves: `loss` and `loss_ratio` (bias-conflicting /
    total loss; absent without bias labels) of every step's mini-batch before its update, cross-
    entropies whatever the loss trained with; `accuracy` of every epoch's mini-batches;
    `validation_accuracy` of every epoch where there is a validation split; for each probe its
    values, and `<probe>_step`, the iterations they are of; CPU tensors. train_accuracy: a
    fraction, eval mode, all training samples; NaN where diverged. selected_epoch: the epoch whose
    weights these are, where config.select_by chose it.
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
    selected_epoch: int | None = None


def fit(
    model: str | nn.Module | Callable[[], nn.Module],
    dataset: BiasedDataset,
    config: TrainConfig | None = None,
    *,
    lrs: Iterable[float] | None = None,
    seeds: Iterable[int] | None = None,
    model_options: Mapping | None = None,
    probes: Mapping[str, Probe] | None = None,
    probe_every: int | Mapping[str, int] = 200,
    checkpoints: str | Path | None = None,
    checkpoint_seconds: float | None = 30.0,
    checkpoint_steps: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> list[Trained]:
    """Train one model for each (LR, seed), LRs outermost; two equal runs on a CPU are bit-equal.

    model: a name (`models.build`; the data set's usual options unless given), a factory of
    modules, or one ready module (for a single run; it is trained in place). config defaults to
    TrainConfig(); lrs to [config.lr], seeds to [0]. device: a GPU where there is one, else the CPU.
    Only full batches are used: the remainder of an epoch's permutation is left out.

    probes: name -> function(net) -> tensor or mapping of tensors, called in eval mode at every
    `probe_every` iterations (one number, or one a probe), before the update, when each parameter's
    .grad is that of the mini-batch; and once more at the end, without gradients.

    checkpoints: a folder for one file a run, written every so many seconds or steps, at the end,
    and when SIGTERM or Ctrl-C stops the process (exit status 143, KeyboardInterrupt). The same
    call goes on from there, bit for bit on a CPU; a finished run is read, not trained.

    Under torchrun (`distributed.start()`) every process computes its slice of each batch, which
    their number must divide; the first alone writes.

    Raises ValueError before any work for unknown names, LRs that are empty, not finite or <= 0,
    settings that contradict one another or the data, and models that do not fit the data; when a
    run starts, for a checkpoint of another run; and OutOfMemory, a ValueError, naming the settings
    that need less.
    """
    config = config or TrainConfig()
    configs = [dataclasses.replace(config, lr=lr) for lr in arguments.some("lrs", lrs, config.lr)]
    runs = [(c, seed) for c in configs for seed in arguments.some("seeds", seeds, 0)]
    if isinstance(model, nn.Module) and len(runs) > 1:
        raise ValueError(
            f"a ready module is trained for one run, found {len(runs)} (lrs x seeds); "
            "give a factory: fit(lambda: MyModel(), ...)"
        )
    build = arguments.factory(model, dataset, model_options or {})
    every = arguments.intervals(probes or {}, probe_every)
    for name, number in (("seconds", checkpoint_seconds), ("steps", checkpoint_steps)):
        if number is not None and number <= 0:
            raise ValueError(f"checkpoint_{name} must be > 0 or None, found {number!r}")
    train, val = evaluation.splits(dataset, config)
    batch = min(config.batch_size, len(train))
    if batch % distributed.world() or (batch // distributed.world()) < config.accumulation:
        raise ValueError(
            f"batch_size={batch} cannot be shared by {distributed.world()} processes in "
            f"accumulation={config.accumulation} parts: change one"
        )
    total = config.max_epochs * (len(train) // batch)
    total = min(total, config.max_steps) if config.max_steps else total
    schedules.check(config, total)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if config.precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision='tf32' does nothing on device={str(device)!r}: use 'fp32'")
    if not isinstance(model, nn.Module):
        with seeded(0, device):
            models.check(build(), dataset)
    folder = None if checkpoints is None else Path(checkpoints)
    with _memory_advice(config):
        train, val = train.to(device), None if val is None else val.to(device)
    job = Job(
        build, isinstance(model, nn.Module), dataset, train, val, batch, total, dict(probes or {}),
        every, folder, checkpoint_seconds, checkpoint_steps, device, progress,
    )  # fmt: skip
    return [_train(job, config, seed) for config, seed in runs]


def _train(job: Job, config: TrainConfig, seed: int) -> Trained:
    with (
        seeded(seed, job.device),
        _memory_advice(config),
        models.matmul_precision(config.precision, job.device),
    ):
        run = Run(job, config, seed)
        path = job.checkpoints and job.checkpoints / f"lr-{config.lr!r}-seed-{seed}.pt"
        with (
            checkpoint.keeper(run, path, job.checkpoint_seconds, job.checkpoint_steps) as keeper,
            distributed.parallel(run.net) as parallel,
        ):
            if not run.finished:
                step = steps.step(run.net, parallel, run.optimizer, config)
                with _progress_bar(run) as bar:
                    while run.seen or (run.done < job.total and run.status == "cap"):
                        if not run.seen:  # else resumed at the end of an epoch
                            _epoch(run, step, keeper, bar)
                            keeper.write(run.done)
                        _end_of_epoch(run, keeper, bar)
                _finish(run, keeper)
                keeper.save()
    run.net.eval()
    curves = {name: joined(name, parts).cpu() for name, parts in run.curves.items()}
    return Trained(
        run.net, config, seed, run.status, curves, run.epochs, run.done, run.accuracy,
        run.seconds, run.best["epoch"],
    )  # fmt: skip


def _epoch(run: Run, step: steps.Step, keeper: Keeper, bar) -> None:
    """The steps of an epoch that are still to do."""
    job = run.job
    first = run.done % job.epoch
    if first:  # resumed inside an epoch: its permutation is drawn again
        run.order.set_state(run.epoch_order)
    run.epoch_order = run.order.get_state()
    last = min(job.epoch, job.total - (run.done - first))
    chosen = torch.randperm(len(job.train), generator=run.order)[: last * job.batch]
    parts = distributed.share(chosen.to(job.device).view(last, job.batch), 1)
    record = max(1, _RECORDED // (job.batch * job.dataset.n_classes))
    logits = torch.empty(
        min(last, record), parts.shape[1], job.dataset.n_classes, device=job.device
    )
    held = first  # step at which the buffer of logits begins
    run.net.train()
    for i, x in enumerate(_samples(run, parts[first:]), first):
        _set_lr(run)
        look = _look(run) if any(run.done % n == 0 for n in job.every.values()) else None
        logits[i - held] = step(job.train.inputs(x), job.train.y[parts[i]], look)
        run.done += 1
        if bar is not None and i % BAR_STEPS == 0:
            bar.update(min(BAR_STEPS, last - i))
        full = (i + 1) % record == 0
        if i + 1 < last and (full or keeper.due(run.done)):
            _record(run, logits[: i + 1 - held], parts[held : i + 1])
            held = i + 1
            if full and not run.finite:
                break
            keeper.write(run.done)
    _record(run, logits[: i + 1 - held], parts[held : i + 1])
    run.seen = (i + 1) * job.batch


def _end_of_epoch(run: Run, keeper: Keeper, bar) -> None:
    """What is decided at the end of an epoch; a signal during its evaluations repeats them."""
    job, config, poll = run.job, run.config, keeper.poll
    right = run.right / run.seen
    finite, accuracy = torch.stack([run.finite.double(), right]).tolist()
    status, validation = "cap", None
    if not finite:  # with `accuracy`, the epoch's only host synchronisation
        status = "diverged"
    else:
        if job.val is not None:
            validation = evaluation.validation_accuracy(run.net, job.val, config.select_by, poll)
        if config.stop_at_accuracy is not None:
            run.accuracy = evaluation.training_accuracy(
                run.net, job.train, config.stop_at_accuracy, poll
            )
        status = "converged" if _converged(run, poll) else "cap"
    run.epochs, run.seen, run.status = run.epochs + 1, 0, status
    run.curves.setdefault("accuracy", []).append(right.float())
    run.right.zero_()
    if validation is not None:
        _select(run, validation)
    if bar is not None:
        bar.set_postfix_str(f"epoch {run.epochs}, accuracy {accuracy:.2%}")


def _converged(run: Run, poll: Callable[[], None]) -> bool:
    """Whether all rules that are given hold."""
    config = run.config
    rules = []
    if config.stop_at_accuracy is not None:
        rules.append(run.accuracy >= config.stop_at_accuracy)
    if config.stop_at_loss is not None and all(rules):
        loss = evaluation.training_loss(run.net, run.job.train, poll)
        rules.append(loss <= config.stop_at_loss)
    return bool(rules) and all(rules)


def _select(run: Run, accuracy: float) -> None:
    run.curves.setdefault("validation_accuracy", []).append(torch.tensor(accuracy))
    if run.config.select_by is not None and accuracy > run.best["accuracy"]:
        weights = {name: value.detach().clone() for name, value in run.net.state_dict().items()}
        run.best = {"epoch": run.epochs, "accuracy": accuracy, "weights": weights}


def _finish(run: Run, keeper: Keeper) -> None:
    """The last probes, the selected weights, and the accuracy that a run at its cap ends with."""
    if run.status == "diverged":
        run.accuracy, run.best["epoch"] = float("nan"), None
    else:
        if run.job.probes and not run.probed:
            for p in run.net.parameters():
                p.grad = None
            _look(run, run.job.probes)()
            run.probed = True
        if run.best["weights"]:
            run.net.load_state_dict(run.best["weights"])
        if run.status == "cap" or run.best["weights"]:
            run.accuracy = evaluation.training_accuracy(run.net, run.job.train, poll=keeper.poll)
    run.seconds_before = run.seconds
    run.best["weights"] = {}
    run.finished = True


def _samples(run: Run, parts: Tensor) -> Iterator[Tensor]:
    """Raw samples of each step's indices, augmented where the split says how."""
    train = run.job.train
    found = batches(train.x, parts)
    if train.augment is None:
        yield from found
        return
    generator = torch.Generator()
    for x in found:  # by the number of the step, so that a resumed run draws the same
        key = run.seed * 0x9E3779B1 + run.done * 0x85EBCA6B + distributed.rank() * 0xC2B2AE35
        generator.manual_seed(key & 0x7FFFFFFF)
        yield train.augment(x, generator)


def _set_lr(run: Run) -> None:
    if run.config.schedule == "constant":
        return
    lr = schedules.learning_rate(run.config, run.done, run.job.total)
    if lr != run.optimizer.param_groups[0]["lr"]:
        optimizers.set_lr(run.optimizer, lr)


@torch.inference_mode()
def _record(run: Run, logits: Tensor, chosen: Tensor) -> None:
    """Add the curves of some steps: logits steps x batch x K, chosen their samples."""
    if not len(logits):
        return
    logits, chosen = distributed.gather(logits, 1), distributed.gather(chosen, 1)
    train = run.job.train
    y = train.y[chosen]
    losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
    run.curves.setdefault("loss", []).append(losses.mean(1))
    if train.bias is not None:
        ratio = loss_ratio(losses, (train.bias != train.y)[chosen])
        run.curves.setdefault("loss_ratio", []).append(ratio)
    run.right += (logits.argmax(2) == y).sum()
    run.finite &= losses.isfinite().all()


def _look(run: Run, which: Iterable[str] | None = None) -> Callable[[], None]:
    """Call the probes, those due at this step unless said which, in eval mode."""
    due = [n for n in run.job.probes if which is not None or run.done % run.job.every[n] == 0]

    def look() -> None:
        with models.modes_kept(run.net):
            run.net.eval()
            for name in due:
                found = run.job.probes[name](run.net)
                named = found if isinstance(found, Mapping) else {"": found}
                for key, value in {"step": torch.tensor(run.done), **named}.items():
                    curve = f"{name}_{key}" if key else name
                    run.curves.setdefault(curve, []).append(torch.as_tensor(value).detach())

    return look


@contextlib.contextmanager
def _memory_advice(config: TrainConfig) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        full = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            said in text for said in ("t allocate", "ALLOC_FAILED")
        )
        if not full:
            raise
        raise OutOfMemory(
            f"out of memory in training: {text.partition(chr(10))[0]}\n"
            f"What needs less: a smaller batch_size (now {config.batch_size}), more parts of a "
            f"batch (accumulation, now {config.accumulation}; the update stays that of the whole "
            f"batch), or precision='bf16' (now {config.precision!r})."
        ) from error


def _progress_bar(run: Run):
    import sys

    if not run.job.progress or not sys.stderr.isatty() or distributed.rank():
        return contextlib.nullcontext()
    from tqdm import tqdm

    # time left counts to the cap: a run that converges ends before
    text = f"lr {run.config.lr:g} seed {run.seed}"
    return tqdm(total=run.job.total, initial=run.done, desc=text, unit="step", leave=False)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device):
    """Run with torch's generators seeded, and put them back as they were afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
