"""`fit`: many trainings of one model on one data set, side by side where that is faster."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lrsc import models, schedules
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset
from lrsc.errors import OutOfMemory, path, shown
from lrsc.models import is_out_of_memory
from lrsc.models.draws import Draws
from lrsc.training import arguments, checkpoint, distributed, evaluation
from lrsc.training.checkpoint import Refused
from lrsc.training.engines import choose
from lrsc.training.engines.lanes import Trainer
from lrsc.training.memory import advice
from lrsc.training.progress import Progress
from lrsc.training.run import Callback, Job, Probe, Request, Run, joined


@dataclasses.dataclass
class Trained:
    """A trained model and how it got there.

    status: 'converged', 'cap' or 'diverged'. curves: `loss` and `loss_ratio` (bias-conflicting /
    total loss; absent without bias labels) of every step's mini-batch before its update, always
    cross-entropies, whatever the training loss; `accuracy` of every epoch's mini-batches;
    `validation_accuracy` of every epoch where there is a validation split; for each probe its
    values, and `<probe>_step`, their iterations; CPU tensors. train_accuracy: a
    fraction, eval mode, all training samples; NaN where diverged. selected_epoch: the epoch whose
    weights these are, if config.select_by chose it. engine, replicas: what trained it, and how many
    runs side by side; seconds is their joint time.
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
    engine: str = "reference"
    replicas: int = 1


Finish = Callable[[list[tuple[Request, Trained]]], None]


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
    callbacks: Callback | Iterable[Callback] = (),
    checkpoints: str | Path | None = None,
    checkpoint_seconds: float | None = 30.0,
    checkpoint_steps: int | None = None,
    device: torch.device | str | None = None,
    engine: str = "auto",
    replicas: int | None = None,
    progress: bool = True,
    keep_zeros: bool = False,
) -> list[Trained]:
    """Train one model for each (LR, seed), LRs outermost; two equal calls on a CPU are bit-equal.

    model: a name (`models.build`; the data set's usual options unless given), a factory of
    modules, or one ready module (for a single run; it is trained in place). config defaults to
    TrainConfig(); lrs to [config.lr], seeds to [0]. device: a GPU where there is one, else the CPU.
    Only full batches are used: the remainder of an epoch's permutation is left out.

    engine: 'auto' trains several runs side by side, in the way that is fastest for the model and
    device; every run equals that of 'reference', the plain loop, up to roundoff. Others: 'threads'
    (one run per core), 'stacked' (fully connected networks in batched products), 'graphs' (CUDA
    graphs). replicas: runs side by side, by default as many as are useful and fit into memory;
    halved when memory runs out. A factory and the probes may be called from several threads, one at
    a time; no seed repeats what a factory draws from generators other than torch's, such as
    NumPy's.

    probes: name -> function(net) -> tensor or mapping of tensors, called in eval mode every
    `probe_every` iterations (one number, or one per probe), before the update, when each
    parameter's .grad is that of the mini-batch; and once more at the end, without gradients.

    callbacks: a function, or several, called at the end of every epoch of every run, one at a time,
    with a dict of numbers: `lr` and `seed` of the run, `epoch` (1, 2, ...) and `step`, as completed
    so far, `loss` (nat) and `accuracy`, means over the epoch's mini-batches, and `loss_ratio` where
    there are bias labels, `validation_accuracy` where there is a validation split. An exception in
    one ends the call. Epochs before a checkpoint are not reported again.

    checkpoints: a folder with one file per run, written every checkpoint_seconds or
    checkpoint_steps, at the end, and when SIGTERM or Ctrl-C stops the process (exit status 143,
    KeyboardInterrupt). The same call resumes from there, bit for bit on a CPU for a run that is
    trained alone; a finished run is only read. Data, settings, initial weights and the network's
    code must match the file; probes may differ. What a network keeps outside its parameters and
    buffers is not saved.

    keep_zeros: weights that are 0 at the start stay 0, as do zero biases of all-zero rows, so that
    a pruned network (`lrsc.pruning.prune`) stays pruned in training; not with 'stacked' or
    psgd_kron.

    Under torchrun (`distributed.start()`) every process computes its slice of each batch, whose
    size their number must divide; only the first writes.

    Raises ValueError before any work for unknown names, LRs that are empty, not finite or <= 0,
    settings that contradict one another or the data, engines that cannot train these runs, and
    models that do not fit the data; when a run starts, for a checkpoint of another run; and
    OutOfMemory, a ValueError, naming the settings that need less.
    """
    config = TrainConfig() if config is None else config
    if not isinstance(config, TrainConfig):
        raise ValueError(f"config must be a TrainConfig, found {shown(config)}")
    configs = [dataclasses.replace(config, lr=lr) for lr in arguments.some("lrs", lrs, config.lr)]
    runs = [(c, seed) for c in configs for seed in arguments.some("seeds", seeds, 0)]
    folder = None if checkpoints is None else path("checkpoints", checkpoints)
    requests = [
        Request(c, seed, folder and folder / f"lr-{c.lr!r}-seed-{seed}.pt", number)
        for number, (c, seed) in enumerate(runs)
    ]
    found: dict[int, Trained] = {}
    fit_each(
        model, dataset, [c for c, _ in runs], requests,
        lambda ended: found.update({request.name: trained for request, trained in ended}),
        model_options=model_options, probes=probes, probe_every=probe_every, callbacks=callbacks,
        checkpoint_seconds=checkpoint_seconds, checkpoint_steps=checkpoint_steps, device=device,
        engine=engine, replicas=replicas, progress=progress, keep=folder is not None,
        keep_zeros=keep_zeros,
    )  # fmt: skip
    return [found[number] for number in range(len(runs))]


@models.with_gradients()
def fit_each(
    model: str | nn.Module | Callable[[], nn.Module],
    dataset: BiasedDataset,
    configs: Sequence[TrainConfig],
    requests: Iterable[Request],
    finish: Finish,
    *,
    model_options: Mapping | None = None,
    probes: Mapping[str, Probe] | None = None,
    probe_every: int | Mapping[str, int] = 200,
    callbacks: Callback | Iterable[Callback] = (),
    checkpoint_seconds: float | None = 30.0,
    checkpoint_steps: int | None = None,
    device: torch.device | str | None = None,
    engine: str = "auto",
    replicas: int | None = None,
    progress: bool | Progress = True,
    refused: Callable[[Request, Refused], None] | None = None,
    keep: bool = True,
    time_limit: float | None = None,
    keep_zeros: bool = False,
) -> None:
    """Train runs as places for them become free; `fit` and sweeps are built on this.

    configs: those of all runs, by which the engine is chosen; they must agree in batch_size,
    validation_share and precision. requests: the runs, an iterator that is asked for the next one
    when there is a place. finish: called with runs that have ended together, in the thread that
    trained them; an exception raised in it ends the call. progress: whether to show it, or a
    display that several calls share. refused: called for a checkpoint of another run, which then
    starts over; None raises. keep: whether the requests name checkpoints, so that SIGTERM and
    Ctrl-C wait until they are written. time_limit: seconds after which checkpoints are written and
    TimeLimit is raised.
    """
    job = make_job(
        model, dataset, configs, {} if model_options is None else model_options,
        {} if probes is None else probes, probe_every,
        checkpoint_seconds, checkpoint_steps, device, keep_zeros,
    )  # fmt: skip
    job = dataclasses.replace(job, callbacks=arguments.callbacks(callbacks))
    with _memory_advice(configs[0]):
        plan = choose.plan(job, configs, engine, replicas)
    if isinstance(progress, Progress):
        display = progress
    else:
        images = job.batch * sum(job.total(c) for c in configs)
        display = Progress(len(configs), images, bound=True, show=progress)

    def ended(runs: list[Run]) -> None:
        finish([(run.request, _trained(run, plan)) for run in runs])

    with (
        contextlib.nullcontext() if display is progress else contextlib.closing(display),
        _memory_advice(configs[0]),
        models.matmul_precision(configs[0].precision, job.device),
        checkpoint.listening(keep, time_limit) as asked,
    ):
        job = dataclasses.replace(job, asked=asked)
        Trainer(job, plan, requests, ended, display, refused).train()


def make_job(
    model, dataset: BiasedDataset, configs: Sequence[TrainConfig], model_options: Mapping,
    probes: Mapping[str, Probe], probe_every: int | Mapping[str, int], checkpoint_seconds,
    checkpoint_steps, device, keep_zeros: bool = False,
) -> Job:  # fmt: skip
    """What the runs share, checked."""
    first = configs[0]
    for name in ("batch_size", "validation_share", "precision", "accumulation"):
        values = {getattr(c, name) for c in configs}
        if len(values) > 1:
            raise ValueError(f"runs of one group must agree in {name}, found {sorted(values)}")
    if isinstance(model, nn.Module) and len(configs) > 1:
        raise ValueError(
            f"a ready module is trained for one run, found {len(configs)} (lrs x seeds); "
            "give a factory: fit(lambda: MyModel(), ...)"
        )
    build = arguments.factory(model, dataset, model_options)
    every = arguments.intervals(probes, probe_every)
    arguments.intervals_of_checkpoints(checkpoint_seconds, checkpoint_steps)
    train, val = evaluation.splits(dataset, first)
    batch = min(first.batch_size, len(train))
    if batch % distributed.world() or (batch // distributed.world()) < first.accumulation:
        raise ValueError(
            f"batch_size={batch} cannot be shared by {distributed.world()} processes in "
            f"accumulation={first.accumulation} parts: change one"
        )
    device = arguments.device(device)
    if first.precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision='tf32' does nothing on device={str(device)!r}: use 'fp32'")
    with _memory_advice(first):
        with Draws(0, device).inside():
            made = build()
            if isinstance(made, nn.Module):
                needed = [p.requires_grad for p in made.parameters()]
                if needed and not any(needed):
                    raise ValueError("the model has no parameter with requires_grad to train")
                with contextlib.suppress(RuntimeError):  # one that holds values of its last pass
                    made = models.copied(made)
                    made = made.float() if first.precision == "fp64" else made
            models.check(made, dataset, batch // distributed.world())
            if keep_zeros:
                arguments.zeros(made, configs)
            last = device.type == "cpu"
            with contextlib.suppress(RuntimeError):  # as above
                x = dataset.train.inputs(dataset.train.x[:2]).to(next(made.parameters()).device)
                last = last and models.same_with_channels_last(made, x)
        train, val = train.to(device), None if val is None else val.to(device)
    job = Job(
        build, isinstance(model, nn.Module), dataset, train, val, batch, dict(probes), every,
        checkpoint_seconds, checkpoint_steps, device, checkpoint.Asked(), keep_zeros=keep_zeros,
        channels_last=last,
    )  # fmt: skip
    for config in configs:
        schedules.check(config, job.total(config))
        if config.select_by != first.select_by:
            evaluation.splits(dataset, config)
    return job


def _trained(run: Run, plan: choose.Plan) -> Trained:
    run.net.eval()
    train = run.job.train
    models.look_again(run.net, lambda: train.inputs(train.x[:8]))
    curves = {name: joined(name, parts).cpu() for name, parts in run.curves.items()}
    return Trained(
        run.net, run.config, run.seed, run.status, curves, run.epochs, run.done, run.accuracy,
        run.seconds, run.best["epoch"], plan.engine, plan.lanes * plan.width,
    )  # fmt: skip


@contextlib.contextmanager
def _memory_advice(config: TrainConfig) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        raise advice(str(error), config) from error
